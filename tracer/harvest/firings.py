"""All activations of some prompts as one frame, and the frame of their tokens: what every statistic is counted from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from tracer.model.transcoders import Activations

FIRING_SCHEMA = {
    "prompt_idx": pl.Int64, "layer": pl.Int64, "pos": pl.Int64, "feature": pl.Int64, "activation": pl.Float64,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Firings:
    """`firings` has a row per active feature and position, `tokens` one per token; both refer to a place in
    `prompt_ids`.

    Positions of a prompt below its `n_ignored` hold special tokens: nothing fires there, but they can be the token
    before.
    """

    prompt_ids: tuple[str, ...]
    firings: pl.DataFrame
    tokens: pl.DataFrame
    n_ignored: tuple[int, ...]

    @property
    def eligible(self) -> pl.DataFrame:
        """Tokens at positions where a feature could fire."""
        first = pl.Series(self.n_ignored, dtype=pl.Int64)
        return self.tokens.filter(pl.col("pos") >= first.gather(self.tokens["prompt_idx"]))


def firing_frame(prompt_idx: int, active: Sequence[Activations]) -> pl.DataFrame:
    """One prompt's activations; values that are no number are left out."""
    parts = []
    for layer, activations in enumerate(active):
        n_active = len(activations.pos)
        parts.append(
            pl.DataFrame(
                {
                    "prompt_idx": np.full(n_active, prompt_idx),
                    "layer": np.full(n_active, layer),
                    "pos": activations.pos.cpu().numpy(),
                    "feature": activations.feature.cpu().numpy(),
                    "activation": activations.value.double().cpu().numpy(),
                },
                schema=FIRING_SCHEMA,
            )
        )
    return pl.concat(parts).filter(pl.col("activation").is_finite())


def token_frame(prompt_idx: int, token_ids: Sequence[int], tokens: Sequence[str]) -> pl.DataFrame:
    """One prompt's tokens."""
    return pl.DataFrame(
        {
            "prompt_idx": np.full(len(token_ids), prompt_idx),
            "pos": np.arange(len(token_ids)),
            "token_id": list(token_ids),
            "token": list(tokens),
        },
        schema={"prompt_idx": pl.Int64, "pos": pl.Int64, "token_id": pl.Int64, "token": pl.String},
    )


def collect(
    prompt_ids: Sequence[str],
    firings: Sequence[pl.DataFrame],
    tokens: Sequence[pl.DataFrame],
    n_ignored: Sequence[int],
) -> Firings:
    """Join the frames of several prompts."""
    token_schema = {"prompt_idx": pl.Int64, "pos": pl.Int64, "token_id": pl.Int64, "token": pl.String}
    return Firings(
        prompt_ids=tuple(prompt_ids),
        firings=pl.concat([pl.DataFrame(schema=FIRING_SCHEMA), *firings]),
        tokens=pl.concat([pl.DataFrame(schema=token_schema), *tokens]),
        n_ignored=tuple(n_ignored),
    )
