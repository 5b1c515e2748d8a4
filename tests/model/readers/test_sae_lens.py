"""sae-lens transcoders: features and outputs as sae-lens computes them, on processed and on raw weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.checkpoints import loaded
from tests.model.readers.hooked_models import hooked_values
from tests.model.readers.sae_lens_writer import TRANSCODERS, random_sae, random_set
from tracer.errors import ModelError
from tracer.model.checks import check_transcoders
from tracer.model.readers.registry import read_transcoders
from tracer.model.replacement import ReplacementModel
from tracer.model.stored import StoredTensor
from tracer.model.transcoders import LayerTranscoder

CPU = torch.device("cpu")
IDS = torch.tensor([0, 5, 9, 33, 7, 21, 2])


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def outputs(layer: LayerTranscoder, read: torch.Tensor) -> torch.Tensor:
    """Decoded features, bias and skip connection."""
    decoded = layer.decoded(layer.active(read, 0), 0, len(read))
    return decoded + layer.b_dec + layer.skip(read)


@pytest.mark.parametrize("architecture", TRANSCODERS)
def test_features_and_outputs_are_those_of_sae_lens(tmp_path: Path, architecture: str) -> None:
    _, model = loaded("llama")
    saes = random_set(tmp_path, architecture, "mlp.hook_in", "hook_mlp_out")
    found = read_transcoders(tmp_path, model.facts, device=CPU)
    lazy = read_transcoders(tmp_path, model.facts, device=CPU, lazy_encoder=True, lazy_decoder=True)
    assert (found.read_point, found.write_point, found.model_name) == ("mlp_in", "residual", "random")
    read = torch.randn(9, model.facts.d_model)
    for sae, held, stored in zip(saes, found.layers, lazy.layers, strict=True):
        assert isinstance(stored.W_enc, StoredTensor)
        assert isinstance(stored.W_dec, StoredTensor)
        with torch.no_grad():
            activations, expected = sae.encode(read), sae(read)
        assert 0 < (activations != 0).float().mean() < 1
        for layer in (held, stored):
            close(layer.encode(read), activations)
            close(outputs(layer, read), expected)


FOLDED, CENTRED = {"fold_ln": True}, {"center_writing_weights": True}


@pytest.mark.parametrize(
    ("kind", "hook", "processing", "read_point"),
    [
        ("gpt2", "mlp.hook_in", {}, "mlp_in"),
        ("gpt2", "mlp.hook_in", FOLDED | CENTRED, "normalised"),
        ("gpt2", "ln2.hook_normalized", FOLDED, "normalised"),
        ("gpt2", "hook_resid_mid", {"dtype": "float32"}, "resid_mid"),
        ("gpt2", "hook_resid_mid", CENTRED, "resid_mid"),
        ("llama", "mlp.hook_in", CENTRED, "mlp_in"),
        ("llama", "mlp.hook_in", FOLDED, "normalised"),
        ("llama", "ln2.hook_normalized", {"fold_ln": False}, "normalised"),
        ("llama", "ln2.hook_normalized", FOLDED, "normalised"),
        ("llama", "hook_resid_mid", CENTRED, "resid_mid"),
    ],
)
@pytest.mark.parametrize("architecture", ["skip_transcoder", "jumprelu_transcoder"])
def test_features_of_a_processed_model_are_the_same_on_raw_weights(
    tmp_path: Path, architecture: str, kind: str, hook: str, processing: dict[str, Any], read_point: str
) -> None:
    checkpoint, _ = loaded(kind)
    saes = random_set(tmp_path, architecture, hook, "hook_mlp_out", model_from_pretrained_kwargs=processing)
    model = ReplacementModel.from_pretrained(checkpoint, tmp_path, device="cpu", lazy_encoder=True)
    assert model.transcoders.read_point == read_point
    values = hooked_values(kind, IDS, processing)
    forward = model.forward(IDS)
    for layer, (sae, transcoder) in enumerate(zip(saes, model.transcoders.layers, strict=True)):
        read, output = values[f"blocks.{layer}.{hook}"][0], values[f"blocks.{layer}.hook_mlp_out"][0]
        is_centred = kind == "gpt2" and "center_writing_weights" in processing
        mean = forward.mlp_outputs[layer].mean(-1, keepdim=True) if is_centred else 0
        close(forward.mlp_outputs[layer] - mean, output)
        with torch.no_grad():
            activations, expected = sae.encode(read), sae(read)
        close(transcoder.encode(forward.reads[layer]), activations)
        close(outputs(transcoder, forward.reads[layer]), expected)


def test_a_hook_whose_meaning_depends_on_the_version_is_refused(tmp_path: Path) -> None:
    checkpoint, _ = loaded("gpt2")
    random_set(tmp_path, "transcoder", "ln2.hook_normalized", "hook_mlp_out")
    with pytest.raises(ModelError, match=r"ln2\.hook_normalized of a LayerNorm with weight and bias"):
        check_transcoders(str(checkpoint), str(tmp_path))


def test_centring_for_an_unknown_norm_is_refused(tmp_path: Path) -> None:
    random_set(tmp_path, "transcoder", "hook_resid_mid", "hook_mlp_out", model_from_pretrained_kwargs=CENTRED)
    with pytest.raises(ModelError, match="center_writing_weights for MistralForCausalLM"):
        read_transcoders(tmp_path, loaded("mistral")[1].facts, device=CPU)


def changed_config(folder: Path, **changes: Any) -> None:
    """Change what one `cfg.json` says, of the language model where it is that."""
    path = folder / "a" / "cfg.json"
    config = json.loads(path.read_text())
    for name, value in changes.items():
        (config["metadata"] if name in config["metadata"] or name.startswith("hook") else config)[name] = value
    path.write_text(json.dumps(config))


def changed_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Change the tensors of one file."""
    path = folder / "a" / "sae_weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(path)).items()}, path)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"architecture": "gated"}, "architecture 'gated'"),
        ({"architecture": "standard"}, "an SAE of hook_resid_mid"),
        ({"activation_fn": "tanh-relu"}, "activation_fn 'tanh-relu'"),
        ({"normalize_activations": "layer_norm"}, "normalize_activations 'layer_norm'"),
        ({"normalize_activations": "constant_norm_rescale"}, "constant_norm_rescale.*Only one constant"),
        ({"normalize_activations": "expected_average_only_in"}, "no scaling_factor"),
        ({"apply_b_dec_to_input": True}, "a transcoder with apply_b_dec_to_input"),
        ({"hook_head_index": 2}, "hook_head_index 2"),
        ({"hook_name": "model.layers.1.mlp"}, "hook 'model.layers.1.mlp'"),
        ({"hook_name": None}, "hook None"),
        ({"hook_name": "blocks.2.hook_resid_mid"}, "from layer 2 to layer 1"),
        ({"hook_name": "blocks.1.mlp.hook_in"}, "trained alike"),
        ({"hook_name_out": None}, "hooks, weight processing or model hook_resid_mid, hook_resid_mid"),
        ({"model_name": "another"}, "'another'"),
        ({"hook_name": "blocks.2.hook_resid_mid", "hook_name_out": "blocks.2.hook_mlp_out"}, r"\[0, 2, 2\], several"),
        ({"hook_name": "blocks.3.hook_resid_mid", "hook_name_out": "blocks.3.hook_mlp_out"}, r"layers \[0, 2, 3\]"),
    ],
)
def test_what_a_config_says_and_cannot_be_kept_is_refused(tmp_path: Path, changes: dict[str, Any], found: str) -> None:
    checkpoint, _ = loaded("gpt2")
    random_set(tmp_path, "transcoder", "hook_resid_mid", "hook_mlp_out")
    check_transcoders(str(checkpoint), str(tmp_path))
    changed_config(tmp_path, **changes)
    with pytest.raises(ModelError, match=found):
        check_transcoders(str(checkpoint), str(tmp_path))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda tensors: tensors | {"W_enc": tensors["W_enc"].T}, r"W_enc \(32, 40\).*the other way round"),
        (lambda tensors: tensors | {"W_enc": tensors["W_enc"].T, "W_dec": tensors["W_dec"].T}, "other way round"),
        (
            lambda tensors: {name: tensors[name] for name in tensors if name != "b_enc"},
            r"tensors \['W_dec', 'W_enc', 'b",
        ),
        (lambda tensors: tensors | {"b_dec_out": tensors["b_dec"].clone()}, "b_dec_out"),
        (lambda tensors: tensors | {"scaling_factor": 2 * tensors["b_enc"]}, "scaling_factor"),
        (lambda tensors: tensors | {"W_enc": tensors["b_enc"].clone()}, r"W_enc \(40,\); expected 2 dimensions"),
        (lambda tensors: tensors | {"W_enc": tensors["W_enc"][:31]}, r"W_enc \(40, 31\)"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], found: str
) -> None:
    checkpoint, _ = loaded("gpt2")
    random_set(tmp_path, "transcoder", "mlp.hook_in", "hook_mlp_out")
    changed_weights(tmp_path, change)
    with pytest.raises(ModelError, match=found):
        check_transcoders(str(checkpoint), str(tmp_path))


def test_a_missing_layer_or_file_is_refused(tmp_path: Path) -> None:
    checkpoint, _ = loaded("gpt2")
    random_set(tmp_path, "transcoder", "mlp.hook_in", "hook_mlp_out")
    (tmp_path / "a" / "sae_weights.safetensors").unlink()
    with pytest.raises(ModelError, match=r"layers \[0, 2\]; expected one transcoder for each of layers 0 to 2"):
        check_transcoders(str(checkpoint), str(tmp_path))
    (tmp_path / "a" / "sae_weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="not a safetensors file"):
        check_transcoders(str(checkpoint), str(tmp_path))
    (tmp_path / "a" / "cfg.json").write_text("[]")
    with pytest.raises(ModelError, match=r"cfg\.json: found list"):
        check_transcoders(str(checkpoint), str(tmp_path))
    (tmp_path / "a" / "cfg.json").write_text("{")
    with pytest.raises(ModelError, match="JSONDecodeError"):
        check_transcoders(str(checkpoint), str(tmp_path))


def test_transcoders_for_another_model_are_refused(tmp_path: Path) -> None:
    checkpoint, _ = loaded("gpt2")
    for layer in range(3):
        metadata = {"hook_name_out": f"blocks.{layer}.hook_mlp_out"}
        sae = random_sae("transcoder", f"blocks.{layer}.mlp.hook_in", d_in=16, metadata=metadata)
        sae.save_model(tmp_path / str(layer))
    with pytest.raises(ModelError, match="width 16, writing 1"):
        check_transcoders(str(checkpoint), str(tmp_path))
