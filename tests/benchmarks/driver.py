"""What the driver of a run takes, with workers that do no model's work.

    python -m tests.benchmarks.driver simulated   # 1,000,000 prompts, 10,000 shards, 256 simulated actors, one process
    python -m tests.benchmarks.driver waiting     # 1,000 shards on real Ray actors that only wait
    python -m tests.benchmarks.driver actors      # two actors against one, each with the demo model and one thread

The driver's code is the run's own (`RunSession`, ledger, protocol); simulated is the cluster alone. A share or a rate
is worth something on a quiet machine only.
"""

import io
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, TypeVar

import ray
import typer
from rich.console import Console

from tests.benchmarks.simulated import SimulatedWorkers, WaitingWorker, begin_run
from tracer.config import parse_config
from tracer.run import pipeline
from tracer.run.ledger import Ledger, Receipt
from tracer.run.logs import logged
from tracer.run.pipeline import RunSession
from tracer.run.record import load_record
from tracer.storage.store import open_store

app = typer.Typer(add_completion=False, help=__doc__)
Made = TypeVar("Made")
DEMO = "package:tracer.model.demo/files"
Folder = Annotated[Path | None, typer.Option(help="where the runs are made; a temporary folder, which is removed")]


@app.command()
def simulated(
    n_prompts: int = 1_000_000,
    n_shards: int = 10_000,
    n_actors: int = 256,
    shard_s: Annotated[float, typer.Option(help="time of a shard, seconds; a made-up one")] = 60.0,
    folder: Folder = None,
) -> None:
    """One driver over a cluster that is not there."""
    with _folder(folder) as base, logged(None, "run"):
        root = base / "run"
        _timed("corpus and plan", lambda: begin_run(root, n_prompts=n_prompts, n_shards=n_shards, n_actors=n_actors))
        session = _timed("read run.json", lambda: _session(root))
        workers = SimulatedWorkers(root, n_actors, shard_s=shard_s)
        session.workers = workers
        cpu, wall = time.process_time(), time.perf_counter()
        session.trace()
        cpu, wall = time.process_time() - cpu - workers.cpu_seconds, time.perf_counter() - wall - workers.seconds
        print(f"simulated {workers.now / 3600:.2f} h, {workers.n_lost} actors lost")
        print(f"driver's CPU {1000 * cpu / n_shards:.2f} ms a shard; {n_shards / wall:.0f} commits a second at most")
        print(f"driver's CPU over actors' time: {cpu / (n_shards * shard_s):.2e} (a shard takes {shard_s:g} s)")
        result = _timed("read all receipts", session.result)
        assert (result.n_traced, result.n_shards_given_up) == (n_prompts, 0)
        _timed("resume with nothing to do", lambda: _session(root).trace())
        for name in ("parts", "shards", "corpus"):
            files = list((root / name).iterdir())
            print(f"{name}/: {len(files)} files, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB")
        print(f"run.json: {(root / 'run.json').stat().st_size / 1e6:.1f} MB")


@app.command()
def waiting(
    n_shards: int = 1000,
    n_actors: int = 4,
    shard_s: Annotated[float, typer.Option(help="what an actor waits for a shard, seconds")] = 0.5,
    folder: Folder = None,
) -> None:
    """The driver's share of the actors' time on real Ray, and how long the actors had nothing to do."""
    with _folder(folder) as base, _local_ray(n_actors):
        root = base / "run"
        config = begin_run(root, n_prompts=10 * n_shards, n_shards=n_shards, n_actors=n_actors)
        cpu = time.process_time()
        pipeline.trace(config, root, console=_quiet(), make_worker=partial(WaitingWorker, shard_s=shard_s))
        cpu = time.process_time() - cpu
        receipts = _receipts(root)
        seconds = sum(receipt.seconds for receipt in receipts)
        print(f"{n_shards} shards on {n_actors} actors: {seconds:.0f} s of actors' time")
        print(f"driver's CPU {cpu:.1f} s, {1000 * cpu / n_shards:.1f} ms a shard, {cpu / seconds:.2%} of actors' time")
        print(f"actors waited {1 - seconds / (n_actors * _tracing_seconds(receipts)):.2%} of the time")


@app.command()
def actors(n_pairs: int = 5, n_prompts: int = 1024, shard_size: int = 32, folder: Folder = None) -> None:
    """Two actors against one at one thread each, in turns; the median of the ratios of their rates once all work."""
    ratios = []
    with _folder(folder) as base, _local_ray(2):
        for pair in range(n_pairs):
            rates = {}
            for n_actors in (1, 2) if pair % 2 == 0 else (2, 1):
                root = base / f"{pair}-{n_actors}"
                settings = {
                    "model": {"checkpoint": f"{DEMO}/language_model", "transcoders": f"{DEMO}/per_layer"},
                    "corpus": {"source": "tasks:atlas", "options": {"n_prompts": n_prompts}},
                    "runner": {"n_actors": n_actors, "min_actors": n_actors, "shard_size": shard_size},
                }
                pipeline.trace(parse_config(settings), root, console=_quiet())
                rates[n_actors] = _rate_together(_receipts(root), n_actors)
            ratios.append(rates[2] / rates[1])
            print(f"pair {pair}: {rates[1]:.1f} and {rates[2]:.1f} prompts/s, ratio {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {median(ratios):.2f} of {n_pairs}; load of the machine now {os.getloadavg()[0]:.1f}")


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(dir=given))
    try:
        yield base
    finally:
        shutil.rmtree(base)


@contextmanager
def _local_ray(n_cpus: int) -> Iterator[None]:
    ray.init(address="local", num_cpus=n_cpus, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def _quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def _session(root: Path) -> RunSession:
    folder = open_store(root)
    return RunSession(
        folder,
        load_record(folder),
        0,
        started=time.monotonic(),
        inline=False,
        make_worker=partial(WaitingWorker, shard_s=0.0),
        console=_quiet(),
    )


def _receipts(root: Path) -> list[Receipt]:
    folder = open_store(root)
    return list(Ledger(folder).committed(load_record(folder).shards).values())


def _tracing_seconds(receipts: list[Receipt]) -> float:
    """From the beginning of the first shard to the last commit: without start-up and load."""
    first = min(receipt.run_seconds - receipt.seconds for receipt in receipts)
    return max(receipt.run_seconds for receipt in receipts) - first


def _rate_together(receipts: list[Receipt], n_actors: int) -> float:
    """Prompts per second while all actors were at work: from the last one's first shard to the first one's last."""
    begun = {receipt.shard_id: receipt.run_seconds - receipt.seconds for receipt in receipts}
    by_actor: dict[int, list[Receipt]] = {}
    for receipt in receipts:
        by_actor.setdefault(receipt.pid, []).append(receipt)
    assert len(by_actor) == n_actors, "an actor had nothing to do"
    start = max(min(begun[receipt.shard_id] for receipt in own) for own in by_actor.values())
    end = min(max(receipt.run_seconds for receipt in own) for own in by_actor.values())
    within = sum(
        receipt.n_prompts
        * max(0.0, min(end, receipt.run_seconds) - max(start, begun[receipt.shard_id]))
        / receipt.seconds
        for receipt in receipts
    )
    return within / (end - start)


def _timed(what: str, work: Callable[[], Made]) -> Made:
    cpu, wall = time.process_time(), time.perf_counter()
    made = work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(f"{what}: {wall:.1f} s, CPU {cpu:.1f} s, memory so far at most {_peak_bytes() / 1e6:.0f} MB", flush=True)
    return made


def _peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    app()
