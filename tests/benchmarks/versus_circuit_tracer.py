"""tracer against circuit-tracer: identical weights and prompts, pair by pair, equal threads and precision.

Per shape: whether the full adjacency agrees; circuit-tracer's best batch size; times of exact graphs and of graphs at a
coverage, with the ratio of every pair; peak memory above the loaded model, each in a fresh process; and where tracer's
time goes. Loading and pruning are not counted. A built shape whose features do not carry the graph is refused.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from tests.benchmarks.comparison import MAX_ROW_DIFFERENCE, jaccard, worst_row_of
from tests.benchmarks.serving import Side
from tests.benchmarks.shapes import DEMO, FOLDER, SHAPES, Shape
from tests.benchmarks.sides import Sides, both_sides, one_side, prompts

N_TRIES = 2
"""Runs of each batch size, of which the faster one counts."""
MIN_FEATURES_SHARE, MIN_KEPT_FEATURES = 0.3, 100
PRUNE_AT = (0.8, 0.98)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a comparison is run with."""

    pairs: int
    lengths: tuple[int, ...]
    """Prompt lengths; the shape's own first one where there is none."""
    coverage: float
    batch_sizes: tuple[int, ...]
    max_feature_nodes: int | None
    node_threshold: float | None
    memory_budget_gb: float
    device: str
    precision: str
    threads: int
    peak_tflops: float | None

    @property
    def start(self) -> dict[str, Any]:
        """What both sides are started with."""
        return {"device": self.device, "precision": self.precision, "threads": self.threads}

    @property
    def of_tracer(self) -> dict[str, Any]:
        """What tracer is asked with each time."""
        return {
            "memory_budget_bytes": int(self.memory_budget_gb * 1024**3), "node_threshold": self.node_threshold,
            "max_feature_nodes": self.max_feature_nodes,
        }  # fmt: skip


def worst_row(sides: Sides, token_ids: list[int], batch_size: int, memory_budget_bytes: int) -> float:
    """How far a prompt's full adjacency is from circuit-tracer's."""
    with TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.safetensors", Path(folder) / "theirs.safetensors"
        sides.tracer.ask(token_ids=token_ids, save_to=str(ours), memory_budget_bytes=memory_budget_bytes)
        sides.circuit_tracer.ask(token_ids=token_ids, batch_size=batch_size, save_to=str(theirs))
        return worst_row_of(ours, theirs)


def best_batch_size(side: Side, token_ids: list[int], settings: Settings) -> tuple[int, dict[int, float]]:
    """circuit-tracer's fastest batch size on a prompt, and the seconds of each."""
    seconds = {}
    for batch_size in settings.batch_sizes:
        asked = {"token_ids": token_ids, "batch_size": batch_size, "max_feature_nodes": settings.max_feature_nodes}
        seconds[batch_size] = min(side.ask(**asked)["seconds"] for _ in range(N_TRIES))
    return min(seconds, key=seconds.__getitem__), seconds


def timed_pairs(
    sides: Sides, shape: Shape, token_ids: list[list[int]], batch_size: int, settings: Settings
) -> list[dict[str, Any]]:
    """Per prompt: circuit-tracer, tracer exact, tracer at the coverage, one after the other.

    A pair during which other processes took more than a few per cent of the processor says little.

    Raises:
        SystemExit: the features of a built shape do not carry the graph.
    """
    pairs = []
    for ids in token_ids:
        asked = {"token_ids": ids, "shape": asdict(shape)} | settings.of_tracer
        theirs = sides.circuit_tracer.ask(
            token_ids=ids, batch_size=batch_size, max_feature_nodes=settings.max_feature_nodes
        )  # fmt: skip
        exact, covered = sides.tracer.ask(**asked), sides.tracer.ask(coverage=settings.coverage, **asked)
        for reply in (exact, covered):
            reply |= reply.pop("graphs")[0]
        if shape.name != "demo" and (
            exact["features_share"] < MIN_FEATURES_SHARE or exact["n_kept_features"] < MIN_KEPT_FEATURES
        ):
            found = f"{exact['features_share']:.0%} of influence, {exact['n_kept_features']} kept"
            raise SystemExit(f"{shape.name}: features do not carry the graph: {found}")
        same = jaccard(exact.pop("kept"), covered.pop("kept"))
        pairs.append({"theirs": theirs, "exact": exact, "covered": covered, "jaccard": same})
    return pairs


def peaks(shape: Shape, found: dict[str, Any], settings: Settings) -> dict[str, int]:
    """Peak memory above the loaded model in bytes; on a CPU each in a process that holds nothing from before."""
    if settings.device.startswith("cuda"):
        return {name: found["pairs"][0][name]["peak_bytes"] for name in ("theirs", "exact", "covered")}
    their_settings = {"batch_size": found["batch_size"], "max_feature_nodes": settings.max_feature_nodes}
    found_bytes = {}
    for name, side, asked in (
        ("theirs", "circuit_tracer", their_settings),
        ("exact", "tracer", settings.of_tracer),
        ("covered", "tracer", settings.of_tracer | {"coverage": settings.coverage}),
    ):
        with one_side(side, shape, **settings.start) as process:
            found_bytes[name] = process.ask(token_ids=found["token_ids"], **asked)["peak_bytes"]
    return found_bytes


def compared(shape: Shape, settings: Settings) -> Iterator[dict[str, Any]]:
    """Everything that is measured of one shape, by prompt length.

    Raises:
        SystemExit: the features of a built shape do not carry the graph, or the adjacencies differ.
    """
    results = []
    with both_sides(shape, **settings.start) as sides:
        for n_tokens in settings.lengths or shape.lengths[:1]:
            token_ids = prompts(shape, n_tokens, settings.pairs, sides.tracer)
            worst = None
            if settings.max_feature_nodes is None and settings.precision == "float32":
                budget = settings.of_tracer["memory_budget_bytes"]
                worst = worst_row(sides, token_ids[0], settings.batch_sizes[0], budget)
                if worst > MAX_ROW_DIFFERENCE:
                    raise SystemExit(f"{shape.name}: the adjacencies differ by {worst:.1e} of a row's largest entry")
            batch_size, sweep = best_batch_size(sides.circuit_tracer, token_ids[0], settings)
            pairs = timed_pairs(sides, shape, token_ids, batch_size, settings)
            rate = sides.tracer.ask(ask="rate", shape=asdict(shape))["rate"]
            found = {"shape": shape.name, "n_tokens": n_tokens, "token_ids": token_ids[0], "worst_row": worst}
            found |= {"batch_size": batch_size, "sweep": sweep, "pairs": pairs, "rate": rate}
            results.append(found)
    for found in results:
        yield found | {"peaks": peaks(shape, found, settings)}


def report(found: dict[str, Any], settings: Settings) -> None:
    """Print what was measured of one shape."""
    first = found["pairs"][0]["exact"]
    print(f"\n## {found['shape']}: {settings.device}, {settings.precision}, {settings.threads} threads")
    print(
        f"{first['n_features']} active features, {first['n_rows']} rows; features hold {first['features_share']:.0%} of"
        f" influence; {first['n_kept_features']} features and {first['n_kept_edges']} edges kept"
    )
    if found["worst_row"] is not None:
        print(f"full adjacency agrees: worst row {found['worst_row']:.1e} of its largest entry")
    sweep = ", ".join(f"{size}: {seconds:.2f} s" for size, seconds in found["sweep"].items())
    print(f"circuit-tracer's batch size: {found['batch_size']} (of {sweep})\n")
    covered = f"coverage {settings.coverage}"
    print(f"| pair | circuit-tracer, s | exact, s | ratio | {covered}, s | ratio | rows | Jaccard | others' CPU |")
    print(f"|{'---|' * 9}")
    ratios: dict[str, list[float]] = {"exact": [], "covered": []}
    for idx, pair in enumerate(found["pairs"]):
        seconds = {name: pair[name]["seconds"] for name in ("theirs", "exact", "covered")}
        for name, values in ratios.items():
            values.append(seconds["theirs"] / seconds[name])
        share = pair["covered"]["n_rows"] / max(1, pair["covered"]["n_features"])
        others = max(pair[name]["others_share"] for name in seconds)
        print(
            f"| {idx} | {seconds['theirs']:.3f} | {seconds['exact']:.3f} | {ratios['exact'][-1]:.2f} |"
            f" {seconds['covered']:.3f} | {ratios['covered'][-1]:.2f} | {share:.0%} | {pair['jaccard']:.3f} |"
            f" {others:.0%} |"
        )
    for name, values in ratios.items():
        print(f"ratio, {name}: median {median(values):.2f}, range {min(values):.2f} to {max(values):.2f}")
    for name, peak in found["peaks"].items():
        print(f"peak memory above the loaded model, {name}: {peak / 1e6:.0f} MB, {peak / found['peaks']['theirs']:.2f}")
    for name in ("exact", "covered"):
        _report_phases(name, found, settings)


def _report_phases(name: str, found: dict[str, Any], settings: Settings) -> None:
    """Median seconds of each phase, and the rows' arithmetic beside what the machine gives."""
    replies = [pair[name] for pair in found["pairs"]]
    phases = {phase: median(reply["phases"][phase] for reply in replies) for phase in replies[0]["phases"]}
    print(f"phases, {name}: " + ", ".join(f"{phase} {seconds:.3f} s" for phase, seconds in phases.items()))
    flops = median(reply["row_flops"] for reply in replies)
    rate = flops / phases["rows"] if phases["rows"] else 0.0
    print(
        f"rows, {name}: {flops / 1e9:.1f} GFLOP counted, {rate / 1e9:.0f} GFLOP/s, {rate / found['rate']:.0%} of the"
        f" {found['rate'] / 1e9:.0f} GFLOP/s of a plain product of their shape"
    )
    if settings.peak_tflops:
        whole = flops / median(reply["seconds"] for reply in replies)
        print(f"counted over whole time: {whole / settings.peak_tflops / 1e12:.1%} of {settings.peak_tflops} TFLOP/s")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


def main(
    shapes: Annotated[list[str] | None, typer.Argument(help=f"some of demo, {', '.join(SHAPES)}")] = None,
    pairs: int = 3,
    lengths: Annotated[str, typer.Option(help="prompt lengths, by commas; the shape's own first one")] = "",
    coverage: float = 0.95,
    batch_sizes: Annotated[str, typer.Option(help="circuit-tracer's, tried in turn")] = "32,64,128,256",
    max_feature_nodes: Annotated[int | None, typer.Option(help="cap on both sides; every row without")] = None,
    node_threshold: Annotated[float | None, typer.Option(help="tracer keeps edges between kept nodes only")] = None,
    memory_budget_gb: Annotated[float, typer.Option(help="tracer's working memory")] = 2.0,
    device: str = "cpu",
    precision: Annotated[str, typer.Option(help="float32, tf32 or bfloat16, on both sides")] = "float32",
    threads: int = 2,
    peak_tflops: Annotated[float | None, typer.Option(help="the card's peak at this precision")] = None,
) -> None:
    """Run both sides and print ratios of times and memory."""
    settings = Settings(
        pairs=pairs, lengths=_numbers(lengths), coverage=coverage, batch_sizes=_numbers(batch_sizes),
        max_feature_nodes=max_feature_nodes, node_threshold=node_threshold, memory_budget_gb=memory_budget_gb,
        device=device, precision=precision, threads=threads, peak_tflops=peak_tflops,
    )  # fmt: skip
    folder = FOLDER / "results"
    folder.mkdir(parents=True, exist_ok=True)
    for name in shapes or ["8x256", "12x768", "demo"]:
        for found in compared(DEMO if name == "demo" else SHAPES[name], settings):
            report(found, settings)
            written = json.dumps({"settings": asdict(settings)} | found, indent=1)
            cap = f"-{max_feature_nodes}-rows" if max_feature_nodes else ""
            path = folder / f"versus-{name}-{found['n_tokens']}-{device}-{precision}{cap}.json"
            path.write_text(written, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
