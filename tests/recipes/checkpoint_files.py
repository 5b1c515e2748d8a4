"""Small random checkpoints under published names: config.json, weights and tokenizer files as the hub has them."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from tests.recipes.tokenizer_files import write_byte_level, write_with_marked_spaces

N_LAYERS, D_MODEL = 3, 32
_NOT_READ = b"weights for another program"
_ROTARY: dict[str, Any] = {
    "attention_bias": False, "attention_dropout": 0.0, "initializer_range": 0.02, "use_cache": True,
    "hidden_size": D_MODEL, "num_hidden_layers": N_LAYERS, "head_dim": 8, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 48,
}  # fmt: skip
_GEMMA: dict[str, Any] = _ROTARY | {
    "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0, "hidden_activation": "gelu_pytorch_tanh",
    "rms_norm_eps": 1e-06, "query_pre_attn_scalar": 8, "sliding_window": 8,
}  # fmt: skip
_GEMMA_TOKENS = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
_GEMMA_SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]


def write_gpt2(folder: Path) -> None:
    """openai-community/gpt2: names without `transformer.`, causal masks among the weights, tied unembedding."""
    settings = {"tokenizer_class": "GPT2Tokenizer", "model_max_length": 1024}
    write_byte_level(folder, settings, special=["<|endoftext|>"], digits=False, merges_too=True)
    end = _n_tokens(folder) - 1
    config = {
        "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1, "embd_pdrop": 0.1,
        "resid_pdrop": 0.1, "bos_token_id": end, "eos_token_id": end, "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 64, "n_embd": D_MODEL, "n_head": 4,
        "n_layer": N_LAYERS, "n_positions": 64, "summary_activation": None, "summary_first_dropout": 0.1,
        "summary_proj_to_labels": True, "summary_type": "cls_index", "summary_use_proj": True, "vocab_size": end + 1,
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    }  # fmt: skip
    weights = {name.removeprefix("transformer."): tensor for name, tensor in _weights(folder, config).items()}
    masks = {f"h.{layer}.attn.bias": torch.tril(torch.ones(1, 1, 64, 64)) for layer in range(N_LAYERS)}
    _save(weights | masks, folder / "model.safetensors")
    for name in ("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "rust_model.ot", "64.tflite"):
        (folder / name).write_bytes(_NOT_READ)


def write_llama(folder: Path) -> None:
    """meta-llama/Llama-3.2-1B: scaled rotary angles, tied unembedding, bfloat16; Meta's own files beside it."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>",
        "clean_up_tokenization_spaces": True, "model_input_names": ["input_ids", "attention_mask"],
    }  # fmt: skip
    special = ["<|begin_of_text|>", "<|end_of_text|>"]
    write_byte_level(folder, settings, special=special, digits=False, merges_too=False)
    n_tokens = _n_tokens(folder)
    config = _ROTARY | {
        "architectures": ["LlamaForCausalLM"], "bos_token_id": n_tokens - 2, "eos_token_id": n_tokens - 1,
        "hidden_act": "silu", "max_position_embeddings": 131072, "mlp_bias": False, "model_type": "llama",
        "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": True,
        "rope_scaling": {
            "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "torch_dtype": "bfloat16", "transformers_version": "4.45.0.dev0", "vocab_size": n_tokens,
    }  # fmt: skip
    _save(_weights(folder, config), folder / "model.safetensors", torch.bfloat16)
    (folder / "original").mkdir()
    (folder / "original" / "params.json").write_text(json.dumps({"dim": D_MODEL}))
    (folder / "original" / "consolidated.00.pth").write_bytes(_NOT_READ)


def write_gemma2(folder: Path) -> None:
    """google/gemma-2-2b: soft caps, norms after the blocks, float32 in three files, nothing said of tied weights."""
    settings = {"tokenizer_class": "GemmaTokenizer", **_GEMMA_TOKENS}
    write_with_marked_spaces(folder, settings, special=_GEMMA_SPECIAL)
    config = _GEMMA | {
        "architectures": ["Gemma2ForCausalLM"], "attn_logit_softcapping": 50.0, "cache_implementation": "hybrid",
        "final_logit_softcapping": 30.0, "hidden_act": "gelu_pytorch_tanh", "max_position_embeddings": 8192,
        "model_type": "gemma2", "rope_theta": 10000.0, "torch_dtype": "float32", "transformers_version": "4.42.4",
        "vocab_size": _n_tokens(folder),
    }  # fmt: skip
    _save_in_three(_weights(folder, config), folder, torch.float32)


def write_qwen3(folder: Path) -> None:
    """Qwen/Qwen3-4B: no token for the beginning of a text, more rows of embeddings than tokens, three files."""
    settings = {
        "tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "eos_token": "<|im_end|>", "unk_token": None,
        "pad_token": "<|endoftext|>", "add_bos_token": False, "add_prefix_space": False, "errors": "replace",
        "chat_template": "{% for message in messages %}{{ message.content }}{% endfor %}",
    }  # fmt: skip
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    write_byte_level(folder, settings, special=special, digits=True, merges_too=True)
    n_tokens = _n_tokens(folder)
    config = _ROTARY | {
        "architectures": ["Qwen3ForCausalLM"], "bos_token_id": n_tokens - 3, "eos_token_id": n_tokens - 1,
        "hidden_act": "silu", "max_position_embeddings": 40960, "max_window_layers": N_LAYERS, "model_type": "qwen3",
        "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16", "transformers_version": "4.51.0",
        "use_sliding_window": False, "vocab_size": n_tokens + 24,
    }  # fmt: skip
    _save_in_three(_weights(folder, config), folder, torch.bfloat16)


def write_gemma3(folder: Path) -> None:
    """google/gemma-3-270m: text only, windows in all but every sixth layer, two bases of rotary angles, bfloat16."""
    settings = {"tokenizer_class": "GemmaTokenizer", **_GEMMA_TOKENS}
    write_with_marked_spaces(folder, settings, special=_GEMMA_SPECIAL)
    config = _GEMMA | {
        "_sliding_window_pattern": 6, "architectures": ["Gemma3ForCausalLM"], "attn_logit_softcapping": None,
        "final_logit_softcapping": None, "max_position_embeddings": 32768, "model_type": "gemma3_text",
        "layer_types": ["sliding_attention"] * (N_LAYERS - 1) + ["full_attention"],
        "rope_local_base_freq": 10000.0, "rope_scaling": None, "rope_theta": 1000000.0, "torch_dtype": "bfloat16",
        "transformers_version": "4.55.0.dev0", "use_bidirectional_attention": False, "vocab_size": _n_tokens(folder),
    }  # fmt: skip
    _save(_weights(folder, config), folder / "model.safetensors", torch.bfloat16)


def _n_tokens(folder: Path) -> int:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    return len(set(tokenizer["model"]["vocab"]) | {token["content"] for token in tokenizer["added_tokens"]})


def _weights(folder: Path, config: dict[str, Any]) -> dict[str, Tensor]:
    """Random weights for config.json, which is written; tied ones once."""
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    found = {}
    for name, parameter in model.named_parameters():
        is_plain_norm = parameter.dim() == 1 and name.endswith("weight") and "gemma" not in config["model_type"]
        found[name] = torch.randn(parameter.shape) * (0.3 if parameter.dim() == 1 else 0.15) + is_plain_norm
    return found


def _save(weights: dict[str, Tensor], path: Path, dtype: torch.dtype = torch.float32) -> None:
    plain = {name: tensor.to(dtype).contiguous() for name, tensor in weights.items()}
    save_file(plain, path, metadata={"format": "pt"})


def _save_in_three(weights: dict[str, Tensor], folder: Path, dtype: torch.dtype) -> None:
    names, index = sorted(weights), {}
    for part in range(3):
        file = f"model-{part + 1:05d}-of-00003.safetensors"
        _save({name: weights[name] for name in names[part::3]}, folder / file, dtype)
        index |= dict.fromkeys(names[part::3], file)
    n_bytes = sum(tensor.numel() for tensor in weights.values()) * dtype.itemsize
    content = {"metadata": {"total_size": n_bytes}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
