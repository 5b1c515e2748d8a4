"""Datasets on a hub: read whole and streamed, at a revision, without the network, and errors."""

import json
from pathlib import Path

import pytest

from tests.hub.client import RefusedError, hub_client
from tests.hub.server import hub_server
from tracer.corpus.datasets_source import hub_dataset

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_rows(folder: Path, *texts: str) -> list[dict]:
    rows = [{"text": text, "n": number} for number, text in enumerate(texts)]
    folder.mkdir(exist_ok=True)
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def test_a_dataset_is_read_at_its_revision_streamed_or_not_and_again_without_the_hub(tmp_path):
    folder = tmp_path / "files"
    with hub_server() as hub:
        old_rows = write_rows(folder, "the", "old")
        old = hub.add("org/data", folder, kind="dataset", revision="v1")
        rows = write_rows(folder, "some", "new", "rows")
        new = hub.add("org/data", folder, kind="dataset")
        hub.add("org/gated", folder, kind="dataset", gated=True)
        (folder / "script.py").write_text("raise SystemExit('this code ran')")
        hub.add("org/script", folder, kind="dataset")
        with hub_client(hub.environment(tmp_path / "cache")) as client:
            for streaming in (True, False):
                assert client("rows", {"source": "org/data", "streaming": streaming}) == rows
                for revision in ("v1", old):
                    source = f"org/data@{revision}"
                    assert client("rows", {"source": source, "streaming": streaming}) == old_rows
            for settings, found in (
                ({"source": "org/data@v9"}, "org/data@v9: found .*Revision 'v9' doesn't exist"),
                ({"source": "org/data", "dataset_split": "dev"}, "dev"),
                ({"source": "org/none"}, "'org/none' doesn't exist on the Hub or cannot be accessed"),
                ({"source": "org/gated"}, "'org/gated' is a gated dataset"),
                ({"source": "org/script"}, "scripts are no longer supported"),
            ):
                with pytest.raises(RefusedError, match=found):
                    client("rows", settings)
        offline = hub.environment(tmp_path / "cache") | {"HF_HUB_OFFLINE": "1"}
        hub.requests.clear()
        with hub_client(offline) as client:
            prepared_last = client("rows", {"source": "org/data"})
            commits = {json.dumps(old_rows): (old, new), json.dumps(rows): (new, old)}[json.dumps(prepared_last)]
            assert client("rows", {"source": f"org/data@{commits[0]}"}) == prepared_last
            with pytest.raises(RefusedError, match=f"a prepared copy of another commit, {commits[0]}; expected commit"):
                client("rows", {"source": f"org/data@{commits[1]}"})
        assert hub.requests == []


def test_a_dataset_whose_download_breaks_off_is_an_error_and_is_read_by_the_next_call(tmp_path):
    rows = write_rows(tmp_path / "files", *(f"prompt {number}" for number in range(100)))
    with hub_server() as hub:
        hub.add("org/data", tmp_path / "files", kind="dataset")
        hub.spoil("train.jsonl", "short", after=500)
        with hub_client(hub.environment(tmp_path / "cache")) as client:
            with pytest.raises(RefusedError, match="org/data: found .*Consistency check failed"):
                client("rows", {"source": "org/data"})
            assert client("rows", {"source": "org/data"}) == rows


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("org/data", ("org/data", None)),
        ("org/data.v2@refs/pr/1", ("org/data.v2", "refs/pr/1")),
        (f"org/data@{COMMIT}", ("org/data", COMMIT)),
        ("tasks:atlas", None),
        ("prompts/texts.jsonl", None),
        ("/data/prompts", None),
        ("./data/prompts", None),
        ("data", None),
        ("org/data@", None),
    ],
)
def test_a_hub_name_is_told_from_other_sources(source, named):
    assert hub_dataset(source) == named


def test_a_folder_of_that_name_is_no_dataset_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "data").mkdir(parents=True)
    assert hub_dataset("org/data") is None
