"""Readers of single files, and what they say of a broken one."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.corpus.files import READERS
from tracer.errors import DataError

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=20)


def read(path, text_column="text"):
    return list(READERS[path.suffix](path, text_column))


@given(rows=st.lists(st.fixed_dictionaries({"text": TEXT, "n": st.integers(-(2**40), 2**40)}), min_size=1, max_size=5))
def test_jsonl_and_parquet_give_back_the_rows_written(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("files")
    (folder / "a.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    assert read(folder / "a.jsonl") == rows == read(folder / "a.parquet")


@given(rows=st.lists(st.fixed_dictionaries({"text": TEXT, "city": TEXT}), min_size=1, max_size=5))
def test_csv_gives_back_the_rows_written_as_text(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("files") / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["text", "city"])
        writer.writeheader()
        writer.writerows(rows)
    assert read(path) == rows


def test_csv_keeps_leading_zeros_and_new_lines_within_quotes_and_reads_empty_values_as_null(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('\ufefftext,year,note\n"one\ntwo",07,\n,08,x\n', encoding="utf-8")
    assert read(path) == [{"text": "one\ntwo", "year": "07", "note": None}, {"text": "", "year": "08", "note": "x"}]


def test_text_has_one_prompt_per_line_under_the_text_column_and_blank_lines_are_passed_over(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\ufefffirst prompt\n\n  second \n", encoding="utf-8")
    assert read(path, "prompt") == [{"prompt": "first prompt"}, {"prompt": "  second "}]


@pytest.mark.parametrize(
    ("name", "content", "where", "found"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', "line 2", "no JSON"),
        ("a.jsonl", b'{"text": "a"}\n["b"]\n', "line 2", "JSON list"),
        ("a.jsonl", b"[" * 100_000 + b"\n", "line 1", "no JSON"),
        ("a.csv", b"text,city\na,b,c\n", "line 2", "3 values"),
        ("a.csv", b"text,city\na\n", "line 2", "1 values"),
        ("a.csv", b"text,text\na,b\n", "line 1", "columns text, text"),
        ("a.csv", b'text\n"a\n', "a.csv", "unreadable"),
        ("a.csv", b"text\n" + b"a" * 200_000 + b"\n", "a.csv", "unreadable"),
        ("a.parquet", b"PAR1 this is no parquet file", "a.parquet", "unreadable"),
    ],
)
def test_a_broken_file_is_a_data_error_that_names_the_place(tmp_path, name, content, where, found):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path)
    assert where in caught.value.where
    assert found in caught.value.found


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"text": "caf\xe9"}\n{"text": "b"}\n'),
        ("a.txt", b"caf\xe9\nb\n"),
        ("a.csv", b"text\ncaf\xe9\nb\n"),
    ],
)
def test_bytes_that_are_no_utf8_are_in_their_row_alone(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert [row["text"] for row in read(path)] == ["caf\udce9", "b"]


def test_a_truncated_parquet_file_is_a_data_error(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"prompt {i}" for i in range(5_000)]}), path)
    content = path.read_bytes()
    path.write_bytes(content[:200] + bytes(len(content) - 400) + content[-200:])
    with pytest.raises(DataError, match="unreadable"):
        read(path)


def test_files_are_read_as_streams_so_that_a_broken_end_does_not_matter_to_the_start(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"}\nbroken\n', encoding="utf-8")
    rows = READERS[".jsonl"](path, "text")
    assert [next(rows)["text"], next(rows)["text"]] == ["a", "b"]
