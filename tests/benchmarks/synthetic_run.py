"""The parts of a run of any size, drawn instead of traced: graphs whose statistics resemble real ones.

Each graph holds about 100 features of 400,000 (`zipf_graphs`), some tokens, error nodes and a logit; its features act
on the next of them in (layer, feature) order and on the logit, so that edges of common features recur.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from tests.benchmarks.zipf_graphs import zipf_incidence
from tracer.storage.store import open_store
from tracer.tables.parts import Part, write_part
from tracer.tables.schema import SHARD_TABLES, TABLES

GRAPHS_PER_SHARD = 10_000
N_LAYERS = 26
FEATURES_PER_LAYER = 16_384
N_TASKS = 10
N_TOKENS = 16
Parts = dict[str, Part]


def write_shards(root: Path, n_shards: int, *, first: int = 0) -> Iterator[Parts]:
    """Write the parts of shards `first` to `first + n_shards - 1`; each depends on its number alone."""
    for number in range(first, first + n_shards):
        frames = _frames(number)
        yield {
            table.name: write_part(
                open_store(root), table, _rows(table.name, frames), shard_id=f"{number:06}", attempt=0
            )
            for table in SHARD_TABLES
        }


def run_row(n_prompts: int) -> dict[str, Any]:
    """What the driver knows of such a run."""
    from tests.tables.tiny_run import tiny_run_row

    return tiny_run_row(Path("synthetic"), n_prompts) | {"n_layers": N_LAYERS}


def no_logits(features: list[tuple[int, int]]) -> pa.Table:
    """Promoted tokens of features that no model has: a norm, and no tokens."""
    nothing: list[list[str]] = [[] for _ in features]
    columns = {
        "layer": [layer for layer, _ in features],
        "feature": [feature for _, feature in features],
        "decoder_norm": [1.0] * len(features),
        "top_tokens": nothing,
        "top_token_logits": nothing,
        "bottom_tokens": nothing,
        "bottom_token_logits": nothing,
    }
    return pa.table(columns, schema=TABLES["feature_logits"].arrow_schema())


def _rows(name: str, frames: dict[str, pl.DataFrame]) -> pa.Table:
    schema = TABLES[name].arrow_schema()
    if name not in frames:
        return schema.empty_table()
    frame = frames[name]
    lacking = [pl.lit(None).alias(column) for column in schema.names if column not in frame.columns]
    return frame.with_columns(lacking).select(schema.names).to_arrow().cast(schema)


def _frames(number: int) -> dict[str, pl.DataFrame]:
    rng = np.random.default_rng([number, 1])
    ids = np.array([f"{number:06x}{place:010x}" for place in range(GRAPHS_PER_SHARD)])
    n_tokens = rng.integers(N_TOKENS // 2, N_TOKENS, GRAPHS_PER_SHARD)
    features = _features(number, n_tokens, rng)
    others = _others(n_tokens, rng)
    nodes = pl.concat([features, others], how="diagonal").sort(
        "graph", "order", "layer", "feature", maintain_order=True
    )
    nodes = nodes.with_columns(node_idx=pl.int_range(pl.len()).over("graph"))
    edges = _edges(nodes, rng)
    graph_id = pl.Series("graph_id", ids)
    prompts = pl.DataFrame({
        "prompt_id": ids,
        "shard_id": [f"{number:06}"] * GRAPHS_PER_SHARD,
        "text": [""] * GRAPHS_PER_SHARD,
        "token_ids": [[0]] * GRAPHS_PER_SHARD,
        "tokens": [[""]] * GRAPHS_PER_SHARD,
        "n_tokens": n_tokens,
        "task": [f"task-{place % N_TASKS}" for place in range(GRAPHS_PER_SHARD)],
        "metadata": ["{}"] * GRAPHS_PER_SHARD,
    })
    graphs = pl.DataFrame({"graph_id": ids, "prompt_id": ids, "n_tokens": n_tokens})
    return {
        "prompts": prompts,
        "graphs": graphs.with_columns(completeness_score=pl.lit(0.9), replacement_score=pl.lit(0.8), attempt=0),
        "nodes": nodes.with_columns(graph_id=graph_id.gather(nodes["graph"])),
        "edges": edges.with_columns(graph_id=graph_id.gather(edges["graph"])),
        "feature_counts": _counts(features),
        "token_counts": pl.DataFrame({"token_id": [0], "token": [""], "n_at": [int(n_tokens.sum())]}).with_columns(
            n_before=0, n_context=0
        ),
    }


def _features(number: int, n_tokens: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    matrix = zipf_incidence(GRAPHS_PER_SHARD, number, n_items=N_LAYERS * FEATURES_PER_LAYER).matrix
    graph = np.repeat(np.arange(GRAPHS_PER_SHARD), np.diff(matrix.indptr))
    # neighbours in frequency lie in different layers
    layer, feature = matrix.indices % N_LAYERS, matrix.indices // N_LAYERS
    return pl.DataFrame({
        "graph": graph,
        "order": np.zeros(len(graph), np.int64),
        "kind": np.full(len(graph), "feature"),
        "layer": layer.astype(np.int64),
        "feature": feature.astype(np.int64),
        "pos": rng.integers(0, 1 << 30, len(graph)) % n_tokens[graph],
        "activation": np.round(rng.gamma(2.0, 2.0, len(graph)), 3),
        "influence": np.round(rng.gamma(1.0, 0.01, len(graph)), 5),
    })


def _others(n_tokens: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    """Two error nodes, four tokens and a logit for each graph."""
    kinds = ("error", "error", "token", "token", "token", "token", "logit")
    graph = np.repeat(np.arange(GRAPHS_PER_SHARD), len(kinds))
    kind = np.tile(np.array(kinds), GRAPHS_PER_SHARD)
    token_id = rng.integers(0, 1000, len(graph))
    columns = {
        "graph": graph,
        "order": np.tile(np.arange(1, len(kinds) + 1), GRAPHS_PER_SHARD),
        "kind": kind,
        "layer": np.where(kind == "error", rng.integers(0, N_LAYERS, len(graph)), -1),
        "pos": rng.integers(0, 1 << 30, len(graph)) % n_tokens[graph],
        "token_id": token_id,
        "token": token_id.astype(str),
        "influence": np.round(rng.gamma(1.0, 0.02, len(graph)), 5),
    }
    return pl.DataFrame(columns).with_columns(layer=pl.when(pl.col("layer") >= 0).then("layer"))


def _edges(nodes: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Of each feature to the next one, and of every eighth to the logit, the last node of its graph."""
    sources = nodes.select(
        "graph",
        "kind",
        source_idx="node_idx",
        next_kind=pl.col("kind").shift(-1).over("graph"),
        logit_idx=pl.col("node_idx").max().over("graph"),
    ).filter(pl.col("kind") == "feature")
    onward = sources.filter(pl.col("next_kind") == "feature").select(
        "graph", "source_idx", target_idx=pl.col("source_idx") + 1
    )
    to_logit = sources.filter(pl.col("source_idx") % 8 == 0).select("graph", "source_idx", target_idx="logit_idx")
    edges = pl.concat([onward, to_logit]).sort("graph", "target_idx", "source_idx")
    return edges.with_columns(
        weight=pl.Series(np.round(rng.normal(0.5, 1.0, len(edges)), 4)),
        normalised_weight=pl.lit(0.5),
        edge_score=pl.Series(np.round(rng.gamma(1.0, 0.01, len(edges)), 5)),
    )


def _counts(features: pl.DataFrame) -> pl.DataFrame:
    activation = pl.col("activation")
    return features.group_by("layer", "feature").agg(
        n_firings=pl.len().cast(pl.Int64),
        n_prompts=pl.len().cast(pl.Int64),
        activation_sum=activation.sum(),
        activation_square_sum=(activation**2).sum(),
        activation_max=activation.max(),
    )
