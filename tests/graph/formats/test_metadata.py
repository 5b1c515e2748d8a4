"""How files name transcoders."""

import pytest

from tracer.graph.formats.metadata import viewer_scan


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("org/repo", "org/repo"),
        ("org/repo@v1", "org/repo@v1"),
        ("org/repo/sub", "org/repo//sub"),
        ("org/repo/sub@v1", "org/repo//sub@v1"),
        ("google/gemma-2-2b/transcoder_all/width_16k@main", "google/gemma-2-2b//transcoder_all/width_16k@main"),
        ("hf://org/repo", "org/repo"),
        ("hf://org/repo/sub/", "org/repo//sub"),
        ("hf://org/repo/sub?revision=v1", "org/repo//sub@v1"),
        ("hf://org/repo/sub@v1", "org/repo//sub@v1"),
    ],
)
def test_a_folder_in_a_repository_stands_behind_two_slashes(reference, expected):
    assert viewer_scan(reference) == viewer_scan(expected) == expected


@pytest.mark.parametrize(
    "reference",
    ["", "gemma", "/home/me/sets/mine", "./graph_data/features", "../sets/mine/layers",
     "package:tracer.model.demo/files", "custom-855657b6c77645b4", "https://host/org/repo/sub", "org/repo//sub@v1"],
)  # fmt: skip
def test_other_names_stay_as_they_are(reference):
    assert viewer_scan(reference) == reference
