"""Long prompts: does a prompt of 1,024 tokens fit, is memory flat while it runs, and how do time and memory grow?

The first command attributes one long prompt with a cap on feature rows and prints time, peak memory, a sampled trace of
memory and the bound on influence; the second prints a table over prompt length, layers and active features.
"""

from dataclasses import asdict
from statistics import mean
from typing import Annotated, Any

import typer

from tests.benchmarks.shapes import SHAPES, Shape, grid_shape, prompt_ids
from tests.benchmarks.sides import one_side

NODE_THRESHOLD = 0.8
"""Edges are kept between nodes that pruning keeps; all of them would not fit."""
N_TRACE_POINTS = 60
BARS = " ▁▂▃▄▅▆▇█"
app = typer.Typer(add_completion=False, help=__doc__)


def attributed(shape: Shape, n_tokens: int, *, device: str, threads: int, **asked: Any) -> dict[str, Any]:
    """What tracer takes for one prompt in a fresh process."""
    with one_side("tracer", shape, device=device, precision="float32", threads=threads) as side:
        reply = side.ask(token_ids=prompt_ids(shape, n_tokens, 0), trace=True, shape=asdict(shape), **asked)
        return reply | reply["graphs"][0]


def thinned(trace: list[int]) -> list[float]:
    """A trace as at most `N_TRACE_POINTS` maxima of equal stretches."""
    n_stretch = max(1, -(-len(trace) // N_TRACE_POINTS))
    return [max(trace[start : start + n_stretch]) for start in range(0, len(trace), n_stretch)]


def growth(trace: list[int]) -> float:
    """Mean memory in the last quarter of a trace over that in its second quarter."""
    quarter = max(1, len(trace) // 4)
    return mean(trace[-quarter:]) / mean(trace[quarter : 2 * quarter])


@app.command()
def prompt(
    shape: Annotated[str, typer.Option(help=f"one of {', '.join(SHAPES)}")] = "long",
    n_tokens: Annotated[int | None, typer.Option(help="prompt length; the shape's own first one")] = None,
    max_feature_nodes: int = 2000,
    memory_budget_gb: Annotated[float, typer.Option(help="the engine's working memory")] = 0.5,
    device: str = "cpu",
    threads: int = 2,
) -> None:
    """Attribute one long prompt."""
    found = attributed(
        SHAPES[shape], n_tokens or SHAPES[shape].lengths[0], device=device, threads=threads,
        max_feature_nodes=max_feature_nodes, memory_budget_bytes=int(memory_budget_gb * 1024**3),
        node_threshold=NODE_THRESHOLD,
    )  # fmt: skip
    print(f"{found['n_features']:,} active features, {found['n_rows']:,} rows in {found['seconds']:.1f} s")
    print("phases: " + ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in found["phases"].items()))
    print(f"peak memory above the loaded model: {found['peak_bytes'] / 1e9:.2f} GB")
    points = thinned(found["trace_bytes"])
    top = max([*points, 1])
    print("memory over time: " + "".join(BARS[round(max(0, point) / top * (len(BARS) - 1))] for point in points))
    print("in GB: " + " ".join(f"{point / 1e9:.2f}" for point in points))
    if len(points) > 4:
        print(f"last quarter over second quarter: {growth(found['trace_bytes']):.2f}")
    print(f"influence on features without a row, over the target weights: {found['uncovered_influence']:.3f}")
    print(f"{found['n_kept_features']} features and {found['n_kept_edges']} edges kept at 0.8 and 0.98")


@app.command()
def scaling(
    max_feature_nodes: int = 500,
    small: Annotated[bool, typer.Option(help="two short prompts only, to see that it runs")] = False,
    device: str = "cpu",
    threads: int = 2,
) -> None:
    """How time and memory grow with prompt length, layers and active features; width 256."""
    settings = [(8, 10, n_tokens) for n_tokens in ((32, 64) if small else (64, 128, 256, 512, 1024))]
    settings += [] if small else [(4, 10, 256), (16, 10, 256), (8, 5, 256), (8, 20, 256), (8, 40, 256)]
    print("| layers | active per position and layer | tokens | active features | rows | seconds | peak, MB |")
    print(f"|{'---|' * 7}")
    for n_layers, n_active, n_tokens in settings:
        shape = grid_shape(n_layers, n_active, (32, 64) if small else (64, 1024))
        found = attributed(
            shape,
            n_tokens,
            device=device,
            threads=threads,
            max_feature_nodes=max_feature_nodes,
            node_threshold=NODE_THRESHOLD,
        )
        cells = (
            n_layers, n_active, n_tokens, found["n_features"], found["n_rows"], f"{found['seconds']:.2f}",
            f"{found['peak_bytes'] / 1e6:.0f}",
        )  # fmt: skip
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    app()
