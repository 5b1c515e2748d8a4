"""Top windows per feature: where it is most active, one per prompt. The top of two shards' tops is the top of both."""

import hashlib

import polars as pl

from tracer.harvest.firings import Firings

N_BEFORE, N_AFTER = 15, 4
"""Tokens of a window in front of and behind the firing token."""
N_CONTEXT_BEFORE, N_CONTEXT_AFTER = 5, 1
"""Tokens of the readable `context`."""
_FEATURE = ["layer", "feature"]
_EXAMPLE = [*_FEATURE, "prompt_idx"]


def example_split(prompt_id: str) -> str:
    """`explain` for half of all prompts, `score` for the others, so that labels are tested on texts their author
    never saw.
    """
    return "explain" if hashlib.sha256(f"split|{prompt_id}".encode()).digest()[0] < 128 else "score"


def _peaks(data: Firings, n_examples: int) -> pl.DataFrame:
    """The strongest position in each prompt, and of those the `n_examples` strongest per feature."""
    prompts = pl.DataFrame(
        {"prompt_idx": list(range(len(data.prompt_ids))), "prompt_id": list(data.prompt_ids)},
        schema={"prompt_idx": pl.Int64, "prompt_id": pl.String},
    )
    by_strength = ["layer", "feature", "activation", "prompt_id", "pos"]
    descending = [False, False, True, False, False]
    return (
        data.firings
        .join(prompts, on="prompt_idx")
        .sort(by_strength, descending=descending)
        .unique(subset=_EXAMPLE, keep="first", maintain_order=True)
        .with_columns(pl.int_range(pl.len()).over(_FEATURE).cast(pl.Int64).alias("rank"))
        .filter(pl.col("rank") < n_examples)
    )


def top_examples(data: Firings, n_examples: int, separator: str) -> pl.DataFrame:
    """Rows of the `examples` table.

    Args:
        data: all activations of the prompts.
        n_examples: windows kept per feature.
        separator: what readable text has between two tokens: a space where tokens are whole words, else nothing.
    """
    peaks = _peaks(data, n_examples)
    offsets = pl.DataFrame({"offset": list(range(-N_BEFORE, N_AFTER + 1))})
    window = (
        peaks
        .select(*_EXAMPLE, "rank", pl.col("pos").alias("peak"))
        .join(offsets, how="cross")
        .with_columns((pl.col("peak") + pl.col("offset")).alias("pos"))
        .join(data.tokens, on=["prompt_idx", "pos"])
        .join(data.firings, on=[*_EXAMPLE, "pos"], how="left")
        .sort([*_EXAMPLE, "pos"])
    )
    shown = pl.when(pl.col("offset") == 0).then(pl.format("<<{}>>", pl.col("token"))).otherwise("token")
    near = pl.col("offset").is_between(-N_CONTEXT_BEFORE, N_CONTEXT_AFTER)
    windows = window.group_by(_EXAMPLE, maintain_order=True).agg(
        pl.col("pos").min().alias("window_start"),
        pl.col("token").alias("window_tokens"),
        pl.col("activation").fill_null(0.0).alias("window_activations"),
        pl.col("token").filter(pl.col("offset") == 0).first().alias("token"),
        shown.filter(near).alias("context_tokens"),
    )
    splits = pl.DataFrame(
        {
            "prompt_id": list(data.prompt_ids),
            "split": [example_split(prompt_id) for prompt_id in data.prompt_ids],
        },
        schema={"prompt_id": pl.String, "split": pl.String},
    ).unique(maintain_order=True)
    return (
        peaks.join(windows, on=_EXAMPLE)
        .join(splits, on="prompt_id")
        .with_columns(pl.col("context_tokens").list.join(separator).str.strip_chars(" ").alias("context"))
        .select(
            *_FEATURE, "rank", "prompt_id", "pos", "token", "activation", "context", "window_start", "window_tokens",
            "window_activations", "split",
        )
        .sort([*_FEATURE, "rank"])
    )  # fmt: skip
