"""Graphs of a run, from its tables: as `Graph`s, and as files of circuit-tracer's viewer beside the features."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from tracer.errors import DataError
from tracer.graph.formats.graph_json import to_graph_json
from tracer.graph.formats.groups import Groups
from tracer.graph.formats.metadata import list_graph, viewer_scan
from tracer.graph.graph import Graph, Target
from tracer.graph.layout import NodeLayout
from tracer.tables.database import Connection, connect
from tracer.views.exports.circuit_tracer_features import FileForm, export_circuit_tracer
from tracer.views.exports.feature_pack import FOLDER_NAME
from tracer.views.exports.folders import new_folder
from tracer.views.exports.labelled_groups import labelled_groups
from tracer.views.exports.scans import Scan, scan_of
from tracer.views.exports.tally import ExportSummary, Progress
from tracer.views.readings import BEST_LABEL

LOCAL_SCAN = f"./graph_data/{FOLDER_NAME}"
"""Where circuit-tracer's local server shows the folder of features inside the folder of graphs."""
N_SLUG_CHARACTERS = 40

BEST_GRAPHS = """
    SELECT graph_id FROM graphs JOIN prompts USING (prompt_id)
    ORDER BY coalesce(is_correct, false) DESC, completeness_score DESC, graph_id LIMIT $n
"""
GRAPHS_OF_PROMPT = "SELECT graph_id FROM graphs WHERE prompt_id = $prompt_id ORDER BY graph_id"
ABOUT = """
    SELECT graph_id, text, token_ids, tokens, uncovered_influence, n_near_cut, (SELECT n_layers FROM runs) AS n_layers
    FROM graphs JOIN prompts USING (prompt_id) WHERE graph_id = $graph_id
"""
TARGETS = """
    SELECT token, token_id, pos, probability AS weight, logit
    FROM logits WHERE graph_id = $graph_id ORDER BY target_idx
"""
NODES = "SELECT * FROM nodes WHERE graph_id = $graph_id ORDER BY node_idx"
EDGES = """
    SELECT target_idx, source_idx, weight FROM edges
    WHERE graph_id = $graph_id ORDER BY edge_score DESC, target_idx, source_idx
"""
LABELS = f"""
    WITH {BEST_LABEL}
    SELECT DISTINCT layer, feature, label FROM best_label JOIN nodes USING (layer, feature) WHERE graph_id = $graph_id
"""


def choose_graphs(database: Path, *, prompt_ids: Sequence[str] = (), n_best: int = 0) -> list[str]:
    """Ids of the graphs of some prompts, and of the best graphs of the run, each but once.

    Args:
        database: the results.duckdb of a finished run.
        prompt_ids: the prompts.
        n_best: so many graphs: first those of prompts answered rightly, the most complete in front.

    Raises:
        DataError: a prompt that has no graph.
        ArtifactError: `database` is no results file.
    """
    chosen: list[str] = []
    with connect(database) as connection:
        for prompt_id in prompt_ids:
            found = connection.execute(GRAPHS_OF_PROMPT, {"prompt_id": prompt_id}).fetchall()
            if not found:
                raise DataError(
                    f"prompt {prompt_id}", found="no graph of it", expected="a prompt_id of the table graphs",
                    to_do="`tracer sql RUN 'SELECT prompt_id, text FROM prompts'` lists them.",
                )  # fmt: skip
            chosen += [graph_id for (graph_id,) in found]
        chosen += [graph_id for (graph_id,) in connection.execute(BEST_GRAPHS, {"n": n_best}).fetchall()]
    return list(dict.fromkeys(chosen))


def read_run_graph(connection: Connection, graph_id: str) -> Graph:
    """A graph as the tables hold it: pruned, with the features that pruning kept.

    What the tables do not hold is NaN: biases of rows, and shares of errors in the unpruned graph.

    Args:
        connection: to a results file.
        graph_id: one of its graphs.
    """
    about = _frame(connection, ABOUT, graph_id).row(0, named=True)
    nodes = _frame(connection, NODES, graph_id)
    targets = tuple(Target(**row) for row in _frame(connection, TARGETS, graph_id).iter_rows(named=True))
    features = nodes.filter(pl.col("kind") == "feature")
    layout = NodeLayout(
        features=torch.tensor(features.select("layer", "pos", "feature").rows(), dtype=torch.long).view(-1, 3),
        n_layers=about["n_layers"], n_pos=len(about["tokens"]), n_targets=len(targets),
    )  # fmt: skip
    places = _places(nodes, layout)
    edges = _frame(connection, EDGES, graph_id)
    influence = torch.zeros(layout.n_nodes)
    total = sum(target.weight for target in targets)
    influence[places] = torch.tensor(nodes["influence"].to_list()) * total
    node_mask = torch.zeros(layout.n_nodes, dtype=torch.bool)
    node_mask[places] = True
    unknown = torch.full((layout.n_nodes,), torch.nan)
    return Graph(
        layout=layout,
        text=about["text"],
        token_ids=torch.tensor(about["token_ids"]),
        tokens=tuple(about["tokens"]),
        targets=targets,
        activations=torch.tensor(features["activation"].to_list(), dtype=torch.float32),
        edge_target=places[edges["target_idx"].to_list()],
        edge_source=places[edges["source_idx"].to_list()],
        edge_weight=torch.tensor(edges["weight"].to_list(), dtype=torch.float32),
        has_row=torch.ones(layout.n_features, dtype=torch.bool),
        row_bias=unknown,
        error_share=unknown,
        node_mask=node_mask,
        influence=influence,
        uncovered_influence=about["uncovered_influence"],
        n_near_cut=about["n_near_cut"],
    )


def _frame(connection: Connection, sql: str, graph_id: str) -> pl.DataFrame:
    return pl.DataFrame(connection.sql(sql, params={"graph_id": graph_id}).to_arrow_table())


def _places(nodes: pl.DataFrame, layout: NodeLayout) -> Tensor:
    """The index in the layout of every row of `nodes`, which are in the layout's order, errors left out by pruning."""
    places, n_targets = [], 0
    for row, (kind, layer, pos) in enumerate(nodes.select("kind", "layer", "pos").iter_rows()):
        if kind == "feature":
            places.append(row)
        elif kind == "error":
            places.append(layout.first_error + layer * layout.n_pos + pos)
        elif kind == "token":
            places.append(layout.first_token + pos)
        else:
            places.append(layout.first_target + n_targets)
            n_targets += 1
    return torch.tensor(places, dtype=torch.long)


@dataclass(frozen=True, slots=True)
class WrittenGraph:
    """A graph's name, and the parameters of an address that shows it with its groups, "" where it has none."""

    slug: str
    query: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewerExport:
    """What was written for circuit-tracer's viewer."""

    features: ExportSummary
    graphs: tuple[WrittenGraph, ...]
    scan: Scan


def export_for_viewer(
    database: Path,
    out: Path,
    *,
    graph_ids: Sequence[str] = (),
    form: FileForm = "pack",
    scan: str | None = None,
    groups: Groups | None = None,
    progress: Progress | None = None,
) -> ViewerExport:
    """Write the features of a run and some of its graphs, whose features have their labels as captions.

    The graphs lie in the folder itself with their listing, the features in `features` below it. In the form `files` the
    graphs refer to that folder, so that circuit-tracer's local server shows features that are on no hub.

    Args:
        database: the results.duckdb of a finished run.
        out: a new or empty folder.
        graph_ids: the graphs.
        form: as for `export_circuit_tracer`.
        scan: where viewers look for the features; when not given, that folder for the form `files`, else the place of
            the run's transcoders on the hub, or the last part of their path.
        groups: named groups, which every graph gets as far as it has their nodes; their labels go before the run's.
            None given: the run's own groups, as far as they have labels.
        progress: told how far the features are.

    Raises:
        ArtifactError: `database` is no results file, or `out` is not empty.
    """
    with connect(database) as connection:
        ((transcoders, config),) = connection.execute("SELECT transcoders, config FROM runs").fetchall()
    pruning = json.loads(config).get("pruning", {})
    if scan is not None:
        where = Scan(viewer_scan(scan), True)
    else:
        where = Scan(LOCAL_SCAN, True) if form == "files" else scan_of(str(transcoders))
    with new_folder(out) as folder:
        # A pack makes its own folder of that name.
        inner = folder / FOLDER_NAME if form == "files" else folder / "pack"
        features = export_circuit_tracer(database, inner, transcoder_id=where.name, form=form, progress=progress)
        if form == "pack":
            (inner / FOLDER_NAME).rename(folder / FOLDER_NAME)
            inner.rmdir()
        with connect(database) as connection:
            graphs = [_write_graph(connection, folder, graph_id, where.name, pruning, groups) for graph_id in graph_ids]
    return ViewerExport(features=replace(features, folder=out), graphs=tuple(graphs), scan=where)


def _write_graph(
    connection: Connection, folder: Path, graph_id: str, scan: str, pruning: dict[str, Any], given: Groups | None
) -> WrittenGraph:
    groups = labelled_groups(connection, graph_id) if given is None else given
    graph = read_run_graph(connection, graph_id)
    labels = {(layer, feature): label for layer, feature, label in _frame(connection, LABELS, graph_id).iter_rows()}
    record = to_graph_json(
        graph, slug=slug_of(graph.text, graph_id), scan=scan, node_threshold=None, edge_threshold=None,
        label_of=lambda layer, feature: labels.get((layer, feature)), groups=groups,
        metadata={"node_threshold": pruning.get("node_threshold"), "pruning_settings": pruning},
    )  # fmt: skip
    # The shares of the whole graph, which what pruning kept cannot say.
    shares = _frame(connection, NODES, graph_id)["cumulative_influence"].to_list()
    for node, share in zip(record.nodes, shares, strict=True):
        node["influence"] = share
    slug = record.metadata["slug"]
    record.save(folder / f"{slug}.json")
    list_graph(folder, record.metadata)
    present = replace(groups.within({node["node_id"] for node in record.nodes}), slug=slug)
    return WrittenGraph(slug, present.query() if present.groups else "")


def slug_of(text: str, graph_id: str) -> str:
    """The beginning of a prompt as a file name, told apart by the graph's id.

    Args:
        text: the prompt.
        graph_id: the graph's id.
    """
    words = re.sub(r"[^0-9a-z]+", "-", text.lower()).strip("-")[:N_SLUG_CHARACTERS].strip("-")
    return f"{words}-{graph_id[:8]}" if words else graph_id[:8]
