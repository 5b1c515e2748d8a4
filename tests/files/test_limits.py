"""JSON of limited size, and what is said of other files."""

import json

import pytest

from tracer.errors import DataError
from tracer.files.limits import checked_size, read_json_file, shown


def test_json_is_read_up_to_the_limit_and_not_beyond(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"name": "é", "n": [1, 2.5, None]}), encoding="utf-8")
    n_bytes = path.stat().st_size
    assert read_json_file(path, n_bytes) == {"name": "é", "n": [1, 2.5, None]}
    with pytest.raises(DataError, match=rf"a\.json: found {n_bytes} bytes; expected at most {n_bytes - 1}"):
        read_json_file(path, n_bytes - 1)


@pytest.mark.parametrize("content", [b"{", b"", b'"\xff"', b"[" * 100_000, b"[NaN]", b"[-Infinity]"])
def test_what_is_no_json_is_refused(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json.*expected JSON in UTF-8"):
        read_json_file(path)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        checked_size(tmp_path / "a")
    with pytest.raises(DataError, match="a folder"):
        checked_size(tmp_path)


def test_what_is_shown_of_a_value_is_short_whatever_its_size():
    pair = ()
    for _ in range(200):
        pair = (pair, pair)
    deep = []
    for _ in range(2_000):
        deep = [deep]
    for value in (pair, deep, "x" * 10**6, list(range(10**6)), {str(key): pair for key in range(100)}):
        assert 0 < len(shown(value)) <= 100
    assert shown([1, "a"]) == "[1, 'a']"
