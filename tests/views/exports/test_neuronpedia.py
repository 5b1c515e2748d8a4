"""Neuronpedia's bulk import from a run: read back equal to its tables, alike on every line, within the limits."""

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.views.exports.tiny_settings import SETTINGS
from tracer.errors import DataError
from tracer.tables.database import query
from tracer.views.exports import neuronpedia, neuronpedia_reading
from tracer.views.exports.neuronpedia import export_neuronpedia
from tracer.views.exports.neuronpedia_lines import stable_id, without_nul
from tracer.views.exports.neuronpedia_reading import SourceExport, read_neuronpedia


@pytest.fixture(scope="module")
def exported(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of the small run."""
    out = tmp_path_factory.mktemp("neuronpedia") / "out"
    summary = export_neuronpedia(finished_run, out, SETTINGS)
    assert summary.n_features_left_out == summary.n_examples_left_out == 0
    return out


@pytest.fixture(scope="module")
def sources(exported: Path) -> list[SourceExport]:
    """The same, read back."""
    return list(read_neuronpedia(exported))


def rows_of(database: Path, table: str) -> list[dict[str, Any]]:
    return query(database, f"SELECT * FROM {table} ORDER BY ALL").to_dicts()


def test_features_equal_the_table(finished_run: Path, sources: list[SourceExport]):
    rows = rows_of(finished_run, "features")
    lines = [line for source in sources for line in source.features()]
    assert len(lines) == len(rows) > 20
    for row, line in zip(rows, lines, strict=True):
        assert (line.modelId, line.layer, line.index) == ("tiny", f"{row['layer']}-transcoder-1k", str(row["feature"]))
        assert (line.maxActApprox, line.frac_nonzero) == (row["activation_max"], row["activation_frequency"])
        assert list(zip(line.pos_str, line.pos_values, strict=True)) == list(
            zip(row["top_tokens"], row["top_token_logits"], strict=True)
        )
        assert list(zip(line.neg_str, line.neg_values, strict=True)) == list(
            zip(row["bottom_tokens"], row["bottom_token_logits"], strict=True)
        )
        assert sum(line.freq_hist_data_bar_heights) == pytest.approx(row["n_firings"])
        assert len(line.freq_hist_data_bar_heights) == len(line.freq_hist_data_bar_values)


def test_activations_equal_the_examples(finished_run: Path, sources: list[SourceExport]):
    rows = query(finished_run, "SELECT * FROM examples ORDER BY layer, feature, rank").to_dicts()
    lines = [line for source in sources for line in source.activations()]
    assert len(lines) == len(rows)
    for row, line in zip(rows, lines, strict=True):
        assert (line.layer, line.index) == (f"{row['layer']}-transcoder-1k", str(row["feature"]))
        assert line.dataIndex == f"{row['prompt_id']}:{row['pos']}"
        assert list(line.tokens) == row["window_tokens"]
        assert list(line.values) == row["window_activations"]
        assert line.qualifyingTokenIndex == row["pos"] - row["window_start"]
        assert line.values[line.maxValueTokenIndex] == line.maxValue == row["activation"]
        assert line.minValue == min(row["window_activations"])


def test_explanations_equal_the_labels(finished_run: Path, sources: list[SourceExport]):
    rows = query(finished_run, "SELECT * FROM labels ORDER BY layer, feature").to_dicts()
    lines = [line for source in sources for line in source.explanations()]
    assert len(lines) == len(rows) > 10
    for row, line in zip(rows, lines, strict=True):
        assert (line.layer, line.index) == (f"{row['layer']}-transcoder-1k", str(row["feature"]))
        assert line.description == row["label"]
        assert line.notes == f"{row['description']}\n{row['provenance']}"
        assert (line.typeName, line.explanationModelName, line.authorId) == ("tracer_rule", None, SETTINGS.creator_id)


def test_what_the_rows_refer_to_is_there(finished_run: Path, sources: list[SourceExport]):
    run = query(finished_run, "SELECT * FROM runs").row(0, named=True)
    assert [source.source.id for source in sources] == [f"{layer}-transcoder-1k" for layer in range(run["n_layers"])]
    for source in sources:
        assert source.folder.parts[-3:] == ("exports", "tiny", source.source.id)
        assert source.release.name == source.source_set.releaseName == "tiny-release"
        assert source.source_set.name == source.source.setName == "transcoder-1k"
        assert source.model.id == source.source_set.modelId == source.source.modelId == "tiny"
        assert source.model.layers == run["n_layers"]
        assert (source.source.dataset, source.source.num_prompts) == (run["corpus"], run["n_prompts"])
        assert source.release.createdAt == "2026-01-01T00:00:00.000Z"


def test_all_lines_of_a_kind_have_the_same_keys_and_no_id_twice(exported: Path):
    keys, ids = defaultdict(set), list[str]()
    for path in (exported / "exports").rglob("batch-*.jsonl.gz"):
        for line in gzip.decompress(path.read_bytes()).decode().splitlines():
            fields = json.loads(line)
            keys[path.parent.name].add(tuple(fields))
            ids += [fields["id"]] if "id" in fields else []
    assert {name: len(found) for name, found in keys.items()} == {"features": 1, "activations": 1, "explanations": 1}
    assert len(ids) == len(set(ids)) > 100
    assert all(len(name) == 25 and name[0] == "c" and name.isalnum() and name.islower() for name in ids)


def test_two_exports_are_equal(finished_run: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    export_neuronpedia(finished_run, tmp_path / "again", SETTINGS)
    files = [path.relative_to(exported) for path in sorted(exported.rglob("*")) if path.is_file()]
    assert all((exported / path).read_bytes() == (tmp_path / "again" / path).read_bytes() for path in files)
    monkeypatch.setattr("tracer.views.exports.feature_readings.FEATURES_AT_ONCE", 3)
    told: list[tuple[int, int]] = []
    export_neuronpedia(finished_run, tmp_path / "small", SETTINGS, lambda *done: told.append(done))
    for one, other in zip(read_neuronpedia(exported), read_neuronpedia(tmp_path / "small"), strict=True):
        assert list(one.features()) == list(other.features())
        assert list(one.activations()) == list(other.activations())
        assert list(one.explanations()) == list(other.explanations())
    assert told[-1][0] == told[-1][1] == sum(1 for one in read_neuronpedia(exported) for _ in one.features())


def test_what_the_tables_of_the_server_cannot_hold_is_cut_or_left_out(
    awkward_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(neuronpedia, "MAX_INDEX", 20)
    summary = export_neuronpedia(awkward_run, tmp_path / "out", SETTINGS)
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(b"\\u0000" in (gzip.open if path.suffix == ".gz" else open)(path, "rb").read() for path in files)
    sources = list(read_neuronpedia(tmp_path / "out"))
    features = {(line.layer, line.index): line for source in sources for line in source.features()}
    explained = {(line.layer, line.index): line.description for source in sources for line in source.explanations()}
    n_too_large = query(awkward_run, "SELECT count(*) FROM features WHERE feature > 20").item()
    assert summary.n_features_left_out == n_too_large + 2 > 2
    assert max(int(index) for _, index in features) == 20
    assert explained.keys() <= features.keys()
    assert features["0-transcoder-1k", "10"].pos_str == ()
    assert features["1-transcoder-1k", "2"].neg_str == ()
    assert ("0-transcoder-1k", "1") not in explained
    assert len(explained["0-transcoder-1k", "0"]) <= 512
    assert explained["0-transcoder-1k", "0"].endswith("…")


def test_a_long_window_is_cut_around_its_peak(monkeypatch: pytest.MonkeyPatch, finished_run: Path, tmp_path: Path):
    monkeypatch.setattr("tracer.views.exports.neuronpedia_rows.MAX_TOKENS", 3)
    monkeypatch.setattr("tracer.views.exports.neuronpedia_rows.MAX_EFFECTS", 2)
    export_neuronpedia(finished_run, tmp_path / "out", SETTINGS)
    rows = query(finished_run, "SELECT * FROM examples ORDER BY layer, feature, rank").to_dicts()
    sources = list(read_neuronpedia(tmp_path / "out"))
    lines = [line for source in sources for line in source.activations()]
    assert {len(line.tokens) for line in lines} == {3}
    for row, line in zip(rows, lines, strict=True):
        assert line.values[line.qualifyingTokenIndex] == row["activation"]
        assert line.tokens[line.qualifyingTokenIndex] == row["token"]
    assert {len(line.pos_str) for source in sources for line in source.features()} == {2}


def test_labels_of_a_method_without_names_stay_out(finished_run: Path, tmp_path: Path):
    settings = SETTINGS.model_copy(update={"explanations": {}})
    assert export_neuronpedia(finished_run, tmp_path / "out", settings).n_labels == 0
    assert not list((tmp_path / "out").rglob("explanations"))


def test_a_run_without_features_has_sources_without_rows(empty_run: Path, tmp_path: Path):
    export_neuronpedia(empty_run, tmp_path / "out", SETTINGS)
    sources = list(read_neuronpedia(tmp_path / "out"))
    assert len(sources) == 3
    assert not list((tmp_path / "out").rglob("batch-*"))
    assert [line for source in sources for line in source.features()] == []


def test_ids_differ_where_their_parts_do():
    assert stable_id("a", "bc") == stable_id("a", "bc") != stable_id("ab", "c")


def test_what_the_importer_takes_for_nul_is_removed():
    assert without_nul("a\0b\\u0000c\\u0001") == "abc\\u0001"


def damaged(exported: Path, tmp_path: Path, content: bytes) -> SourceExport:
    [first, *_] = read_neuronpedia(exported)
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "batch-0.jsonl.gz").write_bytes(content)
    return SourceExport(
        folder=tmp_path,
        release=first.release,
        model=first.model,
        source_set=first.source_set,
        source=first.source,
    )


def test_a_line_with_other_fields_is_refused(exported: Path, tmp_path: Path):
    [first, *_] = read_neuronpedia(exported)
    line = next(first.features()).model_dump_json()
    more, fewer = (json.dumps(json.loads(line) | {"vector": []}), line.replace('"hasVector":false,', ""))
    for name, text in (("more", more), ("fewer", fewer)):
        folder = tmp_path / name
        folder.mkdir()
        with pytest.raises(DataError, match=r"line 2: .*no more and no fewer"):
            list(damaged(exported, folder, gzip.compress(f"{line}\n{text}\n".encode())).features())


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b"{}" * 100)[:-9], gzip.compress(b"[1]\n")],
    ids=["no gzip", "cut short", "no object"],
)
def test_a_damaged_batch_is_refused(exported: Path, tmp_path: Path, content: bytes):
    with pytest.raises(DataError):
        list(damaged(exported, tmp_path, content).features())


def test_a_line_without_end_is_refused(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(neuronpedia_reading, "MAX_LINE_BYTES", 1000)
    with pytest.raises(DataError, match="a longer line"):
        list(damaged(exported, tmp_path, gzip.compress(b" " * 5000)).features())


def test_a_folder_without_an_export_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="found no source"):
        list(read_neuronpedia(tmp_path))
