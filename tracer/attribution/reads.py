"""Read vectors: where in the raw stream a node reads, and with which vectors.

A node's value is `sum_i vectors[i] . stream[stage, pos[i]] + bias`: norms are pulled back and divided by their frozen
scale here, so the frozen map only ever sees the raw stream.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.model.forward import FrozenPass
from tracer.model.replacement import ReplacementModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """Rows that read the stream, each with one read vector or several.

    Stages of the stream: `2 * layer` in front of a layer's attention, `2 * layer + 1` between its attention and its
    MLP, `2 * n_layers` in front of the last norm.
    """

    row: Int[Tensor, " read"]
    """Index of the row that a read vector belongs to."""
    pos: Int[Tensor, " read"]
    vectors: Float[Tensor, "read d_model"]
    stage: Int[Tensor, " row"]
    bias: Float[Tensor, " row"]

    @property
    def n_rows(self) -> int:
        """Rows."""
        return len(self.stage)


def mlp_stage(model: ReplacementModel, layer: int) -> int:
    """The stage that the MLP of `layer` reads: behind its attention, or in front of it where both work in parallel."""
    return 2 * layer if model.facts.parallel else 2 * layer + 1


def feature_reads(
    model: ReplacementModel,
    forward: FrozenPass,
    layer: int,
    pos: Int[Tensor, " row"],
    feature: Int[Tensor, " row"],
) -> Reads:
    """Reads of the pre-activations of features of one layer, one row each, whether active or not."""
    transcoder, norm = model.transcoders.layers[layer], model.weights.layers[layer].mlp_norm
    vectors, bias = transcoder.encoder_rows(feature), transcoder.b_enc[feature]
    scale = forward.mlp_scales[layer, pos][:, None]
    if model.transcoders.read_point == "mlp_in":
        bias, vectors = bias + vectors @ norm.bias, norm.pull_back(vectors) / scale
    elif model.transcoders.read_point == "normalised":
        vectors = norm.centre(vectors) / scale
    return Reads(
        row=torch.arange(len(pos), device=pos.device),
        pos=pos,
        vectors=vectors,
        stage=torch.full_like(pos, mlp_stage(model, layer)),
        bias=bias,
    )


def joined(parts: list[Reads]) -> Reads:
    """The rows of several reads, one after the other."""
    starts = torch.tensor([0, *(part.n_rows for part in parts[:-1])]).cumsum(0).tolist()
    return Reads(
        row=torch.cat([part.row + start for part, start in zip(parts, starts, strict=True)]),
        pos=torch.cat([part.pos for part in parts]),
        vectors=torch.cat([part.vectors for part in parts]),
        stage=torch.cat([part.stage for part in parts]),
        bias=torch.cat([part.bias for part in parts]),
    )


def selected(reads: Reads, rows: Int[Tensor, " chosen"]) -> Reads:
    """Some of the rows, in the order asked, numbered anew."""
    rows = rows.to(reads.row.device)
    if len(reads.row) == reads.n_rows and torch.equal(reads.row, torch.arange(reads.n_rows, device=rows.device)):
        picked, row = rows, torch.arange(len(rows), device=rows.device)
    else:
        place = reads.row.new_full((reads.n_rows,), -1)
        place[rows] = torch.arange(len(rows), device=rows.device)
        picked = (place[reads.row] >= 0).nonzero().flatten()
        row = place[reads.row[picked]]
    return Reads(
        row=row, pos=reads.pos[picked], vectors=reads.vectors[picked], stage=reads.stage[rows], bias=reads.bias[rows]
    )
