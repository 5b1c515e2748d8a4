"""Resident memory of a driver and of each of its actors while a run goes on: does it grow with the prompts done?

    python -m tests.benchmarks.memory_trace   # 10,000 distinct prompts of the demo model on 2 actors

The run is that of `tracer trace`, in processes of its own. An actor's first shards make its caches, so growth is that
from the first quarter of the prompts to the last.
"""

import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated, TextIO

import typer
import yaml

DEMO = "package:tracer.model.demo/files"
READY = re.compile(r"worker \d+ ready on \S+, process (\d+)")
EVERY_S = 0.5
N_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory at one moment, MB: of the driver and of each actor, by process."""

    n_prompts: int
    seconds: float
    driver: float
    actors: dict[int, float]


def main(
    n_prompts: int = 10_000,
    n_actors: int = 2,
    shard_size: int = 32,
    every_s: Annotated[float, typer.Option(help="time between two samples, seconds")] = EVERY_S,
) -> None:
    """Trace and sample, then print the trace and the growth."""
    with tempfile.TemporaryDirectory() as base:
        root, config = Path(base) / "run", Path(base) / "config.yaml"
        settings = {
            "model": {"checkpoint": f"{DEMO}/language_model", "transcoders": f"{DEMO}/per_layer", "device": "cpu"},
            "corpus": {"source": "tasks:atlas", "options": {"n_prompts": n_prompts, "split": "both"}},
            "runner": {"n_actors": n_actors, "min_actors": n_actors, "shard_size": shard_size},
        }
        config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        samples = _traced(config, root, shard_size, every_s)
    processes = sorted({process for sample in samples for process in sample.actors})
    print(
        f"{'prompts':>8} {'s':>6} {'driver':>8}"
        + "".join(f" {f'actor {idx}':>8}" for idx in range(1, len(processes) + 1))
    )
    for sample in _spaced(samples):
        shown = "".join(f" {sample.actors.get(process, 0.0):8.0f}" for process in processes)
        print(f"{sample.n_prompts:8d} {sample.seconds:6.0f} {sample.driver:8.0f}{shown}")
    print(
        f"growth of the driver: {_growth([(one.n_prompts, one.driver) for one in samples]):+.2f} MB per 1,000 prompts"
    )
    for idx, process in enumerate(processes, start=1):
        own = [(one.n_prompts, one.actors[process]) for one in samples if process in one.actors]
        print(f"growth of actor {idx}: {_growth(own):+.2f} MB per 1,000 prompts of the run")


def _traced(config: Path, root: Path, shard_size: int, every_s: float) -> list[Sample]:
    """Samples from the first commit to the last."""
    command = [sys.executable, "-m", "tracer", "trace", str(config), "--out", str(root)]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert driver.stdout is not None
    processes: list[int] = []
    reader = threading.Thread(target=_read_processes, args=(driver.stdout, processes), daemon=True)
    reader.start()
    started, samples = time.monotonic(), []
    while driver.poll() is None:
        n_done = sum(1 for _ in (root / "shards").glob("[!.]*.json"))
        held = {process: _resident_mb(process) for process in [driver.pid, *processes]}
        actors = {process: held[process] for process in processes if held[process]}
        if n_done and actors and held[driver.pid]:
            samples.append(Sample(n_done * shard_size, time.monotonic() - started, held[driver.pid], actors))
        time.sleep(every_s)
    reader.join()
    assert driver.returncode == 0, "the run failed"
    return samples


def _read_processes(printed: TextIO, processes: list[int]) -> None:
    for line in printed:
        if found := READY.search(line):
            processes.append(int(found[1]))


def _resident_mb(process: int) -> float:
    """0 where the process is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def _spaced(samples: list[Sample]) -> list[Sample]:
    """A few of them, at equal distances in prompts."""
    last = samples[-1].n_prompts
    marks = [last * (idx + 1) / N_SHOWN for idx in range(N_SHOWN)]
    return [next(sample for sample in samples if sample.n_prompts >= mark) for mark in marks]


def _growth(held: list[tuple[int, float]]) -> float:
    """From the first quarter to the last, MB per 1,000 prompts."""
    last = held[-1][0]
    first_quarter = [one for one in held if one[0] <= last / 4]
    last_quarter = [one for one in held if one[0] > 3 * last / 4]
    (n_first, first), (n_last, latest) = (
        [mean(values) for values in zip(*quarter, strict=True)] for quarter in (first_quarter, last_quarter)
    )
    return 1000 * (latest - first) / (n_last - n_first)


if __name__ == "__main__":
    typer.run(main)
