"""The frozen linear map of one prompt: what its layers do to vectors, forwards and backwards.

With patterns and norm scales frozen, a layer's attention adds `sum_k pattern[q, k] (stream[k] / scale[k]) W_V^T W_O` to
the stream at `q` (Ameisen et al. 2025; norm weights and centring are folded into the matrices). MLP outputs are frozen:
they are sources, and pass on nothing but a skip connection.

`forward` is the captured pass of the prompt, or of several side by side (then a position of one prompt is a place);
positions count from the first token, special token included.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.model.forward import FrozenPass
from tracer.model.replacement import ReplacementModel


def _by_prompt(forward: FrozenPass, values: Float[Tensor, " place"]) -> Float[Tensor, "prompt pos"]:
    return values.view(-1, forward.n_prompts).T


def attention_divisors(forward: FrozenPass, layer: int) -> Float[Tensor, "prompt query key"]:
    """What a pattern entry is divided by: the norm scale in front of attention at the key, behind it at the query."""
    scales = _by_prompt(forward, forward.attention_scales[layer])[:, None]
    posts = forward.attention_post_scales
    if posts is not None:
        return scales * _by_prompt(forward, posts[layer])[:, :, None]
    return scales.expand(-1, scales.shape[2], -1)


def _shares(
    forward: FrozenPass, layer: int, n_kv: int, queries: slice, keys: slice
) -> Float[Tensor, "prompt kv group query key"]:
    """The pattern divided by the scales, its heads grouped by the key-value head that they share."""
    pattern = forward.patterns[layer].unflatten(-3, (n_kv, -1))
    pattern = pattern.view(forward.n_prompts, *pattern.shape[-4:])[..., queries, keys]
    return pattern / attention_divisors(forward, layer)[:, None, None, queries, keys]


def mixing(
    model: ReplacementModel, forward: FrozenPass, layer: int, first: int
) -> Float[Tensor, "prompt_kv key group query"]:
    """A layer's attention backwards, divided by the scales, for queries from position `first` on.

    Query heads are grouped by the key-value head that they share.
    """
    shares = _shares(forward, layer, len(model.weights.layers[layer].W_V), slice(first, None), slice(None))
    return shares.permute(0, 1, 4, 2, 3).contiguous().flatten(0, 1)


def push_attention(
    model: ReplacementModel, forward: FrozenPass, layer: int, streams: Float[Tensor, "part pos d_model"]
) -> Float[Tensor, "part pos d_model"]:
    """What a layer's attention makes of parts of the stream at leading positions; biases are left out."""
    weights, n_prompts = model.weights.layers[layer], forward.n_prompts
    n_kv, d_head, _ = weights.W_V.shape
    n = streams.shape[1] // n_prompts
    values = (streams @ weights.W_V.flatten(0, 1).T).view(len(streams), n, n_prompts, n_kv, 1, d_head)
    mixed = _shares(forward, layer, n_kv, slice(n), slice(n)) @ values.permute(0, 2, 3, 4, 1, 5)
    return mixed.permute(0, 4, 1, 2, 3, 5).reshape(*streams.shape[:2], -1) @ weights.W_O.flatten(0, 1)


def attention_constant(model: ReplacementModel, forward: FrozenPass, layer: int) -> Float[Tensor, "pos d_model"] | None:
    """What a layer's attention adds whatever the stream: biases of norm, value and output. None where it has none.

    A value bias counts by the sum of the pattern, which attention sinks make less than one.
    """
    weights = model.weights.layers[layer]
    if not weights.adds_constant:
        return None
    shares = forward.patterns[layer].sum(-1)
    by_place = shares.movedim(-1, 0).reshape(-1, len(weights.head_bias))
    constant = by_place @ weights.head_bias + weights.output_bias
    posts = forward.attention_post_scales
    return constant if posts is None else constant / posts[layer][:, None]


def write_factors(model: ReplacementModel, forward: FrozenPass, layer: int) -> Float[Tensor, "pos width"]:
    """What a vector at the transcoders' write point is multiplied with on its way into the stream."""
    weight, posts = model.weights.layers[layer].mlp_post_weight, forward.mlp_post_scales
    if weight is None or posts is None or model.transcoders.write_point == "residual":
        return torch.ones_like(forward.mlp_scales[layer][:, None])
    return weight / posts[layer][:, None]


def mlp_constant(model: ReplacementModel, layer: int) -> Float[Tensor, " d_model"]:
    """What a layer's transcoder writes whatever it reads: decoder bias, and the norm's bias through the skip."""
    transcoder = model.transcoders.layers[layer]
    if transcoder.W_skip is None or model.transcoders.read_point != "mlp_in":
        return transcoder.b_dec
    return transcoder.b_dec + transcoder.W_skip @ model.weights.layers[layer].mlp_norm.bias


def push_skip(
    model: ReplacementModel,
    forward: FrozenPass,
    layer: int,
    pos: Int[Tensor, "*#column"],
    streams: Float[Tensor, "*column d_model"],
) -> Float[Tensor, "*column d_model"]:
    """What a layer's skip connection makes of parts of the stream at some positions; biases are left out."""
    transcoders, norm = model.transcoders, model.weights.layers[layer].mlp_norm
    W_skip = transcoders.layers[layer].W_skip
    if W_skip is None:
        return torch.zeros_like(streams)
    if transcoders.read_point != "resid_mid":
        streams = streams / forward.mlp_scales[layer, pos][..., None]
        streams = norm.push(streams) if transcoders.read_point == "mlp_in" else norm.centre(streams)
    return (streams @ W_skip.T) * write_factors(model, forward, layer)[pos]


def pull_skip(
    model: ReplacementModel,
    forward: FrozenPass,
    layer: int,
    pos: Int[Tensor, "*#column"],
    vectors: Float[Tensor, "*column d_model"],
) -> Float[Tensor, "*column d_model"]:
    """Read vectors behind a layer's MLP, as read vectors of what its skip connection reads."""
    transcoders, norm = model.transcoders, model.weights.layers[layer].mlp_norm
    W_skip = transcoders.layers[layer].W_skip
    assert W_skip is not None, "asked of layers with a skip connection"
    read = (vectors * write_factors(model, forward, layer)[pos]) @ W_skip
    if transcoders.read_point == "resid_mid":
        return read
    read = norm.pull_back(read) if transcoders.read_point == "mlp_in" else norm.centre(read)
    return read / forward.mlp_scales[layer, pos][..., None]
