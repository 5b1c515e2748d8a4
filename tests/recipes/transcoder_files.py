"""Small random transcoders under published names, each written from the public description of its layout.

Layouts: https://github.com/safety-research/circuit-tracer (`config.yaml`, `layer_i`, `W_enc_i`, `W_dec_i`),
https://huggingface.co/google/gemma-scope-2b-pt-transcoders (`params.npz`) and
https://github.com/jacobdunefsky/transcoder_circuits (`.pt`).
"""

import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.recipes.checkpoint_files import D_MODEL, N_LAYERS

N_FEATURES = 48
GEMMA_SCOPE_L0 = (76, 65, 49)
GEMMA_SCOPE_PATHS = tuple(
    f"layer_{layer}/width_16k/average_l0_{l0}/params.npz" for layer, l0 in enumerate(GEMMA_SCOPE_L0)
)
_GENERATOR = torch.Generator()


def write_gpt2_transcoders(folder: Path) -> None:
    """pchlenski/gpt2-transcoders: pickled settings and weights, sparsities beside them, another set in a folder."""
    for layer in range(N_LAYERS):
        name = f"final_sparse_autoencoder_gpt2-small_blocks.{layer}.ln2.hook_normalized_24576"
        _write_pickled(folder / f"{name}.pt", layer)
        torch.save(_normal(N_FEATURES), folder / f"{name}_log_feature_sparsity.pt")
    _write_pickled(folder / "lower_l0" / "final_sparse_autoencoder_gpt2-small_blocks.1.ln2.hook_normalized_24576.pt", 1)


def write_llama_transcoders(folder: Path) -> None:
    """mntss/transcoder-Llama-3.2-1B: ReLU and a skip connection, bfloat16."""
    _write_config(folder, "meta-llama/Llama-3.2-1B", "transcoder_set", "hook_resid_mid", "hook_mlp_out")
    for layer in range(N_LAYERS):
        _save(_per_layer() | {"W_skip": _normal(D_MODEL, D_MODEL, std=0.1)}, folder / f"layer_{layer}.safetensors")
    _write_feature_pages(folder / "features")


def write_qwen3_transcoders(folder: Path) -> None:
    """mwhanna/qwen3-4b-transcoders: ReLU, bfloat16."""
    _write_config(folder, "Qwen/Qwen3-4B", "transcoder_set", "mlp.hook_in", "mlp.hook_out")
    for layer in range(N_LAYERS):
        _save(_per_layer(), folder / f"layer_{layer}.safetensors")
    _write_feature_pages(folder / "features")


def write_gemma2_list(folder: Path) -> None:
    """mntss/gemma-scope-transcoders: only a list of files in another repository."""
    listed = [f"hf://google/gemma-scope-2b-pt-transcoders/{path}" for path in GEMMA_SCOPE_PATHS]
    _write_config(folder, "google/gemma-2-2b", "transcoder_set", "ln2.hook_normalized", "hook_mlp_out", listed)
    _write_feature_pages(folder / "features")


def write_gemma_scope(folder: Path) -> None:
    """google/gemma-scope-2b-pt-transcoders: JumpReLU, float32, `W_enc (d_model, feature)`, other sparsities beside."""
    for path in (*GEMMA_SCOPE_PATHS, "layer_0/width_16k/average_l0_115/params.npz"):
        (folder / path).parent.mkdir(parents=True)
        tensors = _per_layer() | {"threshold": torch.full((N_FEATURES,), 0.1)}
        tensors["W_enc"] = tensors["W_enc"].T
        np.savez(folder / path, **{name: tensor.numpy() for name, tensor in tensors.items()})


def write_gemma2_cross_layer(folder: Path) -> None:
    """mntss/clt-gemma-2-2b-426k: ReLU, bfloat16, an encoder's and a decoder's file a layer."""
    _write_config(folder, "google/gemma-2-2b", "cross_layer_transcoder", "hook_resid_mid", "hook_mlp_out")
    for layer in range(N_LAYERS):
        found = _per_layer()
        encoder = {f"{name}_{layer}": found[name] for name in ("W_enc", "b_enc", "b_dec")}
        _save(encoder, folder / f"W_enc_{layer}.safetensors")
        W_dec = _normal(N_FEATURES, N_LAYERS - layer, D_MODEL, std=0.3)
        _save({f"W_dec_{layer}": W_dec}, folder / f"W_dec_{layer}.safetensors")


def write_gemma3_transcoders(folder: Path) -> None:
    """mwhanna/gemma-scope-2-270m-pt: sets in folders, JumpReLU, float32; the affine ones have a skip connection."""
    for name in ("width_16k_l0_small", "width_16k_l0_small_affine"):
        inner = folder / "transcoder_all" / name
        _write_config(inner, "google/gemma-3-270m", "transcoder_set", "mlp.hook_in", "hook_mlp_out")
        for layer in range(N_LAYERS):
            tensors = _per_layer() | {"activation_function.threshold": torch.full((N_FEATURES,), 0.1)}
            if name.endswith("affine"):
                tensors["W_skip"] = _normal(D_MODEL, D_MODEL, std=0.1)
            _save(tensors, inner / f"layer_{layer}.safetensors", torch.float32)
        _write_feature_pages(inner / "features")


def _normal(*shape: int, std: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=_GENERATOR) * std


def _per_layer() -> dict[str, Tensor]:
    """A layer whose features fire now and then, as circuit-tracer turns its matrices."""
    return {
        "W_enc": _normal(N_FEATURES, D_MODEL, std=D_MODEL**-0.5),
        "W_dec": _normal(N_FEATURES, D_MODEL, std=0.3),
        "b_enc": _normal(N_FEATURES, std=0.2) - 0.7,
        "b_dec": _normal(D_MODEL, std=0.2),
    }


def _write_config(
    folder: Path, model: str, kind: str, read_hook: str, write_hook: str, listed: list[str] | None = None
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f'model_name: "{model}"', f'model_kind: "{kind}"', f'feature_input_hook: "{read_hook}"',
        f'feature_output_hook: "{write_hook}"',
    ]  # fmt: skip
    if listed is not None:
        lines += ["", "transcoders:", *(f'  - "{entry}"' for entry in listed)]
    (folder / "config.yaml").write_text("\n".join(lines) + "\n")


def _write_feature_pages(folder: Path) -> None:
    """What a published set holds beside its weights, to be looked at."""
    folder.mkdir()
    (folder / "index.json.gz").write_bytes(b"where in the files")
    (folder / "layer_0.bin").write_bytes(b"examples of every feature")


def _save(tensors: dict[str, Tensor], path: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    save_file({name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}, path)


def _write_pickled(path: Path, layer: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    found = _per_layer()
    state = OrderedDict(
        W_enc=found["W_enc"].T.contiguous(), b_enc=found["b_enc"], W_dec=found["W_dec"], b_dec=found["b_dec"],
        b_dec_out=_normal(D_MODEL, std=0.2),
    )  # fmt: skip
    module = ModuleType("sae_training.config")
    settings_class = type("LanguageModelSAERunnerConfig", (), {"__module__": module.__name__})
    vars(module)[settings_class.__name__] = settings_class
    settings = settings_class()
    hook = "ln2.hook_normalized"
    vars(settings).update(
        model_name="gpt2-small", hook_point=f"blocks.{layer}.{hook}", hook_point_layer=layer, d_in=D_MODEL,
        is_transcoder=True, out_hook_point=f"blocks.{layer}.hook_mlp_out", out_hook_point_layer=layer, d_out=D_MODEL,
        expansion_factor=32, d_sae=N_FEATURES, dtype=torch.float32, device=torch.device("cpu"),
    )  # fmt: skip
    modules = {"sae_training": ModuleType("sae_training"), module.__name__: module}
    with patch.dict(sys.modules, modules):
        torch.save({"cfg": settings, "state_dict": state}, path)
