"""Mergeable counts per feature and token: sums of two shards' counts are the counts of both."""

import numpy as np
import polars as pl

from tracer.harvest.firings import Firings

PAIRS_AT_ONCE = 2_000_000
"""Firings times context tokens that are joined at once; bounds memory, not results."""
BINS_PER_OCTAVE = 4
_FEATURE = ["layer", "feature"]


def feature_counts(data: Firings) -> pl.DataFrame:
    """Rows of the `feature_counts` table."""
    activation = pl.col("activation")
    return (
        data.firings
        .group_by(_FEATURE)
        .agg(
            pl.len().cast(pl.Int64).alias("n_firings"),
            pl.col("prompt_idx").n_unique().cast(pl.Int64).alias("n_prompts"),
            activation.sum().alias("activation_sum"),
            activation.pow(2).sum().alias("activation_square_sum"),
            activation.max().alias("activation_max"),
        )
        .sort(_FEATURE)
    )


def activation_histogram(data: Firings) -> pl.DataFrame:
    """Rows of the `feature_activation_hist` table: quarter octaves of the absolute activation, by sign."""
    firings = data.firings.filter(pl.col("activation") != 0)
    # numpy's log2 is exact at powers of two, where the ratio of two natural logarithms may fall into the bin below.
    octave = pl.Series(np.log2(firings["activation"].abs().to_numpy()), dtype=pl.Float64)
    return (
        firings
        .with_columns(
            (pl.col("activation") < 0).alias("is_negative"),
            (octave * BINS_PER_OCTAVE).floor().cast(pl.Int64).alias("bin"),
        )
        .group_by([*_FEATURE, "is_negative", "bin"])
        .agg(pl.len().cast(pl.Int64).alias("n"))
        .sort([*_FEATURE, "is_negative", "bin"])
    )


def _context_pairs(data: Firings, n_context: int) -> pl.DataFrame:
    """(prompt_idx, pos, token_id): the distinct tokens among the `n_context` in front of each eligible position."""
    offsets = pl.DataFrame({"offset": list(range(1, n_context + 1))}, schema={"offset": pl.Int64})
    places = data.eligible.select("prompt_idx", "pos").join(offsets, how="cross")
    sources = data.tokens.select("prompt_idx", "token_id", pl.col("pos").alias("context_pos"))
    pairs = places.with_columns((pl.col("pos") - pl.col("offset")).alias("context_pos")).join(
        sources, on=["prompt_idx", "context_pos"]
    )
    return pairs.select("prompt_idx", "pos", "token_id").unique()


def _count_firings(firings: pl.DataFrame, tokens: pl.DataFrame, name: str, n_per_firing: int) -> pl.DataFrame:
    """Firings per feature and token, a slice of the firings at a time."""
    keys = [*_FEATURE, "token_id"]
    total = pl.DataFrame(schema=dict.fromkeys((*keys, name), pl.Int64))
    for part in firings.iter_slices(max(1, PAIRS_AT_ONCE // max(1, n_per_firing))):
        counts = part.join(tokens, on=["prompt_idx", "pos"]).group_by(keys).agg(pl.len().cast(pl.Int64).alias(name))
        total = pl.concat([total, counts]).group_by(keys).agg(pl.col(name).sum())
    return total


def _neighbours(data: Firings, offset: int) -> pl.DataFrame:
    """(prompt_idx, pos, token_id): the token `offset` positions away from each position."""
    return data.tokens.select("prompt_idx", pl.col("pos") - offset, "token_id")


def _names(data: Firings) -> pl.DataFrame:
    return data.tokens.select("token_id", "token").unique(subset="token_id").sort("token_id")


def _joined(parts: list[pl.DataFrame], keys: list[str], columns: list[str]) -> pl.DataFrame:
    """Counts of several kinds side by side, zero where a kind has none."""
    stacked = pl.concat(parts, how="diagonal")
    return stacked.group_by(keys).agg(pl.col(column).sum().cast(pl.Int64) for column in columns)


def token_counts(data: Firings, n_context: int) -> pl.DataFrame:
    """Rows of the `token_counts` table: at how many eligible positions a rule about a token holds.

    Args:
        data: all activations of the prompts.
        n_context: how far back `n_context` looks, tokens.
    """
    places = data.eligible.select("prompt_idx", "pos")
    kinds = {
        "n_at": _neighbours(data, 0),
        "n_before": _neighbours(data, -1),
        "n_context": _context_pairs(data, n_context),
    }
    parts = [
        places.join(tokens, on=["prompt_idx", "pos"]).group_by("token_id").agg(pl.len().cast(pl.Int64).alias(name))
        for name, tokens in kinds.items()
    ]
    counts = _joined(parts, ["token_id"], list(kinds))
    return counts.join(_names(data), on="token_id").select("token_id", "token", *kinds).sort("token_id")


def feature_tokens(data: Firings, n_context: int) -> pl.DataFrame:
    """Rows of the `feature_tokens` table: firings by the token they are on, after, before, or in the context of.

    Args:
        data: all activations of the prompts.
        n_context: how far back `n_context` looks, tokens; time and rows grow with firings times this.
    """
    kinds = {
        "n_at": _neighbours(data, 0),
        "n_before": _neighbours(data, -1),
        "n_after": _neighbours(data, 1),
        "n_context": _context_pairs(data, n_context),
    }
    keys = [*_FEATURE, "token_id"]
    parts = [
        _count_firings(data.firings, tokens, name, n_context if name == "n_context" else 1)
        for name, tokens in kinds.items()
    ]
    counts = _joined(parts, keys, list(kinds))
    return counts.join(_names(data), on="token_id").select(*_FEATURE, "token_id", "token", *kinds).sort(keys)
