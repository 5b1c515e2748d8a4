"""What a worker adds to a graph to make its attention visible: head loadings of its edges, and why heads look there."""

import polars as pl
import torch

from tracer.attribution.head_loadings import head_loadings
from tracer.attribution.prepared import Prepared
from tracer.attribution.qk import qk_attributions
from tracer.config import AttributionConfig
from tracer.errors import ModelError
from tracer.graph.graph import Graph
from tracer.model.replacement import ReplacementModel
from tracer.tables.attention_rows import head_loading_frame, qk_frame


def check_attention(model: ReplacementModel, settings: AttributionConfig) -> None:
    """Refuse what no prompt could be given.

    Raises:
        ModelError: tables of attention are asked for, and the model's architecture is not in the table of them.
    """
    if (settings.head_loadings is not None or settings.n_qk_scores) and not model.facts.explicit:
        raise ModelError(
            model.facts.architecture_name, found="`head_loadings` or `n_qk_scores` with an architecture outside the "
            "table", expected="one whose frozen map is known", to_do="Leave these settings of `attribution` out.",
        )  # fmt: skip


def attention_frames(
    model: ReplacementModel, prepared: Prepared, pruned: Graph, graph_id: str, settings: AttributionConfig
) -> dict[str, pl.DataFrame]:
    """Rows of `head_loadings` and `qk_edges` as far as they are asked for.

    The scores explained are those of the heads, query and key positions that carry most of the kept edges, each edge
    counted by its score.
    """
    if (settings.head_loadings is None and not settings.n_qk_scores) or not len(pruned.edge_weight):
        return {}
    edges = pruned.edges()
    kept = pruned.node_mask.nonzero().flatten()
    pairs = torch.stack([kept[edges[name].to_torch()] for name in ("target_idx", "source_idx")], dim=1)
    weights = (edges["edge_score"] / edges["weight"].abs()).to_torch()
    loadings = head_loadings(
        model, prepared, pairs, edge_weights=weights.float() if settings.n_qk_scores else None,
        memory_budget_bytes=settings.memory_budget_bytes,
    )  # fmt: skip
    frames = {}
    if settings.head_loadings is not None:
        frames["head_loadings"] = head_loading_frame(pruned, loadings, graph_id, settings.head_loadings)
    if settings.n_qk_scores:
        places = loadings.busiest(settings.n_qk_scores)
        scores = qk_attributions(model, prepared, places, settings.memory_budget_bytes)
        if scores:
            frames["qk_edges"] = qk_frame(prepared, scores, graph_id, settings.n_qk_sources)
    return frames
