"""Is `tracer estimate` right? Its memory and time against a worker's, measured in a process of its own.

The estimate gets what cannot be known beforehand from the measured process: active features per position, and the rate
of its matrix products. Memory is the process' resident high-water mark (`VmHWM`), libraries included; time is that of
whole prompts, tables and all, after a first one that warms up: processor time of a worker with one thread, so that
other work on the machine does not count.
"""

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean

import torch
import typer

from tests.benchmarks.build import built
from tests.benchmarks.shapes import DEMO, DEMO_FILES, SHAPES, Shape, grid_shape, prompt_ids
from tracer.config import RunConfig, parse_config
from tracer.corpus.prompts import Prompt
from tracer.run.estimate import Estimate, estimate_run
from tracer.run.machine import matrix_rate
from tracer.run.worker import TraceWorker

MEMORY_TOLERANCE, TIME_TOLERANCE = 0.25, 0.5
HEADINGS = (
    "shape", "tokens", "coverage", "active", "GFLOP/s", "MB", "estimated", "ratio", "ms a prompt", "estimated", "ratio",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A shape, a prompt length and a coverage."""

    shape: Shape
    n_tokens: int
    coverage: float
    n_prompts: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a worker took."""

    seconds: float
    peak_bytes: int
    n_active: float
    rate: float


LONGER = grid_shape(8, 10, (64,))
CASES = [
    Case(shape=shape, n_tokens=n_tokens, coverage=coverage)
    for shape, n_tokens in ((DEMO, 12), (SHAPES["8x256"], 16), (LONGER, 64), (SHAPES["12x768"], 16))
    for coverage in (0.95, 1.0)
]


def config_of(case: Case) -> RunConfig:
    """Settings of a run of this case."""
    demo = DEMO_FILES / "language_model", DEMO_FILES / "per_layer"
    checkpoint, transcoders = demo if case.shape is DEMO else built(case.shape)
    return parse_config({
        "model": {"checkpoint": str(checkpoint), "transcoders": str(transcoders), "device": "cpu"},
        "corpus": {"source": "tasks:atlas"},
        "attribution": {"coverage": case.coverage},
        "runner": {"n_threads": 1, "n_actors": 1},
    })


def measure(case: Case) -> Measured:
    """Trace the case's prompts as an actor does; to be called in a fresh process."""
    worker = TraceWorker(config_of(case))
    prompts = [_prompt(case, idx) for idx in range(case.n_prompts + 1)]
    worker.trace(prompts[:1], "warm-up", 1)
    rates, started = [_rate(case)], time.process_time()
    failures = worker.trace(prompts[1:], "shard", 1)["failures"]
    took = time.process_time() - started
    assert not failures.num_rows, failures["message"][0].as_py()
    rates.append(_rate(case))
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    n_places = case.shape.n_layers * (case.n_tokens - 1)
    n_active = [
        sum(len(layer.pos) for layer in worker.model.get_activations(torch.tensor(prompt.token_ids))) / n_places
        for prompt in prompts[1:]
    ]
    return Measured(
        seconds=took / case.n_prompts, peak_bytes=1024 * int(peak.split()[1]), n_active=fmean(n_active),
        rate=fmean(rates),
    )  # fmt: skip


def _rate(case: Case) -> float:
    return matrix_rate(
        case.shape.d_model, case.shape.n_heads * case.shape.d_head, "cpu", n_threads=1, clock=time.process_time
    )


def _prompt(case: Case, idx: int) -> Prompt:
    token_ids = tuple(prompt_ids(case.shape, case.n_tokens, idx))
    return Prompt(
        prompt_id=f"prompt-{idx}", text="", token_ids=token_ids, targets=(), task=None, split=None, pair_id=None,
        answer=None, counterfactual_answer=None, answer_token_id=None, metadata={},
    )  # fmt: skip


def _line(case: Case, measured: Measured, estimate: Estimate) -> tuple[str, bool]:
    estimated_bytes = sum(item.amount for item in estimate.host)
    estimated_s = sum(item.amount for item in estimate.seconds)
    memory_ratio, time_ratio = estimated_bytes / measured.peak_bytes, estimated_s / measured.seconds
    cells = (
        case.shape.name, str(case.n_tokens), f"{case.coverage:g}", f"{measured.n_active:.1f}",
        f"{measured.rate / 1e9:.0f}", f"{measured.peak_bytes / 1e6:.0f}", f"{estimated_bytes / 1e6:.0f}",
        f"{memory_ratio:.2f}", f"{measured.seconds * 1e3:.0f}", f"{estimated_s * 1e3:.0f}", f"{time_ratio:.2f}",
    )  # fmt: skip
    is_right = abs(memory_ratio - 1) <= MEMORY_TOLERANCE and abs(time_ratio - 1) <= TIME_TOLERANCE
    return f"| {' | '.join(cells)} |", is_right


def main(n_prompts: int = 8) -> None:
    """Print a table; ends with an error where an estimate is off by more than 25 % in memory or 50 % in time."""
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
    all_right = True
    for case in (Case(shape=one.shape, n_tokens=one.n_tokens, coverage=one.coverage, n_prompts=n_prompts)
                 for one in CASES):  # fmt: skip
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            measured = pool.submit(measure, case).result()
        estimate = estimate_run(config_of(case), n_tokens=case.n_tokens, n_active=measured.n_active, rate=measured.rate)
        line, is_right = _line(case, measured, estimate)
        print(line, flush=True)
        all_right = all_right and is_right
    print("all within tolerance" if all_right else "OUT OF TOLERANCE")
    raise SystemExit(0 if all_right else 1)


if __name__ == "__main__":
    typer.run(main)
