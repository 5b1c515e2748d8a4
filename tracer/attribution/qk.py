"""QK attribution: which sources explain that a head looks from a query position at a key position.

A score before soft cap and mask is `scale * q . k` (Kamath et al. 2025, "Tracing Attention Computation Through Feature
Interactions", decompose it in this way). Queries and keys are linear in the stream once norm scales and rotary angles
are frozen, so each is a sum of parts, one for every source and one for what no source accounts for, and the score is
the sum of `scale * q_i . k_j` over all pairs. A marginal is what is left when the other side is kept whole.

Example:
    >>> from tracer import ReplacementModel
    >>> from tracer.attribution.prepared import prepare
    >>> from tracer.attribution.qk import qk_attribution
    >>> model = ReplacementModel.from_pretrained(
    ...     "package:tracer/model/demo/files/language_model", "package:tracer/model/demo/files/per_layer")
    >>> prepared = prepare(model, model.tokenize("the capital of the state containing Dallas is"))
    >>> found = qk_attribution(model, prepared, layer=1, head=0, query_pos=8, key_pos=7)
    >>> abs(float(found.query_marginals().sum()) - found.score) < 1e-3
    True
    >>> found.frame(prepared.layout, n=5).columns[:4]
    ['side', 'rank', 'weight', 'query_kind']
"""

from dataclasses import dataclass
from typing import Any, Literal

import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.attribution.explicit import ExplicitEngine
from tracer.attribution.graphs import DEFAULT_MEMORY_BUDGET_BYTES
from tracer.attribution.prepared import Prepared
from tracer.attribution.reads import Reads
from tracer.errors import DataError
from tracer.graph.layout import NodeKind, NodeLayout
from tracer.model.attention_scores import AttentionScores, attention_scores
from tracer.model.replacement import ReplacementModel

N_CHUNK_QUERIES = 128
"""Sources on the query's side that are weighed at once with those on the key's."""
ROUNDING = 1.0 + 1e-5
"""Norms are raised by it, so that rounding leaves no pair out."""
Side = Literal["query", "key", "pair"]
"""A marginal of one source on the query's or the key's side, or two sources together."""
SIDES: tuple[Side, ...] = ("query", "key", "pair")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Pairs of sources, those of largest absolute weight first; a source beyond the last node is the bias."""

    query_source: Int[Tensor, " pair"]
    key_source: Int[Tensor, " pair"]
    weight: Float[Tensor, " pair"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QKAttribution:
    """One score of a head in parts; on the CPU.

    Sources are the nodes of the layout in front of the targets; the last part is the bias, what no node accounts for.
    """

    layer: int
    head: int
    query_pos: int
    key_pos: int
    score: float
    """The model's own score, before soft cap and mask."""
    scale: float
    query_parts: Float[Tensor, "source_or_bias d_head"]
    key_parts: Float[Tensor, "source_or_bias d_head"]

    def query_marginals(self) -> Float[Tensor, " source_or_bias"]:
        """What each source on the query's side contributes, with the whole key; they add up to the score."""
        return self.scale * self.query_parts @ self.key_parts.sum(0)

    def key_marginals(self) -> Float[Tensor, " source_or_bias"]:
        """What each source on the key's side contributes, with the whole query; they add up to the score."""
        return self.scale * self.key_parts @ self.query_parts.sum(0)

    def top_pairs(self, n: int) -> Pairs:
        """The pairs of sources that contribute most, whatever the sign.

        No product is larger than that of the norms: both sides are taken in the order of their norms, and pairs that
        cannot be among the best any more are left out.
        """
        (query_norms, query), (key_norms, key) = (
            parts.norm(dim=1).sort(descending=True, stable=True) for parts in (self.query_parts, self.key_parts)
        )
        best, least = Pairs(query_source=query[:0], key_source=key[:0], weight=query_norms[:0]), 0.0
        for chunk, norms in zip(query.split(N_CHUNK_QUERIES), query_norms.split(N_CHUNK_QUERIES), strict=True):
            keys = key[ROUNDING * self.scale * norms[0] * key_norms > least]
            weights = (self.scale * self.query_parts[chunk] @ self.key_parts[keys].T).flatten()
            top = (weights.abs() > least).nonzero().flatten()
            top = top[weights[top].abs().topk(min(n, len(top))).indices]
            found = torch.cat([best.weight, weights[top]])
            order = found.abs().argsort(descending=True, stable=True)[:n]
            best = Pairs(
                query_source=torch.cat([best.query_source, chunk[top // max(1, len(keys))]])[order],
                key_source=torch.cat([best.key_source, keys[top % max(1, len(keys))]])[order],
                weight=found[order],
            )
            least = float(best.weight[-1].abs()) if len(best.weight) == n else 0.0
        return best

    def frame(self, layout: NodeLayout, n: int) -> pl.DataFrame:
        """The `n` largest of each side's marginals and of the pairs, with what their sources are.

        The columns of a side that is kept whole are null.
        """
        return pl.concat([_top_frame(self, side, layout, n) for side in SIDES])


@torch.no_grad()
def qk_attribution(
    model: ReplacementModel,
    prepared: Prepared,
    *,
    layer: int,
    head: int,
    query_pos: int,
    key_pos: int,
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET_BYTES,
) -> QKAttribution:
    """Explain one attention score.

    Args:
        model: the replacement model.
        prepared: the prompt.
        layer: the layer of the head.
        head: the head, counted as query heads are.
        query_pos: the position that looks; 0 is the special token's.
        key_pos: the position that is looked at, not later than `query_pos`.
        memory_budget_bytes: working memory.

    Raises:
        DataError: there is no such head, or the query does not see the key.
        ModelError: queries and keys of this architecture are not known.
    """
    return qk_attributions(model, prepared, [(layer, head, query_pos, key_pos)], memory_budget_bytes)[0]


@torch.no_grad()
def qk_attributions(
    model: ReplacementModel,
    prepared: Prepared,
    places: list[tuple[int, int, int, int]],
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET_BYTES,
) -> list[QKAttribution]:
    """Explain several scores of one prompt, given as (layer, head, query position, key position).

    Raises:
        DataError: there is no such head, or the query does not see the key.
        ModelError: queries and keys of this architecture are not known.
    """
    for place in places:
        _check_place(model.facts.n_layers, model.facts.n_heads, prepared.forward.n_pos, place)
    layers = attention_scores(model, prepared.forward, sorted({layer for layer, *_ in places}))
    engine = ExplicitEngine(model, prepared, memory_budget_bytes=memory_budget_bytes)
    return [_attribution(engine, prepared, layers[layer], *place) for layer, *place in places]


def _attribution(
    engine: ExplicitEngine, prepared: Prepared, scores: AttentionScores, head: int, query_pos: int, key_pos: int
) -> QKAttribution:
    scores.check(prepared.forward, head, query_pos)
    query, query_bias = scores.query.map_at(head, query_pos)
    key, key_bias = scores.key.map_at(scores.key_head(head), key_pos)
    vectors, d_head = torch.cat([query, key]), len(query)
    pos = torch.tensor([query_pos] * d_head + [key_pos] * d_head, device=vectors.device)
    rows = engine.rows_of_reads(
        Reads(
            row=torch.arange(2 * d_head, device=vectors.device),
            pos=pos,
            vectors=vectors,
            stage=torch.full_like(pos, 2 * scores.layer),
            bias=torch.cat([query_bias, key_bias]),
        )
    )
    parts = torch.cat([rows.weights[:, : prepared.layout.first_target], rows.bias[:, None]], dim=1).T
    return QKAttribution(
        layer=scores.layer,
        head=head,
        query_pos=query_pos,
        key_pos=key_pos,
        score=float(scores.at(head, query_pos)[key_pos]),
        scale=scores.scale,
        query_parts=parts[:, :d_head],
        key_parts=parts[:, d_head:],
    )


def _check_place(n_layers: int, n_heads: int, n_pos: int, place: tuple[int, int, int, int]) -> None:
    layer, head, query_pos, key_pos = place
    if not (0 <= layer < n_layers and 0 <= head < n_heads and 0 <= key_pos <= query_pos < n_pos):
        raise DataError(
            "attention score", found=f"layer {layer}, head {head}, query {query_pos}, key {key_pos}",
            expected=f"{n_layers} layers of {n_heads} heads, and a key at or in front of the query within {n_pos} "
            "positions", to_do="Mend the place.",
        )  # fmt: skip


def _top_frame(found: QKAttribution, side: Side, layout: NodeLayout, n: int) -> pl.DataFrame:
    pairs = found.top_pairs(n) if side == "pair" else _top_marginals(found, side, n)
    columns: dict[str, Any] = {
        "side": [side] * len(pairs.weight),
        "rank": list(range(len(pairs.weight))),
        "weight": pairs.weight.double().tolist(),
    }
    for name, sources in (("query", pairs.query_source), ("key", pairs.key_source)):
        shown = side in (name, "pair")
        described = [_described(layout, source) if shown else (None,) * 4 for source in sources.tolist()]
        for place, part in enumerate(("kind", "layer", "source_pos", "feature")):
            columns[f"{name}_{part}"] = [values[place] for values in described]
    types = {"side": pl.String, "weight": pl.Float64, "query_kind": pl.String, "key_kind": pl.String}
    return pl.DataFrame(columns, schema={name: types.get(name, pl.Int64) for name in columns})


def _top_marginals(found: QKAttribution, side: Side, n: int) -> Pairs:
    marginals = found.query_marginals() if side == "query" else found.key_marginals()
    order = marginals.abs().argsort(descending=True, stable=True)[:n]
    order = order[marginals[order] != 0]
    return Pairs(query_source=order, key_source=order, weight=marginals[order])


def _described(layout: NodeLayout, source: int) -> tuple[str, int | None, int | None, int | None]:
    """Kind, layer, position and feature of a source."""
    if source == layout.first_target:
        return "bias", None, None, None
    if source < layout.n_features:
        layer, pos, feature = layout.features[source].tolist()
        return NodeKind.feature.name, layer, pos, feature
    if source < layout.first_token:
        layer, pos = divmod(source - layout.first_error, layout.n_pos)
        return NodeKind.error.name, layer, pos, None
    return NodeKind.token.name, None, source - layout.first_token, None
