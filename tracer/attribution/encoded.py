"""Active features and errors of several prompts, whose positions go through the transcoders together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.model.forward import Forward
from tracer.model.replacement import ReplacementModel
from tracer.model.transcoders import N_CHUNK_POSITIONS, Activations


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What the transcoders make of one prompt."""

    features: Int[Tensor, "feature 3"]
    """Layer, position, feature of the active ones, sorted."""
    activations: Float[Tensor, " feature"]
    active: tuple[Activations, ...]
    """The same by layer."""
    errors: Float[Tensor, "layer pos d_model"]
    """MLP output minus reconstruction; zero at ignored positions."""
    n_ignored: int


def encode(model: ReplacementModel, forwards: Sequence[Forward]) -> list[Encoded]:
    """Active features and errors of prompts, in their order."""
    return [encoded for some in _chunks(forwards) for encoded in _encode_chunk(model, some)]


def _chunks(forwards: Sequence[Forward]) -> Iterator[list[Forward]]:
    """Neighbours, as many as are encoded at once anyway: what is dense in features stays bounded."""
    chunk: list[Forward] = []
    n_pos = 0
    for forward in forwards:
        if chunk and n_pos + forward.n_pos > N_CHUNK_POSITIONS:
            yield chunk
            chunk, n_pos = [], 0
        chunk.append(forward)
        n_pos += forward.n_pos
    if chunk:
        yield chunk


def _encode_chunk(model: ReplacementModel, forwards: Sequence[Forward]) -> Iterator[Encoded]:
    n_ignored = [min(model.facts.n_ignored_positions(each.token_ids.tolist()), each.n_pos) for each in forwards]
    reads = _joined([each.reads[:, n:] for each, n in zip(forwards, n_ignored, strict=True)])
    outputs = _joined([each.mlp_outputs[:, n:] for each, n in zip(forwards, n_ignored, strict=True)])
    active = [layer.active(read, 0) for layer, read in zip(model.transcoders.layers, reads, strict=True)]
    errors = torch.stack([
        output - model.transcoders.reconstruction(active, reads, layer) for layer, output in enumerate(outputs)
    ])
    n_pos = [each.n_pos - n for each, n in zip(forwards, n_ignored, strict=True)]
    parts = _by_prompt(active, n_pos, n_ignored)
    for part, of_prompt, n in zip(parts, errors.split(n_pos, dim=1), n_ignored, strict=True):
        features, activations, counts = part
        yield Encoded(
            features=features,
            activations=activations,
            active=tuple(
                Activations(pos=of_layer[:, 1], feature=of_layer[:, 2], value=value)
                for of_layer, value in zip(features.split(counts), activations.split(counts), strict=True)
            ),
            errors=torch.nn.functional.pad(of_prompt, (0, 0, n, 0)),
            n_ignored=n,
        )


def _joined(parts: Sequence[Float[Tensor, "layer _ d_model"]]) -> Float[Tensor, "layer pos d_model"]:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)


def _by_prompt(
    active: Sequence[Activations], n_pos: Sequence[int], n_ignored: Sequence[int]
) -> Iterator[tuple[Int[Tensor, "feature 3"], Float[Tensor, " feature"], list[int]]]:
    """Features with their layers and positions, activations, and features of each layer, of one prompt after the other.

    Args:
        active: of each layer, positions of all prompts counted through, without ignored ones.
        n_pos: positions of each prompt.
        n_ignored: positions of each prompt in front of them.
    """
    device, n_prompts, n_layers = active[0].pos.device, len(n_pos), len(active)
    sizes = torch.tensor(n_pos, device=device)
    prompt_of = torch.arange(n_prompts, device=device).repeat_interleave(sizes)
    shift = torch.tensor(n_ignored, device=device) - (sizes.cumsum(0) - sizes)
    pos, feature = torch.cat([each.pos for each in active]), torch.cat([each.feature for each in active])
    layer = torch.arange(n_layers, device=device).repeat_interleave(
        torch.tensor([len(each.pos) for each in active], device=device)
    )
    prompt = prompt_of[pos]
    order = prompt.argsort(stable=True)
    features = torch.stack([layer, pos + shift[prompt], feature], dim=1)[order]
    activations = torch.cat([each.value for each in active])[order]
    counts = torch.bincount(prompt * n_layers + layer, minlength=n_prompts * n_layers).view(n_prompts, n_layers)
    n_each = counts.sum(1).tolist()
    # Copied: a prompt's graph outlives the others'.
    for of_prompt, values, by_layer in zip(
        features.split(n_each), activations.split(n_each), counts.tolist(), strict=True
    ):
        yield of_prompt.clone(), values.clone(), by_layer
