"""Is the stated bound true, and how much does it decide? Graphs with some rows against exact ones, case by case.

At each coverage a case's verdicts (certainly kept, certainly dropped by the node cut) are held against the exact graph;
a single wrong one ends the script with an error. Cases are the embedded model on prompts of the toy atlas and models
built with random weights whose features carry the graph.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated

import torch
import typer
from torch import Tensor

from tests.benchmarks.build import built
from tests.benchmarks.shapes import DEMO_FILES, SHAPES, prompt_ids
from tracer.attribution.graphs import graph_of
from tracer.attribution.prepared import Prepared, prepare
from tracer.corpus.tasks.atlas_rows import AtlasOptions, atlas_rows
from tracer.graph.graph import Graph
from tracer.graph.layout import NodeKind
from tracer.graph.pruning import rank
from tracer.model.replacement import ReplacementModel

COVERAGES = (0.9, 0.95, 0.99, 0.999)
NODE_THRESHOLD = 0.8
RANDOM_SHAPES = ("tiny", "gpt2-per-layer", "gpt2-cross-layer", "llama-per-layer", "llama-cross-layer")
HEADINGS = (
    "model", "coverage", "cases", "rows computed", "uncovered", "nodes decided", "least", "features decided",
    "Jaccard to exact", "least", "wrong",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One prompt at one coverage."""

    rows_computed: float
    uncovered: float
    nodes_decided: float
    features_decided: float
    jaccard: float
    n_wrong: int


def case_of(exact: Graph, partial: Graph) -> Case:
    """Verdicts of a graph with some rows, held against the exact graph."""
    decided, layout = partial.decided(NODE_THRESHOLD), exact.layout
    open_nodes = layout.is_kind(NodeKind.feature) | layout.is_kind(NodeKind.error)
    kept, guessed = _kept(exact) & open_nodes, _kept(partial) & open_nodes
    wrong = (decided.certainly_kept & open_nodes & ~kept) | (decided.certainly_dropped & kept)
    verdict = (decided.certainly_kept | decided.certainly_dropped)[layout.is_kind(NodeKind.feature)]
    return Case(
        rows_computed=float(partial.has_row.float().mean()),
        uncovered=partial.uncovered_influence,
        nodes_decided=decided.share_decided,
        features_decided=float(verdict.float().mean()),
        jaccard=int((kept & guessed).sum()) / max(1, int((kept | guessed).sum())),
        n_wrong=int(wrong.sum()),
    )


def _kept(graph: Graph) -> Tensor:
    return rank(graph.influence, NODE_THRESHOLD).kept


def embedded(n_prompts: int) -> tuple[ReplacementModel, Iterator[Prepared]]:
    """The model that the package ships, on atlas prompts of all tasks."""
    model = ReplacementModel.from_pretrained(DEMO_FILES / "language_model", DEMO_FILES / "per_layer", device="cpu")
    rows = atlas_rows(model.tokenizer, AtlasOptions(n_prompts=n_prompts, split="both", seed=1))
    return model, (prepare(model, model.tokenize(str(row["text"]))) for row in rows)


def random(name: str, n_prompts: int) -> tuple[ReplacementModel, Iterator[Prepared]]:
    """A built model of one shape, on random prompts."""
    shape = SHAPES[name]
    model = ReplacementModel.from_pretrained(*built(shape), device="cpu")
    prompts = ([shape.lengths[0], idx] for idx in range(n_prompts))
    return model, (prepare(model, torch.tensor(prompt_ids(shape, *prompt))) for prompt in prompts)


def cases(model: ReplacementModel, prompts: Iterator[Prepared]) -> dict[float, list[Case]]:
    """All prompts at all coverages."""
    found: dict[float, list[Case]] = {coverage: [] for coverage in COVERAGES}
    for prepared in prompts:
        exact = graph_of(model, prepared)
        for coverage in COVERAGES:
            found[coverage].append(case_of(exact, graph_of(model, prepared, coverage=coverage, every_row_flops=0.0)))
    return found


def _line(name: str, coverage: float, found: list[Case]) -> str:
    decided, jaccards = [case.nodes_decided for case in found], [case.jaccard for case in found]
    cells = (
        name, f"{coverage:g}", str(len(found)), f"{fmean(case.rows_computed for case in found):.1%}",
        f"{fmean(case.uncovered for case in found):.4f}", f"{fmean(decided):.1%}", f"{min(decided):.1%}",
        f"{fmean(case.features_decided for case in found):.1%}", f"{fmean(jaccards):.3f}", f"{min(jaccards):.3f}",
        str(sum(case.n_wrong for case in found)),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main(
    n_embedded: Annotated[int, typer.Option(help="prompts of the embedded model")] = 120,
    n_random: Annotated[int, typer.Option(help="prompts of each built model")] = 25,
    threads: int = 2,
) -> None:
    """Print a table; `least` is the worst case of the column in front of it."""
    torch.set_num_threads(threads)
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
    n_cases = n_wrong = 0
    for name in ("embedded", *RANDOM_SHAPES):
        found = cases(*(embedded(n_embedded) if name == "embedded" else random(name, n_random)))
        for coverage, of_coverage in found.items():
            print(_line(name, coverage, of_coverage), flush=True)
            n_wrong += sum(case.n_wrong for case in of_coverage)
        n_cases += len(found[COVERAGES[0]])
    print(f"{n_cases} cases at {len(COVERAGES)} coverages, {n_wrong} wrong verdicts")
    raise SystemExit(1 if n_wrong else 0)


if __name__ == "__main__":
    typer.run(main)
