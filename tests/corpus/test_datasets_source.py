"""Hugging Face `datasets` folders, streamed and not, and names that lead nowhere."""

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tracer.config import CorpusConfig
from tracer.corpus.datasets_source import read_dataset
from tracer.errors import DataError

ROWS = [{"text": f"prompt {i}", "n": i, "token_ids": [i, i + 1]} for i in range(20)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("datasets_cache")))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def read(source, **settings):
    return read_dataset(CorpusConfig(source=str(source), **settings))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_saved_to_disk_gives_its_rows(tmp_path, streaming):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    assert list(read(tmp_path / "saved", streaming=streaming)) == ROWS


@pytest.mark.parametrize("streaming", [False, True])
def test_a_saved_folder_of_splits_gives_the_split_asked_for(tmp_path, streaming):
    splits = {"train": datasets.Dataset.from_list(ROWS), "test": datasets.Dataset.from_list(ROWS[:3])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    assert list(read(tmp_path / "saved", streaming=streaming, dataset_split="test")) == ROWS[:3]
    with pytest.raises(DataError, match="splits train, test; expected a split 'dev'"):
        next(read(tmp_path / "saved", streaming=streaming, dataset_split="dev"))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_of_parquet_files_gives_their_rows_in_order(tmp_path, streaming):
    for name, rows in (("train-0.parquet", ROWS[:12]), ("train-1.parquet", ROWS[12:])):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    assert list(read(tmp_path, streaming=streaming)) == ROWS


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_without_data_an_unknown_split_and_an_unknown_name_are_data_errors(tmp_path, streaming):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "full" / "train.parquet")
    for source, settings in (
        (tmp_path / "empty", {}),
        (tmp_path / "full", {"dataset_split": "dev"}),
        ("no-such-owner/no-such-dataset", {}),
        (tmp_path / "absent", {}),
    ):
        with pytest.raises(DataError) as caught:
            next(read(source, streaming=streaming, **settings))
        assert caught.value.where == str(source)


def test_a_folder_with_a_broken_file_is_a_data_error_when_streamed(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n{"text":', encoding="utf-8")
    with pytest.raises(DataError):
        list(read(tmp_path, streaming=True))
