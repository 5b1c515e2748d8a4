"""Builders of small random checkpoints and transcoder sets, as folders in the public formats."""

import atexit
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
import yaml
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    PhiConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3MoeConfig,
)

from tracer.model.architectures import checkpoint_facts
from tracer.model.nonlinearity import JumpReLU, Nonlinearity, ReLU, TopK
from tracer.model.readers import circuit_tracer
from tracer.model.replacement import ReplacementModel
from tracer.model.transcoders import LayerTranscoder, TranscoderSet

D_VOCAB, D_MODEL, N_LAYERS, N_FEATURES = 60, 32, 3, 48
WORDS = [f"w{idx}" for idx in range(D_VOCAB - 1)]
_SHARED: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
_ROTARY: dict[str, Any] = _SHARED | {
    "hidden_size": D_MODEL, "intermediate_size": 48, "num_hidden_layers": N_LAYERS, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 32, "tie_word_embeddings": False,
}  # fmt: skip
# Windows shorter than the prompts, so that they matter; odd layers see everything.
_SLIDING: dict[str, Any] = {
    "sliding_window": 4,
    "layer_types": ["full_attention" if layer % 2 else "sliding_attention" for layer in range(N_LAYERS)],
}
_NEOX = {key: value for key, value in _ROTARY.items() if key != "num_key_value_heads"} | {
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
}
_CONFIGS: dict[str, Callable[..., PreTrainedConfig]] = {
    "gpt2": lambda **sizes: GPT2Config(
        n_positions=32, n_embd=D_MODEL, n_layer=N_LAYERS, n_head=4, bos_token_id=0, eos_token_id=0, **sizes
    ),
    "llama": lambda **sizes: LlamaConfig(**_ROTARY | {"intermediate_size": 64}, **sizes),
    "gemma2": lambda **sizes: Gemma2Config(
        head_dim=8, query_pre_attn_scalar=8, attn_logit_softcapping=2.0, final_logit_softcapping=3.0, **_ROTARY,
        **_SLIDING, **sizes,
    ),
    "gemma3": lambda **sizes: Gemma3TextConfig(head_dim=8, query_pre_attn_scalar=8, **_ROTARY, **_SLIDING, **sizes),
    "qwen3": lambda **sizes: Qwen3Config(head_dim=8, **_ROTARY, **sizes),
    "neox": lambda **sizes: GPTNeoXConfig(use_parallel_residual=True, **_NEOX, **sizes),
    "neox_sequential": lambda **sizes: GPTNeoXConfig(use_parallel_residual=False, **_NEOX, **sizes),
    "qwen3_moe": lambda **sizes: Qwen3MoeConfig(
        head_dim=8, moe_intermediate_size=16, num_experts=4, num_experts_per_tok=2, norm_topk_prob=True, **_ROTARY,
        **sizes,
    ),
    "gpt_oss": lambda **sizes: GptOssConfig(
        head_dim=8, num_local_experts=4, num_experts_per_tok=2, **_ROTARY | {"intermediate_size": 16}, **_SLIDING,
        **sizes,
    ),
    "mistral": lambda **sizes: MistralConfig(head_dim=8, **_ROTARY | {"sliding_window": None}, **sizes),
    "mixtral": lambda **sizes: MixtralConfig(num_local_experts=4, num_experts_per_tok=2, **_ROTARY, **sizes),
    "phi": lambda **sizes: PhiConfig(**_ROTARY | {"num_key_value_heads": 4}, **sizes),
    "olmo2": lambda **sizes: Olmo2Config(**_ROTARY, **sizes),
    "cohere": lambda **sizes: CohereConfig(**_ROTARY, logit_scale=0.25, **sizes),
}  # fmt: skip
ARCHITECTURE_KINDS = (
    "gpt2", "llama", "gemma2", "gemma3", "qwen3", "neox", "neox_sequential", "qwen3_moe", "gpt_oss",
)  # fmt: skip
"""Kinds that the table of architectures holds."""


def write_tokenizer(folder: Path, *, special_first: bool = True, d_vocab: int = D_VOCAB) -> None:
    """A word-level tokenizer whose only special token is id 0 (or the last id)."""
    words = [f"w{idx}" for idx in range(d_vocab - 1)]
    vocabulary = ["<bos>", *words] if special_first else [*words, "<bos>"]
    backend = Tokenizer(models.WordLevel({word: idx for idx, word in enumerate(vocabulary)}, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", model_max_length=32).save_pretrained(folder)


def write_checkpoint(kind: str, folder: Path, *, seed: int = 0, d_vocab: int = D_VOCAB, **changes: Any) -> Path:
    """A checkpoint with every parameter random, norms, biases and sinks too; `changes` are settings of its config."""
    torch.manual_seed(seed)
    config = _CONFIGS[kind](vocab_size=d_vocab)
    config.update(changes)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for name, parameter in model.named_parameters():
        # Gemma's norms multiply by one plus their weight.
        is_norm_weight = parameter.dim() == 1 and name.endswith("weight") and not kind.startswith("gemma")
        torch.nn.init.normal_(parameter, mean=1.0 if is_norm_weight else 0.0, std=0.3 if parameter.dim() == 1 else 0.15)
    model.save_pretrained(folder)
    write_tokenizer(folder, d_vocab=d_vocab)
    return folder


NonlinearityName = Literal["relu", "jumprelu", "topk", "batchtopk", "mixed"]
"""`mixed`: JumpReLU, and plain ReLU in odd layers where the set is per-layer."""


def _nonlinearity(name: NonlinearityName, plain: bool, n_features: int) -> Nonlinearity:
    if name == "topk":
        # More than are positive, so that negative ones are among them.
        return TopK(k=n_features // 2, rectify="no")
    if name == "relu" or (name == "mixed" and plain):
        return ReLU()
    return JumpReLU(torch.full((n_features,), 0.1))


def random_transcoders(
    n_layers: int,
    d_model: int,
    *,
    cross_layer: bool,
    skip: bool = False,
    nonlinearity: NonlinearityName = "mixed",
    n_features: int = N_FEATURES,
    seed: int = 0,
) -> TranscoderSet:
    """Features of which a few are active per token."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, std: float) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * std

    layers = []
    for layer in range(n_layers):
        n_written = n_layers - layer if cross_layer else 1
        layers.append(
            LayerTranscoder(
                W_enc=normal(n_features, d_model, std=d_model**-0.5),
                b_enc=normal(n_features, std=0.2) - 0.7,
                nonlinearity=_nonlinearity(nonlinearity, bool(layer % 2) and not cross_layer, n_features),
                W_dec=normal(n_features, n_written, d_model, std=0.3),
                b_dec=normal(d_model, std=0.2),
                W_skip=normal(d_model, d_model, std=0.5 * d_model**-0.5) if skip else None,
            )
        )
    return TranscoderSet(
        layers=tuple(layers), read_point="mlp_in", write_point="mlp_out", cross_layer=cross_layer, model_name="random"
    )


def write_transcoders(
    checkpoint: Path,
    folder: Path,
    *,
    cross_layer: bool,
    read_hook: str = "mlp.hook_in",
    write_hook: str = "mlp.hook_out",
    nonlinearity: NonlinearityName = "mixed",
    **settings: Any,
) -> Path:
    """A circuit-tracer folder of random transcoders that fits `checkpoint`; `settings` as in `random_transcoders`."""
    facts = checkpoint_facts(checkpoint)
    transcoders = random_transcoders(
        facts.n_layers, facts.d_model, cross_layer=cross_layer, nonlinearity=nonlinearity, **settings
    )
    circuit_tracer.write(folder, transcoders, model_name="random", dtype=torch.float32)
    written = yaml.safe_load((folder / "config.yaml").read_text())
    hooks = {"feature_input_hook": read_hook, "feature_output_hook": write_hook}
    (folder / "config.yaml").write_text(yaml.safe_dump(written | hooks))
    if nonlinearity == "batchtopk":
        _share_thresholds(folder)
    return folder


def _share_thresholds(folder: Path) -> None:
    """One threshold a file instead of one a feature, as BatchTopK sets have it."""
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        save_file({name: tensor[:1] if "threshold" in name else tensor for name, tensor in tensors.items()}, path)


@cache
def loaded(kind: str) -> tuple[Path, ReplacementModel]:
    """A random checkpoint's folder, there until the interpreter ends, and its model with per-layer transcoders."""
    folder = TemporaryDirectory(prefix="tracer-tests-")
    atexit.register(folder.cleanup)
    checkpoint = write_checkpoint(kind, Path(folder.name) / "checkpoint")
    transcoders = write_transcoders(checkpoint, Path(folder.name) / "transcoders", cross_layer=False)
    return checkpoint, ReplacementModel.from_pretrained(checkpoint, transcoders, device="cpu")
