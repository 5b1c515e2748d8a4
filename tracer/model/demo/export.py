"""Writes the demo model and its transcoders as ordinary files: a Hugging Face checkpoint, circuit-tracer folders."""

from pathlib import Path

import torch
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from tracer.model.demo.dictionary import Dictionary
from tracer.model.nonlinearity import JumpReLU
from tracer.model.readers import circuit_tracer
from tracer.model.transcoders import LayerTranscoder, TranscoderSet

MODEL_NAME = "tracer-demo-atlas"
SHIPPED_DTYPE = torch.float16


def write_language_model(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write config.json, model.safetensors and the tokenizer's files."""
    folder.mkdir(parents=True, exist_ok=True)
    rounded = GPT2LMHeadModel(model.config)
    rounded.load_state_dict(model.state_dict())
    rounded.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@torch.no_grad()
def to_transcoder_set(dictionary: Dictionary) -> TranscoderSet:
    """The trained dictionary with the scaling of inputs and outputs folded into its weights."""
    layers = []
    for layer, decoder in enumerate(dictionary.W_dec):
        W_enc = dictionary.W_enc[layer] / dictionary.input_scale[layer]
        written = slice(layer, layer + decoder.shape[1])
        layers.append(
            LayerTranscoder(
                W_enc=W_enc,
                b_enc=dictionary.b_enc[layer] - W_enc @ dictionary.input_mean[layer, 0],
                nonlinearity=JumpReLU(dictionary.threshold[layer].expand(len(W_enc))),
                W_dec=decoder * dictionary.output_scale[written, 0],
                b_dec=dictionary.b_dec[layer, 0] * dictionary.output_scale[layer, 0] + dictionary.output_mean[layer, 0],
            )
        )
    return TranscoderSet(
        layers=tuple(layers), read_point="mlp_in", write_point="mlp_out", cross_layer=dictionary.cross_layer,
        model_name=MODEL_NAME,
    )  # fmt: skip


def write_dictionary(dictionary: Dictionary, folder: Path) -> None:
    """Write a circuit-tracer transcoder folder."""
    circuit_tracer.write(folder, to_transcoder_set(dictionary), model_name=MODEL_NAME, dtype=SHIPPED_DTYPE)
