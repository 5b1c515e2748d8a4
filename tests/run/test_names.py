"""Transcoders that were made for another checkpoint are told, and those that may fit are not."""

import io
import json
import shutil

import pytest
import yaml
from rich.console import Console

from tracer.config import parse_config
from tracer.model.references import resolve
from tracer.run import pipeline
from tracer.run.names import differing_names, model_names

DEMO = "package:tracer.model.demo/files"


@pytest.mark.parametrize(
    ("checkpoint", "made_for", "differs"),
    [
        ("google/gemma-2-2b", "gemma-2-2b", False),
        ("google/Gemma-2-2B", "elsewhere/gemma-2-2b/", False),
        ("google/gemma-2-2b", "google/gemma-2-2b-it", True),
        ("openai-community/gpt2", "gpt2-small", False),
        (None, "gpt2", False),
        ("gpt2", None, False),
        (None, None, False),
    ],
)
def test_names_differ_where_both_are_known_and_their_last_parts_do(checkpoint, made_for, differs):
    assert differing_names({"checkpoint": checkpoint, "transcoders_made_for": made_for}) is differs


def config_with(tmp_path, *, own_name, made_for):
    """The demo model with these names in its files."""
    folders = {"checkpoint": tmp_path / "some folder", "transcoders": tmp_path / "transcoders"}
    shutil.copytree(resolve(f"{DEMO}/language_model"), folders["checkpoint"])
    shutil.copytree(resolve(f"{DEMO}/per_layer"), folders["transcoders"])
    config = folders["checkpoint"] / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | own_name))
    settings = folders["transcoders"] / "config.yaml"
    settings.write_text(yaml.safe_dump({**yaml.safe_load(settings.read_text()), "model_name": made_for}))
    return parse_config({
        "model": {name: str(folder) for name, folder in folders.items()} | {"device": "cpu"},
        "corpus": {"source": "tasks:atlas", "limit": 2},
    })


@pytest.mark.parametrize(
    ("own_name", "made_for", "warned"),
    [
        ({"_name_or_path": "me/toy-a"}, "toy-b", True),
        ({"_name_or_path": "me/toy-a"}, "you/Toy-A", False),
        ({"_name_or_path": ""}, "toy-b", False),
        ({}, "toy-b", False),
    ],
)
def test_a_run_warns_of_transcoders_of_another_checkpoint_and_records_both_names(tmp_path, own_name, made_for, warned):
    config, console = config_with(tmp_path, own_name=own_name, made_for=made_for), Console(file=io.StringIO())
    pipeline.trace(config, tmp_path / "run", inline=True, console=console)
    assert ("warning: the transcoders say that they were made for toy-b" in console.file.getvalue()) is warned
    names = {"checkpoint": own_name.get("_name_or_path") or None, "transcoders_made_for": made_for}
    assert json.loads((tmp_path / "run" / "run.json").read_text())["model_names"] == names


def test_a_checkpoint_from_the_hub_has_the_name_of_its_repository(tmp_path, monkeypatch):
    config = config_with(tmp_path, own_name={"_name_or_path": "its/parent"}, made_for="toy-b").model
    asked = config.model_copy(update={"checkpoint": "me/toy-a@main"})
    resolved = {asked.checkpoint: resolve(config.checkpoint), asked.transcoders: resolve(asked.transcoders)}
    monkeypatch.setattr("tracer.model.references.resolve", resolved.__getitem__)
    assert model_names(asked) == {"checkpoint": "me/toy-a", "transcoders_made_for": "toy-b"}


def test_the_shipped_checkpoint_names_none():
    config = parse_config({
        "model": {"checkpoint": f"{DEMO}/language_model", "transcoders": f"{DEMO}/per_layer"},
        "corpus": {"source": "tasks:atlas"},
    })
    assert model_names(config.model) == {"checkpoint": None, "transcoders_made_for": "tracer-demo-atlas"}
