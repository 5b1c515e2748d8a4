"""Starts tracer and circuit-tracer on the same weights, each in a process of its own, and warms them up."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.build import built
from tests.benchmarks.environment import circuit_tracer_python
from tests.benchmarks.serving import Side
from tests.benchmarks.shapes import DEMO_FILES, FOLDER, Shape, prompt_ids

DEMO_TEXTS = (
    "the capital of the state containing Dallas is", "the capital of the state containing Oakland is",
    "the capital of the state containing Miami is", "the capital of the state containing Seattle is",
)  # fmt: skip
WARM_UP_IDS = [0, 10, 11]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Both sides, ready to be asked."""

    tracer: Side
    circuit_tracer: Side


def folders(shape: Shape, device: str) -> tuple[Path, Path]:
    """Checkpoint and transcoders of a shape; those that the package ships for the demo model."""
    if shape.name == "demo":
        return DEMO_FILES / "language_model", DEMO_FILES / "per_layer"
    return built(shape, device)


@contextmanager
def one_side(name: str, shape: Shape, *, device: str, precision: str, threads: int) -> Iterator[Side]:
    """`tracer` or `circuit_tracer` on a shape, warmed up on a few tokens so that its weights are in memory."""
    checkpoint, transcoders = folders(shape, device)
    python = Path(sys.executable) if name == "tracer" else circuit_tracer_python()
    arguments = ["--checkpoint", checkpoint, "--transcoders", transcoders, "--device", device, "--precision", precision]
    log = FOLDER / "logs" / f"{name}-{shape.name}.log"
    with Side(python, f"{name}_side", [str(argument) for argument in arguments], threads=threads, log=log) as side:
        side.ask(token_ids=WARM_UP_IDS, batch_size=4, max_feature_nodes=4)
        yield side


@contextmanager
def both_sides(shape: Shape, *, device: str, precision: str, threads: int) -> Iterator[Sides]:
    """Both, at equal precision."""
    with ExitStack() as stack:
        tracer, circuit_tracer = (
            stack.enter_context(one_side(name, shape, device=device, precision=precision, threads=threads))
            for name in ("tracer", "circuit_tracer")
        )
        yield Sides(tracer=tracer, circuit_tracer=circuit_tracer)


def prompts(shape: Shape, n_tokens: int, n_prompts: int, tracer: Side) -> list[list[int]]:
    """Token ids of some prompts; the demo model has its own, whatever the length asked."""
    if shape.name == "demo":
        texts = [DEMO_TEXTS[idx % len(DEMO_TEXTS)] for idx in range(n_prompts)]
        return [tracer.ask(ask="tokenize", text=text)["token_ids"] for text in texts]
    return [prompt_ids(shape, n_tokens, idx) for idx in range(n_prompts)]
