"""Folders that appear whole or not at all."""

from pathlib import Path

import pytest

from tracer.errors import ArtifactError
from tracer.views.exports.folders import new_folder


def test_a_folder_appears_when_it_is_whole(tmp_path: Path):
    out = tmp_path / "above" / "out"
    with new_folder(out) as folder:
        (folder / "file").write_text("whole")
        assert not out.exists()
    assert (out / "file").read_text() == "whole"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_error_leaves_nothing_behind(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "out") as folder:
        (folder / "file").write_text(str(1 / 0))
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_taken(tmp_path: Path):
    with new_folder(tmp_path) as folder:
        (folder / "file").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["full", "full/file"])
def test_what_is_there_is_kept(tmp_path: Path, name: str):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(ArtifactError, match="expected a new or an empty folder"), new_folder(tmp_path / name):
        pass
    assert (tmp_path / "full" / "file").read_text() == "mine"
