"""Files are written whole or not at all."""

import os

import pytest

from tracer.files.writing import write_file


def test_a_file_and_its_folder_are_written(tmp_path):
    write_file(tmp_path / "new" / "a.bin", b"first")
    write_file(tmp_path / "new" / "a.bin", b"second")
    assert (tmp_path / "new" / "a.bin").read_bytes() == b"second"


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    write_file(tmp_path / "a.bin", b"first")

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_file(tmp_path / "a.bin", b"second")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.bin", b"first")]
