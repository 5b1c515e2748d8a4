"""circuit-tracer's side of a comparison; runs in its own environment, where tracer is not installed.

Model configs are written out here from the checkpoint's own, because circuit-tracer's door to a checkpoint knows hub
names only; weights pass through TransformerLens' own converters, and attribution is circuit-tracer's, unchanged.
"""

import argparse
import gc
import json
from pathlib import Path
from typing import Any

import torch
import yaml
from circuit_tracer.attribution.attribute import attribute
from circuit_tracer.graph import Graph, compute_graph_scores, compute_node_influence, prune_graph
from circuit_tracer.replacement_model.replacement_model_transformerlens import TransformerLensReplacementModel
from circuit_tracer.transcoder.cross_layer_transcoder import load_clt
from circuit_tracer.transcoder.single_layer_transcoder import load_transcoder_set
from safetensors.torch import save_file
from transformer_lens import HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import (
    convert_gemma_weights,
    convert_gpt2_weights,
    convert_llama_weights,
)  # fmt: skip
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from tests.benchmarks.measuring import measured
from tests.benchmarks.serving import Answer, serve

DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}
ROTARY = {
    "normalization_type": "RMS", "positional_embedding_type": "rotary", "rotary_adjacent_pairs": False,
    "final_rms": True, "gated_mlp": True, "rotary_base": 10000.0,
}  # fmt: skip


def _config(hf: Any, device: str, dtype: torch.dtype) -> HookedTransformerConfig:
    shared = {"device": device, "dtype": dtype, "init_weights": False, "model_name": "benchmark"}
    if hf.model_type == "gpt2":
        facts = {
            "n_layers": hf.n_layer, "d_model": hf.n_embd, "n_heads": hf.n_head, "d_head": hf.n_embd // hf.n_head,
            "d_mlp": hf.n_inner or 4 * hf.n_embd, "n_ctx": hf.n_positions, "eps": hf.layer_norm_epsilon,
            "act_fn": hf.activation_function, "normalization_type": "LN",
        }  # fmt: skip
    else:
        facts = ROTARY | {
            "n_layers": hf.num_hidden_layers, "d_model": hf.hidden_size, "n_heads": hf.num_attention_heads,
            "d_head": hf.head_dim, "d_mlp": hf.intermediate_size, "n_ctx": hf.max_position_embeddings,
            "eps": hf.rms_norm_eps, "n_key_value_heads": hf.num_key_value_heads, "rotary_dim": hf.head_dim,
            "act_fn": "silu",
        }  # fmt: skip
    if hf.model_type == "gemma2":
        facts |= {
            "act_fn": "gelu_pytorch_tanh", "use_local_attn": True, "window_size": hf.sliding_window,
            "attn_types": [{"sliding_attention": "local"}.get(kind, "global") for kind in hf.layer_types],
            "attn_scores_soft_cap": hf.attn_logit_softcapping, "output_logits_soft_cap": hf.final_logit_softcapping,
            "use_normalization_before_and_after": True, "attn_scale": hf.query_pre_attn_scalar**0.5,
        }  # fmt: skip
    return HookedTransformerConfig(d_vocab=hf.vocab_size, original_architecture=hf.architectures[0], **shared, **facts)


def _transcoders(folder: Path, n_layers: int, device: torch.device, dtype: torch.dtype) -> Any:
    """Held in memory whole: read row by row from the file, its default, is slower."""
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    hooks = {name: settings[name] for name in ("feature_input_hook", "feature_output_hook")}
    lazily = {"lazy_encoder": False, "lazy_decoder": False}
    if settings["model_kind"] == "cross_layer_transcoder":
        return load_clt(str(folder), scan="benchmark", device=device, dtype=dtype, **hooks, **lazily)
    paths = {layer: str(folder / f"layer_{layer}.safetensors") for layer in range(n_layers)}
    return load_transcoder_set(paths, scan="benchmark", device=device, dtype=dtype, **hooks, **lazily)


def _tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    # `add_bos_token` keeps TransformerLens from asking the hub for the tokenizer once more; prompts come as ids.
    return PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), bos_token=settings["bos_token"],
        eos_token=settings["bos_token"], pad_token=settings["bos_token"], name_or_path=str(folder), add_bos_token=True,
    )  # fmt: skip


def load(checkpoint: Path, transcoders: Path, device: str, precision: str) -> TransformerLensReplacementModel:
    """circuit-tracer's replacement model from local folders."""
    dtype = DTYPES[precision]
    hf_model = AutoModelForCausalLM.from_pretrained(checkpoint, torch_dtype=dtype)
    config = _config(hf_model.config, device, dtype)
    converters = {"gpt2": convert_gpt2_weights, "llama": convert_llama_weights, "gemma2": convert_gemma_weights}
    hf_model.to(device)
    state = converters[hf_model.config.model_type](hf_model, config)
    model = TransformerLensReplacementModel(config, _tokenizer(checkpoint), move_to_device=False)
    model.load_and_process_state_dict(
        state, fold_ln=False, center_writing_weights=False, center_unembed=False, fold_value_biases=False
    )
    del hf_model, state
    gc.collect()
    model.to(device)
    model._configure_replacement_model(_transcoders(transcoders, config.n_layers, torch.device(device), dtype))
    return model


def _save(graph: Graph, request: dict[str, Any]) -> None:
    tensors = {
        "adjacency": graph.adjacency_matrix, "active_features": graph.active_features,
        "target_ids": graph.logit_token_ids,
    }  # fmt: skip
    if "prune_at" in request:
        weights = torch.zeros(len(graph.adjacency_matrix))
        weights[-len(graph.logit_targets) :] = graph.logit_probabilities.float().cpu()
        pruned = prune_graph(graph, *request["prune_at"])
        tensors |= {
            "target_weights": graph.logit_probabilities, "node_mask": pruned.node_mask, "edge_mask": pruned.edge_mask,
            "influence": compute_node_influence(graph.adjacency_matrix, weights),
            "scores": torch.tensor(compute_graph_scores(graph)),
        }  # fmt: skip
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, request["save_to"])


def main() -> None:
    """Answer `attribute` requests."""
    parser = argparse.ArgumentParser()
    for name in ("--checkpoint", "--transcoders", "--device", "--precision", "--threads"):
        parser.add_argument(name, required=True)
    given = parser.parse_args()
    torch.set_num_threads(int(given.threads))
    torch.backends.cuda.matmul.allow_tf32 = given.precision == "tf32"

    def load_and_warm() -> Answer:
        model = load(Path(given.checkpoint), Path(given.transcoders), given.device, given.precision)

        def answer(request: dict[str, Any]) -> dict[str, Any]:
            prompt = torch.tensor(request["token_ids"])
            settings = {name: request.get(name) for name in ("batch_size", "max_feature_nodes")}
            found = measured(lambda: attribute(prompt, model, **settings), given.device)
            if request.get("save_to"):
                _save(found.result, request)
            return found.figures() | {"n_features": len(found.result.active_features)}

        return answer

    serve(load_and_warm)


if __name__ == "__main__":
    main()
