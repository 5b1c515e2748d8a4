"""GPT-2 transcoders: on the raw model what they are on the processed one that they were trained on."""

import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tests.checkpoints import loaded
from tests.model.readers.agreement import (
    D_MODEL,
    N_FEATURES,
    N_LAYERS,
    assert_agrees,
    facts_of,
    random_arrays,
    random_reads,
)
from tests.model.readers.processed import processed_gpt2
from tracer.errors import DataError, ModelError
from tracer.model.readers.registry import describe_transcoders
from tracer.model.replacement import ReplacementModel

FACTS = facts_of("GPT2LMHeadModel")
FILE = "final_sparse_autoencoder_gpt2-small_blocks.{}.ln2.hook_normalized_24576.pt"


class LanguageModelSAERunnerConfig:
    """The settings' class by its name in the maker's code."""

    def __init__(self, layer: int) -> None:
        self.model_name = "gpt2-small"
        self.is_transcoder = True
        self.hook_point = f"blocks.{layer}.ln2.hook_normalized"
        self.out_hook_point = f"blocks.{layer}.hook_mlp_out"
        self.dtype, self.device, self.use_ghost_grads = torch.float32, torch.device("cuda"), (False,)


LanguageModelSAERunnerConfig.__module__ = "sae_training.config"


@pytest.fixture(autouse=True)
def maker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The maker's package, so that torch can save an object of it."""
    for name in ("sae_training", "sae_training.config"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["sae_training.config"].LanguageModelSAERunnerConfig = LanguageModelSAERunnerConfig  # type: ignore[attr-defined]


def arrays_of(layer: int, d_model: int = D_MODEL) -> dict[str, np.ndarray]:
    return random_arrays(
        layer, W_enc=(d_model, N_FEATURES), b_enc=(N_FEATURES,), W_dec=(N_FEATURES, d_model), b_dec=(d_model,),
        b_dec_out=(d_model,),
    )  # fmt: skip


def write(folder: Path, *, d_model: int = D_MODEL) -> Path:
    for layer in range(N_LAYERS):
        save(folder, layer, LanguageModelSAERunnerConfig(layer), arrays_of(layer, d_model))
    (folder / FILE.format(0).replace(".pt", "_log_feature_sparsity.pt")).write_bytes(b"not read")
    return folder


def save(folder: Path, layer: int, settings: object, arrays: dict[str, np.ndarray]) -> None:
    tensors = OrderedDict((name, torch.from_numpy(array)) for name, array in arrays.items())
    torch.save({"cfg": settings, "state_dict": tensors}, folder / FILE.format(layer))


def formula(reads: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    features, outputs = [], []
    for layer, read in enumerate(reads):
        found = arrays_of(layer, reads.shape[-1])
        features.append(np.maximum((read - found["b_dec"]) @ found["W_enc"] + found["b_enc"], 0))
        outputs.append(features[-1] @ found["W_dec"] + found["b_dec_out"])
    return features, outputs


def test_a_set_is_read_as_the_formula_says(tmp_path: Path) -> None:
    write(tmp_path)
    reads = random_reads()
    found = assert_agrees(tmp_path, FACTS, reads, *formula(reads))
    assert (found.read_point, found.write_point, found.cross_layer) == ("normalised", "residual", False)
    assert found.model_name == "gpt2-small"


def test_features_and_outputs_on_the_raw_model_are_those_on_the_processed_one(tmp_path: Path) -> None:
    checkpoint, _ = loaded("gpt2")
    raw, processed = (
        ReplacementModel.from_pretrained(checkpoint, write(tmp_path, d_model=32), device="cpu"), processed_gpt2()
    )  # fmt: skip
    ids = torch.tensor([0, 5, 9, 33, 7, 21, 2])
    forward, theirs = raw.forward(ids), processed.forward(ids)
    # With neither weight nor bias in its norm, the processed model's MLP reads the normalised stream itself.
    features, outputs = formula(torch.stack(list(theirs.reads)).numpy())
    active = [layer.active(read, 0) for layer, read in zip(raw.transcoders.layers, forward.reads, strict=True)]
    for layer, transcoder in enumerate(raw.transcoders.layers):
        expected = torch.from_numpy(features[layer])
        torch.testing.assert_close(transcoder.encode(forward.reads[layer]), expected, atol=1e-4, rtol=1e-4)
        decoded = raw.transcoders.reconstruction(active, forward.reads, layer)
        torch.testing.assert_close(decoded, torch.from_numpy(outputs[layer]), atol=1e-3, rtol=1e-4)
        error, their_error = (
            forward.mlp_outputs[layer] - decoded,
            theirs.mlp_outputs[layer] - torch.from_numpy(outputs[layer]),
        )
        mean = forward.mlp_outputs[layer].mean(-1, keepdim=True)
        assert mean.abs().max() > 1e-3
        torch.testing.assert_close(error - mean, their_error, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("is_transcoder", False, "no transcoder"),
        ("hook_point", "blocks.1.hook_resid_pre", "hook_resid_pre"),
        ("hook_point", "blocks.2.ln2.hook_normalized", r"expected a hook of blocks\.1"),
        ("hook_point", "blocks.1.hook_resid_mid", "different places"),
        ("out_hook_point", "blocks.1.hook_resid_post", "hook_resid_post"),
    ],
)
def test_settings_that_say_something_else_are_refused(tmp_path: Path, name: str, value: Any, found: str) -> None:
    write(tmp_path)
    settings = LanguageModelSAERunnerConfig(1)
    setattr(settings, name, value)
    save(tmp_path, 1, settings, arrays_of(1))
    with pytest.raises(ModelError, match=found):
        describe_transcoders(tmp_path, FACTS)


def test_settings_may_be_plain_and_other_objects_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    save(tmp_path, 1, vars(LanguageModelSAERunnerConfig(1)), arrays_of(1))
    assert len(describe_transcoders(tmp_path, FACTS).layers) == N_LAYERS
    save(tmp_path, 1, Path("elsewhere"), arrays_of(1))
    with pytest.raises(DataError, match=r"pathlib.*Nothing of it was executed"):
        describe_transcoders(tmp_path, FACTS)


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    torch.save([torch.zeros(3)], tmp_path / FILE.format(2))
    with pytest.raises(ModelError, match=r"blocks\.2.*no transcoder"):
        describe_transcoders(tmp_path, FACTS)


def test_a_missing_layer_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / FILE.format(1)).unlink()
    with pytest.raises(ModelError, match="found layers 0, 2; expected layers 0 to 2"):
        describe_transcoders(tmp_path, FACTS)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    arrays = arrays_of(1)
    del arrays["b_dec_out"]
    save(tmp_path, 1, LanguageModelSAERunnerConfig(1), arrays)
    with pytest.raises(ModelError, match=r"missing \['b_dec_out'\]"):
        describe_transcoders(tmp_path, FACTS)


def test_an_encoder_stored_the_other_way_round_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    arrays = arrays_of(0)
    save(tmp_path, 0, LanguageModelSAERunnerConfig(0), arrays | {"W_enc": np.ascontiguousarray(arrays["W_enc"].T)})
    with pytest.raises(ModelError, match=r"layer 0: found W_enc \(8, 20\)"):
        describe_transcoders(tmp_path, FACTS)
