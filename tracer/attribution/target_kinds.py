"""The kinds of target that can be asked for, and what each means at a prompt.

A position counts from 0, the special token's, or from the end where negative. A weight that is not given is the token's
probability for logits, and 1 for all else.
"""

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from tracer.attribution.definitions import Definition, DemeanedLogit, FeatureRead, LogitDirection, StreamDirection
from tracer.errors import DataError
from tracer.graph.graph import Target
from tracer.model.forward import Forward
from tracer.model.replacement import ReplacementModel
from tracer.model.tokenizer import token_text

STREAM_PLACES = {"resid_pre": 0, "resid_mid": 1, "resid_post": 2}
"""Stages between the start of a layer and a place of its stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A target at a prompt; `target.logit` is still to be filled in with the definition's value."""

    target: Target
    definition: Definition


@dataclass(frozen=True, slots=True)
class LogitTarget:
    """A token's logit minus the mean over the vocabulary, in front of a final soft cap."""

    token: int | str
    _: KW_ONLY
    pos: int = -1
    weight: float | None = None

    def at(self, model: ReplacementModel, forward: Forward) -> Chosen:
        """What it means at a prompt."""
        token_id, pos = checked_token(self.token, model), checked_pos(self.pos, forward)
        definition = DemeanedLogit(pos=pos, token_id=token_id)
        weight = self.weight
        default = float(forward.logits[pos].float().softmax(-1)[token_id]) if weight is None else weight
        name = token_text(model.tokenizer, token_id)
        return _chosen(weight, name, pos, definition, token_id=token_id, default=default)


@dataclass(frozen=True, slots=True)
class LogitDifference:
    """How much a token's logit exceeds another's."""

    token: int | str
    other: int | str
    _: KW_ONLY
    pos: int = -1
    weight: float | None = None

    def at(self, model: ReplacementModel, forward: Forward) -> Chosen:
        """What it means at a prompt."""
        token_id, other_id = checked_token(self.token, model), checked_token(self.other, model)
        if token_id == other_id:
            raise DataError(
                "targets", found=f"token {token_id} minus itself", expected="two tokens", to_do="Name another token."
            )
        direction = torch.zeros_like(forward.uncapped_logits[0])
        direction[token_id], direction[other_id] = 1, -1
        name = f"{token_text(model.tokenizer, token_id)} - {token_text(model.tokenizer, other_id)}"
        return _of_logits(self.weight, direction, checked_pos(self.pos, forward), name)


@dataclass(frozen=True, slots=True)
class NextTokenLoss:
    """The loss of a given next token: its logit minus the mean over the predicted distribution.

    Sources with a positive edge lower the loss.
    """

    token: int | str
    _: KW_ONLY
    pos: int = -1
    weight: float | None = None

    def at(self, model: ReplacementModel, forward: Forward) -> Chosen:
        """What it means at a prompt."""
        token_id, pos = checked_token(self.token, model), checked_pos(self.pos, forward)
        direction = -forward.logits[pos].float().softmax(-1).to(forward.uncapped_logits)
        direction[token_id] += 1
        return _of_logits(self.weight, direction, pos, f"loss of {token_text(model.tokenizer, token_id)}")


@dataclass(frozen=True, slots=True)
class LogitFunction:
    """Any differentiable function of the logits `(pos, vocab)` in front of a final soft cap, as its gradient there.

    The target's value is the gradient times the logits: the function's own value only where it is linear.
    """

    function: Callable[[Float[Tensor, "pos vocab"]], Float[Tensor, ""]]
    name: str
    _: KW_ONLY
    weight: float | None = None

    def at(self, model: ReplacementModel, forward: Forward) -> Chosen:
        """What it means at a prompt."""
        gradient = self._gradient(forward.uncapped_logits.detach().clone())
        pos = gradient.any(-1).nonzero().flatten()
        definition = LogitDirection(pos=pos, directions=gradient[pos])
        return _chosen(self.weight, self.name, int(pos.max()), definition)

    def _gradient(self, logits: Tensor) -> Tensor:
        with torch.enable_grad():
            value = self.function(logits.requires_grad_(True))
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = f"{self.name!r}, whose value is {list(value.shape) if isinstance(value, Tensor) else value!r}"
            raise DataError("targets", found=found, expected="a tensor of one number", to_do="Sum or pick in it.")
        gradient = None
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value, logits, allow_unused=True)
        if gradient is None or not gradient.any():
            raise DataError(
                "targets", found=f"{self.name!r}, which does not depend on the logits", expected="a gradient",
                to_do="Compute it from the argument with differentiable operations.",
            )  # fmt: skip
        if not gradient.isfinite().all():
            found = f"{self.name!r}, whose gradient is infinite or not a number"
            raise DataError("targets", found=found, expected="finite numbers", to_do="Mend the function.")
        return gradient


@dataclass(frozen=True, slots=True)
class Direction:
    """The stream's component along any vector, such as a probe's, at a layer and position."""

    vector: Float[Tensor, " d_model"]
    _: KW_ONLY
    layer: int
    place: Literal["resid_pre", "resid_mid", "resid_post"] = "resid_post"
    """In front of the layer's attention, between attention and MLP, or behind the MLP."""
    pos: int = -1
    name: str = "direction"
    weight: float | None = None

    def at(self, model: ReplacementModel, forward: Forward) -> Chosen:
        """What it means at a prompt."""
        d_model, layer = forward.embedding.shape[1], checked_layer(self.layer, model)
        if self.place not in STREAM_PLACES:
            expected = ", ".join(STREAM_PLACES)
            raise DataError("targets", found=f"place {self.place!r}", expected=expected, to_do="Name one of them.")
        if self.vector.shape != (d_model,) or not self.vector.isfinite().all() or not self.vector.any():
            raise DataError(
                "targets", found=f"{self.name!r}, a vector of shape {list(self.vector.shape)}",
                expected=f"{d_model} finite numbers, not all zero", to_do="Give a vector of the stream's width.",
            )  # fmt: skip
        pos, stage = checked_pos(self.pos, forward), 2 * layer + STREAM_PLACES[self.place]
        definition = StreamDirection(stage=stage, pos=pos, vector=self.vector.to(forward.embedding))
        return _chosen(self.weight, self.name, pos, definition)


@dataclass(frozen=True, slots=True)
class FeatureTarget:
    """A feature's pre-activation, whether it is active there or not."""

    layer: int
    pos: int
    feature: int
    _: KW_ONLY
    weight: float | None = None

    def at(self, model: ReplacementModel, forward: Forward) -> Chosen:
        """What it means at a prompt."""
        layer, pos = checked_layer(self.layer, model), checked_pos(self.pos, forward)
        n_features = model.transcoders.n_features[layer]
        if not 0 <= self.feature < n_features:
            raise DataError(
                "targets", found=f"feature {self.feature} of layer {layer}", expected=f"0 to {n_features - 1}",
                to_do="Name a feature of that layer.",
            )  # fmt: skip
        definition = FeatureRead(layer=layer, pos=pos, feature=self.feature)
        return _chosen(self.weight, f"feature {layer}/{self.feature}", pos, definition)


TargetKind = LogitTarget | LogitDifference | NextTokenLoss | LogitFunction | Direction | FeatureTarget


def checked_token(token: int | str, model: ReplacementModel) -> int:
    """The id of a token given as id or as text.

    Raises:
        DataError: it is not one token of the vocabulary.
    """
    token_id = _encoded(token, model) if isinstance(token, str) else int(token)
    d_vocab = model.facts.d_vocab
    if not 0 <= token_id < d_vocab:
        raise DataError(
            "targets", found=f"id {token_id}", expected=f"0 to {d_vocab - 1}", to_do="Give an id of the vocabulary."
        )
    return token_id


def _encoded(text: str, model: ReplacementModel) -> int:
    encoded = model.tokenizer.encode(text, add_special_tokens=False)
    if len(encoded) != 1 or encoded[0] == model.tokenizer.unk_token_id:
        raise DataError(
            "targets", found=f"{text!r}, {len(encoded)} token(s)", expected="one token of the vocabulary",
            to_do="Give one token, or its id.",
        )  # fmt: skip
    return int(encoded[0])


def checked_pos(pos: int, forward: Forward) -> int:
    """A position counted from 0.

    Raises:
        DataError: the prompt is shorter.
    """
    if not -forward.n_pos <= pos < forward.n_pos:
        found, expected = f"position {pos}", f"{-forward.n_pos} to {forward.n_pos - 1}"
        raise DataError("targets", found=found, expected=expected, to_do="Name a position of the prompt.")
    return pos % forward.n_pos


def checked_layer(layer: int, model: ReplacementModel) -> int:
    """The layer itself.

    Raises:
        DataError: the model has no such layer.
    """
    if not 0 <= layer < model.n_layers:
        found, expected = f"layer {layer}", f"0 to {model.n_layers - 1}"
        raise DataError("targets", found=found, expected=expected, to_do="Name a layer of the model.")
    return layer


def _of_logits(weight: float | None, direction: Tensor, pos: int, name: str) -> Chosen:
    definition = LogitDirection(pos=torch.tensor([pos], device=direction.device), directions=direction[None])
    return _chosen(weight, name, pos, definition)


def _chosen(
    weight: float | None,
    name: str,
    pos: int,
    definition: Definition,
    *,
    token_id: int | None = None,
    default: float = 1.0,
) -> Chosen:
    if weight is not None and not (math.isfinite(weight) and weight > 0):
        raise DataError(
            "targets", found=f"weight {weight} of {name!r}", expected="a positive number", to_do="Mend the weight."
        )
    given = default if weight is None else float(weight)
    return Chosen(
        target=Target(token=name, token_id=token_id, pos=pos, weight=given, logit=math.nan), definition=definition
    )
