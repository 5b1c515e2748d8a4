"""Who has what."""

from tracer.corpus.shards import Shard
from tracer.run.backlog import Assignment
from tracer.run.protocol.crew import Crew

SHARDS = [Shard(shard_id=f"s{idx}", file="f", start=idx, n_prompts=1) for idx in range(2)]


def test_a_worker_starts_waits_works_and_is_forgotten():
    crew = Crew()
    worker = crew.hire()
    assert (len(crew), crew.n_idle, worker in crew) == (1, 0, True)
    assert crew.came_up(worker)
    assert not crew.came_up(worker), "said twice"
    assert crew.n_idle == 1
    assignment = Assignment(SHARDS[0], 3)
    assert crew.give(assignment, now=5.0) == worker
    assert crew.at_work == [(assignment, 5.0)]
    assert crew.holds(worker, "s0", 3)
    assert not crew.holds(worker, "s0", 2)
    assert not crew.holds(worker, "s1", 3)
    assert crew.workers_on(SHARDS[0]) == [worker]
    assert crew.workers_on(SHARDS[1]) == []
    assert crew.finish(worker) == (assignment, 5.0)
    assert crew.remove(worker) is None
    assert (len(crew), worker in crew, crew.came_up(worker)) == (0, False, False)


def test_numbers_are_never_used_again_and_a_lost_worker_leaves_its_attempt():
    crew = Crew()
    first = crew.hire()
    crew.came_up(first)
    assignment = Assignment(SHARDS[0], 0)
    crew.give(assignment, now=0.0)
    assert crew.remove(first) == assignment
    assert crew.hire() != first
    assert crew.remove(first) is None
