"""Do tracer and circuit-tracer give the same graph? Identical weights and prompts, both architectures, both kinds.

Compares the full adjacency row by row, influence, the nodes and edges kept at 0.8 and 0.98, and both scores, and ends
with an error when anything differs beyond rounding.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from tests.benchmarks.comparison import Agreement, compare
from tests.benchmarks.shapes import SHAPES, prompt_ids
from tests.benchmarks.sides import both_sides

NODE_THRESHOLD, EDGE_THRESHOLD = 0.8, 0.98
DEFAULT_SHAPES = ["gpt2-per-layer", "gpt2-cross-layer", "llama-per-layer", "llama-cross-layer"]
HEADINGS = (
    "shape",
    "prompt",
    "features",
    "row",
    "influence",
    "scores",
    "kept nodes",
    "kept edges",
    "near cut",
    "apart",
)


def agreements(name: str, n_prompts: int, device: str) -> list[Agreement]:
    """Compare the graphs of some prompts of one shape."""
    shape = SHAPES[name]
    found = []
    with both_sides(shape, device=device, precision="float32", threads=2) as sides, TemporaryDirectory() as folder:
        for idx in range(n_prompts):
            token_ids = prompt_ids(shape, shape.lengths[0], idx)
            paths = {side: str(Path(folder) / f"{side}.safetensors") for side in ("tracer", "circuit_tracer")}
            asked = {"token_ids": token_ids, "prune_at": (NODE_THRESHOLD, EDGE_THRESHOLD)}
            sides.tracer.ask(save_to=paths["tracer"], **asked)
            sides.circuit_tracer.ask(batch_size=128, save_to=paths["circuit_tracer"], **asked)
            found.append(
                compare(
                    Path(paths["tracer"]), Path(paths["circuit_tracer"]),
                    node_threshold=NODE_THRESHOLD, edge_threshold=EDGE_THRESHOLD,
                )
            )  # fmt: skip
    return found


def _line(name: str, idx: int, found: Agreement) -> str:
    cells = (
        name, str(idx), f"{found.n_shared_features} of {'/'.join(map(str, found.n_features))}",
        f"{found.worst_row:.1e}", f"{found.worst_influence:.1e}", f"{found.worst_score:.1e}",
        "/".join(map(str, found.n_kept)), "/".join(map(str, found.n_kept_edges)), str(len(found.near_cut)),
        str(len(found.apart)),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main(
    shapes: Annotated[list[str] | None, typer.Argument(help=f"some of {', '.join(SHAPES)}")] = None,
    n_prompts: int = 5,
    device: str = "cpu",
) -> None:
    """Compare graphs and print a table; `row`, `influence` and `scores` are the worst differences."""
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
    agree = True
    for name in shapes or DEFAULT_SHAPES:
        for idx, found in enumerate(agreements(name, n_prompts, device)):
            print(_line(name, idx, found), flush=True)
            for element in found.near_cut:
                print(f"  near the cut, kept by one side: {element}")
            for element in found.apart:
                print(f"  APART, kept by one side: {element}")
            agree = agree and found.agrees
    print("all agree" if agree else "THEY DO NOT AGREE")
    raise SystemExit(0 if agree else 1)


if __name__ == "__main__":
    typer.run(main)
