"""The frozen linear map of one prompt, run backwards without autograd.

A read vector `G (row, pos, d_model)` in the stream in front of an MLP is pulled back over that layer's attention by `G
+= (pattern^T (G W_O^T)) W_V^T / scale` (norm weight and centring are folded into `W_V`); MLP outputs are frozen and
pass nothing.
"""

from jaxtyping import Float
from torch import Tensor

from tracer.model.forward import Forward
from tracer.model.weights import FrozenWeights


def through_attention(
    weights: FrozenWeights, forward: Forward, layer: int, vectors: Float[Tensor, "row pos d_model"]
) -> Float[Tensor, "row pos d_model"]:
    """Read vectors behind attention of `layer`, as read vectors in front of it.

    `vectors` may cover the first positions only: what reads there cannot see later ones.
    """
    attention = weights.layers[layer]
    n_rows, n_pos, d_model = vectors.shape
    n_kv_heads, d_head, _ = attention.W_V.shape
    n_heads = attention.W_O.shape[0]
    pattern = forward.patterns[layer, :, :n_pos, :n_pos]
    read_outputs = (vectors @ attention.W_O.reshape(-1, d_model).T).view(n_rows, n_pos, n_heads, d_head)
    # (head, key, query) @ (head, query, row * d_head): one product a head, whatever the number of rows.
    by_head = read_outputs.permute(2, 1, 0, 3).reshape(n_heads, n_pos, n_rows * d_head)
    mixed = (pattern.transpose(1, 2) @ by_head).view(n_kv_heads, -1, n_pos, n_rows, d_head).sum(1)
    read_values = mixed.permute(2, 1, 0, 3).reshape(n_rows, n_pos, n_kv_heads * d_head)
    pulled = read_values @ attention.W_V.reshape(-1, d_model)
    return vectors + pulled / forward.attention_scales[layer, :n_pos, None]
