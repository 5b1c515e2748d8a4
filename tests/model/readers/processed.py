"""What HookedTransformer does to a GPT-2's weights, by hand."""

import atexit
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForCausalLM

from tests.checkpoints import loaded, write_tokenizer, write_transcoders
from tracer.model.replacement import ReplacementModel


@cache
def processed_gpt2() -> ReplacementModel:
    """The random GPT-2 with the MLP's norm folded and writing weights centred: its stream is the same but for the mean.

    The embedding is the unembedding too, so its logits are others.
    """
    checkpoint, _ = loaded("gpt2")
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    transformer = model.transformer
    with torch.no_grad():
        for embedding in (transformer.wte, transformer.wpe):
            embedding.weight.sub_(embedding.weight.mean(-1, keepdim=True))
        for block in transformer.h:
            for written in (block.attn.c_proj, block.mlp.c_proj):
                written.weight.sub_(written.weight.mean(-1, keepdim=True))
                written.bias.sub_(written.bias.mean())
            norm, read = block.ln_2, block.mlp.c_fc
            read.bias.add_(norm.bias @ read.weight)
            read.weight.mul_(norm.weight[:, None])
            norm.weight.fill_(1)
            norm.bias.fill_(0)
    folder = TemporaryDirectory(prefix="tracer-tests-")
    atexit.register(folder.cleanup)
    processed = Path(folder.name) / "checkpoint"
    model.save_pretrained(processed)
    write_tokenizer(processed)
    transcoders = write_transcoders(processed, Path(folder.name) / "transcoders", cross_layer=False)
    return ReplacementModel.from_pretrained(processed, transcoders, device="cpu")
