"""Checkpoints and transcoder folders that do not fit are refused, from headers alone, with the layer named."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from tests.checkpoints import random_transcoders, write_checkpoint, write_transcoders
from tracer.errors import ModelError
from tracer.model.architectures import ARCHITECTURES, CheckpointFacts
from tracer.model.checks import check_transcoders
from tracer.model.readers import circuit_tracer
from tracer.model.readers.hooks import read_point
from tracer.model.readers.registry import read_transcoders
from tracer.model.replacement import ReplacementModel
from tracer.model.tokenizer import load_tokenizer, token_separator

FACTS = CheckpointFacts(
    architecture_name="GPT2LMHeadModel",
    architecture=ARCHITECTURES["GPT2LMHeadModel"], n_layers=3, d_model=8, n_ctx=32, n_heads=2, n_kv_heads=2, d_head=4,
    d_vocab=60, parallel=False, final_softcap=None,
)  # fmt: skip


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
    found = read_transcoders(tmp_path, FACTS, device=torch.device("cpu"))
    assert found.cross_layer == cross_layer
    assert found.model_name == "random"
    for ours, theirs in zip(written.layers, found.layers, strict=True):
        for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))
        assert type(ours.nonlinearity) is type(theirs.nonlinearity)


def test_hook_names_are_mapped_to_meanings_by_norm_kind() -> None:
    def meaning(hook: str, architecture: str) -> str:
        facts = replace(FACTS, architecture=ARCHITECTURES[architecture])
        return read_point(hook, facts, "config.yaml")

    assert meaning("ln2.hook_normalized", "GPT2LMHeadModel") == "mlp_in"
    assert meaning("ln2.hook_normalized", "LlamaForCausalLM") == "normalised"
    assert meaning("hook_resid_mid", "LlamaForCausalLM") == "resid_mid"
    with pytest.raises(ModelError, match="input hook"):
        meaning("hook_resid_pre", "GPT2LMHeadModel")


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


def test_word_level_tokens_are_set_off_by_spaces(checkpoint: Path) -> None:
    assert token_separator(load_tokenizer(checkpoint)) == " "
