"""SAEDashboard's side of `harvest_versus_sae_dashboard.py`, run by the interpreter of its own environment.

    PYTHON tests/benchmarks/sae_dashboard_side.py FOLDER N_THREADS FEATURES_AT_ONCE

Collects the activations of every feature of every layer as its runner does: `FeatureDataGenerator.get_feature_data`,
some features at a time. Prints seconds, and how often features fired, by layer.
"""

import json
import sys
import time
from pathlib import Path

import torch
from sae_dashboard.sae_vis_data import SaeVisConfig
from sae_dashboard.sae_vis_runner import FeatureDataGeneratorFactory
from sae_lens import HookedSAETransformer, JumpReLUSAE, JumpReLUSAEConfig
from safetensors.torch import load_file
from transformer_lens import HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
from transformers import GPT2LMHeadModel


def model_of(folder: Path) -> HookedSAETransformer:
    """The checkpoint as SAEDashboard wants it, nothing folded."""
    source = GPT2LMHeadModel.from_pretrained(folder / "model")
    config = source.config
    hooked = HookedTransformerConfig(
        n_layers=config.n_layer, d_model=config.n_embd, n_ctx=config.n_positions, n_heads=config.n_head,
        d_head=config.n_embd // config.n_head, d_mlp=4 * config.n_embd, d_vocab=config.vocab_size, act_fn="gelu_new",
        normalization_type="LN",
    )  # fmt: skip
    model = HookedSAETransformer(hooked)
    model.load_and_process_state_dict(
        convert_gpt2_weights(source, hooked), fold_ln=False, center_writing_weights=False, center_unembed=False
    )
    return model


def main(folder: Path, n_threads: int, features_at_once: int) -> None:
    """Collect, and tell."""
    torch.set_num_threads(n_threads)
    tensors, model = load_file(folder / "encoders.safetensors"), model_of(folder)
    seconds, n_firings = 0.0, []
    for layer in range(model.cfg.n_layers):
        hook = f"blocks.{layer}.ln2.hook_normalized"
        rows, threshold = tensors[f"W_enc_{layer}"], tensors[f"threshold_{layer}"]
        n_features, d_model = rows.shape
        sae = JumpReLUSAE(JumpReLUSAEConfig(d_in=d_model, d_sae=n_features, apply_b_dec_to_input=False))
        sae.cfg.metadata.hook_name = hook
        with torch.no_grad():
            sae.W_enc.copy_(rows.T)
            sae.threshold.copy_(threshold)
            sae.b_enc.zero_()
            sae.b_dec.zero_()
        settings = SaeVisConfig(
            hook_point=hook, features=range(n_features), minibatch_size_tokens=32,
            minibatch_size_features=features_at_once,
        )  # fmt: skip
        n_fired = 0
        start = time.perf_counter()
        generator = FeatureDataGeneratorFactory.create(settings, model, sae, tensors["tokens"])
        for first in range(0, n_features, features_at_once):
            chosen = list(range(first, min(first + features_at_once, n_features)))
            activations = generator.get_feature_data(chosen)[0]
            seconds += time.perf_counter() - start
            n_fired += int((activations[:, 1:] > 0).sum())
            start = time.perf_counter()
        n_firings.append(n_fired)
    print(json.dumps({"seconds": seconds, "n_firings": n_firings}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
