"""Prompts for which memory never suffices cost themselves, not their shard."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tracer.config import parse_config
from tracer.run import attributing, pipeline
from tracer.tables.database import query
from tracer.tables.equality import compare_tables

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
    assert sorted(row[3] for row in failures) == [4, 6][:n_bad]
    assert f"prompt {failures[0][0]}, attempt" in console.file.getvalue()


def test_a_shard_that_needs_smaller_passes_gives_the_tables_of_an_undisturbed_one(tmp_path, monkeypatch):
    config = CONFIG.model_copy(update={"corpus": CONFIG.corpus.model_copy(update={"limit": 6})})
    one_pass, sizes = attributing._one_pass, []

    def run_out(model, config, prompts):
        sizes.append((len(prompts), config.attribution.memory_budget_bytes))
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("made to fail")
        return one_pass(model, config, prompts)

    def database(name: str) -> Path:
        console = Console(file=io.StringIO(), width=200)
        return pipeline.run(config, tmp_path / name, inline=True, console=console).database

    undisturbed = database("undisturbed")
    monkeypatch.setattr(attributing, "_one_pass", run_out)
    disturbed = database("disturbed")
    budget = config.attribution.memory_budget_bytes
    assert sizes == [(6, budget), (4, budget // 2), *[(1, budget // 4)] * 6]
    # a standard deviation that is small beside its mean magnifies the rounding that passes of another size bring
    differing = [difference for difference in compare_tables(undisturbed, disturbed) if "_sd:" not in difference]
    assert differing == []
    assert query(disturbed, "FROM failures").is_empty()
