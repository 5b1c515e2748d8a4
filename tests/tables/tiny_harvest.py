"""A small harvest whose documents are tiny prompts: results.duckdb with every table filled, of the tiny run's set."""

from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch

from tests.tables.tiny_prompts import N_LAYERS, TinyPrompt, draw_prompts
from tests.tables.tiny_shard import tiny_feature_logits
from tracer.aggregate.coactivation import coactivation_rows
from tracer.harvest import counts
from tracer.harvest.coactivation import CoactivationCounts
from tracer.harvest.examples import top_examples
from tracer.harvest.firings import FIRING_SCHEMA, Firings, collect, token_frame
from tracer.harvest.windows import PADDING, LayerFirings, WindowBatch
from tracer.tables import rows
from tracer.tables.building import build_database, create_table, insert_rows
from tracer.tables.harvest_tables import HARVEST_TABLES
from tracer.tables.schema import SCHEMA_VERSION

N_FEATURES, N_DOCUMENTS, N_EXAMPLES = 27, 60, 9
DENSE, DEAD = (2, 10), (0, 26)
"""A feature that fires nearly everywhere; one that never does."""
TRANSCODERS_HASH = "bb"
"""As the tiny run has it."""


def build_tiny_harvest(root: Path, seed: int = 1) -> Path:
    """Make `results.duckdb` of a harvest under `root`; its path. Takes a second."""
    prompts = draw_prompts(N_DOCUMENTS, seed)
    tables = tiny_harvest_tables(prompts)
    target = root / "results.duckdb"
    with build_database(target) as connection:
        for name, table in HARVEST_TABLES.items():
            create_table(connection, table)
            insert_rows(connection, table, tables[name])
    return target


def tiny_harvest_tables(prompts: list[TinyPrompt]) -> dict[str, pa.Table]:
    """One Arrow table per harvest table, counted over the prompts."""
    data, frames = as_firings(prompts), dict[str, pl.DataFrame]()
    every = [(layer, feature) for layer in range(N_LAYERS) for feature in range(N_FEATURES)]
    logits = pl.DataFrame(tiny_feature_logits(every))
    frames["feature_logits"] = logits
    frames["features"] = _features(data, logits)
    frames["feature_activation_hist"] = counts.activation_histogram(data)
    octave = pl.Series("bin", np.floor(np.log2(data.firings["pos"].to_numpy())).astype(np.int64))
    frames["feature_positions"] = (
        data.firings.with_columns(octave).group_by("layer", "feature", "bin").agg(pl.len().cast(pl.Int64).alias("n"))
    )
    frames["feature_tokens"] = counts.feature_tokens(data, 0).drop("n_context")
    frames["token_counts"] = counts.token_counts(data, 0).select(
        "token_id", "token", "n_at", "n_before", n_after="n_at"
    )
    frames["examples"] = _examples(data)
    counted = CoactivationCounts([*every[:40], DENSE], [N_FEATURES] * N_LAYERS)
    counted.add(_batch(prompts))
    found = counted.tables()
    frames["feature_coactivation"] = coactivation_rows(
        found["coactivation_pairs"], found["coactivation_lengths"], frames["features"], min_support=2
    )
    tables = {name: rows.as_table(HARVEST_TABLES[name], frame) for name, frame in frames.items()}
    records = {
        "harvests": [_harvest_row(prompts)],
        "documents": [_document_row(prompt) for prompt in prompts],
        "feature_neighbours": _neighbour_rows(every),
        "feature_excitations": _excitation_rows(every),
        "failures": [],
    }
    return tables | {name: rows.from_records(HARVEST_TABLES[name], found) for name, found in records.items()}


def as_firings(prompts: list[TinyPrompt]) -> Firings:
    """Prompts as frames, with a feature added that fires on all but the first of their words."""
    firings, tokens = [], []
    for place, prompt in enumerate(prompts):
        found = prompt.activations | {(DENSE[0], pos, DENSE[1]): 1.5 for pos in range(2, len(prompt.tokens))}
        kept = [(place, *key, value) for key, value in found.items() if (key[0], key[2]) != DEAD]
        firings.append(pl.DataFrame(kept, schema=FIRING_SCHEMA, orient="row"))
        tokens.append(token_frame(place, prompt.token_ids, prompt.tokens))
    return collect([prompt.prompt_id for prompt in prompts], firings, tokens, [1] * len(prompts))


def _features(data: Firings, logits: pl.DataFrame) -> pl.DataFrame:
    found = counts.feature_counts(data).rename({"n_prompts": "n_documents"})
    n_firings, mean = pl.col("n_firings"), pl.col("activation_sum") / pl.col("n_firings")
    frame = logits.join(found, on=["layer", "feature"], how="left").with_columns(
        pl.col("n_firings", "n_documents").fill_null(0),
        pl.col("activation_sum", "activation_square_sum").fill_null(0.0),
    )
    frequency = n_firings / data.eligible.height
    variance = (pl.col("activation_square_sum") / n_firings - mean.pow(2)).clip(0)
    return frame.with_columns(
        frequency.alias("activation_frequency"),
        (pl.col("n_documents") / len(data.prompt_ids)).alias("document_frequency"),
        pl.when(n_firings > 0).then(mean).alias("activation_mean"),
        pl.when(n_firings > 0).then(variance.sqrt()).alias("activation_sd"),
        (frequency > 0.4).alias("is_dense"),
    )


def _examples(data: Firings) -> pl.DataFrame:
    """The strongest as top, those after them as drawn ones, and two made windows without the feature."""
    found = top_examples(data, N_EXAMPLES, "").rename({"prompt_id": "document_id"})
    is_top = pl.col("rank") < 5
    drawn = found.with_columns(
        pl.when(is_top).then(pl.lit("top")).otherwise(pl.lit("quantile")).alias("kind"),
        pl.when(is_top).then(None).otherwise((N_EXAMPLES - 1 - pl.col("rank")) // 2).alias("quantile"),
    )
    silent = found.filter(pl.col("rank") == 0).with_columns(
        pl.lit(0.0).alias("activation"),
        pl.col("window_activations").list.eval(pl.element() * 0),
        pl.lit(None, dtype=pl.Int64).alias("quantile"),
    )
    kinds = [silent.with_columns(pl.lit(kind).alias("kind")) for kind in ("random", "near_miss")]
    stacked = pl.concat([drawn, *kinds], how="diagonal")
    reason = pl.when(pl.col("kind") == "near_miss").then(pl.lit("token"))
    return stacked.with_columns(document_start=pl.lit(0), copies=pl.lit(0), reason=reason)


def _batch(prompts: list[TinyPrompt]) -> WindowBatch:
    data, longest = as_firings(prompts), max(len(prompt.tokens) for prompt in prompts)
    token_ids = torch.full((len(prompts), longest), PADDING)
    for place, prompt in enumerate(prompts):
        token_ids[place, : len(prompt.tokens)] = torch.tensor(prompt.token_ids)
    eligible = token_ids != PADDING
    eligible[:, 0] = False
    layers = []
    for layer in range(N_LAYERS):
        of_layer = data.firings.filter(pl.col("layer") == layer).sort("feature", "prompt_idx", "pos")
        feature, row, pos = (torch.tensor(of_layer[name].to_list()) for name in ("feature", "prompt_idx", "pos"))
        value = torch.tensor(of_layer["activation"].to_list(), dtype=torch.float32)
        layers.append(LayerFirings(layer=layer, feature=feature, row=row, pos=pos, value=value))
    places = torch.arange(len(prompts))
    return WindowBatch(
        token_ids=token_ids, eligible=eligible, document=places, start=torch.zeros_like(places), layers=tuple(layers)
    )


def _harvest_row(prompts: list[TinyPrompt]) -> dict[str, Any]:
    n_tokens = sum(len(prompt.tokens) for prompt in prompts)
    known = {
        "harvest_id": "tiny-harvest", "config_fingerprint": "cc", "corpus_fingerprint": "dd", "config": "{}",
        "model": "tiny", "model_hash": "aa", "transcoders": "tiny transcoders", "transcoders_hash": TRANSCODERS_HASH,
        "corpus": "tiny documents", "tracer_version": "0", "versions": "{}", "parts_hash": "ee",
    }  # fmt: skip
    numbers = {
        "n_layers": N_LAYERS, "n_features": N_LAYERS * N_FEATURES, "window_tokens": 128, "n_documents": len(prompts),
        "n_duplicates": 0, "n_windows": len(prompts), "n_tokens": n_tokens,
        "n_eligible_tokens": n_tokens - len(prompts), "n_special_tokens": len(prompts), "n_high_norm_tokens": 0,
        "n_failures": 0, "schema_version": SCHEMA_VERSION,
    }  # fmt: skip
    return known | numbers | {"started_at": datetime(2026, 1, 1, tzinfo=UTC), "seconds": 1.0}


def _document_row(prompt: TinyPrompt) -> dict[str, Any]:
    n_tokens = len(prompt.tokens)
    return {
        "document_id": prompt.prompt_id, "shard_id": "shard0", "n_tokens": n_tokens - 1, "n_windows": 1,
        "n_eligible_tokens": n_tokens - 1, "n_special_tokens": 1, "n_high_norm_tokens": 0, "status": "harvested",
        "metadata": f'{{"task": "{prompt.task}"}}',
    }  # fmt: skip


def _neighbour_rows(every: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """The next features of the layer, and those of the next layer."""
    found = []
    for layer, feature in every:
        for scope, other in (("within", layer), ("across", (layer + 1) % N_LAYERS)):
            for rank in range(3):
                found.append({
                    "layer": layer, "feature": feature, "scope": scope, "rank": rank, "neighbour_layer": other,
                    "neighbour_feature": (feature + rank + 1) % N_FEATURES, "cosine": 0.9 - 0.3 * rank,
                })  # fmt: skip
    return found


def _excitation_rows(every: list[tuple[int, int]]) -> list[dict[str, Any]]:
    found = []
    for layer, feature in every:
        rng = Random(f"excited:{layer}:{feature}")
        for via_layer, via_head in ((-1, -1), (0, 0), (0, 1)):
            scores = sorted((rng.uniform(0, 2) for _ in range(3)), reverse=True)
            found.append({
                "layer": layer, "feature": feature, "via_layer": via_layer, "via_head": via_head,
                "score_sd": rng.random(), "tokens": [" Texas", " Dallas", " is"], "token_scores": scores,
            })  # fmt: skip
    return found
