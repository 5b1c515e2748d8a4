"""Which reader a source gets, and sources that are none."""

import pytest

from tracer.config import CorpusConfig
from tracer.corpus.sources import read_rows
from tracer.errors import ConfigError, DataError


def read(source, tokenizer=None, **settings):
    return list(read_rows(CorpusConfig(source=str(source), **settings), tokenizer))


def test_the_suffix_chooses_the_reader_in_either_case(tmp_path):
    (tmp_path / "a.TXT").write_text("one\n", encoding="utf-8")
    (tmp_path / "a.jsonl").write_text('{"text": "two"}\n', encoding="utf-8")
    assert read(tmp_path / "a.TXT") + read(tmp_path / "a.jsonl") == [{"text": "one"}, {"text": "two"}]


def test_tasks_are_generated(demo_tokenizer):
    rows = read("tasks:atlas", demo_tokenizer, options={"n_prompts": 3})
    assert len(rows) == 3
    assert all({"text", "answer", "task", "split", "template"} <= set(row) for row in rows)


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.csv", "a.txt"])
def test_an_absent_file_and_a_folder_in_its_place_are_refused(tmp_path, name):
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="found a folder"):
        read(tmp_path / name)


def test_a_file_of_unknown_kind_is_refused_with_the_known_ones(tmp_path):
    (tmp_path / "prompts.docx").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match=r"'\.docx'; expected one of \.jsonl"):
        read(tmp_path / "prompts.docx")


def test_an_unknown_task_is_refused_with_the_known_ones(demo_tokenizer):
    with pytest.raises(DataError, match="tasks:atlas, tasks:ioi, tasks:greater_than"):
        read("tasks:nothing", demo_tokenizer)


def test_options_are_refused_for_a_source_that_takes_none(tmp_path):
    (tmp_path / "a.txt").write_text("one\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"corpus\.options"):
        read(tmp_path / "a.txt", options={"n_prompts": 3})


def test_an_unreadable_file_is_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.symlink_to(tmp_path / "gone.txt")
    with pytest.raises(DataError, match="no such file"):
        read(path)
