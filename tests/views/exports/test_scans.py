"""The names that graph files give transcoder sets: places on the hub, and no paths of this machine."""

import pytest

from tracer.views.exports.scans import scan_of


@pytest.mark.parametrize(
    ("reference", "name", "is_found"),
    [
        ("org/repo", "org/repo", True),
        ("org/repo/sub/folder@v2", "org/repo//sub/folder@v2", True),
        ("hf://org/repo/sub?revision=v2", "org/repo//sub@v2", True),
        ("package:tracer.model.demo/files/per_layer", "per_layer", False),
        ("/absent/private/my-set", "my-set", False),
        ("~/private/my-set/", "my-set", False),
        ("my-set", "my-set", False),
        ("/", "transcoders", False),
        ("saelens:release/set", "saelens:release/set", False),
    ],
)
def test_a_set_is_named_by_its_place_on_the_hub_or_the_end_of_its_path(reference: str, name: str, is_found: bool):
    scan = scan_of(reference)
    assert (scan.name, scan.is_found) == (name, is_found)


def test_a_folder_that_is_here_is_local_whatever_its_path_looks_like(tmp_path, monkeypatch):
    (tmp_path / "org" / "repo").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert scan_of("org/repo").name == "repo"
    assert not scan_of("org/repo").is_found
    assert scan_of(str(tmp_path)).name == tmp_path.name
