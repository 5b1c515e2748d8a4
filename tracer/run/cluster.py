"""Ray itself: start it or join it, and refuse at once a demand that it can never meet (Ray would wait in silence)."""

import logging
import math
import os
import signal
import threading

import ray

from tracer.config import RunnerConfig
from tracer.errors import RunError


def connect() -> bool:
    """Start Ray here, or join the cluster that RAY_ADDRESS names; True where `ray.shutdown` is then up to us.

    A caller who is connected already stays connected.
    """
    if ray.is_initialized():
        return False
    if os.environ.get("RAY_ADDRESS"):
        ray.init()  # bare: inside a job, any argument could contradict the job's own
    else:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    if threading.current_thread() is threading.main_thread():
        # Ray aborts a process three seconds after SIGTERM, below Python; its handler in Python ends it in order.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    return True


def n_room(runner: RunnerConfig) -> int:
    """Actors that the machines can hold, occupied or not."""
    return sum(n_actors_on(resources, runner) for resources in _machines())


def demand_unmet(runner: RunnerConfig, n_actors: int) -> RunError:
    """The error that says which resources are missing for `n_actors`."""
    machines, each = _machines(), _per_actor(runner)
    has = {name: sum(machine.get(name, 0.0) for machine in machines) for name in each}
    missing = [f"{n_actors * need - has[name]:g} {name}" for name, need in each.items() if n_actors * need > has[name]]
    offered = " and ".join(f"{amount:g} {name}" for name, amount in has.items())
    return RunError(
        "Ray cluster",
        found=f"{offered} on {len(machines)} machine(s), room for {n_room(runner)} actor(s)"
        + (f"; missing: {', '.join(missing)}" if missing else ""),
        expected=f"room for {n_actors} actor(s) of {', '.join(f'{need:g} {name}' for name, need in each.items())} each",
        to_do="Lower runner.min_actors, runner.cpus_per_actor, runner.gpus_per_actor or runner.resources_per_actor, "
        "or add machines.",
    )


def n_actors_on(resources: dict[str, float], runner: RunnerConfig) -> int:
    """Actors that fit on one machine; a fraction of a GPU lies on one GPU, never across two."""
    return min(_n_fitting(name, resources.get(name, 0.0), need) for name, need in _per_actor(runner).items() if need)


def short_message(error: Exception) -> str:
    """Ray's messages run over many lines; the last ones say why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:1] + lines[-3:] if len(lines) > 4 else lines)


def _n_fitting(name: str, amount: float, need: float) -> int:
    if name == "GPU" and need < 1:
        return math.floor(amount + 1e-9) * math.floor(1 / need + 1e-9)
    return math.floor(amount / need + 1e-9)


def _per_actor(runner: RunnerConfig) -> dict[str, float]:
    return {"CPU": runner.cpus_per_actor, "GPU": runner.gpus_per_actor, **runner.resources_per_actor}


def _machines() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
