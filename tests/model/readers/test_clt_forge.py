"""CLT-Forge: features and outputs by its formula, in the units of the model, also of sets in several files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file as save_tensors

from tests.model.readers.agreement import (
    CPU,
    D_MODEL,
    N_FEATURES,
    N_LAYERS,
    assert_agrees,
    facts_of,
    jumprelu,
    random_arrays,
    random_reads,
    top_k,
)
from tracer.errors import ModelError
from tracer.model.readers.registry import describe_transcoders, read_transcoders

FACTS = facts_of("GPT2LMHeadModel")
SOURCES, WRITTEN = np.triu_indices(N_LAYERS)
SETTINGS = {
    "device": "cuda", "dtype": "float32", "seed": 42, "model_name": "gpt2", "d_in": D_MODEL, "d_latent": N_FEATURES,
    "n_layers": N_LAYERS, "normalize_decoder": False, "context_size": 16, "ddp": False, "fsdp": False,
}  # fmt: skip
FILE = "clt_weights.safetensors"


def arrays_of(cross_layer: bool) -> dict[str, np.ndarray]:
    n_decoders = len(SOURCES) if cross_layer else N_LAYERS
    arrays = random_arrays(
        0, W_enc=(N_LAYERS, D_MODEL, N_FEATURES), b_enc=(N_LAYERS, N_FEATURES), b_dec=(n_decoders, D_MODEL),
        W_dec=(n_decoders, N_FEATURES, D_MODEL), log_threshold=(N_LAYERS, N_FEATURES),
        estimated_norm_scaling_factor_in=(N_LAYERS,), estimated_norm_scaling_factor_out=(N_LAYERS,),
    )  # fmt: skip
    arrays["log_threshold"] = np.log(arrays["log_threshold"])
    arrays["feature_count"] = np.full((N_LAYERS, N_FEATURES), 3)
    if cross_layer:
        arrays["layer_mask"] = (np.arange(N_LAYERS)[:, None] == SOURCES).astype(np.float32)
    return arrays


def write(folder: Path, *, cross_layer: bool = True, n_ranks: int = 0, **changes: Any) -> Path:
    settings = SETTINGS | {"cross_layer_decoders": cross_layer, "feature_sharding": n_ranks > 0} | changes
    (folder / "clt_cfg.json").write_text(json.dumps(settings))
    arrays = arrays_of(cross_layer)
    if not n_ranks:
        save_file(arrays, folder / FILE)
    axes = {"W_enc": 2, "b_enc": 1, "W_dec": 1, "log_threshold": 1, "feature_count": 1}
    for rank in range(n_ranks):
        parts = {name: np.array_split(array, n_ranks, axes[name]) for name, array in arrays.items() if name in axes}
        own = {name: np.ascontiguousarray(part[rank]) for name, part in parts.items()}
        save_file(arrays | own, folder / f"rank{rank}_{FILE}")
    return folder


def formula(reads: np.ndarray, *, cross_layer: bool, k: int | None = None) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Scale, encode, decode every pair of layers, scale back."""
    found = arrays_of(cross_layer)
    scaled = reads * found["estimated_norm_scaling_factor_in"][:, None, None]
    pre_activations = np.einsum("npd,ndf->npf", scaled, found["W_enc"]) + found["b_enc"][:, None]
    threshold = np.exp(found["log_threshold"])[:, None]
    features = jumprelu(pre_activations, threshold) if k is None else top_k(pre_activations, k)
    outputs = np.zeros_like(reads)
    pairs = zip(SOURCES, WRITTEN, strict=True) if cross_layer else ((layer, layer) for layer in range(N_LAYERS))
    for pair, (source, written) in enumerate(pairs):
        outputs[written] += features[source] @ found["W_dec"][pair] + found["b_dec"][pair]
    return list(features), list(outputs / found["estimated_norm_scaling_factor_out"][:, None, None])


@pytest.mark.parametrize("cross_layer", [False, True])
@pytest.mark.parametrize("n_ranks", [0, 1, 3])
def test_a_set_is_read_as_the_formula_says(tmp_path: Path, cross_layer: bool, n_ranks: int) -> None:
    write(tmp_path, cross_layer=cross_layer, n_ranks=n_ranks)
    reads = random_reads()
    found = assert_agrees(tmp_path, FACTS, reads, *formula(reads, cross_layer=cross_layer))
    assert (found.read_point, found.write_point, found.cross_layer) == ("mlp_in", "residual", cross_layer)
    assert found.model_name == "gpt2"


def test_topk_chooses_after_relu(tmp_path: Path) -> None:
    write(tmp_path, activation_fn="topk", k=4)
    reads = random_reads()
    assert_agrees(tmp_path, FACTS, reads, *formula(reads, cross_layer=True, k=4))


@pytest.mark.parametrize("n_ranks", [0, 2])
def test_decoder_rows_on_disk_are_those_in_memory(tmp_path: Path, n_ranks: int) -> None:
    write(tmp_path, n_ranks=n_ranks)
    held = read_transcoders(tmp_path, FACTS, device=CPU, lazy_decoder=False)
    stored = read_transcoders(tmp_path, FACTS, device=CPU, lazy_decoder=True)
    feature = torch.tensor([19, 0, 11, 9, 11, 10])
    for ours, theirs in zip(stored.layers, held.layers, strict=True):
        assert torch.equal(ours.write_vectors(feature), theirs.write_vectors(feature))
        assert ours.decoder_rows(feature[:0], 0).shape == (0, D_MODEL)


def test_bfloat16_is_read(tmp_path: Path) -> None:
    write(tmp_path)
    tensors = load_tensors(tmp_path / FILE)
    halved = {name: tensor.bfloat16() if name in ("W_enc", "W_dec") else tensor for name, tensor in tensors.items()}
    save_tensors(halved, tmp_path / FILE)
    layer = read_transcoders(tmp_path, FACTS, device=CPU, lazy_decoder=True).layers[1]
    scale = 1 / tensors["estimated_norm_scaling_factor_out"][2]
    expected = halved["W_dec"][4].float() * scale
    torch.testing.assert_close(layer.decoder_rows(torch.arange(N_FEATURES), 1), expected)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"activation_fn": "groupmax", "k": 4}, "activation_fn 'groupmax'"),
        ({"activation_fn": "topk"}, "k None"),
        ({"decoder_type": "lora"}, "decoder_type 'lora'"),
        ({"n_layers": None}, "n_layers None"),
        ({"n_layers": 4}, "the first of length 10"),
        ({"cross_layer_decoders": False}, r"W_dec \(6, 20, 8\)|b_dec \(6, 8\)"),
        ({"d_latent": 24}, "d_latent 24; expected the 20 features"),
    ],
)
def test_settings_that_are_not_supported_or_do_not_fit_are_refused(
    tmp_path: Path, changes: dict[str, Any], found: str
) -> None:
    write(tmp_path, **changes)
    with pytest.raises(ModelError, match=found):
        describe_transcoders(tmp_path, FACTS)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / FILE).unlink()
    with pytest.raises(ModelError, match=r"clt_weights\.safetensors: found no such file"):
        describe_transcoders(tmp_path, FACTS)


@pytest.mark.parametrize(("rank", "found"), [(0, "rank0_.*no such file"), (2, "expected the 14 features")])
def test_a_missing_rank_is_noticed(tmp_path: Path, rank: int, found: str) -> None:
    write(tmp_path, n_ranks=3)
    (tmp_path / f"rank{rank}_{FILE}").unlink()
    with pytest.raises(ModelError, match=found):
        describe_transcoders(tmp_path, FACTS)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    arrays = load_file(write(tmp_path) / FILE)
    save_file({name: array for name, array in arrays.items() if name != "log_threshold"}, tmp_path / FILE)
    with pytest.raises(ModelError, match=r"missing \['log_threshold'\]"):
        describe_transcoders(tmp_path, FACTS)


def test_an_encoder_stored_the_other_way_round_is_refused(tmp_path: Path) -> None:
    arrays = load_file(write(tmp_path) / FILE)
    turned = np.ascontiguousarray(arrays["W_enc"].transpose(0, 2, 1))
    save_file(arrays | {"W_enc": turned}, tmp_path / FILE)
    with pytest.raises(ModelError, match=r"layer 0: found W_enc \(8, 20\)"):
        describe_transcoders(tmp_path, FACTS)
