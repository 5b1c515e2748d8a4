"""The part of a prompt's stream that no feature, error or later token takes part in.

Leading ignored positions see only each other and carry no feature and no error, and what biases add is the same
whatever the stream: both are pushed up once instead of being pulled back for every row.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from tracer.attribution import frozen_map
from tracer.attribution.reads import mlp_stage
from tracer.model.forward import FrozenPass
from tracer.model.replacement import ReplacementModel


def known_streams(
    model: ReplacementModel, forward: FrozenPass, n_ignored: int, n_pos: int, n_layers: int
) -> list[Float[Tensor, "part pos d_model"]]:
    """At the first positions, at every stage up to the front of layer `n_layers`, what the stream owes to whom.

    The parts are one for each token at an ignored position, and last what no node accounts for. At ignored positions
    they add up to the stream. Where several prompts lie side by side, a part is that of each of them.
    """
    n, n_prompts, d_model = n_ignored, forward.n_prompts, forward.embedding.shape[1]
    streams = forward.embedding.new_zeros(n + 1, n_pos * n_prompts, d_model)
    for pos in range(n):
        own = slice(pos * n_prompts, (pos + 1) * n_prompts)
        streams[pos, own] = forward.embedding[own]
    n_pos, ignored = n_pos * n_prompts, slice(0, n * n_prompts)
    streams[n] = (forward.stream_start - forward.embedding)[:n_pos]
    stages = [streams]
    every = torch.arange(n_pos, device=streams.device)[None]
    for layer in range(n_layers):
        mid = streams + frozen_map.push_attention(model, forward, layer, streams)
        constant = frozen_map.attention_constant(model, forward, layer)
        if constant is not None:
            mid[n] += constant[:n_pos]
        parallel = mlp_stage(model, layer) == 2 * layer
        skipped = frozen_map.push_skip(model, forward, layer, every, streams if parallel else mid)
        factors = frozen_map.write_factors(model, forward, layer)[:n_pos]
        output = frozen_map.mlp_constant(model, layer).expand(n_pos, -1) * factors
        # At ignored positions the whole MLP output is frozen; what the skip made of the stream is part of it.
        output[ignored] = (forward.mlp_outputs[layer, :n_pos] * factors - skipped.sum(0))[ignored]
        streams = mid + skipped
        streams[n] += output
        stages += [mid, streams]
    return stages
