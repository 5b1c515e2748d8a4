"""Releases of sae-lens' list, from a download cache that holds small files in the places of the real ones."""

import json
import os
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
import yaml
from sae_lens import SAE
from safetensors.torch import save_file

from tests.checkpoints import loaded
from tests.model.readers.sae_lens_writer import N_FEATURES, random_sae
from tracer.errors import ModelError
from tracer.model.dictionaries import read_dictionary
from tracer.model.readers.registry import read_transcoders
from tracer.model.readers.sae_lens_folder import read_folder
from tracer.model.references import content_hash, repository_of
from tracer.model.sae_lens_releases import release_folder
from tracer.run.origins import origin_of

CPU = torch.device("cpu")
ATTENTION = "saelens:gpt2-small-hook-z-kk/blocks.0.hook_z"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty download cache, and an offline client that reads it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cached_repository(hub_cache: Path, name: str) -> Path:
    """The folder of a repository's files in the cache."""
    commit, folder = "0" * 40, hub_cache / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    return folder / "snapshots" / commit


def test_a_release_in_the_own_format_keeps_what_the_list_adds(hub_cache: Path) -> None:
    sae = random_sae("standard", "blocks.1.hook_resid_pre", d_in=32)
    folder = cached_repository(hub_cache, "jbloom/GPT2-Small-SAEs-Reformatted") / "blocks.1.hook_resid_pre"
    sae.save_model(folder)
    settings = {"d_in": 32, "d_sae": N_FEATURES, "dtype": "float32", "hook_point": "blocks.1.hook_resid_pre"}
    (folder / "cfg.json").write_text(json.dumps(settings))
    reference = "saelens:gpt2-small-res-jb/blocks.1.hook_resid_pre"
    assert str(repository_of(reference)) == "jbloom/GPT2-Small-SAEs-Reformatted"
    folder = release_folder(reference)
    assert str(repository_of(reference)) == f"jbloom/GPT2-Small-SAEs-Reformatted@{'0' * 40}"
    assert origin_of(reference, content_hash(folder)).commit == "0" * 40
    assert read_folder(folder / "blocks.1.hook_resid_pre").processing == {"center_writing_weights"}
    _, model = loaded("gpt2")
    values = torch.randn(5, 32)
    with torch.no_grad():
        activations = sae.encode(values - values.mean(-1, keepdim=True))
    found = read_dictionary(str(folder), model.facts, device=CPU)
    torch.testing.assert_close(found.encode(values), activations, atol=1e-5, rtol=1e-5)
    (hub_cache / "models--jbloom--GPT2-Small-SAEs-Reformatted").rename(hub_cache / "gone")
    assert release_folder(reference) == folder


def test_a_scale_of_the_list_is_folded(hub_cache: Path) -> None:
    sae = random_sae("standard", "blocks.0.hook_mlp_out", d_in=32, normalize_activations="expected_average_only_in")
    repository = cached_repository(hub_cache, "tommmcgrath/gpt2-small-mlp-out-saes")
    sae.save_model(repository / "sae_group_gpt2_blocks.0.hook_mlp_out_24576:v1")
    folder = release_folder("saelens:gpt2-small-mlp-tm/blocks.0.hook_mlp_out")
    files = read_folder(folder / "blocks.0.hook_mlp_out").files
    torch.testing.assert_close(files.W_enc.whole(), 1.049317316132615 * sae.W_enc.detach().T)


def test_transcoders_of_another_maker_become_a_set(hub_cache: Path) -> None:
    repository = cached_repository(hub_cache, "mwhanna/qwen3-0.6b-transcoders-lowl0")
    (repository / "wandb-config.yaml").write_text(
        yaml.safe_dump({"d_model": {"value": 32}, "d_feature": {"value": 40}, "batch_size": {"value": 8}})
    )
    (repository / "config.yaml").write_text("model_name: Qwen/Qwen3-0.6B\n")
    for layer in range(3):
        sae = random_sae("transcoder", f"blocks.{layer}.mlp.hook_in", d_in=32, seed=layer)
        tensors = {name: parameter.detach() for name, parameter in sae.named_parameters()}
        save_file(tensors | {"W_enc": tensors["W_enc"].T.contiguous()}, repository / f"layer_{layer}.safetensors")
    folder = release_folder("saelens:mwhanna-qwen3-0.6b-transcoders-lowl0/layer_[012]")
    _, model = loaded("qwen3")
    found = read_transcoders(folder, model.facts, device=CPU)
    assert (found.read_point, found.write_point, found.model_name) == ("mlp_in", "residual", "Qwen/Qwen3-0.6B")
    values = torch.randn(5, 32)
    for layer, transcoder in enumerate(found.layers):
        sae = SAE.from_pretrained("mwhanna-qwen3-0.6b-transcoders-lowl0", f"layer_{layer}")
        with torch.no_grad():
            torch.testing.assert_close(transcoder.encode(values), sae.encode(values), atol=1e-5, rtol=1e-5)


class _Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def hostile(hub_cache: Path) -> Path:
    """What a file of `ATTENTION` would make if it were believed."""
    stem = "gpt2-small_L0_Hcat_z_lr1.20e-03_l11.80e+00_ds24576_bs4096_dc1.00e-06_rsanthropic_rie25000_nr4_v9"
    repository = cached_repository(hub_cache, "ckkissane/attn-saes-gpt2-small-all-layers")
    settings = {
        "act_name": "blocks.0.attn.hook_z",
        "layer": 0,
        "act_size": 4,
        "dict_size": 4,
        "model_name": "gpt2-small",
    }
    settings |= {"seq_len": 8, "model_batch_size": 1, "device": "cpu"}
    (repository / f"{stem}_cfg.json").write_text(json.dumps(settings))
    made = hub_cache.parent / "made by a pickle"
    torch.save({"W_enc": torch.zeros(4, 4), "more": _Hostile(made)}, repository / f"{stem}.pt")
    return made


def test_a_pickle_that_runs_code_is_refused_with_one_plain_message(hostile: Path) -> None:
    with pytest.raises(ModelError) as caught:
        release_folder(ATTENTION)
    message = str(caught.value)
    assert message.startswith(f"{ATTENTION}: found ckkissane/attn-saes-gpt2-small-all-layers: UnpicklingError: Weights")
    assert message.endswith("Use a release in safetensors.")
    assert "\n" not in message
    assert "weights_only" not in message
    assert caught.value.__suppress_context__
    assert not hostile.exists()


def test_settings_that_make_torch_believe_pickles_are_refused(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "yes")
    with pytest.raises(ModelError, match="found TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=yes; "):
        release_folder(ATTENTION)
    assert not hostile.exists()


@pytest.mark.usefixtures("hostile")
def test_settings_that_sae_lens_cannot_make_sense_of_are_refused(hub_cache: Path) -> None:
    (settings,) = hub_cache.rglob("*_cfg.json")
    settings.write_text("{}")
    with pytest.raises(ModelError, match="attn-saes-gpt2-small-all-layers: KeyError: 'act_size'; expected an SAE that"):
        release_folder(ATTENTION)


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("saelens:gpt2-small-res-jp", "does not list; expected gpt2-small-res-jb or"),
        ("saelens:gpt2-small-res-jb/blocks.77.hook_resid_pre", "no id 'blocks.77.hook_resid_pre'"),
        ("saelens:gemma-scope-2-1b-pt-transcoders-all", "several for one layer: layer_0_width_16k_l0_big, layer_0_"),
        ("saelens:gpt2-small-res-jb/blocks.2.hook_resid_pre", "jbloom/GPT2-Small-SAEs-Reformatted: (found )?nei"),
    ],
)
def test_a_release_that_cannot_be_had_is_refused(hub_cache: Path, reference: str, found: str) -> None:
    with pytest.raises(ModelError, match=found):
        release_folder(reference)
    assert not list(hub_cache.parent.rglob("cfg.json"))
