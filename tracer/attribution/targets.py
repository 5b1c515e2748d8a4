"""What is attributed: the next tokens that matter, with their weights and read vectors."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tracer.errors import ConfigError, DataError
from tracer.graph.graph import Target
from tracer.model.forward import Forward
from tracer.model.replacement import ReplacementModel
from tracer.model.tokenizer import token_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Targets of one prompt, likeliest first, with the vectors that read them from the last norm's output."""

    targets: tuple[Target, ...]
    vectors: Float[Tensor, "target d_model"]
    biases: Float[Tensor, " target"]


def salient_logits(probabilities: Float[Tensor, " vocab"], max_n_logits: int, desired_logit_prob: float) -> list[int]:
    """The fewest likeliest tokens that reach a probability mass, at most `max_n_logits`.

    Raises:
        ConfigError: the count is not positive, or the mass is outside [0, 1].
    """
    if max_n_logits < 1 or not 0.0 <= desired_logit_prob <= 1.0:
        found = f"max_n_logits {max_n_logits}, desired_logit_prob {desired_logit_prob}"
        raise ConfigError(
            "targets", found=found, expected="at least 1, and a share in [0, 1]", to_do="Mend the settings."
        )
    top = probabilities.topk(min(max_n_logits, len(probabilities)))
    n_needed = int((top.values.double().cumsum(0) < desired_logit_prob).sum()) + 1
    return top.indices[:n_needed].tolist()


def _given_ids(given: Sequence[int | str], model: ReplacementModel) -> list[int]:
    d_vocab = model.weights.W_U.shape[1]
    ids: dict[int, None] = {}
    for token in given:
        if isinstance(token, str):
            encoded = model.tokenizer.encode(token, add_special_tokens=False)
            if len(encoded) != 1 or encoded[0] == model.tokenizer.unk_token_id:
                raise DataError(
                    "targets", found=f"{token!r}, {len(encoded)} token(s)", expected="one token of the vocabulary",
                    to_do="Give one token, or its id.",
                )  # fmt: skip
            token = encoded[0]
        if not 0 <= int(token) < d_vocab:
            raise DataError(
                "targets", found=f"id {token}", expected=f"0 to {d_vocab - 1}", to_do="Give an id of the vocabulary."
            )
        ids[int(token)] = None
    return list(ids)


def choose_targets(
    model: ReplacementModel,
    forward: Forward,
    *,
    given: Sequence[int | str] = (),
    max_n_logits: int = 10,
    desired_logit_prob: float = 0.95,
) -> Targets:
    """Targets at the last position: the given tokens, else the salient logits.

    Raises:
        ConfigError: a setting is out of range.
        DataError: a given token is not in the vocabulary.
    """
    logits = forward.logits[-1].float()
    probabilities = logits.softmax(-1)
    ids = _given_ids(given, model) if given else salient_logits(probabilities, max_n_logits, desired_logit_prob)
    demeaned = logits - logits.mean()
    targets = tuple(
        Target(
            token=token_text(model.tokenizer, token_id),
            token_id=token_id,
            pos=forward.n_pos - 1,
            weight=float(probabilities[token_id]),
            logit=float(demeaned[token_id]),
        )
        for token_id in ids
    )
    chosen = torch.tensor(ids, device=logits.device)
    weights = model.weights
    return Targets(
        targets=targets,
        vectors=weights.demeaned_unembedding(chosen),
        biases=weights.b_U[chosen] - weights.b_U.mean(),
    )
