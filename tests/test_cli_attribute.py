"""`tracer attribute`: one prompt, shown and saved, or one message."""

import pytest

from tests.test_cli import DEMO, refusal, tracer, without_cuda


def test_one_prompt_is_attributed_and_saved(capsys, tmp_path):
    import polars as pl

    model = ("--model", f"{DEMO}/language_model", "--transcoders", f"{DEMO}/per_layer")
    prompt = "the capital of the state containing Dallas is"
    assert tracer("attribute", prompt, *model, "--out", tmp_path / "graph") == 0
    printed = capsys.readouterr().out
    assert "target ' Austin'" in printed or "target 'Austin'" in printed
    nodes, edges = (pl.read_parquet(tmp_path / "graph" / f"{name}.parquet") for name in ("nodes", "edges"))
    assert set(edges["source_idx"]) | set(edges["target_idx"]) <= set(nodes["node_idx"])


@pytest.mark.parametrize("prompt", ["xyzzy plugh", "is " * 500])
def test_one_prompt_that_cannot_be_used_is_one_message(prompt, capsys):
    model = ("--model", f"{DEMO}/language_model", "--transcoders", f"{DEMO}/per_layer")
    refusal(capsys, "attribute", prompt, *model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "{tmp}/file/graph"), "is a file"),
        (("--out", "{tmp}/file"), "is a file"),
        (("--device", "gpu0", "--out", "{tmp}/graph"), "device: found 'gpu0'"),
        (("--device", "cuda", "--out", "{tmp}/graph"), "device: found 'cuda', and no CUDA device"),
    ],
)
def test_attribute_checks_folder_and_device_before_the_model_is_loaded(options, message, capsys, tmp_path, monkeypatch):
    from tracer import ReplacementModel

    without_cuda(monkeypatch)
    monkeypatch.setattr(ReplacementModel, "from_pretrained", lambda *_, **__: pytest.fail("the model was loaded"))
    (tmp_path / "file").write_text("")
    filled = [option.format(tmp=tmp_path) for option in options]
    model = ("--model", f"{DEMO}/language_model", "--transcoders", f"{DEMO}/per_layer")
    assert message in refusal(capsys, "attribute", "Dallas is in", *model, *filled)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
