"""Numbers of features, records as JSON, and the form with a file per feature."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.views.exports.drawn_features import layers
from tracer.errors import DataError
from tracer.graph.formats.ids import cantor, uncantor
from tracer.views.exports import feature_files
from tracer.views.exports.feature_files import (
    FeatureFile,
    FeatureRecord,
    parse_record,
    read_files,
    write_files,
)

WHOLE = {
    "index": 4,
    "examples_quantiles": [
        {
            "quantile_name": "Top",
            "examples": [
                {
                    "tokens": ["a", "b"],
                    "tokens_acts_list": [0, 1.5],
                    "train_token_ind": 1,
                    "is_repeated_datapoint": False,
                }
            ],
        }
    ],
}


@given(st.integers(0, 200), st.integers(0, 10**9))
def test_a_number_gives_its_pair_back(layer: int, feature: int):
    assert uncantor(cantor(layer, feature)) == (layer, feature)


def test_numbers_go_along_the_diagonals():
    assert [uncantor(number) for number in range(6)] == [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]


@settings(max_examples=25)
@given(drawn=layers())
def test_files_give_back_what_was_written(drawn: list[list[FeatureFile]], tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("files")
    written = [file for files in drawn for file in files]
    write_files(folder, written)
    (folder / "graph-metadata.json").write_text("{}")
    assert list(read_files(folder)) == written


def test_unknown_fields_are_skipped_and_absent_ones_are_none():
    record = parse_record(json.dumps(WHOLE | {"isDead": False}).encode(), "here")
    assert record.act_min is None
    assert record.histogram is None
    assert json.loads(record.to_json()) == WHOLE


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "EOF"),
        (b"\xff\xfe", "expected value"),
        (b"[" * 100_000, "recursion"),
        (json.dumps(WHOLE | {"index": -1}).encode(), "index"),
        (json.dumps(WHOLE | {"index": "4"}).encode(), "index"),
        (json.dumps(WHOLE | {"act_max": float("nan")}).encode(), "act_max"),
        (json.dumps(WHOLE | {"histogram": [float("inf")]}).encode(), "histogram.0"),
        (json.dumps(WHOLE).replace("[0, 1.5]", "[0]").encode(), "2 tokens have 1 activations"),
        (json.dumps({"index": 4}).encode(), "examples_quantiles"),
    ],
)
def test_what_is_no_record_is_refused(content: bytes, found: str):
    with pytest.raises(DataError, match=found) as refused:
        parse_record(content, "feature 4")
    assert refused.value.where == "feature 4"


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_files(tmp_path, [FeatureFile(0, 0, FeatureRecord(index=0, examples_quantiles=()))])
    monkeypatch.setattr(feature_files, "MAX_RECORD_BYTES", 10)
    with pytest.raises(DataError, match="a larger file"):
        list(read_files(tmp_path))


def test_a_record_of_another_feature_is_refused(tmp_path: Path):
    (tmp_path / f"{cantor(1, 3)}.json").write_text(json.dumps(WHOLE | {"index": 4}))
    with pytest.raises(DataError, match=rf"{cantor(1, 3)}\.json: found index 4; expected 13 or 3"):
        list(read_files(tmp_path))
