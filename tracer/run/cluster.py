"""Ray itself: start it or join it, and refuse at once a demand that it can never meet (Ray would wait in silence)."""

import logging
import math
import os

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
    return True


def check_demand(runner: RunnerConfig, n_actors: int) -> None:
    """Compare what the actors reserve with what the machines have, occupied or not.

    Raises:
        RunError: fewer than `n_actors` would ever fit.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    n_room = sum(n_actors_on(node, runner) for node in nodes)
    if n_room >= n_actors:
        return
    total = ray.cluster_resources()
    need = {"CPU": n_actors * runner.cpus_per_actor, "GPU": n_actors * runner.gpus_per_actor}
    has = f"{total.get('CPU', 0):g} CPU and {total.get('GPU', 0):g} GPU on {len(nodes)} machine(s)"
    missing = [f"{need[name] - total.get(name, 0):g} {name}" for name in need if need[name] > total.get(name, 0)]
    raise RunError(
        "Ray cluster",
        found=f"{has}, room for {n_room} actor(s)" + (f"; missing: {', '.join(missing)}" if missing else ""),
        expected=f"room for {n_actors} actor(s) of {runner.cpus_per_actor:g} CPU, {runner.gpus_per_actor:g} GPU each",
        to_do="Give fewer --actors, lower runner.cpus_per_actor or runner.gpus_per_actor, or add machines.",
    )


def n_actors_on(resources: dict[str, float], runner: RunnerConfig) -> int:
    """Actors that fit on one machine; a fraction of a GPU lies on one GPU, never across two."""
    n_by_cpu = math.floor(resources.get("CPU", 0.0) / runner.cpus_per_actor + 1e-9)
    if runner.gpus_per_actor == 0:
        return n_by_cpu
    n_gpus = resources.get("GPU", 0.0)
    if runner.gpus_per_actor < 1:
        n_by_gpu = math.floor(n_gpus + 1e-9) * math.floor(1 / runner.gpus_per_actor + 1e-9)
    else:
        n_by_gpu = math.floor(n_gpus / runner.gpus_per_actor + 1e-9)
    return min(n_by_cpu, n_by_gpu)
