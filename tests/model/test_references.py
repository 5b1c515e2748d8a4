"""References to what lies on this machine, and hashes of it; what lies on a hub is in test_hub.py."""

from pathlib import Path

import pytest

from tracer.errors import ModelError
from tracer.model.references import content_hash, hub_reference, pinned, resolve

DEMO = "package:tracer.model.demo/files"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_folder_or_a_file_here_or_in_a_package_is_found(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"1")
    assert resolve(str(tmp_path)) == tmp_path
    assert resolve(str(tmp_path / "weights.safetensors")) == tmp_path / "weights.safetensors"
    assert resolve(f"{DEMO}/language_model/config.json").is_file()
    assert resolve(f"{DEMO}/language_model") == resolve(f"{DEMO}/language_model/config.json").parent


def test_a_local_folder_goes_before_a_repository_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(hub_reference("org/repo/sub")) == "org/repo/sub"
    (tmp_path / "org" / "repo" / "sub").mkdir(parents=True)
    assert hub_reference("org/repo/sub") is None
    assert resolve("org/repo/sub") == Path("org/repo/sub")
    assert str(hub_reference("hf://org/repo/sub")) == "org/repo/sub"


@pytest.mark.parametrize(
    "reference", ["package:tracer.model.demo/../readers", "package:tracer//etc", f"{DEMO}/../../../cli.py"]
)
def test_a_path_that_leads_out_of_a_package_is_refused(reference):
    with pytest.raises(ModelError, match="a path that leads out of the package"):
        resolve(reference)


@pytest.mark.parametrize("reference", ["package:no.such.package/x", "package:/x", "package:tracer/none"])
def test_a_package_or_path_that_is_not_there_is_refused(reference):
    with pytest.raises(ModelError, match="no such folder in the package"):
        resolve(reference)


def test_a_known_commit_is_put_into_a_reference_to_the_hub_alone():
    assert pinned("org/repo/sub@main", COMMIT) == f"org/repo/sub@{COMMIT}"
    assert pinned("hf://org/repo/file.npz?revision=v1", COMMIT) == f"org/repo/file.npz@{COMMIT}"
    assert pinned(f"{DEMO}/per_layer", COMMIT) == f"{DEMO}/per_layer"


def test_the_hash_of_a_file_sees_its_name_and_its_bytes(tmp_path):
    hashes = set()
    for name, content in (("a", b"1"), ("a", b"2"), ("b", b"2")):
        (tmp_path / name).write_bytes(content)
        hashes.add(content_hash(tmp_path / name))
    assert len(hashes) == 3


def test_weights_of_other_programs_count_only_where_there_are_no_safetensors(tmp_path):
    (tmp_path / "config.json").write_bytes(b"{}")
    bare = content_hash(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"1")
    with_pickle = content_hash(tmp_path)
    assert with_pickle != bare
    (tmp_path / "model.safetensors").write_bytes(b"1")
    with_both = content_hash(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    assert content_hash(tmp_path) == with_both
    assert len({bare, with_pickle, with_both}) == 3
