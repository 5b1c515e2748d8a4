"""What the definitions of targets come to at a prompt: their values, and what reads them from the raw stream."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.attribution.definitions import Definition, DemeanedLogit, FeatureRead, LogitDirection, StreamDirection
from tracer.attribution.reads import Reads, feature_reads, joined, selected
from tracer.model.forward import Forward
from tracer.model.replacement import ReplacementModel


def reads_of(model: ReplacementModel, forward: Forward, definitions: Sequence[Definition]) -> Reads:
    """One row for every definition, in their order; the architecture must be in the table."""
    by_kind: dict[type, list[int]] = {}
    for row, definition in enumerate(definitions):
        by_kind.setdefault(type(definition), []).append(row)
    parts = [_READERS[kind](model, forward, [definitions[row] for row in rows]) for kind, rows in by_kind.items()]
    if len(parts) == 1:
        return parts[0]
    order = torch.tensor([row for rows in by_kind.values() for row in rows])
    return selected(joined(parts), order.argsort())


def no_reads(forward: Forward) -> Reads:
    """Not a single row."""
    nothing = forward.token_ids.new_zeros(0)
    return Reads(
        row=nothing, pos=nothing, vectors=forward.embedding[:0], stage=nothing, bias=forward.embedding.new_zeros(0)
    )


def values_of(model: ReplacementModel, forward: Forward, definitions: Sequence[Definition]) -> list[float]:
    """The value of every definition in the plain forward pass."""
    stages = {definition.stage for definition in definitions if isinstance(definition, StreamDirection)}
    streams = _streams(model, forward, stages) if stages else {}
    return [float(_value(model, forward, definition, streams)) for definition in definitions]


def _value(model: ReplacementModel, forward: Forward, definition: Definition, streams: dict[int, Tensor]) -> Tensor:
    if isinstance(definition, DemeanedLogit):
        logits = forward.uncapped_logits[definition.pos].double()
        return logits[definition.token_id] - logits.mean()
    if isinstance(definition, LogitDirection):
        return (definition.directions.double() * forward.uncapped_logits[definition.pos].double()).sum()
    if isinstance(definition, FeatureRead):
        transcoder = model.transcoders.layers[definition.layer]
        read = forward.reads[definition.layer, definition.pos]
        return transcoder.pre_activation(read, definition.feature)
    return definition.vector @ streams[definition.stage][definition.pos]


def _streams(model: ReplacementModel, forward: Forward, stages: Iterable[int]) -> dict[int, Tensor]:
    """The stream at some stages, by one more pass of the plain model."""
    parts: dict[int, list[Tensor]] = {stage: [] for stage in stages}

    def keep(stage: int) -> Any:
        return lambda value, hook: parts[stage].append(value[0])

    with model.hooks((name, keep(stage)) for stage in parts for name in _stream_hooks(model, stage)) as bridge:
        bridge(forward.token_ids[None])
    return {stage: torch.stack(found).sum(0) for stage, found in parts.items()}


def _stream_hooks(model: ReplacementModel, stage: int) -> list[str]:
    """The bridge's hooks whose values sum to the stream at a stage."""
    layer, is_behind_attention = divmod(stage, 2)
    if layer == model.n_layers:
        return ["ln_final.hook_in"]
    if not is_behind_attention:
        return [f"blocks.{layer}.hook_in"]
    if model.facts.parallel:
        return [f"blocks.{layer}.hook_in", f"blocks.{layer}.attn.hook_out"]
    return [f"blocks.{layer}.ln2.hook_in"]


def _token_reads(model: ReplacementModel, forward: Forward, definitions: Sequence[DemeanedLogit]) -> Reads:
    weights, device = model.weights, forward.token_ids.device
    token_ids = torch.tensor([definition.token_id for definition in definitions], device=device)
    pos = torch.tensor([definition.pos for definition in definitions], device=device)
    bias = weights.b_U[token_ids] - weights.b_U.mean()
    return _logit_reads(model, forward, torch.arange(len(pos), device=device), pos,
                        weights.demeaned_unembedding(token_ids), bias)  # fmt: skip


def _direction_reads(model: ReplacementModel, forward: Forward, definitions: Sequence[LogitDirection]) -> Reads:
    weights = model.weights
    directions = torch.cat([definition.directions for definition in definitions])
    pos = torch.cat([definition.pos for definition in definitions])
    counts = torch.tensor([len(definition.pos) for definition in definitions], device=pos.device)
    row = torch.arange(len(counts), device=pos.device).repeat_interleave(counts)
    bias = torch.zeros(len(counts), dtype=directions.dtype, device=pos.device).index_add_(
        0, row, directions @ weights.b_U
    )
    return _logit_reads(model, forward, row, pos, directions @ weights.W_U.T, bias)


def _logit_reads(
    model: ReplacementModel,
    forward: Forward,
    row: Int[Tensor, " read"],
    pos: Int[Tensor, " read"],
    vectors: Float[Tensor, "read d_model"],
    bias: Float[Tensor, " row"],
) -> Reads:
    """Vectors that read the last norm's output, pulled back over it."""
    norm = model.weights.final_norm
    return Reads(
        row=row,
        pos=pos,
        vectors=norm.pull_back(vectors) / forward.final_scale[pos][:, None],
        stage=torch.full((len(bias),), 2 * model.n_layers, device=pos.device),
        bias=bias.index_add(0, row, vectors @ norm.bias),
    )


def _stream_reads(model: ReplacementModel, forward: Forward, definitions: Sequence[StreamDirection]) -> Reads:
    device = forward.token_ids.device
    return Reads(
        row=torch.arange(len(definitions), device=device),
        pos=torch.tensor([definition.pos for definition in definitions], device=device),
        vectors=torch.stack([definition.vector for definition in definitions]),
        stage=torch.tensor([definition.stage for definition in definitions], device=device),
        bias=forward.embedding.new_zeros(len(definitions)),
    )


def _feature_reads(model: ReplacementModel, forward: Forward, definitions: Sequence[FeatureRead]) -> Reads:
    places = forward.token_ids.new_tensor([[definition.pos, definition.feature] for definition in definitions])
    return joined([
        feature_reads(model, forward, definition.layer, place[:1], place[1:])
        for definition, place in zip(definitions, places, strict=True)
    ])


_READERS: dict[type, Callable[..., Reads]] = {
    DemeanedLogit: _token_reads,
    LogitDirection: _direction_reads,
    StreamDirection: _stream_reads,
    FeatureRead: _feature_reads,
}
