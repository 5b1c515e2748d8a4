"""Harvests of the embedded model: whole, stopped and gone on with, on Ray, and over a corpus that is not tidy."""

import io
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tests.conftest import DEMO_FILES
from tests.model.readers.sae_lens_writer import random_sae
from tracer.config.harvest import HarvestConfig
from tracer.errors import ConfigError, RunError
from tracer.model.dictionaries import read_dictionary
from tracer.run import harvesting, pipeline
from tracer.run.collecting import collect_garbage
from tracer.run.harvest_worker import HarvestWorker, make_harvest_worker
from tracer.tables.database import query
from tracer.tables.equality import compare_tables

SENTENCES = (
    "the capital of the state containing Dallas is Austin", "Mary and John went to the park . John gave the ball",
    "the bird of the state containing Miami is", "the keys to the cabinet are", "Texas", "the river near the houses is",
)  # fmt: skip


def quiet():
    return Console(file=io.StringIO(), width=200)


def write_corpus(path: Path, n_documents: int = 24) -> Path:
    rows = [
        {"text": " . ".join(SENTENCES[(number + step) % 6] for step in range(1 + number % 4)) + f" . {word}"}
        for number, word in zip(range(n_documents), ["Texas", "Mary", "the", "park", "river"] * 9, strict=False)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def config_of(source, *, transcoders="per_layer", **harvest):
    return HarvestConfig.model_validate({
        "model": {"checkpoint": f"{DEMO_FILES}/language_model", "transcoders": f"{DEMO_FILES}/{transcoders}"},
        "corpus": {"source": str(source)},
        "harvest": {
            "windows": {"window_tokens": 16},
            "weights": {"n_neighbours": 2, "n_exciting_tokens": 2, "n_exciting_heads": 1},
            "coactivation": {"features": [[0, 1], [0, 2], [1, 3]], "min_support": 1},
            **harvest,
        },
        "runner": {"shard_size": 8, "n_actors": 1},
    })  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    place = tmp_path_factory.mktemp("harvest")
    config = config_of(write_corpus(place / "corpus.jsonl"))
    return config, harvesting.harvest(config, place / "harvest", inline=True, console=quiet())


def test_a_harvest_counts_what_single_passes_give(undisturbed, demo_model):
    config, result = undisturbed
    n_firings, n_tokens = {}, 0
    for row in Path(config.corpus.source).read_text().splitlines():
        ids = demo_model.tokenizer.encode(json.loads(row)["text"], add_special_tokens=False)
        for start in range(0, len(ids), 15):
            window = [demo_model.special_token_rule.prepend_id, *ids[start : start + 15]]
            n_tokens += len(window) - 1
            for layer, active in enumerate(demo_model.get_activations(window)):
                for feature in active.feature.tolist():
                    n_firings[layer, feature] = n_firings.get((layer, feature), 0) + 1
    rows = query(result.database, "SELECT layer, feature, n_firings FROM features").rows()
    assert len(rows) == 4 * 768
    assert {(layer, feature): n for layer, feature, n in rows if n} == n_firings
    assert query(result.database, "SELECT n_eligible_tokens FROM harvests").item() == n_tokens
    assert (result.n_documents, result.n_harvested, result.n_failures) == (24, 24, 0)


def test_a_finished_harvest_is_left_as_it_is(undisturbed):
    config, result = undisturbed
    root = Path(result.root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file() and path.name != ".lock"}
    again = harvesting.harvest(config, root, inline=True, console=quiet())
    assert again == result
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert collect_garbage(root, remove=False).n_bytes == 0
    settings = config.harvest.model_copy(update={"memory_limit_bytes": 2**29})
    harvesting.harvest(config.model_copy(update={"harvest": settings}), root, inline=True, console=quiet())
    assert result.database.stat().st_mtime_ns == before[result.database]


class Interrupted(HarvestWorker):
    """Is stopped at its second shard."""

    n_shards = 0

    def trace(self, *arguments, **options):
        self.n_shards += 1
        if self.n_shards == 2:
            raise KeyboardInterrupt
        return super().trace(*arguments, **options)


def test_a_harvest_that_was_stopped_goes_on_and_ends_equal(undisturbed, tmp_path):
    config, result = undisturbed
    with pytest.raises(KeyboardInterrupt):
        harvesting.harvest(
            config, tmp_path / "harvest", inline=True, console=quiet(),
            make_worker=lambda share, chosen, given: Interrupted(given, reference_share=share, chosen=chosen),
        )  # fmt: skip
    assert len(list((tmp_path / "harvest" / "shards").iterdir())) == 1
    again = harvesting.harvest(config, tmp_path / "harvest", inline=True, console=quiet())
    assert compare_tables(result.database, again.database) == []


class Failing(HarvestWorker):
    """Always fails at the shard of the strongest documents, before or after it has harvested them."""

    after: bool

    def trace(self, prompts, *arguments, **options):
        fails = any(prompt.text == STRONG for prompt in prompts)
        if fails and not self.after:
            raise ValueError("no")
        tables = super().trace(prompts, *arguments, **options)
        if fails:
            raise ValueError("no")
        return tables


STRONG = " . ".join(SENTENCES)


def test_a_shard_that_fails_after_its_pass_leaves_nothing_in_the_memory_of_its_worker(tmp_path):
    source, results = tmp_path / "corpus.jsonl", []
    texts = [STRONG, *(" . ".join(SENTENCES[: n + 1]) for n in range(5))]
    source.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    config = config_of(source, examples={"n_top": 1, "n_quantiles": 1, "n_per_quantile": 1})
    config = config.model_copy(update={"runner": config.runner.model_copy(update={"shard_size": 1})})
    for after in (False, True):

        def make_worker(share, chosen, given, after=after):
            worker = Failing(given, reference_share=share, chosen=chosen)
            worker.after = after
            return worker

        results.append(
            harvesting.harvest(config, tmp_path / str(after), inline=True, console=quiet(), make_worker=make_worker)
        )
    assert [result.n_shards_given_up for result in results] == [1, 1]
    before, after = (query(result.database, "SELECT * FROM examples ORDER BY ALL") for result in results)
    assert before.equals(after)


class Killed(HarvestWorker):
    """Dies once, in the middle of a shard."""

    mark: Path

    def trace(self, *arguments, **options):
        tables = super().trace(*arguments, **options)
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return tables


def make_killed(share, chosen, config):
    """A worker that dies once; says so in a file beside the corpus."""
    worker = Killed(config, reference_share=share, chosen=chosen)
    worker.mark = Path(config.corpus.source).with_suffix(".killed")
    return worker


def test_on_ray_a_worker_that_is_killed_is_replaced_and_the_tables_are_equal(undisturbed, tmp_path):
    config, result = undisturbed
    again = harvesting.harvest(config, tmp_path / "harvest", console=quiet(), make_worker=make_killed)
    assert Path(config.corpus.source).with_suffix(".killed").exists()
    assert compare_tables(result.database, again.database) == []


def test_a_corpus_that_is_not_tidy_is_harvested_as_far_as_it_can_be_and_the_rest_is_told(tmp_path):
    source = tmp_path / "corpus.jsonl"
    huge = " ".join(SENTENCES) + " . "
    lines = [
        json.dumps({"text": "the capital of Texas is Austin"}).encode(), json.dumps({"text": ""}).encode(),
        json.dumps({"text": "  "}).encode(),
        b'{"text": "the river \xff\xfe near"}', json.dumps({"text": "the capital of Texas is Austin"}).encode(),
        json.dumps({"text": None}).encode(), json.dumps({"text": "Mary went to the park"}).encode(),
        json.dumps({"text": huge * 200}).encode(),
    ]  # fmt: skip
    source.write_bytes(b"\n".join(lines))
    config = config_of(source, windows={"window_tokens": 16, "limit": 100})
    result = harvesting.harvest(config, tmp_path / "harvest", inline=True, console=quiet())
    found = query(result.database, "SELECT n_tokens, n_windows, status FROM documents ORDER BY n_tokens").rows()
    assert [row[1:] for row in found] == [(1, "harvested"), (1, "harvested"), (98, "harvested")]
    assert [n_tokens for n_tokens, _, _ in found[:2]] == [5, 6]
    assert query(result.database, "SELECT n_duplicates FROM harvests").item() == 1
    failed = query(result.database, "SELECT item_id, stage, error_class FROM failures ORDER BY item_id").rows()
    assert failed == [(f"row-{row}", "corpus", "DataError") for row in (2, 3, 4, 6)]


@pytest.mark.parametrize("kind", ["per_document", "cross_layer"])
def test_kinds_of_harvest(tmp_path, kind):
    source = write_corpus(tmp_path / "corpus.jsonl", 6)
    per_document = {"windows": {"window_tokens": 16, "packed": False}, "layers": [0, 2]}
    config = config_of(source, **per_document) if kind == "per_document" else config_of(source, transcoders=kind)
    if kind == "per_document":
        config = config.model_copy(update={
            "harvest": config.harvest.model_copy(update={"coactivation": type(config.harvest.coactivation)()})
        })  # fmt: skip
    result = harvesting.harvest(config, tmp_path / "harvest", inline=True, console=quiet())
    windows = query(result.database, "SELECT n_windows, n_tokens FROM documents").rows()
    layers = query(result.database, "SELECT DISTINCT layer FROM features ORDER BY ALL")["layer"].to_list()
    if kind == "per_document":
        assert all(n_windows == 1 and n_tokens <= 15 for n_windows, n_tokens in windows)
        assert layers == [0, 2]
    else:
        assert max(windows)[0] > 1
        assert layers == [0, 1, 2, 3]


def test_saes_are_harvested_in_the_place_of_transcoders(tmp_path, demo_model):
    references = {}
    for layer, site, seed in ((0, "attn.hook_z", 1), (2, "hook_resid_pre", 2)):
        sae = random_sae("topk", f"blocks.{layer}.{site}", d_in=128, seed=seed, k=4)
        sae.save_model(tmp_path / str(layer))
        references[layer] = str(tmp_path / str(layer))
    coactivation = {"features": [[0, 1], [2, 3]], "min_support": 1}
    config = config_of(
        write_corpus(tmp_path / "corpus.jsonl", 6), saes=list(references.values()), coactivation=coactivation
    )
    result = harvesting.harvest(config, tmp_path / "harvest", inline=True, console=quiet())
    n_firings = {}
    for row in Path(config.corpus.source).read_text().splitlines():
        ids = demo_model.tokenizer.encode(json.loads(row)["text"], add_special_tokens=False)
        for start in range(0, len(ids), 15):
            window = torch.tensor([demo_model.special_token_rule.prepend_id, *ids[start : start + 15]])
            for layer, reference in references.items():
                sae = read_dictionary(reference, demo_model.facts, device=torch.device("cpu"))
                active = sae.encode(sae.values(demo_model, window))[1:] != 0
                n_firings[layer] = n_firings.get(layer, 0) + active.sum(0)
    rows = query(result.database, "SELECT layer, feature, n_firings FROM features ORDER BY ALL").rows()
    expected = [(layer, feature, n) for layer, counts in n_firings.items() for feature, n in enumerate(counts.tolist())]
    assert rows == expected
    assert query(result.database, "SELECT transcoders FROM harvests").item() == ", ".join(references.values())


def test_windows_longer_than_the_context_and_folders_of_the_other_kind_are_refused(undisturbed, tmp_path):
    config, result = undisturbed
    longer = config_of(config.corpus.source, windows={"window_tokens": 65})
    with pytest.raises(ConfigError, match="context, 64"):
        harvesting.harvest(longer, tmp_path / "harvest", inline=True, console=quiet())
    with pytest.raises(RunError, match="found a harvest; expected a run"):
        pipeline.aggregate_run(result.root, inline=True, console=quiet())


def test_the_worker_of_the_product_is_made_by_its_maker(undisturbed):
    config, _ = undisturbed
    worker = make_harvest_worker(0.5, [], config)
    assert worker.facts()["n_features"] == [[layer, 768] for layer in range(4)]
    logits = worker.feature_logits([(1, 5), (0, 3)], 2)
    assert sorted(zip(logits["layer"].to_pylist(), logits["feature"].to_pylist(), strict=True)) == [(0, 3), (1, 5)]
