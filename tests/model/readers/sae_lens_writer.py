"""SAEs and transcoders with random weights, written by sae-lens itself."""

import warnings
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from sae_lens.registry import get_sae_class
from sae_lens.saes.sae import SAEMetadata

N_FEATURES = 40
TRANSCODERS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")


def random_sae(
    architecture: str, hook: str, *, d_in: int, seed: int = 0, metadata: dict[str, Any] | None = None, **settings: Any
) -> SAE[Any]:
    """One of sae-lens' own, with every parameter random; thresholds are below zero too."""
    sae_class, config_class = get_sae_class(architecture)
    if "transcoder" in architecture:
        settings = {"d_out": d_in, "apply_b_dec_to_input": False} | settings
    if hook.endswith("hook_z"):
        settings["reshape_activations"] = "hook_z"
    said = {"model_name": "random", "hook_name": hook} | (metadata or {})
    config = config_class(d_in=d_in, d_sae=N_FEATURES, metadata=SAEMetadata(**said), **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sae = sae_class(config)
    randomise(sae, seed)
    return sae.eval()


def randomise(sae: SAE[Any], seed: int) -> None:
    """Fill every parameter."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in sae.parameters():
        std = 0.3 if parameter.dim() == 1 else parameter.shape[0] ** -0.5
        parameter.data = torch.randn(parameter.shape, generator=generator) * std


def random_set(folder: Path, architecture: str, read: str, write: str, **said: Any) -> list[SAE[Any]]:
    """A set for the checkpoints of `tests.checkpoints`; the folders' names are in another order than the layers."""
    saes = []
    for layer, name in enumerate(("c", "a", "b/deep")):
        metadata = {"hook_name_out": f"blocks.{layer}.{write}"} | said
        saes.append(random_sae(architecture, f"blocks.{layer}.{read}", d_in=32, seed=layer, metadata=metadata))
        saes[-1].save_model(folder / name)
    return saes
