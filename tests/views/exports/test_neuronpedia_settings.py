"""Settings of an export for Neuronpedia."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.views.exports.tiny_settings import SETTINGS
from tracer.errors import ConfigError
from tracer.views.exports.neuronpedia_settings import load_neuronpedia_settings


def written(path: Path, **changed: Any) -> Path:
    path.write_text(json.dumps(SETTINGS.model_dump() | changed))
    return path


def test_settings_are_read_from_a_file(tmp_path: Path):
    assert load_neuronpedia_settings(written(tmp_path / "settings.yaml")) == SETTINGS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_id", "../escape"),
        ("model_id", ""),
        ("model_id", "a.b"),
        ("source_set", "a/b"),
        ("source_set", ".."),
        ("source_set", "name\n"),
        ("creator", "x"),
        ("creator_id", ""),
        ("visibility", "public"),
        ("neurons_per_layer", -1),
        ("explanations", {"rule": {}}),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, name: str, value: Any):
    with pytest.raises(ConfigError, match=rf"settings\.yaml, {name}"):
        load_neuronpedia_settings(written(tmp_path / "settings.yaml", **{name: value}))


@pytest.mark.parametrize("content", [b"a: [", b"\xff", b"", b"- 1"])
def test_what_is_no_file_of_settings_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "settings.yaml"
    with pytest.raises(ConfigError, match="No such file"):
        load_neuronpedia_settings(path)
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        load_neuronpedia_settings(path)
