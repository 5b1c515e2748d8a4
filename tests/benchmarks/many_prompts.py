"""Small prompts, many in a pass, beside circuit-tracer, which takes them one at a time: graphs per second and ratios.

Both sides take turns, round by round: a pass of tracer at each size, then circuit-tracer on some of the same prompts at
its fastest batch size. A round's ratio is that of times per prompt within it.
"""

from statistics import mean, median
from typing import Annotated, Any

import typer

from tests.benchmarks.shapes import DEMO, SHAPES
from tests.benchmarks.sides import Sides, both_sides, prompts

N_TRIES = 3
"""Runs of each of circuit-tracer's batch sizes, of which the fastest counts."""
HEADINGS = ("prompts a pass", "tracer, ms a prompt", "graphs/s", "circuit-tracer, ms", "ratio", "range", "others' CPU")


def best_batch_size(sides: Sides, token_ids: list[int], batch_sizes: list[int]) -> int:
    """circuit-tracer's fastest batch size on a prompt."""

    def seconds(batch_size: int) -> float:
        asked = {"token_ids": token_ids, "batch_size": batch_size}
        return min(sides.circuit_tracer.ask(**asked)["seconds"] for _ in range(N_TRIES))

    return min(batch_sizes, key=seconds)


def one_round(
    sides: Sides, token_ids: list[list[int]], n_batch: int, batch_size: int, asked: dict[str, Any]
) -> dict[str, float]:
    """Seconds of a prompt on both sides, one right after the other."""
    pass_reply = sides.tracer.ask(batch=token_ids[:n_batch], **asked)
    replies = [sides.circuit_tracer.ask(token_ids=ids, batch_size=batch_size) for ids in token_ids[:4]]
    return {
        "ours": pass_reply["seconds"] / n_batch,
        "theirs": mean(reply["seconds"] for reply in replies),
        "others": max(reply["others_share"] for reply in [pass_reply, *replies]),
    }


def main(
    shape: Annotated[str, typer.Argument(help=f"demo, or one of {', '.join(SHAPES)}")] = "demo",
    batches: Annotated[str, typer.Option(help="prompts in a pass")] = "1,8,32,64",
    coverage: float = 0.95,
    node_threshold: float = 0.8,
    rounds: int = 15,
    batch_sizes: Annotated[str, typer.Option(help="circuit-tracer's, tried in turn")] = "32,64,128,256",
    threads: int = 2,
) -> None:
    """Measure and print a table."""
    made, sizes = DEMO if shape == "demo" else SHAPES[shape], [int(size) for size in batches.split(",")]
    asked = {"coverage": coverage, "node_threshold": node_threshold}
    with both_sides(made, device="cpu", precision="float32", threads=threads) as sides:
        token_ids = prompts(made, made.lengths[0], max(sizes), sides.tracer)
        for size in sizes:
            sides.tracer.ask(batch=token_ids[:size], **asked)
        batch_size = best_batch_size(sides, token_ids[0], [int(size) for size in batch_sizes.split(",")])
        print(f"{made.name}, coverage {coverage}, {threads} threads; circuit-tracer's batch size {batch_size}\n")
        print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
        found: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
        for _ in range(rounds):
            for size in sizes:
                found[size].append(one_round(sides, token_ids, size, batch_size, asked))
    for size, measured in found.items():
        ours, theirs = (median(one[name] for one in measured) for name in ("ours", "theirs"))
        ratios = [one["theirs"] / one["ours"] for one in measured]
        line = [
            str(size), f"{ours * 1e3:.2f}", f"{1 / ours:.0f}", f"{theirs * 1e3:.1f}", f"{median(ratios):.1f}",
            f"{min(ratios):.1f} to {max(ratios):.1f}", f"{median(one['others'] for one in measured):.0%}",
        ]  # fmt: skip
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    typer.run(main)
