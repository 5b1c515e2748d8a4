"""`tracer import graph`: a graph of another tool, or of tracer, written for viewers or for tracer."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from tracer.cli import options
from tracer.cli.outputs import OWN, VIEWERS, check_graph_file, write_graph_file
from tracer.cli.printing import make_console, print_written
from tracer.errors import ConfigError

if TYPE_CHECKING:
    from tracer.graph.formats.graph_json import GraphJson
    from tracer.graph.graph import Graph

CIRCUIT_TRACER = ".pt"
NODE_DEFAULT, EDGE_DEFAULT = 0.8, 0.98
"""Thresholds at which a whole graph is pruned for viewers."""

NodeThreshold = Annotated[
    float | None,
    typer.Option(
        min=0.0, max=1.0, show_default=False,
        help=f"share of influence that kept nodes hold; {NODE_DEFAULT} for a whole graph, else no more pruning",
    ),
]  # fmt: skip
EdgeThreshold = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, show_default=False, help=f"the same of edges; {EDGE_DEFAULT} for a whole graph"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForViewers:
    """What was asked of a file for viewers; None where nothing was."""

    scan: str | None
    node_threshold: float | None
    edge_threshold: float | None

    @property
    def thresholds(self) -> dict[str, float]:
        """The thresholds that were given."""
        found = {"node_threshold": self.node_threshold, "edge_threshold": self.edge_threshold}
        return {name: value for name, value in found.items() if value is not None}

    def pruned(self, graph: "Graph") -> "Graph":
        """A graph that was pruned before, pruned further where a threshold is given."""
        if not self.thresholds:
            return graph
        return graph.prune(**({"node_threshold": 1.0, "edge_threshold": 1.0} | self.thresholds))


def graph(
    file: options.File,
    out: Annotated[Path, typer.Option("-o", "--out", help=".json, pruned for viewers, or .safetensors for tracer")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="checkpoint whose tokenizer says what a .pt file does not")
    ] = None,
    scan: Annotated[
        str | None,
        typer.Option(help="what viewers call the transcoders, such as org/repo; else as the file says"),
    ] = None,
    node_threshold: NodeThreshold = None,
    edge_threshold: EdgeThreshold = None,
) -> None:  # fmt: skip
    """A graph of circuit-tracer (.pt), of a viewer (.json) or of tracer (.safetensors). Nothing in it is executed.

    Example: tracer import graph dallas.pt -o dallas.safetensors
    """
    check_graph_file(out)
    asked = ForViewers(scan=scan, node_threshold=node_threshold, edge_threshold=edge_threshold)
    _refuse_unused(file, out, model, asked)
    if file.suffix == VIEWERS:
        found = _convert_viewers_graph(file, out, asked)
    else:
        found = _convert_graph(file, out, model, asked)
    layout, console = found.layout, make_console()
    console.print(
        Text(f"{layout.n_features} features of {layout.n_layers} layers, {layout.n_pos} tokens, "),
        Text(f"{layout.n_targets} targets, {len(found.edge_weight)} edges"), sep="", soft_wrap=True,
    )  # fmt: skip
    print_written(out)


def _refuse_unused(file: Path, out: Path, model: str | None, asked: ForViewers) -> None:
    """Unknown files, and options that would say nothing for these two."""
    if file.suffix not in (CIRCUIT_TRACER, VIEWERS, OWN):
        raise ConfigError(
            str(file), found=f"ending {file.suffix or 'none'}", expected=f"{CIRCUIT_TRACER}, {VIEWERS} or {OWN}",
            to_do="Name a graph file.",
        )  # fmt: skip
    if model is not None and file.suffix != CIRCUIT_TRACER:
        raise ConfigError(
            str(file), found="--model", expected=f"it with a {CIRCUIT_TRACER} file alone, as others have their texts",
            to_do="Leave it out.",
        )  # fmt: skip
    given = [f"--{name.replace('_', '-')}" for name in asked.thresholds]
    given += [] if asked.scan is None else ["--scan"]
    if given and out.suffix == OWN:
        raise ConfigError(
            str(out), found=given[0], expected=f"it with {VIEWERS} alone, since {OWN} holds the graph as it was read",
            to_do="Leave it out.",
        )  # fmt: skip
    if asked.scan == "" or (asked.scan is None and (file.suffix, out.suffix) == (OWN, VIEWERS)):
        raise _no_scan(file)


def _no_scan(file: Path) -> ConfigError:
    return ConfigError(
        str(file), found="no word of its transcoders", expected="their name, by which viewers find the features",
        to_do="Give it with --scan, such as --scan org/repo.",
    )  # fmt: skip


def _convert_graph(file: Path, out: Path, model: str | None, asked: ForViewers) -> "Graph":
    from tracer.graph.formats.circuit_tracer_pt import read_pt
    from tracer.graph.formats.own import load_graph

    scan, transcoder_list = _transcoders(file, asked.scan) if out.suffix == VIEWERS else (None, [])
    found = load_graph(file) if file.suffix == OWN else read_pt(file, token_text=_token_text_of(model))
    is_whole = bool(found.node_mask.all())
    thresholds = (
        {"node_threshold": NODE_DEFAULT, "edge_threshold": EDGE_DEFAULT} if is_whole else {}
    ) | asked.thresholds
    write_graph_file(
        found if is_whole else asked.pruned(found), out, scan=scan, transcoder_list=transcoder_list,
        node_threshold=thresholds.get("node_threshold"), edge_threshold=thresholds.get("edge_threshold"),
    )  # fmt: skip
    return found


def _transcoders(file: Path, scan: str | None) -> tuple[str | None, list[str]]:
    """The set that is named, else the one, or that of each layer, that a file of circuit-tracer names."""
    from tracer.graph.formats.circuit_tracer_pt import pt_scan
    from tracer.graph.formats.metadata import viewer_scan

    if scan is not None:
        return viewer_scan(scan), []
    found = pt_scan(file)
    if not found:
        raise _no_scan(file)
    return (found, []) if isinstance(found, str) else (None, found)


def _token_text_of(model: str | None) -> Callable[[int], str] | None:
    if model is None:
        return None
    from tracer.model.tokenizer import load_tokenizer, token_text

    tokenizer = load_tokenizer(model)
    return lambda token_id: token_text(tokenizer, token_id)


def _convert_viewers_graph(file: Path, out: Path, asked: ForViewers) -> "Graph":
    """A viewer's file, whose graph is given; written as it is but for clashing ids, its name and what was asked."""
    from tracer.graph.formats.graph_json import read_json
    from tracer.graph.formats.own import save_graph

    found = read_json(file)
    graph = found.graph()
    if out.suffix == OWN:
        save_graph(graph, out)
    else:
        record = found.with_graph(asked.pruned(graph)) if asked.thresholds else found
        _described(record, out.stem, asked).save(out)
    for collision in found.collisions:
        make_console().print(Text(f"mended: {collision}"), soft_wrap=True)
    return graph


def _described(record: "GraphJson", slug: str, asked: ForViewers) -> "GraphJson":
    from tracer.graph.formats.metadata import viewer_scan

    changed: dict[str, object] = {"slug": slug}
    if asked.scan:
        changed |= {"scan": viewer_scan(asked.scan), "transcoder_list": []}
    if asked.thresholds:
        before = record.metadata.get("pruning_settings")
        changed["pruning_settings"] = (before if isinstance(before, dict) else {}) | asked.thresholds
    if asked.node_threshold is not None:
        changed["node_threshold"] = asked.node_threshold
    return replace(record, data=record.data | {"metadata": record.metadata | changed})
