"""What is attributed: salient or given tokens, or any other kind of target, with weights, definitions and reads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from tracer.attribution.definitions import Definition, StreamDirection
from tracer.attribution.reads import Reads
from tracer.attribution.target_kinds import Chosen, LogitTarget, TargetKind, checked_pos, checked_token
from tracer.attribution.target_reads import no_reads, reads_of, values_of
from tracer.errors import ConfigError, DataError
from tracer.graph.graph import Target
from tracer.model.forward import Forward
from tracer.model.replacement import ReplacementModel

TargetSpec = int | str | TargetKind
"""A token's id or text, or any kind of target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Targets of one prompt: as nodes, as what they mean, and as what reads them from the raw stream."""

    targets: tuple[Target, ...]
    definitions: tuple[Definition, ...]
    reads: Reads
    """A row for every target; no row where only the oracle knows the architecture."""


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


@torch.no_grad()
def choose_targets(
    model: ReplacementModel,
    forward: Forward,
    *,
    given: Sequence[TargetSpec] = (),
    positions: Sequence[int] = (-1,),
    max_n_logits: int = 10,
    desired_logit_prob: float = 0.95,
) -> Targets:
    """The given targets, else the salient logits.

    Args:
        model: the replacement model.
        forward: the prompt's captured forward pass.
        given: tokens and other kinds of target; equal tokens at one position count once.
        positions: where salient logits, and tokens given as ids or text, are taken; negative ones count from the end.
        max_n_logits: at most this many salient logits a position.
        desired_logit_prob: probability mass that they reach.

    Raises:
        ConfigError: a setting is out of range.
        DataError: a target does not fit the vocabulary, the model or the prompt.
    """
    asked = _asked(model, forward, given, positions, max_n_logits, desired_logit_prob)
    chosen = _distinct([kind.at(model, forward) for kind in asked])
    if any(isinstance(part.definition, StreamDirection) for part in chosen) and not model.facts.explicit:
        raise DataError(
            "targets", found="a direction of the stream, on an architecture outside the table",
            expected="logits or features", to_do="Choose other targets, or add the architecture to the table.",
        )  # fmt: skip
    if not sum(part.target.weight for part in chosen) > 0:
        raise DataError(
            "targets", found="no target, or only tokens of probability 0", expected="a positive weight",
            to_do="Choose likelier tokens, or give LogitTarget(..., weight=1).",
        )  # fmt: skip
    definitions = tuple(part.definition for part in chosen)
    values = values_of(model, forward, definitions)
    return Targets(
        targets=tuple(replace(part.target, logit=value) for part, value in zip(chosen, values, strict=True)),
        definitions=definitions,
        reads=reads_of(model, forward, definitions) if model.facts.explicit else no_reads(forward),
    )


def _asked(
    model: ReplacementModel,
    forward: Forward,
    given: Sequence[TargetSpec],
    positions: Sequence[int],
    max_n_logits: int,
    desired_logit_prob: float,
) -> list[TargetKind]:
    places = [checked_pos(pos, forward) for pos in positions]
    if given:
        return [kind for spec in given for kind in _kinds(spec, places, model)]
    kinds: list[TargetKind] = []
    for pos in places:
        probabilities = forward.logits[pos].float().softmax(-1)
        token_ids = salient_logits(probabilities, max_n_logits, desired_logit_prob)
        kinds += [LogitTarget(token_id, pos=pos) for token_id in token_ids]
    return kinds


def _kinds(spec: TargetSpec, places: Sequence[int], model: ReplacementModel) -> list[TargetKind]:
    if isinstance(spec, TargetKind):
        return [spec]
    if isinstance(spec, int | str):
        return [LogitTarget(checked_token(spec, model), pos=pos) for pos in places]
    raise DataError(
        "targets", found=repr(spec)[:80], expected="a token's id or text, or a kind of target",
        to_do="See tracer.attribution.target_kinds.",
    )  # fmt: skip


def _distinct(chosen: Sequence[Chosen]) -> list[Chosen]:
    """The same with every token at a position but once."""
    first_of: dict[object, Chosen] = {}
    for place, part in enumerate(chosen):
        token_id = part.target.token_id
        first_of.setdefault(place if token_id is None else (token_id, part.target.pos), part)
    return list(first_of.values())
