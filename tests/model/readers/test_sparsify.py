"""sparsify: features and outputs by its formula, for sets with and without the setting `transcode`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.model.readers.agreement import (
    D_MODEL,
    N_FEATURES,
    N_LAYERS,
    assert_agrees,
    facts_of,
    random_arrays,
    random_reads,
    top_k,
)
from tracer.errors import DataError, ModelError
from tracer.model.nonlinearity import TopK
from tracer.model.readers.registry import describe_transcoders

FACTS = facts_of("LlamaForCausalLM")
K = 5
CURRENT = {"activation": "topk", "normalize_decoder": True, "num_latents": N_FEATURES, "k": K, "multi_topk": False}
OLD = {"expansion_factor": 32, "normalize_decoder": True, "num_latents": N_FEATURES, "k": K}


def arrays_of(layer: int, *, skip: bool) -> dict[str, np.ndarray]:
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.weight": (N_FEATURES, D_MODEL), "encoder.bias": (N_FEATURES,), "W_dec": (N_FEATURES, D_MODEL),
        "b_dec": (D_MODEL,),
    }  # fmt: skip
    return random_arrays(layer, **shapes | ({"W_skip": (D_MODEL, D_MODEL)} if skip else {}))


def write(folder: Path, settings: dict[str, Any], *, skip: bool, name: str = "layers.{}.mlp") -> Path:
    for layer in range(N_LAYERS):
        hookpoint = folder / name.format(layer)
        hookpoint.mkdir(parents=True)
        save_file(arrays_of(layer, skip=skip), hookpoint / "sae.safetensors")
        (hookpoint / "cfg.json").write_text(json.dumps(settings | {"skip_connection": skip, "d_in": D_MODEL}))
    return folder


def formula(reads: np.ndarray, *, skip: bool, subtracts: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    features, outputs = [], []
    for layer, read in enumerate(reads):
        found = arrays_of(layer, skip=skip)
        encoded = read - found["b_dec"] if subtracts else read
        features.append(top_k(encoded @ found["encoder.weight"].T + found["encoder.bias"], K))
        outputs.append(features[-1] @ found["W_dec"] + found["b_dec"])
        if skip:
            outputs[-1] = outputs[-1] + read @ found["W_skip"].T
    return features, outputs


@pytest.mark.parametrize("skip", [False, True])
def test_a_transcoder_does_not_subtract_its_output_bias(tmp_path: Path, skip: bool) -> None:
    write(tmp_path, CURRENT | {"transcode": True}, skip=skip)
    (tmp_path / "config.json").write_text(json.dumps({"model": "EleutherAI/pythia-160m", "hookpoints": []}))
    reads = random_reads()
    found = assert_agrees(tmp_path, FACTS, reads, *formula(reads, skip=skip, subtracts=False))
    assert (found.read_point, found.write_point, found.cross_layer) == ("mlp_in", "mlp_out", False)
    assert found.layers[0].nonlinearity == TopK(k=K, rectify="before")
    assert found.model_name == "EleutherAI/pythia-160m"


def test_a_transcoder_from_before_the_setting_does(tmp_path: Path) -> None:
    write(tmp_path, OLD, skip=True, name="h.{}.mlp")
    reads = random_reads()
    assert_agrees(tmp_path, FACTS, reads, *formula(reads, skip=True, subtracts=True))


@pytest.mark.parametrize("shared", [{"transcode": True}, {"sae": {"transcode": True}}])
def test_the_shared_settings_may_say_that_it_is_a_transcoder(tmp_path: Path, shared: dict[str, Any]) -> None:
    write(tmp_path, OLD, skip=False)
    with pytest.raises(ModelError, match="transcode not stated; expected a transcoder"):
        describe_transcoders(tmp_path, FACTS)
    (tmp_path / "config.json").write_text(json.dumps(shared))
    reads = random_reads()
    assert_agrees(tmp_path, FACTS, reads, *formula(reads, skip=False, subtracts=True))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"transcode": False}, "transcode False; expected a transcoder"),
        ({"activation": "groupmax"}, "activation 'groupmax'"),
        ({"signed": True}, "signed True"),
        ({"k": 0}, "k 0"),
        ({"k": None}, "k None"),
        ({"k": 6}, "k 5, 6 in different layers"),
    ],
)
def test_settings_that_are_not_supported_are_refused(tmp_path: Path, changes: dict[str, Any], found: str) -> None:
    write(tmp_path, CURRENT | {"transcode": True}, skip=False)
    path = tmp_path / "layers.1.mlp/cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ModelError, match=found):
        describe_transcoders(tmp_path, FACTS)


def test_a_set_of_some_layers_is_refused(tmp_path: Path) -> None:
    write(tmp_path, CURRENT | {"transcode": True}, skip=False)
    (tmp_path / "layers.1.mlp/sae.safetensors").unlink()
    with pytest.raises(ModelError, match=r"found layers 0, 2; expected layers 0 to 2.*every layer"):
        describe_transcoders(tmp_path, FACTS)


def test_coders_of_other_places_are_refused(tmp_path: Path) -> None:
    write(tmp_path, CURRENT, skip=False, name="layers.{}")
    with pytest.raises(ModelError, match=r"hookpoints layers\.0, layers\.1, layers\.2"):
        describe_transcoders(tmp_path, FACTS)


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    write(tmp_path, CURRENT | {"transcode": True}, skip=False)
    (tmp_path / "layers.2.mlp/cfg.json").unlink()
    with pytest.raises(DataError, match=r"layers\.2\.mlp/cfg\.json: found no such file"):
        describe_transcoders(tmp_path, FACTS)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    write(tmp_path, CURRENT | {"transcode": True}, skip=False)
    path = tmp_path / "layers.0.mlp/sae.safetensors"
    save_file({name: array for name, array in load_file(path).items() if name != "encoder.bias"}, path)
    with pytest.raises(ModelError, match=r"missing \['encoder.bias'\]"):
        describe_transcoders(tmp_path, FACTS)


def test_an_encoder_stored_the_other_way_round_is_refused(tmp_path: Path) -> None:
    write(tmp_path, CURRENT | {"transcode": True}, skip=False)
    path = tmp_path / "layers.0.mlp/sae.safetensors"
    arrays = load_file(path)
    save_file(arrays | {"encoder.weight": np.ascontiguousarray(arrays["encoder.weight"].T)}, path)
    with pytest.raises(ModelError, match=r"layer 0: found W_enc \(8, 20\)"):
        describe_transcoders(tmp_path, FACTS)
