"""Head loadings: which attention heads carry an edge.

A path from a source to a target in the frozen map crosses attention heads and skip connections, or none. Sorted by the
last of them in front of the target, the paths of an edge fall into those that stay in the residual stream, those whose
last crossing is a given head, and those whose last crossing is a given layer's skip connection; the sums of all kinds
add up to the edge. After the last crossing there is only the residual stream, so a head's part is
`sum_k pattern[t, k] (W_V stream_of_source[k]) . (W_O^T read_of_target[t])`, scales included: sources are pushed up the
layers once, and every target reads them on the way.

Example:
    >>> from tracer import ReplacementModel
    >>> from tracer.attribution.attribute import graph_of
    >>> from tracer.attribution.head_loadings import head_loadings
    >>> from tracer.attribution.prepared import prepare
    >>> model = ReplacementModel.from_pretrained(
    ...     "package:tracer/model/demo/files/language_model", "package:tracer/model/demo/files/per_layer")
    >>> prepared = prepare(model, model.tokenize("the capital of the state containing Dallas is"))
    >>> graph = graph_of(model, prepared).prune()
    >>> loadings = head_loadings(model, prepared, graph)
    >>> float((loadings.sums() - graph.edge_weight).abs().max()) < 1e-3
    True
    >>> loadings.frame().columns
    ['target', 'source', 'kind', 'layer', 'head', 'weight', 'share']
"""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.attribution.crossings import Crossings, source_positions
from tracer.attribution.graphs import DEFAULT_MEMORY_BUDGET_BYTES
from tracer.attribution.prepared import Prepared
from tracer.attribution.reads import Reads, feature_reads, joined, selected
from tracer.errors import DataError, ModelError
from tracer.graph.graph import Graph
from tracer.model.replacement import ReplacementModel

N_BATCH_SOURCES = 64
"""Sources pushed up at once: more gain no speed, and would all be held to the earliest position among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadLoadings:
    """Every edge in parts, by the last head or skip connection that its paths cross; on the CPU."""

    edges: Int[Tensor, "edge 2"]
    """Target and source of each edge, as nodes of the layout."""
    residual: Float[Tensor, " edge"]
    heads: Float[Tensor, "edge layer head"]
    skips: Float[Tensor, "edge layer"]
    carried: Float[Tensor, "layer head query key"] | None
    """What the heads carry from key to query in all edges, absolute, each edge counted by its weight; None where no
    weights were given.
    """

    def sums(self) -> Float[Tensor, " edge"]:
        """The edges themselves."""
        return self.residual + self.heads.sum((1, 2)) + self.skips.sum(1)

    def shares(self, weights: Float[Tensor, " edge"]) -> Float[Tensor, "layer head"]:
        """Share of each head in all edges, each counted by its weight, such as its edge score.

        A head that works against an edge counts negatively; with the shares of the residual stream and of skip
        connections they add up to one.
        """
        parts = self.heads / self.sums()[:, None, None]
        return (parts * weights[:, None, None]).sum(0) / weights.sum()

    def busiest(self, n: int) -> list[tuple[int, int, int, int]]:
        """The attention entries that carry most: (layer, head, query position, key position)."""
        assert self.carried is not None, "asked of loadings with edge weights"
        top = self.carried.flatten().topk(min(n, self.carried.numel()))
        places = torch.stack(torch.unravel_index(top.indices[top.values > 0], self.carried.shape), dim=1)
        return [(layer, head, query_pos, key_pos) for layer, head, query_pos, key_pos in places.tolist()]

    def frame(self) -> pl.DataFrame:
        """The parts that are not zero, in the order of the edges: residual, heads, skip connections.

        `layer` and `head` are null where they say nothing; `share` is that of the edge, above one or negative where
        parts cancel.
        """
        n_edges, n_layers, n_heads = self.heads.shape
        parts = torch.cat([self.residual[:, None], self.heads.flatten(1), self.skips], dim=1)
        edge, part = parts.nonzero(as_tuple=True)
        is_head, is_skip = (part > 0) & (part <= n_layers * n_heads), part > n_layers * n_heads
        layer = torch.where(is_skip, part - 1 - n_layers * n_heads, (part - 1) // n_heads)
        weight = parts[edge, part].double()
        columns = {
            "target": self.edges[edge, 0],
            "source": self.edges[edge, 1],
            "kind": is_head + 2 * is_skip,
            "layer": layer,
            "head": (part - 1) % n_heads,
            "weight": weight,
            "share": weight / self.sums().double()[edge],
        }
        frame = pl.DataFrame({name: values.numpy() for name, values in columns.items()})
        kind = pl.col("kind")
        return frame.with_columns(
            layer=pl.when(kind > 0).then("layer"),
            head=pl.when(kind == 1).then("head"),
            kind=kind.replace_strict({0: "residual", 1: "head", 2: "skip"}, return_dtype=pl.String),
        )


@torch.no_grad()
def head_loadings(
    model: ReplacementModel,
    prepared: Prepared,
    edges: Graph | Int[Tensor, "edge 2"],
    *,
    edge_weights: Float[Tensor, " edge"] | None = None,
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET_BYTES,
) -> HeadLoadings:
    """What carries each edge.

    Args:
        model: the replacement model.
        prepared: the prompt.
        edges: a graph, all of whose edges are meant, or pairs of target and source nodes; any feature or target can be
            a target, any other node but a target a source.
        edge_weights: how much each edge counts in `carried`, per unit of the edge.
        memory_budget_bytes: working memory.

    Raises:
        DataError: a pair is not a target and a source.
        ModelError: the architecture is not in the table.
    """
    if not model.facts.explicit:
        raise ModelError(
            model.facts.architecture_name, found="an architecture outside the table", expected="one whose frozen map "
            "is known", to_do="Head loadings need the explicit map; add the architecture to the table.",
        )  # fmt: skip
    if isinstance(edges, Graph):
        edges = torch.stack([edges.edge_target, edges.edge_source], dim=1).long()
    _check_edges(prepared, edges)
    n_edges, n_layers, n_heads = len(edges), model.n_layers, prepared.forward.patterns.shape[1]
    residual, skips = torch.zeros(n_edges), torch.zeros(n_edges, n_layers)
    heads = torch.zeros(n_edges, n_layers, n_heads)
    carried = None if edge_weights is None else torch.zeros_like(prepared.forward.patterns)
    targets, row = edges[:, 0].unique(return_inverse=True)
    reads = _target_reads(model, prepared, targets)
    for sources in _batches(model, prepared, reads, edges[:, 1].unique(), memory_budget_bytes):
        mine = torch.isin(edges[:, 1], sources).nonzero().flatten()
        place = row[mine], torch.searchsorted(sources, edges[mine, 1])
        crossings = Crossings(model, prepared, reads, sources)
        if edge_weights is not None:
            crossings.counts.index_put_(place, edge_weights[mine].to(crossings.counts))
        crossings.run(carried)
        residual[mine], heads[mine] = crossings.residual.cpu()[place], crossings.heads.cpu()[place]
        skips[mine] = crossings.skips.cpu()[place]
    carried = None if carried is None else carried.cpu()
    return HeadLoadings(edges=edges, residual=residual, heads=heads, skips=skips, carried=carried)


def _check_edges(prepared: Prepared, edges: Int[Tensor, "edge 2"]) -> None:
    layout = prepared.layout
    target, source = edges.unbind(1)
    is_target = (target < layout.n_features) | (target >= layout.first_target)
    if len(edges) and not bool((is_target & (source < layout.first_target) & (edges >= 0).all(1)).all()):
        raise DataError(
            "edges", found="a pair that no edge can join", expected=f"targets that are features (below "
            f"{layout.n_features}) or targets (from {layout.first_target}), sources below {layout.first_target}",
            to_do="Give pairs of target and source, in this order.",
        )  # fmt: skip


def _target_reads(model: ReplacementModel, prepared: Prepared, nodes: Int[Tensor, " row"]) -> Reads:
    """Where sorted feature and target nodes read, one row each."""
    layout, device = prepared.layout, prepared.errors.device
    parts = [selected(prepared.targets.reads, nodes[:0])]
    for layer in layout.layers()[nodes].unique().tolist():
        mine = nodes[layout.layers()[nodes] == layer]
        if layer == layout.n_layers:
            parts.append(selected(prepared.targets.reads, mine - layout.first_target))
        else:
            _, pos, feature = layout.features[mine].to(device).unbind(1)
            parts.append(feature_reads(model, prepared.forward, layer, pos, feature))
    return joined(parts)


def _batches(
    model: ReplacementModel, prepared: Prepared, reads: Reads, sources: Int[Tensor, " source"], memory_budget_bytes: int
) -> Iterator[Int[Tensor, " source"]]:
    """Sources in batches that fit in memory, those at late positions first: they have little to be pushed through."""
    pos = source_positions(prepared, sources)
    order = pos.argsort(descending=True, stable=True)
    n_heads, d_head, d_model = model.weights.layers[0].W_O.shape
    per_pos = 4 * d_model + 3 * n_heads * d_head + 2 * n_heads * len(reads.row)
    n_floats = (prepared.forward.n_pos - pos[order]) * per_pos + 2 * reads.n_rows * model.n_layers * n_heads
    start = 0
    while start < len(order):
        # The last of a batch reaches farthest, and all of it are held to that length.
        sizes = n_floats[start:] * torch.arange(1, len(order) - start + 1)
        n_taken = min(N_BATCH_SOURCES, max(1, int((4 * sizes <= memory_budget_bytes).sum())))
        yield sources[order[start : start + n_taken]].sort().values
        start += n_taken
