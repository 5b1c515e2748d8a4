"""Prompts for which memory never suffices cost themselves, not their shard."""

import io

import pytest
import torch
from rich.console import Console

from tracer.config import parse_config
from tracer.run import attributing, pipeline
from tracer.tables.database import query

DEMO = "package:tracer.model.demo/files"
CONFIG = parse_config({
    "model": {"checkpoint": f"{DEMO}/language_model", "transcoders": f"{DEMO}/per_layer", "device": "cpu"},
    "corpus": {"source": "tasks:atlas", "limit": 24},
    "runner": {"shard_size": 24, "max_attempts": 3},
})


@pytest.mark.parametrize(("kind", "n_bad"), [(torch.OutOfMemoryError, 1), (MemoryError, 2)])
def test_the_other_prompts_of_a_shard_survive_those_that_run_out_of_memory(kind, n_bad, tmp_path, monkeypatch):
    prepare, seen = attributing.prepare_forward, []

    def run_out(model, forward, **settings):
        ids = tuple(forward.token_ids.tolist())
        if ids not in seen:
            seen.append(ids)
        if seen.index(ids) in (5, 9)[:n_bad]:
            raise kind("made to fail")
        return prepare(model, forward, **settings)

    monkeypatch.setattr(attributing, "prepare_forward", run_out)
    console = Console(file=io.StringIO(), width=200)
    result = pipeline.run(CONFIG, tmp_path / "run", inline=True, console=console)
    assert (result.n_graphs, result.n_failures, result.n_shards_given_up) == (24 - n_bad, n_bad, 0)
    failures = query(result.database, "SELECT item_id, error_class, message, attempts FROM failures").rows()
    assert {row[1:3] for row in failures} == {(kind.__name__, "made to fail")}
    assert sorted(row[3] for row in failures) == [3, 5][:n_bad]
    assert f"prompt {failures[0][0]}, attempt" in console.file.getvalue()
