"""The random checkpoints as the HookedTransformers that sae-lens trains on, with TransformerLens' own processing."""

from functools import cache
from typing import Any

import torch
from sae_lens import HookedSAETransformer
from transformer_lens import HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights, convert_llama_weights
from transformers import AutoModelForCausalLM

from tests.checkpoints import loaded

_SETTINGS: dict[str, dict[str, Any]] = {
    "gpt2": {"normalization_type": "LN", "act_fn": "gelu_new", "d_mlp": 128, "eps": 1e-5},
    "llama": {
        "normalization_type": "RMS", "final_rms": True, "act_fn": "silu", "gated_mlp": True, "d_mlp": 64, "eps": 1e-6,
        "positional_embedding_type": "rotary", "rotary_dim": 8, "n_key_value_heads": 2,
    },
}  # fmt: skip
_CONVERT = {"gpt2": convert_gpt2_weights, "llama": convert_llama_weights}


@cache
def _hooked(kind: str, processing: frozenset[str]) -> HookedSAETransformer:
    checkpoint, model = loaded(kind)
    config = HookedTransformerConfig(
        n_layers=model.n_layers, d_model=model.facts.d_model, n_ctx=32, d_head=model.facts.d_head,
        n_heads=model.facts.n_heads, d_vocab=model.facts.d_vocab, device="cpu", default_prepend_bos=False,
        **_SETTINGS[kind],
    )  # fmt: skip
    hooked = HookedSAETransformer(config)
    state = _CONVERT[kind](AutoModelForCausalLM.from_pretrained(checkpoint, attn_implementation="eager"), config)
    off = dict.fromkeys(("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases"), False)
    hooked.load_and_process_state_dict(state, **off | dict.fromkeys(processing, True))
    return hooked.eval()


@torch.no_grad()
def hooked_values(kind: str, token_ids: torch.Tensor, processing: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What every hook holds, a batch of one in front, in the model that `model_from_pretrained_kwargs` ask for."""
    asked = frozenset(name for name, value in processing.items() if value is True)
    return _hooked(kind, asked).run_with_cache(token_ids[None])[1]
