"""Gemma Scope: features and outputs by its formula, from a plain folder and from files that a config.yaml lists."""

from pathlib import Path

import numpy as np
import pytest
import yaml

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

FACTS = facts_of("Gemma2ForCausalLM")
FILES = [f"layer_{layer}/width_16k/average_l0_{layer + 70}/params.npz" for layer in range(N_LAYERS)]


def arrays_of(layer: int) -> dict[str, np.ndarray]:
    return random_arrays(
        layer, W_enc=(D_MODEL, N_FEATURES), W_dec=(N_FEATURES, D_MODEL), b_enc=(N_FEATURES,), b_dec=(D_MODEL,),
        threshold=(N_FEATURES,),
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for layer, name in enumerate(FILES):
        write(tmp_path / name, arrays_of(layer))
    return tmp_path


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)


def formula(reads: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Features and outputs as the paper states them."""
    features, outputs = [], []
    for layer, read in enumerate(reads):
        found = arrays_of(layer)
        features.append(jumprelu(read @ found["W_enc"] + found["b_enc"], found["threshold"]))
        outputs.append(features[-1] @ found["W_dec"] + found["b_dec"])
    return features, outputs


def test_a_plain_folder_is_read_as_the_formula_says(folder: Path) -> None:
    reads = random_reads()
    found = assert_agrees(folder, FACTS, reads, *formula(reads))
    assert (found.read_point, found.write_point, found.cross_layer) == ("normalised", "residual", False)


def test_compressed_arrays_in_fortran_order_are_the_same(folder: Path) -> None:
    for layer, name in enumerate(FILES):
        np.savez_compressed(folder / name, **{key: np.asfortranarray(array) for key, array in arrays_of(layer).items()})
    reads = random_reads()
    assert_agrees(folder, FACTS, reads, *formula(reads))


def test_files_that_a_config_lists_are_read_in_its_order(folder: Path) -> None:
    (folder / FILES[0]).rename(folder / "first.npz")
    settings = {
        "model_kind": "transcoder_set", "model_name": "google/gemma-2-2b", "transcoders": ["first.npz", *FILES[1:]],
        "feature_input_hook": "mlp.hook_in", "feature_output_hook": "mlp.hook_out",
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    reads = random_reads()
    found = assert_agrees(folder, FACTS, reads, *formula(reads))
    assert (found.read_point, found.write_point, found.model_name) == ("mlp_in", "mlp_out", "google/gemma-2-2b")


def test_several_widths_of_a_layer_are_listed(folder: Path) -> None:
    write(folder / "layer_1/width_65k/average_l0_30/params.npz", arrays_of(1))
    with pytest.raises(ModelError, match=r"2 transcoders of layer 1: layer_1/width_16k/.*, layer_1/width_65k/.*"):
        describe_transcoders(folder, FACTS)


def test_a_layer_without_file_is_refused(folder: Path) -> None:
    (folder / FILES[1]).unlink()
    with pytest.raises(ModelError, match="found layers 0, 2; expected layers 0 to 2"):
        describe_transcoders(folder, FACTS)


def test_a_layer_too_many_is_refused(folder: Path) -> None:
    write(folder / "layer_3/width_16k/average_l0_9/params.npz", arrays_of(3))
    with pytest.raises(ModelError, match="found layers 0, 1, 2, 3"):
        describe_transcoders(folder, FACTS)


def test_a_missing_array_is_named(folder: Path) -> None:
    arrays = arrays_of(2)
    del arrays["threshold"]
    write(folder / FILES[2], arrays)
    with pytest.raises(ModelError, match=r"average_l0_72.*missing \['threshold'\]"):
        describe_transcoders(folder, FACTS)


@pytest.mark.parametrize("name", ["W_enc", "W_dec"])
def test_a_matrix_stored_the_other_way_round_is_refused(folder: Path, name: str) -> None:
    arrays = arrays_of(0)
    write(folder / FILES[0], arrays | {name: arrays[name].T})
    with pytest.raises(ModelError, match=r"layer 0: found .*the other way round"):
        describe_transcoders(folder, FACTS)


def test_a_damaged_archive_is_refused(folder: Path) -> None:
    (folder / FILES[0]).write_bytes(b"PK no archive")
    with pytest.raises(DataError, match=r"params\.npz"):
        describe_transcoders(folder, FACTS)
