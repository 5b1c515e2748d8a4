"""Blocks of work as Ray tasks on the driver's own machine, where the files lie that they read.

They reserve no cores: the run's actors, idle by now, hold those.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tracer.aggregate.tasks import Block, Result, Shared
from tracer.config import RunnerConfig
from tracer.errors import RunError, TracerError
from tracer.run.cluster import connect, short_message

N_TRIES = 3
"""Of a block whose process is lost."""


def ray_tasks(
    function: Callable[[Shared, Block], Result], shared: Shared, blocks: Iterable[Block], n_at_once: int
) -> Iterator[Result]:
    """As `tracer.aggregate.tasks.TaskMap`, `n_at_once` tasks at a time; Ray is up.

    Raises:
        RunError: the process of a block was lost again and again.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    task = ray.remote(function).options(num_cpus=0, max_retries=N_TRIES - 1, scheduling_strategy=here)
    held, running = ray.put(shared), deque[ray.ObjectRef]()
    coming = iter(blocks)  # one may depend on what came of those before it: none is asked for before it can start
    while True:
        running.extend(task.remote(held, block) for block in islice(coming, n_at_once - len(running)))
        if not running:
            return
        try:
            yield ray.get(running.popleft())
        except RayError as error:
            raise _as_error(function.__name__, error) from error


def ray_model_tasks(
    function: Callable[[Shared, Block], Result], shared: Shared, blocks: Iterable[Block], runner: RunnerConfig
) -> list[Result]:
    """One task for each block, all at once, wherever there is room for an actor; for work that loads the model. Ray is
    started where it is not up, and ended again.

    Args:
        function: the work.
        shared: what all blocks are given.
        blocks: the blocks.
        runner: what a task needs of a machine.

    Raises:
        RunError: the process of a block was lost again and again.
    """
    owns_ray = connect()
    try:
        task = ray.remote(function).options(
            num_cpus=runner.cpus_per_actor, num_gpus=runner.gpus_per_actor, resources=runner.resources_per_actor,
            max_retries=N_TRIES - 1,
        )  # fmt: skip
        return ray.get([task.remote(shared, block) for block in blocks])
    except RayError as error:
        raise _as_error(function.__name__, error) from error
    finally:
        if owns_ray:
            ray.shutdown()


def _as_error(name: str, error: RayError) -> Exception:
    """The error of the work itself where it is one to tell, else that of its process."""
    cause = error.cause if isinstance(error, RayTaskError) else None
    if isinstance(cause, TracerError | OSError):
        return cause
    return RunError(
        name,
        found=short_message(error),
        expected="a block of work that ends",
        to_do="Lower aggregate.memory_limit_bytes where memory ran out, or use --inline to see where it fails.",
    )
