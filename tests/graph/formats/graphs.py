"""Random graphs with tokens, targets and labels of their own, for files to hold."""

import json
from dataclasses import replace

import torch

from tests.graph.random_graphs import influence_of, random_graph
from tracer.graph.formats.graph_json import read_json, write_json
from tracer.graph.graph import Graph, Target
from tracer.graph.layout import NodeKind, NodeLayout
from tracer.graph.scores import share_from

TARGETS = (
    Target(token=" Austin", token_id=22605, pos=3, weight=0.625, logit=11.5),
    Target(token=' "(p=', token_id=7, pos=3, weight=0.25, logit=-0.5),
)
FEATURE, LOGIT = "cross layer transcoder", "logit"
"""What graph JSON calls them."""


def small_graph(seed: int = 0, **changes: object) -> Graph:
    """Three layers, four tokens, two targets at the last one, distinct token ids and activations."""
    graph = random_graph(seed=seed, n_layers=3, n_pos=4, n_features=12)
    generator = torch.Generator().manual_seed(seed)
    fields = {
        "text": 'the "capital"\nof\tTexas é',
        "tokens": ("<s>", 'the "capital"', "\nof\t", "Texas é"),
        "token_ids": torch.tensor([0, 17, 4, 17]),
        "targets": TARGETS,
        "activations": torch.randn(12, generator=generator),
    } | changes
    return with_influence(replace(graph, **fields))


def with_influence(graph: Graph) -> Graph:
    return replace(graph, influence=influence_of(graph))


def graph_with_features(features: list[list[int]], *, n_layers: int = 4, n_pos: int = 3, seed: int = 0) -> Graph:
    """Every possible edge from a lower layer into these features (layer, pos, feature) and into two targets."""
    layout = NodeLayout(features=torch.tensor(sorted(features)), n_layers=n_layers, n_pos=n_pos, n_targets=2)
    layers = layout.layers()
    has_inputs = layout.is_kind(NodeKind.feature) | layout.is_kind(NodeKind.logit)
    target, source = ((layers[:, None] > layers[None]) & has_inputs[:, None]).nonzero(as_tuple=True)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(len(target), generator=generator)
    n_nodes = layout.n_nodes
    return with_influence(
        Graph(
            layout=layout, text="a b c", token_ids=torch.arange(n_pos), tokens=("a",) * n_pos,
            targets=tuple(replace(one, pos=n_pos - 1) for one in TARGETS),
            activations=torch.ones(layout.n_features), edge_target=target, edge_source=source, edge_weight=weight,
            has_row=torch.ones(layout.n_features, dtype=torch.bool), row_bias=torch.zeros(n_nodes),
            error_share=share_from(layout.is_kind(NodeKind.error), target, source, weight.abs()),
            node_mask=torch.ones(n_nodes, dtype=torch.bool), influence=torch.zeros(n_nodes), uncovered_influence=0.0,
        )
    )  # fmt: skip


def assert_same_graph(found: Graph, expected: Graph) -> None:
    """Bit for bit, NaN included."""
    for name in Graph.__dataclass_fields__:
        left, right = getattr(found, name), getattr(expected, name)
        if isinstance(right, torch.Tensor):
            assert left.dtype == right.dtype, name
            assert left.numpy().tobytes() == right.numpy().tobytes(), name
        elif isinstance(right, NodeLayout):
            sizes = [(layout.n_layers, layout.n_pos, layout.n_targets) for layout in (left, right)]
            assert sizes[0] == sizes[1]
            assert torch.equal(left.features, right.features)
        else:
            assert repr(left) == repr(right), name


def written(tmp_path, graph, slug="dallas", **settings):
    """The file of a graph, as JSON."""
    return json.loads(write_json(graph, tmp_path, slug, scan="org/set", **settings).read_text(encoding="utf-8"))


def read_back(tmp_path, data):
    """A file with this JSON, read."""
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return read_json(path)


def of_type(data, feature_type):
    """The nodes of a type."""
    return [node for node in data["nodes"] if node["feature_type"] == feature_type]
