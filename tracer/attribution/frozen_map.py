"""The frozen linear map of one prompt: what its layers do to vectors, forwards and backwards.

With patterns and norm scales frozen, a layer's attention adds `sum_k pattern[q, k] (stream[k] / scale[k]) W_V^T W_O` to
the stream at `q` (Ameisen et al. 2025; norm weights and centring are folded into the matrices). MLP outputs are frozen:
they are sources, and pass on nothing but a skip connection.

`forward` is the captured pass of the prompt; positions count from its first token, special token included.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.model.forward import Forward
from tracer.model.replacement import ReplacementModel


def attention_divisors(forward: Forward, layer: int) -> Float[Tensor, "query key"]:
    """What a pattern entry is divided by: the norm scale in front of attention at the key, behind it at the query."""
    scales = forward.attention_scales[layer][None].expand(forward.n_pos, -1)
    posts = forward.attention_post_scales
    return scales if posts is None else scales * posts[layer][:, None]


def mixing(model: ReplacementModel, forward: Forward, layer: int, first: int) -> Float[Tensor, "kv key group query"]:
    """A layer's attention backwards, divided by the scales, for queries from position `first` on.

    Query heads are grouped by the key-value head that they share.
    """
    pattern = forward.patterns[layer, :, first:] / attention_divisors(forward, layer)[first:]
    grouped = pattern.unflatten(0, (len(model.weights.layers[layer].W_V), -1))
    return grouped.permute(0, 3, 1, 2).contiguous()


def push_attention(
    model: ReplacementModel, forward: Forward, layer: int, streams: Float[Tensor, "part pos d_model"]
) -> Float[Tensor, "part pos d_model"]:
    """What a layer's attention makes of parts of the stream at leading positions; biases are left out."""
    weights, n = model.weights.layers[layer], streams.shape[1]
    pattern = forward.patterns[layer, :, :n, :n] / attention_divisors(forward, layer)[:n, :n]
    n_kv, d_head, _ = weights.W_V.shape
    values = (streams @ weights.W_V.flatten(0, 1).T).view(*streams.shape[:2], n_kv, d_head).transpose(1, 2)
    mixed = pattern.unflatten(0, (n_kv, -1)) @ values[:, :, None]
    return mixed.flatten(1, 2).transpose(1, 2).flatten(2) @ weights.W_O.flatten(0, 1)


def attention_constant(model: ReplacementModel, forward: Forward, layer: int) -> Float[Tensor, "pos d_model"] | None:
    """What a layer's attention adds whatever the stream: biases of norm, value and output. None where it has none.

    A value bias counts by the sum of the pattern, which attention sinks make less than one.
    """
    weights = model.weights.layers[layer]
    if not weights.adds_constant:
        return None
    shares = forward.patterns[layer].sum(-1)
    constant = shares.T @ weights.head_bias + weights.output_bias
    posts = forward.attention_post_scales
    return constant if posts is None else constant / posts[layer][:, None]


def write_factors(model: ReplacementModel, forward: Forward, layer: int) -> Float[Tensor, "pos width"]:
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
    forward: Forward,
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
    forward: Forward,
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
