"""`tracer import` and `tracer export`: files of other tools in and out, or one message."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from tests.test_cli import DEMO, refusal, tiny_run, tracer
from tests.views.exports.tiny_settings import SETTINGS
from tracer.model.architectures import checkpoint_facts
from tracer.model.readers.registry import read_transcoders
from tracer.model.references import resolve

__all__ = ["tiny_run"]
MODEL = f"{DEMO}/language_model"
PROMPT = "the capital of the state containing Dallas is"


def read_set(path):
    return read_transcoders(
        Path(path), checkpoint_facts(resolve(MODEL)), device=torch.device("cpu"), lazy_decoder=False
    )


@pytest.fixture
def gemma_scope(tmp_path):
    """A random set in Gemma Scope's layout for the demo model."""
    facts, generator = checkpoint_facts(resolve(MODEL)), np.random.default_rng(0)
    for layer in range(facts.n_layers):
        folder = tmp_path / "scope" / f"layer_{layer}" / "width_16" / "average_l0_3"
        folder.mkdir(parents=True)
        shapes = {"W_enc": (facts.d_model, 16), "W_dec": (16, facts.d_model), "b_enc": 16, "b_dec": facts.d_model}
        arrays = {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        np.savez(folder / "params.npz", threshold=np.full(16, 0.1, np.float32), **arrays)
    return tmp_path / "scope"


def test_transcoders_of_another_layout_become_a_folder_of_circuit_tracer(capsys, gemma_scope, tmp_path):
    out = tmp_path / "new" / "set"
    assert tracer("import", "transcoders", gemma_scope, "--model", MODEL, "-o", out) == 0
    assert "per-layer, 4 layers, 64 features" in capsys.readouterr().out
    assert yaml.safe_load((out / "config.yaml").read_text())["model_name"] == MODEL
    expected, found = read_set(gemma_scope), read_set(out)
    assert found.read_point == expected.read_point
    assert found.write_point == expected.write_point
    for one, other in zip(found.layers, expected.layers, strict=True):
        for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
            assert torch.equal(getattr(one, name), getattr(other, name))
        assert torch.equal(one.nonlinearity.threshold, other.nonlinearity.threshold)


def test_transcoders_are_written_in_the_precision_asked(tmp_path):
    arguments = (f"{DEMO}/cross_layer", "--model", MODEL, "-o", tmp_path / "set", "--dtype", "bf16")
    assert tracer("import", "transcoders", *arguments) == 0
    expected, found = read_set(resolve(f"{DEMO}/cross_layer")), read_set(tmp_path / "set")
    assert found.cross_layer
    for one, other in zip(found.layers, expected.layers, strict=True):
        assert torch.equal(one.W_dec, other.W_dec.bfloat16().float())


def test_a_topk_that_circuit_tracer_does_not_have_is_refused(capsys, tmp_path):
    facts = checkpoint_facts(resolve(MODEL))
    for layer in range(facts.n_layers):
        folder = tmp_path / "set" / f"layers.{layer}.mlp"
        folder.mkdir(parents=True)
        matrix = torch.ones(16, facts.d_model)
        tensors = {"encoder.weight": matrix, "encoder.bias": torch.ones(16), "b_dec": torch.ones(facts.d_model)}
        save_file(tensors | {"W_dec": matrix.clone()}, folder / "sae.safetensors")
        (folder / "cfg.json").write_text('{"k": 4, "transcode": true, "activation": "topk"}')
    arguments = (tmp_path / "set", "--model", MODEL, "-o", tmp_path / "out")
    assert "found TopK with ReLU before the choice" in refusal(capsys, "import", "transcoders", *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_transcoders_that_do_not_fit_or_a_folder_in_use_are_refused(capsys, gemma_scope, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    arguments = ("--model", MODEL, "-o", tmp_path / "out")
    assert "a folder with files in it" in refusal(capsys, "import", "transcoders", gemma_scope, *arguments)
    (gemma_scope / "layer_2" / "width_16" / "average_l0_3" / "params.npz").unlink()
    assert "layer" in refusal(capsys, "import", "transcoders", gemma_scope, "--model", MODEL, "-o", tmp_path / "new")
    assert {path.name for path in tmp_path.iterdir()} == {"out", "scope"}


@pytest.mark.parametrize("form", ["pack", "files"])
def test_a_run_is_exported_for_circuit_tracer_and_read_back(form, capsys, tiny_run, tmp_path):
    import polars as pl

    from tracer.tables.database import query

    out = tmp_path / "shown"
    assert tracer("export", tiny_run, "--format", "circuit-tracer", "--form", form, "--graphs", 2, "-o", out) == 0
    printed = capsys.readouterr().out
    assert printed.count("graph ") == 2
    assert len(json.loads((out / "graph-metadata.json").read_text())["graphs"]) == 2
    counts = query(tiny_run / "results.duckdb", "SELECT count(*) FROM examples").item()
    assert tracer("import", "features", out, "-o", tmp_path / "examples.parquet") == 0
    assert f"{counts} examples" in capsys.readouterr().out
    assert pl.read_parquet(tmp_path / "examples.parquet").height == counts
    assert tracer("import", "features", out) == 0


def test_graphs_of_prompts_are_exported_by_id(tiny_run, tmp_path):
    from tracer.tables.database import query

    ids = query(tiny_run / "results.duckdb", "SELECT prompt_id, text FROM prompts ORDER BY prompt_id LIMIT 2")
    asked = [part for prompt_id in ids["prompt_id"] for part in ("--prompt-id", prompt_id)]
    arguments = ("--format", "circuit-tracer", "--scan", "org/repo", "-o", tmp_path / "shown")
    assert tracer("export", tiny_run, *arguments, *asked) == 0
    listing = json.loads((tmp_path / "shown" / "graph-metadata.json").read_text())
    assert [(entry["prompt"], entry["scan"]) for entry in listing["graphs"]] == [
        (text, "org/repo") for text in ids["text"]
    ]


def test_a_run_is_exported_for_neuronpedia_and_read_back(capsys, tiny_run, tmp_path):
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(SETTINGS.model_dump(mode="json")))
    arguments = ("--settings", tmp_path / "settings.yaml", "-o", tmp_path / "bundle")
    assert tracer("export", tiny_run / "results.duckdb", "--format", "neuronpedia", *arguments) == 0
    written = capsys.readouterr().out.splitlines()[0]
    assert tracer("import", "features", tmp_path / "bundle", "-o", tmp_path / "examples.parquet") == 0
    found = capsys.readouterr().out
    for count in ("features", "examples", "labels"):
        (number,) = (part.split()[0] for part in written.split(", ") if count in part)
        assert f"{number} {count}" in found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{run}", "--format", "neuronpedia", "-o", "{tmp}/out"), "found no --settings"),
        (
            ("{run}", "--format", "neuronpedia", "--graphs", "1", "-o", "{tmp}/out"),
            "--graphs with --format neuronpedia",
        ),
        (("{run}", "--format", "neuronpedia", "--form", "files", "-o", "{tmp}/out"), "--form with"),
        (("{run}", "--format", "circuit-tracer", "--settings", "x", "-o", "{tmp}/out"), "--settings with"),
        (("{run}", "--format", "circuit-tracer", "--scan", "", "-o", "{tmp}/out"), "an empty --scan"),
        (("{run}", "--format", "circuit-tracer", "--prompt-id", "none", "-o", "{tmp}/out"), "no graph of it"),
        (("{run}", "--format", "circuit-tracer", "-o", "{tmp}"), "a folder with files in it"),
        (("{tmp}", "--format", "circuit-tracer", "-o", "{tmp}/out"), "results.duckdb: found no such file"),
    ],
)
def test_an_export_that_cannot_be_is_one_message_and_leaves_nothing(arguments, message, capsys, tiny_run, tmp_path):
    (tmp_path / "mine").write_text("")
    filled = [part.format(run=tiny_run, tmp=tmp_path) for part in arguments]
    assert message in refusal(capsys, "export", *filled)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_folder_without_features_is_refused(capsys, tmp_path):
    assert "none of the known forms" in refusal(capsys, "import", "features", tmp_path)
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "index.json.gz").write_bytes(b"no gzip")
    message = refusal(capsys, "import", "features", tmp_path, "-o", tmp_path / "examples.parquet")
    assert "index.json.gz" in message
    assert [path.name for path in tmp_path.iterdir()] == ["features"]
