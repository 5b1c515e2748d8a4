"""`tracer attribute`: one prompt, shown and saved, or one message."""

import json
import logging

import pytest

from tests.test_cli import DEMO, refusal, tracer, without_cuda

MODEL = ("--model", f"{DEMO}/language_model", "--transcoders", f"{DEMO}/per_layer", "--device", "cpu")
PROMPT = "the capital of the state containing Dallas is"


@pytest.fixture
def unloaded(monkeypatch):
    """Fails the test when the model is loaded."""
    from tracer import ReplacementModel

    monkeypatch.setattr(ReplacementModel, "from_pretrained", lambda *_, **__: pytest.fail("the model was loaded"))


def test_one_prompt_is_attributed_shown_and_saved_in_every_form(capsys, tmp_path):
    import polars as pl

    from tracer.graph.formats.graph_json import read_json
    from tracer.graph.formats.own import load_graph

    places = ("--out", tmp_path / "tables", "--slug", "dallas", "--graph_file_dir", tmp_path / "shown")
    file = tmp_path / "new" / "graph.safetensors"
    assert tracer("attribute", PROMPT, *MODEL, *places, "-o", file, "--show", "--n-nodes", 4) == 0
    printed = capsys.readouterr().out
    assert "next tokens: 'Austin' 1.000, " in printed
    assert "replacement 0.911, completeness 0.974" in printed
    assert "17 of 164 nodes kept (7 feature, 1 logit, 9 token), 50 edges" in printed
    assert "4 rows" in printed
    nodes, edges = (pl.read_parquet(tmp_path / "tables" / f"{name}.parquet") for name in ("nodes", "edges"))
    assert set(edges["source_idx"]) | set(edges["target_idx"]) <= set(nodes["node_idx"])
    whole, shown = load_graph(file), read_json(tmp_path / "shown" / "dallas.json")
    assert whole.prune().nodes().equals(nodes)
    assert len(shown.nodes) == nodes.height
    assert len(shown.links) == edges.height
    assert shown.metadata["scan"] == "per_layer"
    note = "viewers will find no features: the transcoders are on no hub, and the files call them per_layer"
    assert printed.splitlines().count(note) == 1
    listing = json.loads((tmp_path / "shown" / "graph-metadata.json").read_text())
    assert [entry["slug"] for entry in listing["graphs"]] == ["dallas"]
    written = [line.removeprefix("written ") for line in printed.splitlines() if line.startswith("written ")]
    assert {str(file), str(tmp_path / "shown" / "dallas.json")} < set(written)


def test_a_graph_for_viewers_alone_is_the_same_as_beside_the_whole_one(tmp_path):
    both = ("-o", tmp_path / "graph.safetensors", "--slug", "graph", "--graph-file-dir", tmp_path / "shown")
    thresholds = ("--node_threshold", 0.5, "--edge-threshold", 0.9)
    assert tracer("attribute", PROMPT, *MODEL, *both, *thresholds) == 0
    assert tracer("attribute", PROMPT, *MODEL, "--save", tmp_path / "graph.json", *thresholds) == 0
    alone, beside = (json.loads((tmp_path / name).read_text()) for name in ("graph.json", "shown/graph.json"))
    assert alone["nodes"] == beside["nodes"]
    assert alone["links"] == beside["links"]
    assert alone["metadata"]["pruning_settings"] == {"node_threshold": 0.5, "edge_threshold": 0.9}


def test_the_rank_and_probability_of_an_answer_are_printed(capsys, demo_model):
    assert tracer("attribute", "-p", PROMPT, *MODEL, "--show", "--answer", "Salem is") == 0
    probabilities = demo_model.forward(demo_model.tokenize(PROMPT)).logits[-1].softmax(-1)
    own = probabilities[demo_model.tokenizer.convert_tokens_to_ids("Salem")]
    expected = f"answer 'Salem': rank {int((probabilities > own).sum())}, probability {float(own):.3f}"
    assert expected in capsys.readouterr().out.splitlines()
    assert "the vocabulary knows" in refusal(capsys, "attribute", PROMPT, *MODEL, "--show", "--answer", "xyzzy")


def test_both_spellings_of_circuit_tracers_options_are_read(capsys, tmp_path):
    def nodes_of(name, *options):
        assert tracer("attribute", *options, *MODEL, "-o", tmp_path / name) == 0
        return json.loads((tmp_path / name).read_text())["nodes"]

    prompt = "the singers behind the farmers"
    few = ("--max_n_logits", 2, "--desired_logit_prob", 1.0, "--max_feature_nodes", 5, "--batch_size", 3)
    same = [part.replace("_", "-") if isinstance(part, str) else part for part in few]
    found = nodes_of("one.json", "-p", prompt, *few, "--lazy_decoder", "--backend", "transformerlens")
    assert found == nodes_of("two.json", "-p", prompt, *same, "--no-lazy-decoder", "--lazy-encoder")
    assert sum(node["feature_type"] == "logit" for node in found) == 2
    assert len(found) < len(nodes_of("all.json", "-p", prompt))
    capsys.readouterr()


@pytest.mark.parametrize("name", ["bf16", "float16"])
def test_a_precision_is_taken_by_either_name(name, capsys):
    import torch

    assert tracer("attribute", PROMPT, *MODEL, "--show", "--dtype", name, "--offload", "disk") == 0
    assert "next tokens: 'Austin' 1.000, " in capsys.readouterr().out
    assert torch.get_default_dtype() == torch.float32


def test_progress_is_logged_only_when_asked_for(capsys):
    assert tracer("attribute", PROMPT, *MODEL, "--show", "--verbose") == 0
    assert "attribution: " in capsys.readouterr().err
    assert tracer("attribute", PROMPT, *MODEL, "--show") == 0
    assert "attribution: " not in capsys.readouterr().err
    assert logging.getLogger("tracer").handlers == []


@pytest.mark.parametrize("prompt", ["xyzzy plugh", "is " * 500])
def test_one_prompt_that_cannot_be_used_is_one_message(prompt, capsys):
    refusal(capsys, "attribute", prompt, *MODEL, "--show")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "Give -o FILE, --slug NAME with --graph-file-dir FOLDER, --out FOLDER, or --show."),
        (("--out", "{tmp}/file/graph"), "is a file"),
        (("--out", "{tmp}/file"), "is a file"),
        (("-o", "{tmp}/graph.pt"), "a pickle, which tracer does not write; expected .json (for viewers)"),
        (("-o", "{tmp}/graph.gexf"), "found ending .gexf; expected .json (for viewers) or .safetensors (for tracer)"),
        (("-o", "{tmp}/graph"), "found ending none"),
        (("-o", "{tmp}/folder.json"), "found a folder"),
        (("-o", "{tmp}/file/graph.json"), "is a file"),
        (("-o", "/proc/graph.json"), "/proc cannot be written"),
        (("--slug", "dallas"), "--slug alone"),
        (("--graph_file_dir", "{tmp}/shown"), "--graph-file-dir alone"),
        (("--slug", "../dallas", "--graph-file-dir", "{tmp}/shown"), "slug: found '../dallas'"),
        (("--slug", "", "--graph-file-dir", "{tmp}/shown"), "slug: found ''"),
        (("--slug", "", "--show"), "--slug alone"),
        (("--slug", "dallas", "--graph_file_dir", ""), "found an empty name; expected a path"),
        (("--out", " "), "found an empty name; expected a path"),
        (("-o", "{tmp}/what?.json"), "-o {tmp}/what?.json: found a graph named 'what?'"),
        (("-o", "{tmp}/graph-metadata.json"), "-o {tmp}/graph-metadata.json: found a graph named 'graph-metadata'"),
        (("--slug", "dallas", "--graph-file-dir", "{tmp}/file"), "is a file"),
        (("--show", "--device", "gpu0"), "device: found 'gpu0'"),
        (("--device", "cuda", "--out", "{tmp}/graph"), "device: found 'cuda', and no CUDA device"),
        (("--show", "--prompt", "twice"), "found two prompts"),
        (("--show", "--backend", "nnsight"), "--backend nnsight"),
        (("--show", "--server"), "`circuit-tracer start-server` shows that folder"),
        (("--show", "--port", "8041"), "--server or --port"),
        (("--show", "--features_dir", "x"), "--features-dir"),
    ],
)
def test_outputs_device_and_options_are_checked_before_the_model_is_loaded(
    options, message, capsys, tmp_path, monkeypatch, unloaded
):
    without_cuda(monkeypatch)
    # Where this runs as root, only a file system that nobody writes tells.
    monkeypatch.setattr("os.access", lambda path, mode: not str(path).startswith("/proc"))
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.json").mkdir()
    filled = [option.format(tmp=tmp_path) for option in options]
    assert message.format(tmp=tmp_path) in refusal(capsys, "attribute", "Dallas is in", *MODEL, *filled)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder.json"}


def test_a_prompt_is_needed(capsys, unloaded):
    assert "found no prompt" in refusal(capsys, "attribute", *MODEL, "--show")


@pytest.mark.parametrize("options", [("--dtype", "float64"), ("--coverage", "0"), ("--max-n-logits", "0"), ("--what",)])
def test_values_outside_their_range_and_unknown_options_end_with_exit_code_2(options, capsys, unloaded):
    assert tracer("attribute", PROMPT, *MODEL, "--show", *options) == 2
    printed = capsys.readouterr()
    assert options[0] in printed.err
    assert not printed.out


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, "gemma"), ("google/gemma-2-2b", "mwhanna/gemma-scope-transcoders")),
        ((None, "llama"), ("meta-llama/Llama-3.2-1B", "mntss/transcoder-Llama-3.2-1B")),
        (("org/tuned", "gemma"), ("org/tuned", "mwhanna/gemma-scope-transcoders")),
        (("org/model", "org/set@v2"), ("org/model", "org/set@v2")),
        ((None, "{tmp}/set"), ("{tmp}/model", "{tmp}/set")),
    ],
)
def test_short_names_and_the_checkpoint_that_a_set_names(given, expected, tmp_path, monkeypatch):
    from tracer.cli.sources import find_sources

    asked = []
    monkeypatch.setattr("tracer.model.references.check_access", asked.extend)
    (tmp_path / "set").mkdir()
    settings = f"model_name: {tmp_path}/model\nmodel_kind: transcoder_set\n"
    (tmp_path / "set" / "config.yaml").write_text(settings)
    filled = [None if part is None else part.format(tmp=tmp_path) for part in given]
    found = find_sources(*filled)
    assert found == tuple(part.format(tmp=tmp_path) for part in expected)
    assert set(asked) == set(found)


def test_a_set_that_names_no_checkpoint_is_refused(capsys, tmp_path, unloaded):
    (tmp_path / "config.yaml").write_text("model_kind: transcoder_set\n")
    message = refusal(capsys, "attribute", PROMPT, "-t", tmp_path, "--show")
    assert "no model_name in its config.yaml" in message
    assert "Name the checkpoint with --model: a folder or org/repo on the hub" in message
    message = refusal(capsys, "attribute", PROMPT, "-t", f"{DEMO}/per_layer", "--show")
    assert "found model_name tracer-demo-atlas: no such folder" in message
    assert "such as openai-community/gpt2." in message


@pytest.mark.parametrize("names", [("-m", "gpt2", "-t", f"{DEMO}/per_layer"), ("-t", "gpt2")])
def test_a_name_without_its_owner_is_answered_with_what_the_hub_takes(names, capsys, unloaded):
    message = refusal(capsys, "attribute", PROMPT, *names, "--show")
    assert message.startswith("error: gpt2: found no such folder")
    assert "or org/repo on the hub, such as openai-community/gpt2." in message


@pytest.mark.parametrize("reference", ["./absent", "/absent/model"])
def test_a_path_that_is_not_there_is_no_name_on_the_hub(reference, capsys, unloaded):
    message = refusal(capsys, "attribute", PROMPT, "-m", reference, "-t", f"{DEMO}/per_layer", "--show")
    assert "openai-community" not in message
