"""The stages in one process: whole runs, resumes, and shards that fail."""

import io
import json
from dataclasses import replace
from functools import partial

import pytest
from rich.console import Console

from tests.run.tiny_worker import MODEL, TinyWorker, begin_tiny_run, faulty, record_of
from tracer.errors import ConfigError, RunError
from tracer.run import labelling, pipeline
from tracer.run.backlog import ATTEMPTS_PER_SESSION
from tracer.run.status import read_status
from tracer.storage.store import open_store
from tracer.tables.database import query
from tracer.tables.equality import compare_tables


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def finish(root, config, make_worker=TinyWorker, console=None):
    return pipeline.run(config, root, inline=True, console=console or quiet(), make_worker=make_worker)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(root, begin_tiny_run(root))
    return root / "results.duckdb"


def test_a_run_ends_with_tables_labels_and_a_page(undisturbed):
    root = undisturbed.parent
    assert query(undisturbed, "SELECT count(*) AS n FROM graphs")["n"].item() == 24
    assert query(undisturbed, "SELECT count(*) AS n FROM labels")["n"].item() > 0
    assert "</html>" in (root / "page.html").read_text()
    run = query(undisturbed, "SELECT * FROM runs").row(0, named=True)
    assert (run["run_id"], run["n_prompts"], run["model_hash"]) == ("run", 24, "aa")
    assert run["seconds"] > 0


def test_running_a_finished_run_again_makes_no_worker_and_changes_no_file(tmp_path):
    root = tmp_path / "run"
    config = begin_tiny_run(root)
    first = finish(root, config)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file() and path.name != ".lock"}
    again = finish(root, config, make_worker=lambda config: pytest.fail("a worker was made"))
    after = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == before
    assert again == first


def test_a_run_that_was_stopped_goes_on_and_ends_equal_to_an_undisturbed_one(tmp_path, undisturbed):
    root = tmp_path / "run"
    config = begin_tiny_run(root)

    class Stopped(TinyWorker):
        def trace(self, prompts, shard_id, attempt, **skipped):
            if prompts[0].metadata["number"] == 12:
                raise KeyboardInterrupt
            return super().trace(prompts, shard_id, attempt, **skipped)

    with pytest.raises(KeyboardInterrupt):
        finish(root, config, make_worker=Stopped)
    assert len(list((root / "shards").iterdir())) == 2
    seconds = record_of(root).seconds
    result = finish(root, config)
    assert (result.n_traced, result.n_graphs, result.n_shards_given_up) == (24, 24, 0)
    assert compare_tables(undisturbed, result.database) == []
    assert record_of(root).seconds > seconds > 0


def test_a_shard_that_fails_once_is_tried_again_and_the_tables_are_equal(tmp_path, undisturbed):
    root, console = tmp_path / "run", quiet()
    result = finish(root, begin_tiny_run(root), faulty("raise", tmp_path / "fault", number=7), console)
    assert compare_tables(undisturbed, result.database) == []
    assert "attempt 0: ValueError: made to fail (trying again)" in console.file.getvalue()


def test_a_shard_that_always_fails_becomes_a_row_of_failures_and_the_next_driver_tries_it_again(tmp_path, undisturbed):
    root = tmp_path / "run"
    config = begin_tiny_run(root)
    result = finish(root, config, faulty("raise", tmp_path / "fault", number=7, n_times=99))
    assert (result.n_graphs, result.n_failures, result.n_shards_given_up) == (18, 1, 1)
    (failure,) = query(result.database, "SELECT * FROM failures").to_dicts()
    assert (failure["stage"], failure["error_class"], failure["attempts"]) == ("trace", "ValueError", 3)
    assert failure["message"] == "all 6 prompts of the shard: made to fail"
    result = finish(root, config)
    assert (result.n_graphs, result.n_failures, result.n_shards_given_up) == (24, 0, 0)
    assert compare_tables(undisturbed, result.database) == []


def test_a_run_in_which_nothing_works_stops_early(tmp_path):
    root = tmp_path / "run"

    def broken(config):
        worker = TinyWorker(config)
        worker.trace = lambda prompts, shard_id, attempt, **skipped: {}
        return worker

    with pytest.raises(RunError, match="the first 3 shards failed 3 times each"):
        finish(root, begin_tiny_run(root, n_prompts=60), broken)


def test_a_changed_model_is_refused_when_a_run_goes_on(tmp_path):
    root = tmp_path / "run"
    with pytest.raises(RunError, match="model_hash cc; expected model_hash aa"):
        finish(root, begin_tiny_run(root), partial(TinyWorker, model=MODEL | {"model_hash": "cc"}))


def test_the_stages_alone_end_equal_to_a_run(tmp_path, undisturbed):
    root = tmp_path / "run"
    config = begin_tiny_run(root)
    pipeline.trace(config, root, inline=True, console=quiet(), make_worker=TinyWorker)
    assert not (root / "results.duckdb").exists()
    pipeline.aggregate_run(root, inline=True, console=quiet(), make_worker=TinyWorker)
    labelling.label_run(root, console=quiet())
    assert compare_tables(undisturbed, root / "results.duckdb") == []


def test_promoted_tokens_are_kept_so_that_a_second_aggregation_needs_no_worker(tmp_path, undisturbed):
    root = tmp_path / "run"
    finish(root, begin_tiny_run(root))
    (root / "results.duckdb").unlink()
    pipeline.aggregate_run(
        root, inline=True, console=quiet(), make_worker=lambda config: pytest.fail("a worker was made")
    )
    assert compare_tables(undisturbed, root / "results.duckdb") == []


def test_a_traced_run_can_be_aggregated_with_other_settings_without_a_worker_and_keeps_them(tmp_path, undisturbed):
    def no_worker(config):
        pytest.fail("a worker was made")

    root, traced_so = tmp_path / "changed" / "run", tmp_path / "new" / "run"
    config = begin_tiny_run(root)
    aggregate = config.aggregate.model_copy(update={"min_support": 2, "by": ["task"], "stratify_by": "task"})
    asked = config.model_copy(update={"aggregate": aggregate})
    finish(root, config)
    for given in (asked, None):
        pipeline.aggregate_run(
            root,
            config=given,
            inline=True,
            console=quiet(),
            make_worker=lambda config: pytest.fail("a worker was made"),
        )
    assert record_of(root).config.aggregate == aggregate
    begin_tiny_run(traced_so)
    replace(record_of(traced_so), config=asked).save(open_store(traced_so))
    finish(traced_so, asked)
    assert compare_tables(traced_so / "results.duckdb", root / "results.duckdb") == []
    assert compare_tables(undisturbed, root / "results.duckdb") != []


def test_a_column_that_the_corpus_lacks_is_refused_before_anything_changes(tmp_path):
    root = tmp_path / "run"
    config = begin_tiny_run(root)
    finish(root, config)
    aggregate = config.aggregate.model_copy(update={"stratify_by": "author"})
    with pytest.raises(ConfigError, match="author"):
        pipeline.aggregate_run(
            root, config=config.model_copy(update={"aggregate": aggregate}), inline=True, console=quiet()
        )
    assert record_of(root).config == config


def test_a_deleted_page_is_made_again(tmp_path):
    root = tmp_path / "run"
    config = begin_tiny_run(root)
    finish(root, config)
    (root / "page.html").unlink()
    finish(root, config)
    assert "</html>" in (root / "page.html").read_text()


@pytest.mark.parametrize("relabel", [False, True])
def test_an_interruption_before_the_labels_is_mended_by_the_next_run(relabel, tmp_path, undisturbed, monkeypatch):
    root = tmp_path / "run"
    config = begin_tiny_run(root)
    finish(root, config)
    if not relabel:
        (root / "results.duckdb").unlink()

    def stop(*_):
        raise KeyboardInterrupt

    def begin():
        if relabel:
            labelling.label_run(root, console=quiet())
        else:
            finish(root, config)

    with monkeypatch.context() as patched:
        patched.setattr(labelling if relabel else pipeline, "label", stop)
        with pytest.raises(KeyboardInterrupt):
            begin()
    console = quiet()
    finish(root, config, console=console)
    assert "aggregating" in console.file.getvalue()
    assert compare_tables(undisturbed, root / "results.duckdb") == []
    assert query(root / "results.duckdb", "SELECT count(*) FROM labels").item() > 0
    assert "</html>" in (root / "page.html").read_text()


def test_a_run_without_an_out_folder_is_refused(tmp_path):
    with pytest.raises(RunError, match="Name a folder"):
        finish(None, begin_tiny_run(tmp_path / "run"))


def test_rows_that_gave_no_prompt_are_rows_of_failures(tmp_path):
    import json
    from pathlib import Path

    root = tmp_path / "run"
    config = begin_tiny_run(root)
    plain = json.loads((root / "run.json").read_text())
    plain["corpus"]["failures"] = [
        {"item_id": "row-9", "error_class": "DataError", "message": "too long", "text": "the the"}
    ]
    (root / "run.json").write_text(json.dumps(plain))
    result = finish(root, config)
    failures = query(result.database, "SELECT stage, item_id, text, attempts FROM failures").rows()
    assert failures == [("corpus", "row-9", "the the", 1)]
    assert result.n_failures == 1
    assert Path(config.corpus.source).exists()


def test_a_lock_file_that_somebody_removed_makes_no_attempt_number_twice(tmp_path):
    root = tmp_path / "run"
    config = begin_tiny_run(root)
    finish(root, config)
    (root / ".lock").unlink()
    removed = next((root / "shards").glob("*.json"))
    removed.unlink()
    finish(root, config)
    assert json.loads(removed.read_text())["attempt"] == ATTEMPTS_PER_SESSION


def test_results_are_not_called_done_while_shards_were_traced_that_they_do_not_hold(tmp_path):
    root = tmp_path / "run"
    config = begin_tiny_run(root)
    finish(root, config)
    next((root / "shards").glob("*.json")).unlink()
    pipeline.trace(config, root, inline=True, console=quiet(), make_worker=TinyWorker)
    assert read_status(root).state == "traced"
    (root / "aggregates" / "results.json").write_text("{")
    finish(root, config)
    assert read_status(root).state == "done"
