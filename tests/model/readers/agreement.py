"""Whether a set that was read gives the features and outputs that its maker's formula gives, lazily too."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tracer.model.architectures import ARCHITECTURES, CheckpointFacts
from tracer.model.readers.registry import read_transcoders
from tracer.model.stored import StoredTensor
from tracer.model.transcoders import TranscoderSet

CPU = torch.device("cpu")
N_LAYERS, D_MODEL, N_FEATURES = 3, 8, 20


def facts_of(architecture: str) -> CheckpointFacts:
    """A model of the sizes above."""
    return CheckpointFacts(
        architecture_name=architecture, architecture=ARCHITECTURES[architecture], n_layers=N_LAYERS, d_model=D_MODEL,
        n_ctx=32, n_heads=2, n_kv_heads=2, d_head=4, d_vocab=60, parallel=False, final_softcap=None,
    )  # fmt: skip


def random_arrays(seed: int, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Arrays of normal numbers in float32; thresholds and scales are positive."""
    generator = np.random.default_rng(seed)
    arrays = {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return {
        name: np.abs(array) + 0.1 if "threshold" in name or "scal" in name else array for name, array in arrays.items()
    }


def random_reads() -> np.ndarray:
    """(layer, pos, d_model)"""
    return np.random.default_rng(99).normal(size=(N_LAYERS, 7, D_MODEL)).astype(np.float32)


def jumprelu(pre_activations: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """What is above its threshold."""
    return np.where(pre_activations > threshold, pre_activations, 0)


def top_k(pre_activations: np.ndarray, k: int) -> np.ndarray:
    """The k largest of each position, after ReLU."""
    positive = np.maximum(pre_activations, 0)
    kth = np.sort(positive, axis=-1)[..., -k, None]
    return np.where(positive >= kth, positive, 0)


def assert_agrees(
    folder: Path,
    facts: CheckpointFacts,
    reads: np.ndarray,
    features: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
) -> TranscoderSet:
    """Compare all layers, with matrices held and left on disk; the set with held ones is given back."""
    for is_lazy in (True, False):
        found = read_transcoders(folder, facts, device=CPU, lazy_encoder=is_lazy, lazy_decoder=is_lazy)
        given = torch.from_numpy(reads)
        active = [layer.active(read, 0) for layer, read in zip(found.layers, given, strict=True)]
        for layer, transcoder in enumerate(found.layers):
            assert isinstance(transcoder.W_enc, StoredTensor) is is_lazy
            assert isinstance(transcoder.W_dec, StoredTensor) is is_lazy
            expected = torch.from_numpy(features[layer]).float()
            assert (expected != 0).any()
            assert (expected == 0).any()
            torch.testing.assert_close(transcoder.encode(given[layer]), expected, atol=1e-5, rtol=1e-5)
            written = found.reconstruction(active, given, layer)
            torch.testing.assert_close(written, torch.from_numpy(outputs[layer]).float(), atol=1e-5, rtol=1e-5)
    return found
