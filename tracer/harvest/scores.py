"""Scores of chosen features on given tokens, without a harvest: what fires where, and by how much."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Float16, Int
from torch import Tensor

from tracer.harvest.scored import Reading, Scored, ScoredBy, readings
from tracer.model.forward import padded
from tracer.model.forward_until import in_batches, values_at
from tracer.model.replacement import Prompt, ReplacementModel

N_BATCH_TOKENS = 4096
N_ENCODED_AT_ONCE = 256
"""Positions encoded at once: a TopK encoder gives all of its features, densely."""


def feature_scores(
    model: ReplacementModel,
    features: Sequence[Scored],
    tokens: Sequence[Prompt],
    *,
    by: ScoredBy = "activation",
    skip_special: bool = True,
    n_batch_tokens: int = N_BATCH_TOKENS,
) -> Float16[Tensor, "prompt feature pos"]:
    """Scores of features and directions on prompts; not a number behind the end of a prompt and at skipped positions.

    The forward pass stops at the last layer that is needed. Values beyond the range of float16 become infinite.

    Args:
        model: the model; its transcoders' features are named (layer, feature).
        features: what is scored, of any layers and dictionaries.
        tokens: prompts, as text or token ids; a special token is put in front where there is none.
        by: what a feature's score is.
        skip_special: leave out special tokens, and the leading positions that the architecture ignores.
        n_batch_tokens: tokens of a forward pass, padding included.

    Raises:
        DataError: a prompt that cannot be run, or a feature or direction that the model does not have.

    Example:
        >>> from tracer import ReplacementModel
        >>> from tracer.harvest.scores import feature_scores
        >>> model = ReplacementModel.from_pretrained(
        ...     "package:tracer/model/demo/files/language_model", "package:tracer/model/demo/files/per_layer")
        >>> scores = feature_scores(model, [(0, 5), (3, 7)], ["the capital of the state containing Dallas is"])
        >>> tuple(scores.shape)
        (1, 2, 9)
    """
    prompts = [model.tokenize(prompt) for prompt in tokens]
    longest = max((len(prompt) for prompt in prompts), default=0)
    scores = torch.full((len(prompts), len(features), longest), torch.nan, dtype=torch.float16)
    for places, found in scores_in_batches(model, features, prompts, by=by, n_batch_tokens=n_batch_tokens):
        for place, of_prompt in zip(places, found, strict=True):
            if skip_special:
                of_prompt[:, ~scorable(model, prompts[place])] = torch.nan
            scores[place, :, : of_prompt.shape[1]] = of_prompt.half().cpu()
    return scores


def scorable(model: ReplacementModel, token_ids: Int[Tensor, " pos"]) -> Bool[Tensor, " pos"]:
    """Which positions of a prompt hold neither a special token nor one of those that the architecture ignores."""
    special = torch.tensor(sorted(model.special_token_rule.special_ids), device=token_ids.device)
    found = ~torch.isin(token_ids, special)
    found[: model.facts.n_ignored_positions(token_ids.tolist())] = False
    return found


@torch.no_grad()
def scores_in_batches(
    model: ReplacementModel,
    features: Sequence[Scored],
    prompts: Sequence[Int[Tensor, " _"]],
    *,
    by: ScoredBy = "activation",
    n_batch_tokens: int = N_BATCH_TOKENS,
) -> Iterator[tuple[list[int], list[Float[Tensor, "feature pos"]]]]:
    """Float32 scores of all positions, a batch of prompts at a time: their places, and each one's scores."""
    asked = readings(model, features, by)
    for places in in_batches(prompts, n_batch_tokens):
        batch = [prompts[place] for place in places]
        values = values_at(model, {reading.hook for reading in asked}, padded(batch)) if asked else {}
        found = [torch.zeros(len(features), len(prompt), device=model.device) for prompt in batch]
        for reading in asked:
            _add(reading, values[reading.hook].flatten(2), found)
        yield places, found


def _add(reading: Reading, values: Float[Tensor, "prompt pos width"], found: list[Tensor]) -> None:
    columns = torch.tensor(reading.columns, device=values.device)
    for of_prompt, scores in zip(values, found, strict=True):
        for start in range(0, scores.shape[1], N_ENCODED_AT_ONCE):
            stop = min(start + N_ENCODED_AT_ONCE, scores.shape[1])
            scores[columns, start:stop] = reading.scores(of_prompt[start:stop]).T
