"""Gemma Scope 2: features and outputs by its formula, per layer and across layers, with and without skip connection."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from tests.model.readers.agreement import (
    D_MODEL,
    N_FEATURES,
    N_LAYERS,
    assert_agrees,
    facts_of,
    jumprelu,
    random_arrays,
    random_reads,
)
from tracer.errors import DataError, ModelError
from tracer.model.readers.registry import describe_transcoders

FACTS = facts_of("Gemma3ForCausalLM")
CROSS_LAYER_FILES = [f"params_layer_{layer}.safetensors" for layer in range(N_LAYERS)]
LAYER_FILES = [f"layer_{layer}_width_16k_l0_small/params.safetensors" for layer in range(N_LAYERS)]


def arrays_of(layer: int, *, cross_layer: bool, skip: bool) -> dict[str, np.ndarray]:
    shapes: dict[str, tuple[int, ...]] = {
        "w_enc": (D_MODEL, N_FEATURES), "b_enc": (N_FEATURES,), "threshold": (N_FEATURES,), "b_dec": (D_MODEL,),
        "w_dec": (N_FEATURES, N_LAYERS, D_MODEL) if cross_layer else (N_FEATURES, D_MODEL),
    }  # fmt: skip
    return random_arrays(layer, **shapes | ({"affine_skip_connection": (D_MODEL, D_MODEL)} if skip else {}))


def settings_of(layer: int | str, kind: str, *, skip: bool) -> dict[str, Any]:
    """A config.json as published."""
    return {
        "hf_hook_point_in": f"model.layers.{layer}.pre_feedforward_layernorm.output",
        "hf_hook_point_out": f"model.layers.{layer}.post_feedforward_layernorm.output",
        "width": N_FEATURES, "model_name": "google/gemma-3-1b-pt", "architecture": "jump_relu", "l0": 10,
        "affine_connection": skip, "type": kind,
    }  # fmt: skip


def write_per_layer(folder: Path, *, skip: bool = False) -> Path:
    for layer, name in enumerate(LAYER_FILES):
        path = folder / name
        path.parent.mkdir(parents=True)
        save_file(arrays_of(layer, cross_layer=False, skip=skip), path)
        (path.parent / "config.json").write_text(json.dumps(settings_of(layer, "transcoder", skip=skip)))
    return folder


def write_cross_layer(folder: Path, *, skip: bool = False, stacked: bool = False) -> Path:
    arrays = [arrays_of(layer, cross_layer=True, skip=skip) for layer in range(N_LAYERS)]
    if stacked:
        save_file(
            {name: np.stack([each[name] for each in arrays]) for name in arrays[0]}, folder / "params.safetensors"
        )
    else:
        for name, found in zip(CROSS_LAYER_FILES, arrays, strict=True):
            save_file(found, folder / name)
    (folder / "config.json").write_text(json.dumps(settings_of("{all}", "clt", skip=skip)))
    return folder


def formula(reads: np.ndarray, *, cross_layer: bool, skip: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Features and outputs; a source layer writes to itself and above, the last layer too."""
    found = [arrays_of(layer, cross_layer=cross_layer, skip=skip) for layer in range(N_LAYERS)]
    features = [
        jumprelu(read @ each["w_enc"] + each["b_enc"], each["threshold"])
        for read, each in zip(reads, found, strict=True)
    ]
    outputs = [each["b_dec"] + 0 * read for read, each in zip(reads, found, strict=True)]
    for layer, each in enumerate(found):
        if skip:
            outputs[layer] = outputs[layer] + reads[layer] @ each["affine_skip_connection"]
        if not cross_layer:
            outputs[layer] = outputs[layer] + features[layer] @ each["w_dec"]
            continue
        for written in range(layer, N_LAYERS):
            outputs[written] = outputs[written] + features[layer] @ each["w_dec"][:, written]
    return features, outputs


@pytest.mark.parametrize("skip", [False, True])
def test_a_per_layer_set_is_read_as_the_formula_says(tmp_path: Path, skip: bool) -> None:
    write_per_layer(tmp_path, skip=skip)
    reads = random_reads()
    found = assert_agrees(tmp_path, FACTS, reads, *formula(reads, cross_layer=False, skip=skip))
    assert (found.read_point, found.write_point, found.cross_layer) == ("mlp_in", "residual", False)
    assert found.model_name == "google/gemma-3-1b-pt"


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("stacked", [False, True])
def test_a_cross_layer_set_is_read_with_every_layer(tmp_path: Path, skip: bool, stacked: bool) -> None:
    write_cross_layer(tmp_path, skip=skip, stacked=stacked)
    reads = random_reads()
    found = assert_agrees(tmp_path, FACTS, reads, *formula(reads, cross_layer=True, skip=skip))
    assert found.cross_layer
    assert [layer.n_written for layer in found.layers] == [3, 2, 1]


@pytest.mark.parametrize("cross_layer", [False, True])
def test_files_that_a_config_lists_are_read_in_its_order(tmp_path: Path, cross_layer: bool) -> None:
    (write_cross_layer if cross_layer else write_per_layer)(tmp_path, skip=True)
    settings = {
        "model_kind": "cross_layer_transcoder" if cross_layer else "transcoder_set",
        "feature_input_hook": "mlp.hook_in", "feature_output_hook": "hook_mlp_out",
        "transcoders": CROSS_LAYER_FILES if cross_layer else LAYER_FILES,
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    reads = random_reads()
    found = assert_agrees(tmp_path, FACTS, reads, *formula(reads, cross_layer=cross_layer, skip=True))
    assert found.cross_layer == cross_layer


def test_cross_layer_files_listed_as_a_per_layer_set_are_refused(tmp_path: Path) -> None:
    write_cross_layer(tmp_path)
    settings = {
        "model_kind": "transcoder_set", "feature_input_hook": "mlp.hook_in", "feature_output_hook": "hook_mlp_out",
        "transcoders": CROSS_LAYER_FILES,
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(ModelError, match=r"writing 3 layer\(s\); expected width 8, writing 1"):
        describe_transcoders(tmp_path, FACTS)


def test_several_sizes_of_a_layer_are_listed(tmp_path: Path) -> None:
    write_per_layer(tmp_path)
    (tmp_path / "layer_0_width_65k_l0_big").mkdir()
    (tmp_path / LAYER_FILES[0]).rename(tmp_path / "layer_0_width_65k_l0_big/params.safetensors")
    save_file(arrays_of(0, cross_layer=False, skip=False), tmp_path / LAYER_FILES[0])
    with pytest.raises(ModelError, match="layer_0_width_16k_l0_small, layer_0_width_65k_l0_big"):
        describe_transcoders(tmp_path, FACTS)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"type": "sae"}, "type 'sae'; expected 'transcoder'"),
        ({"architecture": "topk"}, "architecture 'topk'"),
        ({"hf_hook_point_in": "model.layers.1.output"}, "hf_hook_point_in 'model.layers.1.output'"),
        ({"hf_hook_point_out": "model.layers.2.post_feedforward_layernorm.output"}, "hf_hook_point_out"),
        ({"affine_connection": True}, "affine_connection True"),
    ],
)
def test_settings_that_say_something_else_are_refused(tmp_path: Path, changes: dict[str, Any], found: str) -> None:
    path = write_per_layer(tmp_path) / Path(LAYER_FILES[1]).parent / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ModelError, match=found):
        describe_transcoders(tmp_path, FACTS)


def test_a_layer_of_its_own_is_no_set(tmp_path: Path) -> None:
    write_per_layer(tmp_path)
    with pytest.raises(ModelError, match="type 'transcoder'; expected 'clt'"):
        describe_transcoders(tmp_path / Path(LAYER_FILES[0]).parent, FACTS)


@pytest.mark.parametrize("cross_layer", [False, True])
def test_a_missing_layer_is_refused(tmp_path: Path, cross_layer: bool) -> None:
    (write_cross_layer if cross_layer else write_per_layer)(tmp_path)
    (tmp_path / (CROSS_LAYER_FILES if cross_layer else LAYER_FILES)[2]).unlink()
    with pytest.raises(ModelError, match="found layers 0, 1; expected layers 0 to 2"):
        describe_transcoders(tmp_path, FACTS)


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    write_per_layer(tmp_path)
    (tmp_path / Path(LAYER_FILES[1]).parent / "config.json").unlink()
    with pytest.raises(DataError, match=r"layer_1_.*config\.json: found no such file"):
        describe_transcoders(tmp_path, FACTS)


@pytest.mark.parametrize("cross_layer", [False, True])
def test_a_missing_tensor_is_named(tmp_path: Path, cross_layer: bool) -> None:
    (write_cross_layer if cross_layer else write_per_layer)(tmp_path)
    path = tmp_path / (CROSS_LAYER_FILES if cross_layer else LAYER_FILES)[1]
    save_file({name: array for name, array in load_file(path).items() if name != "b_enc"}, path)
    with pytest.raises(ModelError, match=r"missing \['b_enc'\]"):
        describe_transcoders(tmp_path, FACTS)


@pytest.mark.parametrize("cross_layer", [False, True])
def test_an_encoder_stored_the_other_way_round_is_refused(tmp_path: Path, cross_layer: bool) -> None:
    (write_cross_layer if cross_layer else write_per_layer)(tmp_path)
    path = tmp_path / (CROSS_LAYER_FILES if cross_layer else LAYER_FILES)[1]
    arrays = load_file(path)
    save_file(arrays | {"w_enc": np.ascontiguousarray(arrays["w_enc"].T)}, path)
    with pytest.raises(ModelError, match=r"layer 1: found W_enc \(8, 20\)"):
        describe_transcoders(tmp_path, FACTS)
