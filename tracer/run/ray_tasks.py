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
from tracer.errors import RunError, TracerError
from tracer.run.cluster import short_message

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
            cause = error.cause if isinstance(error, RayTaskError) else None
            if isinstance(cause, TracerError | OSError):
                raise cause from None
            raise RunError(
                f"{function.__name__}",
                found=short_message(error),
                expected="a block of work that ends",
                to_do="Lower aggregate.memory_limit_bytes where memory ran out, or use --inline to see where it fails.",
            ) from error
