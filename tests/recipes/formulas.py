"""Activations of transcoder features by the published formulas, from plain transformers and the files as written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from tests.recipes.checkpoint_files import N_LAYERS
from tests.recipes.transcoder_files import GEMMA_SCOPE_PATHS

Formula = Callable[[Path, Path, Tensor], list[Tensor]]
"""Folder of all repositories, checkpoint's folder, token ids; gives (pos, feature) of every layer."""


def gpt2(repositories: Path, checkpoint: Path, token_ids: Tensor) -> list[Tensor]:
    """ReLU of the normalised stream, which is that of the processed model too, less `b_dec`."""
    found = []
    for layer, stream in enumerate(_inputs(checkpoint, "transformer.h.{}.ln_2", token_ids)):
        name = f"final_sparse_autoencoder_gpt2-small_blocks.{layer}.ln2.hook_normalized_24576.pt"
        state = _pickled_state(repositories / "pchlenski/gpt2-transcoders" / name)
        read = nn.functional.layer_norm(stream, stream.shape[-1:], eps=1e-5)
        found.append(torch.relu((read - state["b_dec"]) @ state["W_enc"] + state["b_enc"]))
    return found


def llama(repositories: Path, checkpoint: Path, token_ids: Tensor) -> list[Tensor]:
    """ReLU of the stream between attention and MLP."""
    streams = _inputs(checkpoint, "model.layers.{}.post_attention_layernorm", token_ids)
    folder = repositories / "mntss/transcoder-Llama-3.2-1B"
    return [_encoded(stream, _floats(folder / f"layer_{layer}.safetensors")) for layer, stream in enumerate(streams)]


def qwen3(repositories: Path, checkpoint: Path, token_ids: Tensor) -> list[Tensor]:
    """ReLU of the MLP's input."""
    reads = _inputs(checkpoint, "model.layers.{}.mlp", token_ids)
    folder = repositories / "mwhanna/qwen3-4b-transcoders"
    return [_encoded(read, _floats(folder / f"layer_{layer}.safetensors")) for layer, read in enumerate(reads)]


def gemma2(repositories: Path, checkpoint: Path, token_ids: Tensor) -> list[Tensor]:
    """JumpReLU of the stream divided by its root mean square, before the norm's weight."""
    found = []
    streams = _inputs(checkpoint, "model.layers.{}.pre_feedforward_layernorm", token_ids)
    for path, stream in zip(GEMMA_SCOPE_PATHS, streams, strict=True):
        tensors = {
            name: torch.from_numpy(array)
            for name, array in np.load(repositories / "google/gemma-scope-2b-pt-transcoders" / path).items()
        }
        read = stream / (stream.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        found.append(_encoded(read, tensors | {"W_enc": tensors["W_enc"].T}))
    return found


def gemma2_cross_layer(repositories: Path, checkpoint: Path, token_ids: Tensor) -> list[Tensor]:
    """ReLU of the stream between attention and MLP."""
    found = []
    for layer, stream in enumerate(_inputs(checkpoint, "model.layers.{}.pre_feedforward_layernorm", token_ids)):
        tensors = _floats(repositories / "mntss/clt-gemma-2-2b-426k" / f"W_enc_{layer}.safetensors")
        found.append(_encoded(stream, {name.removesuffix(f"_{layer}"): tensor for name, tensor in tensors.items()}))
    return found


def gemma3(repositories: Path, checkpoint: Path, token_ids: Tensor) -> list[Tensor]:
    """JumpReLU of the MLP's input."""
    folder = repositories / "mwhanna/gemma-scope-2-270m-pt/transcoder_all/width_16k_l0_small"
    found = []
    for layer, read in enumerate(_inputs(checkpoint, "model.layers.{}.mlp", token_ids)):
        tensors = _floats(folder / f"layer_{layer}.safetensors")
        found.append(_encoded(read, tensors | {"threshold": tensors["activation_function.threshold"]}))
    return found


FORMULAS: dict[str, Formula] = {
    "gpt2.yaml": gpt2,
    "llama3.2-1b.yaml": llama,
    "qwen3-4b.yaml": qwen3,
    "cluster.yaml": gemma2,
    "gemma2-2b.yaml": gemma2,
    "gemma2-2b-cross-layer.yaml": gemma2_cross_layer,
    "gemma3.yaml": gemma3,
}


@torch.no_grad()
def _inputs(checkpoint: Path, module_name: str, token_ids: Tensor) -> list[Tensor]:
    """What a module of every layer is given, (pos, d_model)."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager")
    modules, given = dict(model.named_modules()), []
    for layer in range(N_LAYERS):
        modules[module_name.format(layer)].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0][0]))
    model(token_ids[None])
    return given


def _encoded(read: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    pre = read @ tensors["W_enc"].T + tensors["b_enc"]
    return pre * (pre > tensors.get("threshold", torch.zeros(())))


def _floats(path: Path) -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in load_file(path).items()}


class _Settings:
    """Stands for the class of the settings, whose package is not here."""


def _pickled_state(path: Path) -> dict[str, Tensor]:
    with torch.serialization.safe_globals([(_Settings, "sae_training.config.LanguageModelSAERunnerConfig")]):
        return torch.load(path, weights_only=True)["state_dict"]
