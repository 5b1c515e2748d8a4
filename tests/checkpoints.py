"""Builders of small random checkpoints and transcoder sets, as folders in the public formats."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tracer.model.architectures import checkpoint_facts
from tracer.model.readers import circuit_tracer
from tracer.model.transcoders import LayerTranscoder, TranscoderSet

D_VOCAB, D_MODEL, N_LAYERS, N_FEATURES = 60, 32, 3, 48
WORDS = [f"w{idx}" for idx in range(D_VOCAB - 1)]


def write_tokenizer(folder: Path, *, special_first: bool = True) -> None:
    """A word-level tokenizer whose only special token is id 0 (or the last id)."""
    vocabulary = ["<bos>", *WORDS] if special_first else [*WORDS, "<bos>"]
    backend = Tokenizer(models.WordLevel({word: idx for idx, word in enumerate(vocabulary)}, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", model_max_length=32).save_pretrained(folder)


def write_checkpoint(kind: str, folder: Path, *, seed: int = 0) -> Path:
    """A GPT-2 or Llama (grouped heads) shaped checkpoint with every parameter random, norms and biases too."""
    torch.manual_seed(seed)
    shared = {"vocab_size": D_VOCAB, "bos_token_id": 0, "eos_token_id": 0}
    if kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(n_positions=32, n_embd=D_MODEL, n_layer=N_LAYERS, n_head=4, **shared))
    else:
        model = LlamaForCausalLM(
            LlamaConfig(
                hidden_size=D_MODEL, intermediate_size=64, num_hidden_layers=N_LAYERS, num_attention_heads=4,
                num_key_value_heads=2, max_position_embeddings=32, tie_word_embeddings=False, **shared,
            )
        )  # fmt: skip
    for name, parameter in model.named_parameters():
        is_norm_weight = parameter.dim() == 1 and name.endswith("weight")
        torch.nn.init.normal_(parameter, mean=1.0 if is_norm_weight else 0.0, std=0.3 if parameter.dim() == 1 else 0.15)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def random_transcoders(n_layers: int, d_model: int, *, cross_layer: bool, seed: int = 0) -> TranscoderSet:
    """JumpReLU features with a few active per token; odd layers are plain ReLU where the set is per-layer."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, std: float) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * std

    layers = []
    for layer in range(n_layers):
        n_written = n_layers - layer if cross_layer else 1
        layers.append(
            LayerTranscoder(
                W_enc=normal(N_FEATURES, d_model, std=d_model**-0.5),
                b_enc=normal(N_FEATURES, std=0.2) - 0.7,
                threshold=None if layer % 2 and not cross_layer else torch.full((N_FEATURES,), 0.1),
                W_dec=normal(N_FEATURES, n_written, d_model, std=0.3),
                b_dec=normal(d_model, std=0.2),
            )
        )
    return TranscoderSet(layers=tuple(layers), read_point="mlp_in", cross_layer=cross_layer, model_name="random")


def write_transcoders(checkpoint: Path, folder: Path, *, cross_layer: bool, seed: int = 0) -> Path:
    """A circuit-tracer folder of random transcoders that fits `checkpoint`."""
    facts = checkpoint_facts(checkpoint)
    transcoders = random_transcoders(facts.n_layers, facts.d_model, cross_layer=cross_layer, seed=seed)
    circuit_tracer.write(folder, transcoders, model_name="random", dtype=torch.float32)
    return folder
