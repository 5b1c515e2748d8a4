"""Checkpoints and transcoder folders that do not fit are refused, from headers alone, with the layer named."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from tests.checkpoints import random_transcoders, write_checkpoint, write_transcoders
from tracer.errors import ModelError
from tracer.model.checks import check_transcoders
from tracer.model.readers import circuit_tracer
from tracer.model.replacement import ReplacementModel
from tracer.model.tokenizer import load_tokenizer, token_separator


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint("gpt2", tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    return write_transcoders(checkpoint, tmp_path / "transcoders", cross_layer=False)


@pytest.mark.parametrize("cross_layer", [False, True])
def test_what_is_written_is_read_back_equal(tmp_path: Path, cross_layer: bool) -> None:
    written = random_transcoders(3, 8, cross_layer=cross_layer)
    circuit_tracer.write(tmp_path, written, model_name="random", dtype=torch.float32)
    found = circuit_tracer.read(tmp_path, n_layers=3, centred_norm=True, device=torch.device("cpu"))
    assert found.cross_layer == cross_layer
    assert found.model_name == "random"
    for ours, theirs in zip(written.layers, found.layers, strict=True):
        for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))
        assert (ours.threshold is None) == (theirs.threshold is None)


def test_hook_names_are_mapped_to_meanings_by_norm_kind() -> None:
    where = Path("config.yaml")
    assert circuit_tracer.read_point("ln2.hook_normalized", True, where) == "mlp_in"
    assert circuit_tracer.read_point("ln2.hook_normalized", False, where) == "normalised"
    assert circuit_tracer.read_point("hook_resid_mid", False, where) == "resid_mid"
    with pytest.raises(ModelError, match="feature_input_hook"):
        circuit_tracer.read_point("hook_resid_pre", True, where)


def test_a_missing_layer_is_named(checkpoint: Path, folder: Path) -> None:
    (folder / "layer_2.safetensors").unlink()
    with pytest.raises(ModelError, match=r"layer_2.*missing"):
        check_transcoders(str(checkpoint), str(folder))


def test_a_damaged_layer_is_named(checkpoint: Path, folder: Path) -> None:
    (folder / "layer_1.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ModelError, match=r"layer_1"):
        check_transcoders(str(checkpoint), str(folder))


def test_the_wrong_width_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    wide = random_transcoders(3, 64, cross_layer=False)
    circuit_tracer.write(tmp_path / "wide", wide, model_name="random", dtype=torch.float32)
    with pytest.raises(ModelError, match=r"found width 64.*expected width 32"):
        ReplacementModel.from_pretrained(checkpoint, tmp_path / "wide")


def test_a_skip_connection_is_refused_until_the_engine_knows_it(checkpoint: Path, folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "layer_0.safetensors") | {"W_skip": torch.zeros(32, 32)}
    save_file(tensors, folder / "layer_0.safetensors")
    with pytest.raises(ModelError, match="W_skip"):
        check_transcoders(str(checkpoint), str(folder))


def test_a_folder_without_settings_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.yaml"):
        check_transcoders(str(checkpoint), str(tmp_path))


def test_an_unknown_kind_is_refused(checkpoint: Path, folder: Path) -> None:
    settings = yaml.safe_load((folder / "config.yaml").read_text()) | {"model_kind": "crosscoder"}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(ModelError, match="crosscoder"):
        check_transcoders(str(checkpoint), str(folder))


def test_a_checkpoint_without_tokenizer_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(checkpoint, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(ModelError, match="without tokenizer"):
        load_tokenizer(bare)


def test_an_architecture_outside_the_table_is_refused(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(checkpoint, tmp_path / "other")
    config = json.loads((other / "config.json").read_text()) | {"architectures": ["MambaForCausalLM"]}
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="MambaForCausalLM"):
        check_transcoders(str(other), str(folder))


def test_word_level_tokens_are_set_off_by_spaces(checkpoint: Path) -> None:
    assert token_separator(load_tokenizer(checkpoint)) == " "
