"""Runs a prompt with feature edits.

What an edit adds to an MLP output is the difference of decoded features, so the reconstruction error stays; a
cross-layer feature's difference is added at every layer it writes. Three settings: *direct effects only* (attention
patterns, norm scales and MLP outputs stay as in the unedited prompt but for what a skip connection makes of the
change, so the effect is linear and equals the graph's edges); *attention frozen* (patterns stay, everything else
follows; the default); *free*. In a mixture of experts a token's experts stay the same in all three.
"""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.intervene.edits import Edit, check_edits
from tracer.model.experts import frozen_experts
from tracer.model.forward import Forward
from tracer.model.replacement import Hook, Prompt, ReplacementModel
from tracer.model.tokenizer import token_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervention:
    """The outcome of edits."""

    logits: Float[Tensor, "pos vocab"]
    activations: tuple[Float[Tensor, "pos feature"], ...]
    """Per layer, as measured at its read point; edited features show the value that they were set to."""

    def top_tokens(self, model: ReplacementModel, n_tokens: int = 5) -> list[tuple[str, float]]:
        """The likeliest next tokens with their probabilities."""
        top = self.logits[-1].softmax(-1).topk(n_tokens)
        return [
            (token_text(model.tokenizer, int(idx)), float(p)) for p, idx in zip(top.values, top.indices, strict=True)
        ]


class _EditedRun:
    """State of one forward pass with edits: the differences still to be written into later MLP outputs."""

    def __init__(
        self, model: ReplacementModel, original: Forward, edits: Sequence[Edit], direct: bool, before: bool
    ) -> None:
        self.model, self.original, self.direct, self.before = model, original, direct, before
        self.edits: dict[int, dict[tuple[int, int], Edit]] = defaultdict(dict)
        n_ignored = model.facts.n_ignored_positions(original.token_ids.tolist())
        for edit in edits:
            for pos in edit.positions(original.n_pos, n_ignored):
                self.edits[edit.layer][pos, edit.feature] = edit
        self.differences: list[Tensor] = [torch.zeros_like(output) for output in original.mlp_outputs]
        self.activations: list[Tensor] = []
        self.skip_change: Tensor | float = 0.0

    def read(self, value: Tensor, hook: Any) -> None:
        """At a layer's read point: measure activations, note what its edits will write."""
        layer = len(self.activations)
        transcoder = self.model.transcoders.layers[layer]
        pre = transcoder.pre_activations(value[0])
        measured = transcoder.nonlinearity.apply(pre)
        shown = pre.clone() if self.before else measured
        unedited = transcoder.encode(self.original.reads[layer])
        self.skip_change = transcoder.skip(value[0] - self.original.reads[layer])
        for (pos, feature), edit in self.edits[layer].items():
            wanted = edit.wanted(float(unedited[pos, feature]))
            present = (unedited if self.direct else measured)[pos, feature]
            vectors = transcoder.write_vectors(torch.tensor([feature], device=value.device))[0]
            for offset, vector in enumerate(vectors):
                self.differences[layer + offset][pos] += (wanted - present) * vector
            shown[pos, feature] = wanted
        self.activations.append(shown)

    def write(self, output: Tensor, hook: Any) -> Tensor:
        """At a layer's MLP output: add the differences, in direct mode to the unedited output and what the skip
        connection makes of the changed stream.
        """
        layer = len(self.activations) - 1
        base = self.original.mlp_outputs[layer] + self.skip_change if self.direct else output
        return (base + self.differences[layer]).reshape(output.shape)

    def hooks(self, freeze_attention: bool) -> list[Hook]:
        """All hooks of this run."""

        def put(value: Tensor) -> Any:
            return lambda measured, hook: value.reshape(measured.shape)

        hooks: list[Hook] = [
            (name, put(value))
            for name, value in self.original.frozen().items()
            if self.direct or (freeze_attention and name.endswith("hook_pattern"))
        ]
        for layer in range(self.model.n_layers):
            hooks.append((self.model.hook_names.read(layer), self.read))
            hooks.append((self.model.hook_names.write(layer), self.write))
        return hooks


@torch.no_grad()
def intervene(
    prompt: Prompt,
    model: ReplacementModel,
    edits: Sequence[Edit],
    *,
    direct_effects: bool = False,
    freeze_attention: bool = True,
    before_nonlinearity: bool = False,
    unedited: Forward | None = None,
) -> Intervention:
    """Run a prompt with edits.

    Args:
        prompt: text, token ids or a tensor of them.
        model: the replacement model.
        edits: what is set where; several at once, a later one of the same feature and position on top of an earlier
            one.
        direct_effects: keep attention patterns, norm scales and MLP outputs as in the unedited prompt.
        freeze_attention: keep attention patterns as in the unedited prompt.
        before_nonlinearity: give pre-activations instead of activations.
        unedited: the prompt's forward pass where it is at hand already; it is run when not given.

    Raises:
        ConfigError: an edit names no feature or position, or not exactly one of value and scale.
        DataError: the prompt cannot be used.
        ModelError: the model's choice of experts cannot be held fixed.
    """
    check_edits(edits, model.transcoders)
    token_ids = model.tokenize(prompt)
    run = _EditedRun(model, unedited or model.forward(token_ids), edits, direct_effects, before_nonlinearity)
    # Direct effects leave MLPs as they are, experts and all.
    experts = nullcontext() if direct_effects else frozen_experts(model, token_ids)
    with experts, model.hooks(run.hooks(freeze_attention)) as bridge:
        logits = bridge(token_ids[None])[0]
    return Intervention(logits=logits, activations=tuple(run.activations))


def generate(prompt: Prompt, model: ReplacementModel, edits: Sequence[Edit], *, n_tokens: int) -> Int[Tensor, " pos"]:
    """Continue a prompt greedily with edits held in place and attention free; open slices reach the new tokens.

    Returns the ids of the prompt and at most `n_tokens` more, as far as the context goes.

    Raises:
        ConfigError, DataError: as `intervene`.
    """
    token_ids = model.tokenize(prompt)
    for _ in range(min(n_tokens, model.facts.n_ctx - len(token_ids))):
        logits = intervene(token_ids, model, edits, freeze_attention=False).logits
        token_ids = torch.cat([token_ids, logits[-1].argmax()[None]])
    return token_ids
