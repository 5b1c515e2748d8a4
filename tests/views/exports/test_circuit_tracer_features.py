"""Feature files from a run: equal to its tables, and accepted by circuit-tracer."""

import subprocess
from pathlib import Path

import pytest

from tests.benchmarks.environment import CIRCUIT_TRACER_PYTHON
from tests.graph.formats.circuit_tracer import needs_circuit_tracer
from tracer.errors import ArtifactError
from tracer.graph.formats.ids import cantor
from tracer.tables.database import query
from tracer.views.exports.circuit_tracer_features import export_circuit_tracer
from tracer.views.exports.feature_files import FeatureFile, read_files
from tracer.views.exports.feature_pack import read_pack

ACCEPT = """
import importlib.util, pathlib, runpy, sys
[package] = importlib.util.find_spec("circuit_tracer").submodule_search_locations
model = runpy.run_path(f"{package}/frontend/feature_models.py")["Model"]
for path in pathlib.Path(sys.argv[1]).glob("*.json"):
    print(model.model_validate_json(path.read_bytes()).index)
"""


@pytest.fixture(scope="module")
def exported(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[FeatureFile]:
    """The features of the small run, read back from a pack."""
    out = tmp_path_factory.mktemp("exported") / "pack"
    export_circuit_tracer(finished_run, out, transcoder_id="tiny-transcoders")
    return list(read_pack(out))


def test_every_feature_of_the_table_is_in_the_pack(finished_run: Path, exported: list[FeatureFile]):
    rows = query(finished_run, "SELECT * FROM features ORDER BY layer, feature").to_dicts()
    assert [(file.layer, file.feature) for file in exported] == [(row["layer"], row["feature"]) for row in rows]
    for row, file in zip(rows, exported, strict=True):
        record = file.record
        assert record.index == cantor(row["layer"], row["feature"])
        assert record.transcoder_id == "tiny-transcoders"
        assert list(record.top_logits) == row["top_tokens"]
        assert list(record.bottom_logits) == row["bottom_tokens"]
        assert record.act_min == 0
        assert record.act_max == row["activation_max"]
        assert record.activation_frequency == row["activation_frequency"]
        assert sum(record.histogram) == pytest.approx(row["n_firings"])
        assert len(record.quantile_values) == 99


def test_examples_are_the_windows_of_the_table_strongest_first(finished_run: Path, exported: list[FeatureFile]):
    rows = query(finished_run, "SELECT * FROM examples ORDER BY layer, feature, rank").to_dicts()
    found = [
        (file.layer, file.feature, example)
        for file in exported
        for group in file.record.examples_quantiles
        for example in group.examples
    ]
    assert len(found) == len(rows) > 100
    for row, (layer, feature, example) in zip(rows, found, strict=True):
        assert (layer, feature) == (row["layer"], row["feature"])
        assert list(example.tokens) == row["window_tokens"]
        assert list(example.tokens_acts_list) == row["window_activations"]
        assert example.tokens_acts_list[example.train_token_ind] == row["activation"]


def test_a_window_is_repeated_where_a_stronger_one_has_its_tokens(exported: list[FeatureFile]):
    flags = []
    for file in exported:
        [group] = file.record.examples_quantiles
        windows = [example.tokens for example in group.examples]
        expected = [window in windows[:place] for place, window in enumerate(windows)]
        assert [example.is_repeated_datapoint for example in group.examples] == expected
        flags += expected
    assert True in flags
    assert False in flags


def test_both_forms_hold_the_same_features(finished_run: Path, exported: list[FeatureFile], tmp_path: Path):
    summary = export_circuit_tracer(finished_run, tmp_path / "files", transcoder_id="tiny-transcoders", form="files")
    assert list(read_files(tmp_path / "files")) == exported
    assert summary.n_features == len(exported) == len(list((tmp_path / "files").iterdir()))


def test_batches_make_no_difference(
    finished_run: Path, exported: list[FeatureFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tracer.views.exports.feature_readings.FEATURES_AT_ONCE", 3)
    told: list[tuple[int, int]] = []
    export_circuit_tracer(
        finished_run, tmp_path / "pack", transcoder_id="tiny-transcoders", progress=lambda *done: told.append(done)
    )
    assert list(read_pack(tmp_path / "pack")) == exported
    assert told[-1] == (len(exported), len(exported))
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_what_was_not_measured_is_left_out_or_absent(awkward_run: Path, tmp_path: Path):
    summary = export_circuit_tracer(awkward_run, tmp_path / "pack", transcoder_id="tiny")
    found = {(file.layer, file.feature): file.record for file in read_pack(tmp_path / "pack")}
    assert summary.n_features_left_out == 2
    assert not {(1, 0), (1, 1)} & set(found)
    assert found[1, 2].bottom_logits is None
    assert b"bottom_logits" not in found[1, 2].to_json()
    n_lost = query(awkward_run, "SELECT count(*) FROM examples WHERE layer = 1 AND feature < 2").item() + 1
    assert summary.n_examples_left_out == n_lost
    assert summary.n_examples + n_lost == query(awkward_run, "SELECT count(*) FROM examples").item()


def test_a_run_without_features_makes_an_empty_pack(empty_run: Path, tmp_path: Path):
    summary = export_circuit_tracer(empty_run, tmp_path / "pack", transcoder_id="tiny")
    assert (summary.n_features, summary.n_layers) == (0, 3)
    assert list(read_pack(tmp_path / "pack")) == []


def test_what_is_no_results_file_leaves_no_folder(tmp_path: Path):
    with pytest.raises(ArtifactError, match="no such file"):
        export_circuit_tracer(tmp_path / "results.duckdb", tmp_path / "pack", transcoder_id="tiny")
    assert list(tmp_path.iterdir()) == []


@needs_circuit_tracer
def test_circuit_tracer_accepts_every_file(finished_run: Path, tmp_path: Path):
    export_circuit_tracer(finished_run, tmp_path / "files", transcoder_id="tiny", form="files")
    command = [CIRCUIT_TRACER_PYTHON, "-c", ACCEPT, tmp_path / "files"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    expected = {file.record.index for file in read_files(tmp_path / "files")}
    assert {int(line) for line in done.stdout.split()} == expected
    assert expected
