"""Rows of the tables that make attention visible."""

from collections.abc import Sequence

import polars as pl

from tracer.attribution.head_loadings import HeadLoadings
from tracer.attribution.prepared import Prepared
from tracer.attribution.qk import QKAttribution
from tracer.graph.graph import Graph

_EDGE = ("target", "source")


def head_loading_frame(pruned: Graph, loadings: HeadLoadings, graph_id: str, share: float) -> pl.DataFrame:
    """The `head_loadings` rows: of every edge its largest parts, up to a share of their absolute sum, and the rest."""
    weight = pl.col("weight").abs()
    parts = loadings.frame().sort(*_EDGE, weight, descending=[False, False, True], maintain_order=True)
    held_before = (weight.cum_sum() - weight).over(_EDGE) / weight.sum().over(_EDGE)
    parts = parts.select(
        *_EDGE, "kind", "layer", "head", "weight", is_kept=pl.lit(value=share == 1) | (held_before < share)
    )
    rest = (
        parts
        .filter(~pl.col("is_kept"))
        .group_by(_EDGE, maintain_order=True)
        .agg(
            pl.lit("rest").alias("kind"),
            pl.col("weight").sum(),
            *(pl.lit(None, pl.Int64).alias(name) for name in ("layer", "head")),
        )
    )
    found = pl.concat([parts.filter("is_kept").drop("is_kept"), rest.select(parts.columns[:-1])])
    node_idx = pruned.node_mask.long().cumsum(0).numpy() - 1
    found = found.with_columns(rank=pl.int_range(pl.len()).over(_EDGE), graph_id=pl.lit(graph_id))
    places = {f"{name}_idx": pl.Series(node_idx[found[name].to_numpy()]) for name in _EDGE}
    return found.with_columns(**places).drop(_EDGE)


def qk_frame(prepared: Prepared, scores: Sequence[QKAttribution], graph_id: str, n: int) -> pl.DataFrame:
    """The `qk_edges` rows: the `n` largest of each side and of the pairs of every score."""
    patterns = prepared.forward.patterns
    frames = [
        found.frame(prepared.layout, n).with_columns(
            graph_id=pl.lit(graph_id),
            layer=pl.lit(found.layer, pl.Int64),
            head=pl.lit(found.head, pl.Int64),
            query_pos=pl.lit(found.query_pos, pl.Int64),
            key_pos=pl.lit(found.key_pos, pl.Int64),
            score=pl.lit(found.score),
            pattern=pl.lit(float(patterns[found.layer, found.head, found.query_pos, found.key_pos])),
        )
        for found in scores
    ]
    return pl.concat(frames)
