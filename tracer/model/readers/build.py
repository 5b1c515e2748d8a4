"""From a checked description of files to transcoders: float32, on a device, large matrices left on disk where asked."""

import torch
from torch import Tensor

from tracer.errors import ModelError
from tracer.model.architectures import CheckpointFacts
from tracer.model.nonlinearity import JumpReLU, Nonlinearity, ReLU, TopK
from tracer.model.readers.set_files import LayerFiles, SetFiles
from tracer.model.stored import StoredTensor
from tracer.model.transcoders import N_CHUNK_FEATURES, LayerTranscoder, TranscoderSet

N_HELD_BYTES = 256 * 1024**2
"""Decoders that take more than this in float32, all layers together, stay on disk unless asked otherwise."""


def is_lazy(files: SetFiles, lazy_decoder: bool | None) -> bool:
    """Whether decoders stay on disk: as asked, else if they are large."""
    return files.n_decoder_bytes > N_HELD_BYTES if lazy_decoder is None else lazy_decoder


def build(
    files: SetFiles,
    facts: CheckpointFacts,
    *,
    device: torch.device,
    lazy_encoder: bool = False,
    lazy_decoder: bool | None = None,
) -> TranscoderSet:
    """The transcoders of a set, in float32.

    Args:
        files: its description, checked.
        facts: the model's.
        device: where everything is put that does not stay on disk.
        lazy_encoder: leave encoders on disk; every prompt reads them in parts.
        lazy_decoder: leave decoders on disk and read the rows of active features; when not given, if they are large.

    Raises:
        ModelError: the set was trained on a centred stream and the model's norms do not centre.
    """
    keeps_decoder = is_lazy(files, lazy_decoder)
    centres = files.centred_stream and files.read_point == "resid_mid"
    if files.centred_stream and not (facts.architecture and facts.architecture.centred_norm):
        raise ModelError(
            files.format, found="a set for a model with centred writing weights", expected="a model with LayerNorm",
            to_do="Centring changes a model without LayerNorm: use the set with the model it was made for.",
        )  # fmt: skip
    layers = [
        build_layer(
            layer, files.topk, device=device, lazy_encoder=lazy_encoder, lazy_decoder=keeps_decoder, centres=centres
        )
        for layer in files.layers
    ]
    return TranscoderSet(
        layers=tuple(layers),
        read_point=files.read_point,
        write_point=files.write_point,
        cross_layer=files.cross_layer,
        model_name=files.model_name,
    )


def build_layer(
    found: LayerFiles,
    topk: TopK | None,
    *,
    device: torch.device,
    lazy_encoder: bool,
    lazy_decoder: bool,
    centres: bool,
) -> LayerTranscoder:
    """The transcoder of one layer, in float32.

    Args:
        found: where its tensors lie, checked.
        topk: the nonlinearity where it is TopK.
        device: where everything is put that does not stay on disk.
        lazy_encoder: leave the encoder on disk, unless it is to be centred.
        lazy_decoder: leave the decoder on disk.
        centres: whether what it reads was centred in training, which is folded into what reads the raw values.
    """

    def held(tensor: StoredTensor) -> Tensor:
        return tensor.whole().to(device, torch.float32).contiguous()

    W_enc: Tensor | StoredTensor = found.W_enc if lazy_encoder and not centres else held(found.W_enc)
    W_skip = None if found.W_skip is None else held(found.W_skip)
    b_enc = held(found.b_enc)
    if found.b_in is not None:
        b_enc = b_enc - _encoded(W_enc, held(found.b_in))
    if centres:
        # (x - mean(x)) W^T = x (W - mean(W))^T: the rows read the raw values as they read the centred ones.
        assert isinstance(W_enc, Tensor)
        W_enc = W_enc - W_enc.mean(1, keepdim=True)
        W_skip = None if W_skip is None else W_skip - W_skip.mean(1, keepdim=True)
    return LayerTranscoder(
        W_enc=W_enc,
        b_enc=b_enc,
        nonlinearity=_nonlinearity(found, topk, device),
        W_dec=found.W_dec if lazy_decoder else held(found.W_dec),
        b_dec=held(found.b_dec),
        W_skip=W_skip,
    )


def _encoded(W_enc: Tensor | StoredTensor, vector: Tensor) -> Tensor:
    if isinstance(W_enc, Tensor):
        return W_enc @ vector
    parts = torch.arange(W_enc.shape[0]).split(N_CHUNK_FEATURES)
    return torch.cat([W_enc.rows(part).to(vector) @ vector for part in parts])


def _nonlinearity(found: LayerFiles, topk: TopK | None, device: torch.device) -> Nonlinearity:
    if topk is not None:
        return topk
    if found.threshold is None:
        return ReLU()
    return JumpReLU(found.threshold.whole().to(device, torch.float32).flatten().expand(found.W_enc.shape[0]))
