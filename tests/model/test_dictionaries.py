"""SAEs on every site: features and reconstructions as sae-lens computes them."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from sae_lens import SAE, BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, JumpReLUTrainingSAE
from sae_lens.saes.sae import SAEMetadata
from sae_lens.training.activation_scaler import ActivationScaler
from safetensors.torch import load_file, save_file

from tests.checkpoints import ARCHITECTURE_KINDS, loaded
from tests.model.readers.hooked_models import hooked_values
from tests.model.readers.sae_lens_writer import N_FEATURES, random_sae, randomise
from tracer.errors import ModelError
from tracer.model.dictionaries import SITE_HOOKS, Dictionary, Site, read_dictionary
from tracer.model.replacement import ReplacementModel
from tracer.model.stored import StoredTensor

CPU = torch.device("cpu")
IDS = torch.tensor([0, 5, 9, 33, 7, 21, 2])
SITES: tuple[Site, ...] = get_args(Site)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def width(model: ReplacementModel, site: Site) -> int:
    return model.facts.n_heads * model.facts.d_head if site == "attn_z" else model.facts.d_model


def site_values(model: ReplacementModel, hook: str) -> torch.Tensor:
    """What TransformerLens itself says that a hook holds."""
    return model.bridge.run_with_cache(IDS[None])[1][hook]


def agree(dictionary: Dictionary, sae: SAE[Any], model: ReplacementModel, values: torch.Tensor) -> None:
    """The dictionary on the raw model, against sae-lens on the values that the SAE was trained on."""
    with torch.no_grad():
        activations = sae.encode(values)
        reconstruction = sae.decode(activations)
    assert 0 < (activations != 0).float().mean() < 1
    raw = dictionary.values(model, IDS)
    close(dictionary.encode(raw), activations[0])
    close(dictionary.decode(dictionary.encode(raw)), reconstruction[0].flatten(1))
    close(dictionary.error(raw), raw - reconstruction[0].flatten(1))


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2"])
def test_features_and_reconstruction_on_a_raw_model(tmp_path: Path, kind: str, site: Site) -> None:
    _, model = loaded(kind)
    hook = f"blocks.1.{SITE_HOOKS[site]}"
    architecture, settings = {
        "gpt2": ("standard", {"apply_b_dec_to_input": True}),
        "llama": ("jumprelu", {"apply_b_dec_to_input": False}),
        "gemma2": ("topk", {"k": N_FEATURES // 2, "rescale_acts_by_decoder_norm": site != "attn_z"}),
    }[kind]
    sae = random_sae(architecture, hook, d_in=width(model, site), **settings)
    sae.save_model(tmp_path)
    held = read_dictionary(str(tmp_path), model.facts, device=CPU)
    stored = read_dictionary(str(tmp_path), model.facts, device=CPU, lazy_encoder=True, lazy_decoder=True)
    assert isinstance(stored.transcoder.W_enc, StoredTensor)
    assert isinstance(stored.transcoder.W_dec, StoredTensor)
    for dictionary in (held, stored):
        assert (dictionary.layer, dictionary.site, dictionary.hook) == (1, site, hook)
        assert dictionary.model_name == "random"
        agree(dictionary, sae, model, site_values(model, hook))


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_features_of_a_processed_model_are_the_same_on_raw_weights(tmp_path: Path, kind: str, site: Site) -> None:
    _, model = loaded(kind)
    processing = {"center_writing_weights": True, "fold_ln": True, "fold_value_biases": site != "attn_z"}
    hook, said = f"blocks.2.{SITE_HOOKS[site]}", {"model_from_pretrained_kwargs": processing}
    sae = random_sae("standard", hook, d_in=width(model, site), metadata=said)
    sae.save_model(tmp_path)
    dictionary = read_dictionary(str(tmp_path), model.facts, device=CPU, lazy_encoder=True)
    values = hooked_values(kind, IDS, processing)[hook]
    agree(dictionary, sae, model, values)
    raw = dictionary.values(model, IDS)
    mean = raw.mean(-1, keepdim=True) if kind == "gpt2" and site != "attn_z" else 0
    close(raw - mean, values[0].flatten(1))


def test_a_batchtopk_sae_is_read_as_its_inference_model(tmp_path: Path) -> None:
    _, model = loaded("llama")
    hook = "blocks.0.hook_resid_post"
    config = BatchTopKTrainingSAEConfig(
        d_in=32, d_sae=N_FEATURES, k=8, metadata=SAEMetadata(hook_name=hook), rescale_acts_by_decoder_norm=True
    )
    training = BatchTopKTrainingSAE(config)
    randomise(training, 0)
    training.topk_threshold += 0.4
    training.save_inference_model(tmp_path)
    dictionary = read_dictionary(str(tmp_path), model.facts, device=CPU)
    agree(dictionary, SAE.load_from_disk(tmp_path), model, site_values(model, hook))


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("standard", {}),
        ("jumprelu", {"apply_b_dec_to_input": False}),
        ("topk", {"k": 9, "rescale_acts_by_decoder_norm": True}),
    ],
)
def test_the_scale_of_a_training_checkpoint_is_folded(
    tmp_path: Path, architecture: str, settings: dict[str, Any]
) -> None:
    _, model = loaded("gpt2")
    hook = "blocks.1.hook_mlp_out"
    sae = random_sae(architecture, hook, d_in=32, normalize_activations="expected_average_only_in", **settings)
    sae.save_model(tmp_path)
    ActivationScaler(scaling_factor=2.5).save(str(tmp_path / "activation_scaler.json"))
    sae.fold_activation_norm_scaling_factor(2.5)
    for lazy in (False, True):
        dictionary = read_dictionary(str(tmp_path), model.facts, device=CPU, lazy_encoder=lazy, lazy_decoder=lazy)
        agree(dictionary, sae, model, site_values(model, hook))


@pytest.mark.parametrize(
    "settings",
    [
        {"hook_point": "blocks.1.hook_resid_pre", "hook_point_layer": 1, "normalize_activations": False},
        {"hook_name": "blocks.{layer}.hook_resid_pre", "hook_layer": 1, "activation_fn_str": "relu"},
        {"hook_name": "blocks.1.hook_resid_pre", "apply_b_dec_to_input": False, "architecture": "standard"},
        {
            "hook_name": "blocks.1.hook_resid_pre",
            "activation_fn_str": "topk",
            "activation_fn_kwargs": {"k": 5},
            "sae_lens_training_version": "4.0.0",
        },
    ],
)
def test_settings_of_older_versions_mean_what_sae_lens_makes_of_them(tmp_path: Path, settings: dict[str, Any]) -> None:
    _, model = loaded("gpt2")
    hook = "blocks.1.hook_resid_pre"
    random_sae("standard", hook, d_in=32).save_model(tmp_path)
    config = {"d_in": 32, "d_sae": N_FEATURES, "dtype": "float32", "model_name": "gpt2-small"}
    (tmp_path / "cfg.json").write_text(json.dumps(config | settings))
    path = tmp_path / "sae_weights.safetensors"
    save_file(load_file(path) | {"scaling_factor": torch.ones(N_FEATURES)}, path)
    dictionary = read_dictionary(str(tmp_path), model.facts, device=CPU)
    assert dictionary.model_name == "gpt2-small"
    agree(dictionary, SAE.load_from_disk(tmp_path), model, site_values(model, hook))


def test_a_logarithm_of_thresholds_is_read(tmp_path: Path) -> None:
    _, model = loaded("gpt2")
    hook = "blocks.1.hook_attn_out"
    random_sae("jumprelu", hook, d_in=32).save_model(tmp_path)
    path = tmp_path / "sae_weights.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"log_threshold": tensors.pop("threshold") - 1}, path)
    dictionary = read_dictionary(str(tmp_path), model.facts, device=CPU)
    agree(dictionary, JumpReLUTrainingSAE.load_from_disk(tmp_path), model, site_values(model, hook))


@pytest.mark.parametrize("kind", [*ARCHITECTURE_KINDS, "mistral", "phi"])
def test_sites_are_what_their_names_say_on_every_bridge(kind: str) -> None:
    _, model = loaded(kind)
    values = {}
    for site in SITES:
        if site != "resid_mid" or kind not in ("neox", "phi"):
            dictionary = Dictionary(layer=1, site=site, transcoder=model.transcoders.layers[1], model_name="")
            values[site] = dictionary.values(model, IDS)
    mid = values["resid_pre"] + values["attn_out"]
    close(values.get("resid_mid", mid), mid)
    close(values["resid_post"], mid + values["mlp_out"])
    attention = model.bridge.blocks[1].attn
    bias = getattr(attention, "b_O", None)
    attended = values["attn_z"] @ attention.W_O.flatten(0, 1) + (0 if bias is None else bias)
    close(attended, site_values(model, "blocks.1.attn.hook_out")[0])
    assert not any(point.fwd_hooks for point in model.bridge.hook_dict.values())


@pytest.mark.parametrize(
    ("kind", "hook", "settings", "found"),
    [
        ("gpt2", "blocks.1.mlp.hook_post", {}, "standard from mlp.hook_post"),
        ("gpt2", "blocks.3.hook_resid_pre", {}, "layer 3; expected one of 3"),
        ("gpt2", "blocks.1.hook_resid_pre", {"d_in": 30}, "width 30; expected width 32"),
        ("gpt2", "blocks.1.hook_resid_pre", {"metadata": {"hook_name_out": "blocks.1.hook_resid_post"}}, "to hook_res"),
        ("neox", "blocks.1.hook_resid_mid", {}, "they work in parallel"),
        ("gpt2", "blocks.1.attn.hook_z",
         {"metadata": {"model_from_pretrained_kwargs": {"fold_value_biases": True}}}, "hook_z with fold_value_biases"),
        ("gpt2", "blocks.1.attn.hook_z", {"metadata": {"hook_head_index": 0}}, "hook_head_index 0"),
        ("gpt2", "blocks.1.attn.hook_z", {"metadata": {"model_from_pretrained_kwargs": 3}}, "kwargs 3"),
        ("mistral", "blocks.1.hook_resid_pre",
         {"metadata": {"model_from_pretrained_kwargs": {"center_writing_weights": True}}}, "for MistralFor"),
    ],
)  # fmt: skip
def test_an_sae_that_does_not_fit_is_refused(
    tmp_path: Path, kind: str, hook: str, settings: dict[str, Any], found: str
) -> None:
    random_sae("standard", hook, **{"d_in": 32} | settings).save_model(tmp_path)
    with pytest.raises(ModelError, match=found):
        read_dictionary(str(tmp_path), loaded(kind)[1].facts, device=CPU)


@pytest.mark.parametrize("k", [0, 2.5, None, N_FEATURES + 1])
def test_a_number_of_features_that_cannot_be_kept_is_refused(tmp_path: Path, k: object) -> None:
    random_sae("topk", "blocks.1.hook_resid_pre", d_in=32, k=4).save_model(tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps(config | {"k": k}))
    with pytest.raises(ModelError, match=rf"k {k}; expected"):
        read_dictionary(str(tmp_path), loaded("gpt2")[1].facts, device=CPU)


def test_a_folder_of_none_or_several_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="0 folders saved by sae-lens: none"):
        read_dictionary(str(tmp_path), loaded("gpt2")[1].facts, device=CPU)
    for name in ("one", "two"):
        random_sae("standard", "blocks.1.hook_resid_pre", d_in=32).save_model(tmp_path / name)
    with pytest.raises(ModelError, match="2 folders saved by sae-lens: one, two"):
        read_dictionary(str(tmp_path), loaded("gpt2")[1].facts, device=CPU)
    assert read_dictionary(str(tmp_path / "two"), loaded("gpt2")[1].facts, device=CPU).site == "resid_pre"
