"""run.json reads back as it was, and refuses what does not belong to it."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.run.tiny_worker import begin_tiny_run, record_of
from tracer.config import parse_config
from tracer.errors import ArtifactError, RunError
from tracer.run.folder import RECORD_NAME
from tracer.run.origins import Origin
from tracer.run.record import aggregated_as, check_facts, check_resumable, load_record
from tracer.storage.json_files import read_json, write_json
from tracer.storage.store import open_store


@pytest.fixture
def run(tmp_path):
    root = tmp_path / "runs" / "first"  # one of the tests changes the source
    return begin_tiny_run(root), open_store(root)


def changed(config, **settings):
    plain = config.model_dump()
    for name, value in settings.items():
        section, setting = name.split("__")
        plain[section][setting] = value
    return parse_config(plain)


def test_a_record_reads_back_equal(run):
    config, folder = run
    record = load_record(folder)
    assert record.config == config
    record.save(folder)
    assert load_record(folder) == record


def test_where_things_came_from_reads_back_and_may_be_absent(run):
    _, folder = run
    origins = {
        "checkpoint": Origin(reference="org/model@main", commit="0123" * 10, content_hash="aa"),
        "transcoders": Origin(reference="sets/mine", commit=None, content_hash="bb"),
    }
    replace(load_record(folder), origins=origins).save(folder)
    assert load_record(folder).origins == origins
    plain = read_json(folder, RECORD_NAME)
    assert plain["origins"]["transcoders"] == {"reference": "sets/mine", "commit": None, "content_hash": "bb"}
    del plain["origins"]
    write_json(folder, RECORD_NAME, plain)
    assert load_record(folder).origins == {}


def test_run_json_holds_what_identifies_the_work(run):
    config, folder = run
    plain = read_json(folder, RECORD_NAME)
    assert plain["config_fingerprint"] == config.fingerprint()
    assert sum(shard["n_prompts"] for shard in plain["shards"]) == plain["corpus"]["n_prompts"] == 24
    assert plain["model"]["model_hash"] == "aa"
    assert {"tracer", "python", "torch", "duckdb"} <= set(plain["versions"])


def test_another_configuration_is_refused_naming_the_settings_that_differ(run):
    config, folder = run
    other = changed(config, pruning__node_threshold=0.5, corpus__limit=3)
    with pytest.raises(RunError) as error:
        check_resumable(load_record(folder), other, folder)
    assert error.value.found.endswith("corpus.limit None, pruning.node_threshold 0.8")
    assert error.value.expected == "corpus.limit 3, pruning.node_threshold 0.5"
    assert "--out" in error.value.to_do


def test_where_only_aggregation_differs_the_message_says_how_to_aggregate_anew(run):
    config, folder = run
    with pytest.raises(RunError) as error:
        check_resumable(load_record(folder), changed(config, aggregate__min_support=9), folder)
    assert error.value.expected == "aggregate.min_support 9"
    assert "tracer aggregate" in error.value.to_do
    assert "--config FILE" in error.value.to_do


def test_only_settings_of_aggregation_that_shards_are_not_counted_with_may_change_afterwards(run):
    config, folder = run
    record = load_record(folder)
    other = changed(config, aggregate__min_support=9, runner__n_actors=7)
    assert aggregated_as(record, other, folder).config == changed(config, aggregate__min_support=9)
    for setting in ({"pruning__node_threshold": 0.5}, {"aggregate__n_examples": 3}, {"aggregate__n_context_tokens": 3}):
        with pytest.raises(RunError) as error:
            aggregated_as(record, changed(config, aggregate__min_support=9, **setting), folder)
        (name,) = setting
        assert error.value.expected.startswith(name.replace("__", "."))
        assert "min_support" not in error.value.expected


def test_settings_that_do_not_affect_results_may_change(run):
    config, folder = run
    other = changed(config, runner__n_actors=7, runner__max_attempts=1, model__device="cpu", attribution__batch_size=3)
    check_resumable(load_record(folder), other, folder)


def test_a_source_file_with_other_content_is_refused_and_a_vanished_one_is_not(run):
    config, folder = run
    source = Path(config.corpus.source)
    source.write_text(source.read_text() + '{"text": "the"}\n')
    with pytest.raises(RunError, match="another content than when the run began"):
        check_resumable(load_record(folder), config, folder)
    source.unlink()
    check_resumable(load_record(folder), config, folder)


@pytest.mark.parametrize("key", ["format_version", "schema_version"])
def test_a_run_of_another_format_is_refused_naming_both_versions(run, key):
    _, folder = run
    plain = read_json(folder, RECORD_NAME)
    write_json(folder, RECORD_NAME, plain | {key: 99})
    with pytest.raises(ArtifactError, match=rf"{key} 99; expected {key} {plain[key]}\."):
        load_record(folder)


def test_a_run_of_another_minor_version_of_tracer_is_refused(run):
    _, folder = run
    plain = read_json(folder, RECORD_NAME)
    plain["versions"]["tracer"] = "99.4.2"
    write_json(folder, RECORD_NAME, plain)
    with pytest.raises(ArtifactError, match=r"tracer 99\.4;"):
        load_record(folder)


def test_a_worker_with_other_weights_is_refused(run):
    _, folder = run
    record = record_of(folder.reference)
    check_facts(record, record.model | {"device": "cuda:0", "pid": 3})
    with pytest.raises(RunError, match="transcoders_hash zz; expected transcoders_hash bb"):
        check_facts(record, record.model | {"transcoders_hash": "zz"})
