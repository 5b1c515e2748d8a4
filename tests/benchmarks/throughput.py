"""Graphs per second of tracer alone, at every precision and coverage, one prompt or several in a pass.

Beside each figure: the share of rows that were computed, how much the kept nodes have in common with those of exact
float32 graphs, and counted arithmetic over the whole time.
"""

from dataclasses import asdict
from itertools import product
from statistics import mean, median
from typing import Annotated, Any

import typer

from tests.benchmarks.comparison import jaccard
from tests.benchmarks.serving import Side
from tests.benchmarks.shapes import DEMO, SHAPES
from tests.benchmarks.sides import one_side, prompts

HEADINGS = ("precision", "coverage", "prompts a pass", "graphs/s", "rows", "Jaccard", "TFLOP/s", "peak, MB")


def in_passes(side: Side, token_ids: list[list[int]], n_batch: int, **asked: Any) -> dict[str, Any]:
    """Graphs of all prompts in passes of `n_batch`: graphs per second in the median pass, and what they are like."""
    batches = [token_ids[start : start + n_batch] for start in range(0, len(token_ids), n_batch)]
    replies = [side.ask(batch=batch, **asked) for batch in batches]
    return {
        "per_second": n_batch / median(reply["seconds"] for reply in replies),
        "peak_bytes": max(reply["peak_bytes"] for reply in replies),
        "graphs": [graph for reply in replies for graph in reply["graphs"]],
    }


def cells(found: dict[str, Any], reference: list[dict[str, Any]], peak_tflops: float | None) -> list[str]:
    """What the table says of one setting."""
    graphs = found["graphs"]
    same = [jaccard(graph["kept"], exact["kept"]) for graph, exact in zip(graphs, reference, strict=True)]
    rows = mean(graph["n_rows"] / max(1, graph["n_features"]) for graph in graphs)
    tflops = found["per_second"] * mean(graph["row_flops"] for graph in graphs) / 1e12
    of_peak = f", {tflops / peak_tflops:.0%} of peak" if peak_tflops else ""
    return [
        f"{found['per_second']:.2f}", f"{rows:.0%}", f"{mean(same):.3f}", f"{tflops:.3g}{of_peak}",
        f"{found['peak_bytes'] / 1e6:.0f}",
    ]  # fmt: skip


def main(
    shape: Annotated[str, typer.Argument(help=f"demo, or one of {', '.join(SHAPES)}")],
    n_prompts: Annotated[int, typer.Option(help="a multiple of the prompts in a pass")] = 16,
    n_tokens: Annotated[int | None, typer.Option(help="prompt length; the shape's own first one")] = None,
    batches: Annotated[str, typer.Option(help="prompts in a pass")] = "1,8",
    coverages: str = "1.0,0.95",
    precisions: str = "float32,tf32,bfloat16",
    memory_budget_gb: Annotated[float, typer.Option(help="tracer's working memory")] = 2.0,
    device: str = "cpu",
    threads: int = 2,
    peak_tflops: Annotated[float | None, typer.Option(help="the card's TF32 peak")] = None,
) -> None:
    """Measure and print a table."""
    made = DEMO if shape == "demo" else SHAPES[shape]
    shared = {"shape": asdict(made), "node_threshold": 0.8, "memory_budget_bytes": int(memory_budget_gb * 1024**3)}
    with one_side("tracer", made, device=device, precision="float32", threads=threads) as side:
        token_ids = prompts(made, n_tokens or made.lengths[0], n_prompts, side)
        reference = in_passes(side, token_ids, 1, **shared)["graphs"]
        print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
        for precision, coverage, n_batch in product(precisions.split(","), coverages.split(","), batches.split(",")):
            asked = {"precision": precision, "coverage": float(coverage)}
            found = in_passes(side, token_ids, int(n_batch), **asked, **shared)
            line = [precision, coverage, n_batch, *cells(found, reference, peak_tflops)]
            print(f"| {' | '.join(line)} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
