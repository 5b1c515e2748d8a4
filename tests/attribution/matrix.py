"""The matrix of settings in which engine, oracle and doubled sources must agree.

Run `python -m tests.attribution.matrix` for the selection in which every pair of settings appears, with `--all` for
every cell that is possible; it prints what ran, the largest differences, and which cells are impossible and why.
"""

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import combinations, product
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from tests.attribution.doubling import changes_by_doubling, doubled_nodes
from tests.checkpoints import ARCHITECTURE_KINDS, loaded, write_transcoders
from tracer.attribution.explicit import ExplicitEngine
from tracer.attribution.oracle import Oracle
from tracer.attribution.prepared import Prepared, Rows, prepare
from tracer.model.readers.registry import read_transcoders
from tracer.model.replacement import ReplacementModel

PROMPT = "w3 w14 w15 w9 w26"
N_FEATURES = 8
KINDS = ("per-layer", "per-layer skip", "cross-layer", "cross-layer skip")
NONLINEARITIES = ("relu", "jumprelu", "topk", "batchtopk")
READ_HOOKS = ("hook_resid_mid", "ln2.hook_normalized", "mlp.hook_in")
WRITE_HOOKS = ("hook_mlp_out", "mlp.hook_out")
HOOK_PAIRS = tuple(f"{read} -> {write}" for read, write in product(READ_HOOKS, WRITE_HOOKS))


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One combination of settings."""

    architecture: str
    kind: str
    nonlinearity: str
    hooks: str

    def __str__(self) -> str:
        return f"{self.architecture} | {self.kind} | {self.nonlinearity} | {self.hooks}"

    @property
    def pairs(self) -> frozenset[tuple[tuple[str, str], ...]]:
        """Every pair of settings in it."""
        settings = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return frozenset(combinations(settings, 2))

    @property
    def why_impossible(self) -> str | None:
        """The reason why there can be no such model and set; None where there can."""
        if self.architecture == "neox" and self.hooks.startswith("hook_resid_mid"):
            return "attention and MLP work in parallel, so no stream lies between them"
        return None


ALL_CELLS = tuple(Cell(*settings) for settings in product(ARCHITECTURE_KINDS, KINDS, NONLINEARITIES, HOOK_PAIRS))
POSSIBLE_CELLS = tuple(cell for cell in ALL_CELLS if cell.why_impossible is None)


def covering_cells(cells: Sequence[Cell]) -> list[Cell]:
    """Few cells in which every pair of settings appears: each time one that adds most, of those with rarest pairs."""
    missing = frozenset[tuple[tuple[str, str], ...]]().union(*(cell.pairs for cell in cells))
    n_uses = Counter[tuple[tuple[str, str], ...]]()
    chosen = []
    while missing:
        best = max(cells, key=lambda cell: (len(cell.pairs & missing), -sum(n_uses[pair] for pair in cell.pairs)))
        chosen.append(best)
        n_uses.update(best.pairs)
        missing -= best.pairs
    return sorted(chosen, key=ALL_CELLS.index)


def model_of(cell: Cell, *, n_features: int = N_FEATURES, seed: int = 0) -> ReplacementModel:
    """The cell's model: its transcoders are written as a public folder and read back."""
    checkpoint, trunk = loaded(cell.architecture)
    read_hook, write_hook = cell.hooks.split(" -> ")
    with tempfile.TemporaryDirectory() as folder:
        write_transcoders(
            checkpoint, Path(folder), cross_layer=cell.kind.startswith("cross-layer"), skip=cell.kind.endswith("skip"),
            nonlinearity=cell.nonlinearity, read_hook=read_hook, write_hook=write_hook, n_features=n_features,
            seed=seed,
        )  # fmt: skip
        transcoders = read_transcoders(Path(folder), trunk.facts, device=torch.device("cpu"))
    return ReplacementModel(trunk.bridge, trunk.tokenizer, transcoders, trunk.facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How far engine, oracle and forward passes are apart in one cell."""

    n_features: int
    row_difference: float
    """Largest difference of engine and oracle in any row, as a share of the row's largest entry."""
    bias_difference: float
    """Largest difference of their biases."""
    identity_difference: float
    """Largest difference of a row's sum and bias from the node's value in the plain forward pass."""
    doubling_difference: float
    """Largest difference of an edge from what doubling its source moves its target by."""


def row_nodes(prepared: Prepared) -> torch.Tensor:
    """Every node that has a row."""
    layout = prepared.layout
    return torch.cat([torch.arange(layout.n_features), torch.arange(layout.first_target, layout.n_nodes)])


def node_values(model: ReplacementModel, prepared: Prepared) -> torch.Tensor:
    """Pre-activations of all features and demeaned uncapped logits of all targets, from the plain forward pass."""
    layout, forward = prepared.layout, prepared.forward
    pre_activations = [
        model.transcoders.layers[layer].pre_activations(forward.reads[layer, pos])[feature]
        for layer, pos, feature in layout.features.tolist()
    ]
    last = forward.uncapped_logits[-1] - forward.uncapped_logits[-1].mean()
    logits = [last[target.token_id] for target in prepared.targets.targets]
    return torch.stack([*pre_activations, *logits])


def largest_row_difference(found: Rows, expected: Rows) -> float:
    """Over all rows, the largest difference as a share of the expected row's largest entry."""
    difference = (found.weights - expected.weights).abs().amax(1)
    return float((difference / expected.weights.abs().amax(1)).max())


def outcome(cell: Cell) -> Outcome:
    """Compute the cell's graph by engine and oracle."""
    model = model_of(cell)
    prepared = prepare(model, model.tokenize(PROMPT))
    nodes = row_nodes(prepared)
    engine = ExplicitEngine(model, prepared, memory_budget_bytes=2**24).rows(nodes)
    oracle = Oracle(model, prepared).rows(nodes)
    doubled = doubled_nodes(prepared.layout)
    moved = changes_by_doubling(model, prepared, doubled)
    identity = engine.weights.sum(1) + engine.bias - node_values(model, prepared)
    return Outcome(
        n_features=prepared.layout.n_features,
        row_difference=largest_row_difference(engine, oracle),
        bias_difference=float((engine.bias - oracle.bias).abs().max()),
        identity_difference=float(identity.abs().max()),
        doubling_difference=float((moved - engine.weights[:, doubled]).abs().max()),
    )


def _table(differences: dict[Cell, float]) -> Iterator[str]:
    """Cells run and their largest row difference, by architecture and transcoder kind."""
    yield " | ".join(["architecture", *KINDS])
    for architecture in ARCHITECTURE_KINDS:
        row = [architecture]
        for kind in KINDS:
            found = [
                value for cell, value in differences.items() if (cell.architecture, cell.kind) == (architecture, kind)
            ]
            row.append(f"{len(found)} cells, {max(found):.1e}" if found else "none")
        yield " | ".join(row)


def _impossible() -> Iterator[str]:
    impossible = [cell for cell in ALL_CELLS if cell.why_impossible is not None]
    for reason in sorted({str(cell.why_impossible) for cell in impossible}):
        of_reason = [cell for cell in impossible if cell.why_impossible == reason]
        where = sorted({f"{cell.architecture} reading {cell.hooks.split(' -> ')[0]}" for cell in of_reason})
        yield f"{len(of_reason)} cells are impossible: {', '.join(where)}, since {reason}"


def main() -> None:
    """Run the matrix and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="every possible cell, not the covering selection")
    cells = POSSIBLE_CELLS if parser.parse_args().all else covering_cells(POSSIBLE_CELLS)
    print("architecture | transcoders | nonlinearity | hooks | active | engine to oracle | identity | doubling")
    differences, worst = {}, [0.0, 0.0]
    for cell in cells:
        found = outcome(cell)
        differences[cell] = found.row_difference
        worst = [max(pair) for pair in zip(worst, (found.identity_difference, found.doubling_difference), strict=True)]
        figures = (found.row_difference, found.identity_difference, found.doubling_difference)
        print(f"{cell} | {found.n_features} | {' | '.join(f'{figure:.1e}' for figure in figures)}", flush=True)
    print("", *_table(differences), *_impossible(), sep="\n")
    print(
        f"{len(differences)} cells ran; largest differences: engine to oracle {max(differences.values()):.1e} of the "
        f"row's largest entry, identity {worst[0]:.1e}, doubling {worst[1]:.1e}"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
