"""Repositories of a hub: who may read them, what is fetched, pinned commits, the cache, downloads that go wrong."""

import os
from pathlib import Path

import pytest
import yaml

from tests.hub.client import RefusedError, hub_client
from tests.hub.server import Hub, hub_server

WEIGHTS = os.urandom(60_000)
TOKEN, OTHER_TOKEN, OLD_TOKEN = "hf_goodGOODgood0123", "hf_otherOTHERother4567", "hf_oldOLDold89"


@pytest.fixture
def hub():
    with hub_server() as served:
        served.tokens = {TOKEN: {"org/gated", "org/private"}, OTHER_TOKEN: set()}
        yield served


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    (folder / "sub" / "deep").mkdir(parents=True)
    contents = {
        "config.json": b"{}",
        "model.safetensors": WEIGHTS,
        "pytorch_model.bin": b"pickle",
        "sub/config.yaml": b"a: 1",
        "sub/deep/layer_0.safetensors": b"zero",
        "sub[1].txt": b"odd",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def downloaded(hub: Hub) -> list[str]:
    """Paths in their repositories of the files that were asked for since the last time."""
    paths = [path.split("/resolve/")[1].partition("/")[2] for path in hub.downloads()]
    hub.requests.clear()
    return paths


def refusal(client, *references: str) -> str:
    with pytest.raises(RefusedError) as caught:
        client("check_access", *references)
    return str(caught.value)


def test_all_repositories_are_asked_for_before_anything_is_downloaded(hub, files, tmp_path):
    hub.add("org/public", files)
    hub.add("org/gated", files, gated=True)
    hub.add("org/private", files, private=True)
    reasons = {None: ", and no token", OTHER_TOKEN: " that the token may not read"}
    private = "neither a local folder nor a repository: it does not exist, or is private and "
    whys = {None: f"{private}there is no token", OTHER_TOKEN: f"{private}the token may not read it"}
    page = f"Accept its terms at {hub.url}/org/gated and set HF_TOKEN to a token of that account."
    to_do = f"{page} Check the name; for a private repository set HF_TOKEN to a token that may read it."
    with hub_client(hub.environment(tmp_path / "cache")) as client:
        for token in (None, OTHER_TOKEN):
            if token is not None:
                client("use_token", token)
            client("check_access", "org/public", "org/public/sub", "hf://org/public/config.json", str(files))
            assert "org/public@v9: found no revision 'v9' in the repository" in refusal(client, "org/public@v9")
            assert "org/public/sub/none: found no sub/none in the rep" in refusal(client, "org/public/sub/none")
            assert f"org/gated: found a gated repository{reasons[token]}; " in refusal(client, "org/gated")
            everything = refusal(client, "org/public", "org/gated/sub", "org/private@main", "org/missing")
            assert everything.startswith("org/gated/sub, org/private@main, org/missing: found org/gated/sub: a gated")
            assert f"; org/private@main: {whys[token]}; org/missing: {whys[token]}; expected a rep" in everything
            assert everything.endswith(to_do)
            with pytest.raises(RefusedError, match="a gated repository"):
                client("resolve", "org/gated/sub")
        client("use_token", TOKEN)
        client("check_access", "org/gated", "org/private", "org/gated/sub@main")
        assert whys[OTHER_TOKEN] in refusal(client, "org/missing")
        client("use_token", OLD_TOKEN)
        assert "org/public: found a token that the hub does not accept; " in refusal(client, "org/public")
        written = [path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()]
        assert not [text for text in [client.log().encode(), *written] if b"hf_" in text]
    assert downloaded(hub) == []


def test_a_fine_grained_token_without_gated_repositories_is_told_what_it_lacks(hub, files, tmp_path):
    hub.add("org/gated", files, gated=True)
    hub.tokens[OTHER_TOKEN] = {"org/gated"}
    hub.narrow_tokens = {OTHER_TOKEN}
    with hub_client(hub.environment(tmp_path / "cache", OTHER_TOKEN)) as client:
        asked = refusal(client, "org/gated")
        with pytest.raises(RefusedError) as fetched:
            client("resolve", "org/gated")
    for message in (asked, str(fetched.value)):
        assert "org/gated: found a repository that the hub does not let the token read; " in message
        assert f"Accept its terms, if it has any, at {hub.url}/org/gated, and set HF_TOKEN to a token that" in message
        assert "Try again later" not in message


def test_a_revision_is_asked_for_once_whatever_is_wanted_of_it(hub, files, tmp_path):
    hub.add("org/repo", files)
    wanted = ["org/repo/sub", "org/repo/config.json", "hf://org/repo/sub/config.yaml", "org/repo"]
    with hub_client(hub.environment(tmp_path / "cache")) as client:
        client("check_access", *wanted)
        client("check_access", *wanted)
        api = "/api/models/org/repo"
        assert [request.path for request in hub.requests] == [api, f"{api}/auth-check", f"{api}/paths-info/main"]
        both = refusal(client, *wanted, "org/repo/none", "org/repo/nothing")
        assert "found org/repo/none: no none in the repository; org/repo/nothing: no nothing in the repo" in both


@pytest.mark.parametrize(
    "name",
    ["layer_{layer}/width_{width}/average_l0_9/params.npz", "layer_{layer}_width_{width}_l0_9/params.safetensors"],
)
def test_a_set_with_several_of_a_layer_is_refused_by_its_names_alone(hub, tmp_path, name):
    for layer, width in ((0, "16k"), (1, "16k"), (1, "64k")):
        file = tmp_path / "files" / "sub" / name.format(layer=layer, width=width)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"0")
    hub.add("org/scope", tmp_path / "files")
    with hub_client(hub.environment(tmp_path / "cache")) as client:
        with pytest.raises(RefusedError, match="org/scope/sub: found 2 transcoders of layer 1: layer_1.width_16k"):
            client("check_repositories", str(tmp_path), "org/scope/sub")
        client("check_repositories", str(tmp_path), f"org/scope/sub/{name.format(layer=1, width='64k')}")
    assert downloaded(hub) == []


def test_repositories_that_a_set_lists_are_asked_for_before_weights_and_count_in_its_hash(hub, files, tmp_path):
    settings = {
        "model_kind": "transcoder_set", "feature_input_hook": "mlp.hook_in", "feature_output_hook": "mlp.hook_out",
        "transcoders": ["hf://org/elsewhere/sub/config.yaml"],
    }  # fmt: skip
    (files / "config.yaml").write_text(yaml.safe_dump(settings))
    hub.add("org/set", files)
    hub.add("org/elsewhere", files, private=True)
    with hub_client(hub.environment(tmp_path / "cache")) as client:
        with pytest.raises(RefusedError, match="org/elsewhere/sub/config.yaml: found neither a local folder nor a"):
            client("check_repositories", str(files), "org/set")
        assert downloaded(hub) == ["config.yaml"]
        hub.add("org/elsewhere", files)
        client("check_repositories", str(files), "org/set")
        first = client("set_hash", "org/set")
        assert first != client("content_hash", "org/set")
    (files / "sub" / "config.yaml").write_text("a: 2")
    hub.add("org/elsewhere", files)
    with hub_client(hub.environment(tmp_path / "cache")) as client:
        assert client("set_hash", "org/set") != first


def test_a_repository_of_pt_files_alone_is_fetched_with_them(hub, tmp_path):
    (tmp_path / "files").mkdir()
    for name in ("layer_0.pt", "pytorch_model.bin", "README.md"):
        (tmp_path / "files" / name).write_bytes(b"0")
    hub.add("org/old", tmp_path / "files")
    with hub_client(hub.environment(tmp_path / "cache")) as client:
        client("check_repositories", str(tmp_path), "org/old")
        folder = Path(client("resolve", "org/old"))
        assert sorted(path.name for path in folder.iterdir()) == ["README.md", "layer_0.pt"]
        (tmp_path / "files" / "README.md").unlink()
        hub.add("org/older", tmp_path / "files")
        client("check_repositories", str(tmp_path), "org/older")
        folder = Path(client("resolve", "org/older"))
        assert [path.name for path in folder.iterdir()] == ["layer_0.pt"]
        assert client.log() == ""
    with hub_client(hub.environment(tmp_path / "cache") | {"HF_HUB_OFFLINE": "1"}) as client:
        assert client("resolve", "org/older") == str(folder)


def test_what_lies_under_the_path_is_fetched_and_found_again_without_the_hub(hub, files, tmp_path):
    commit = hub.add("org/repo", files)
    environment = hub.environment(tmp_path / "cache")
    with hub_client(environment) as client:
        folder = Path(client("resolve", "org/repo/sub"))
        assert sorted(downloaded(hub)) == ["sub/config.yaml", "sub/deep/layer_0.safetensors"]
        assert (folder / "config.yaml").read_bytes() == b"a: 1"
        assert folder.parts[-3:] == ("snapshots", commit, "sub")
        file = Path(client("resolve", "hf://org/repo/model.safetensors?revision=main"))
        assert file.read_bytes() == WEIGHTS
        assert Path(client("resolve", "org/repo/sub[1].txt")).read_bytes() == b"odd"
        assert downloaded(hub) == ["model.safetensors", "sub%5B1%5D.txt"]
        whole = Path(client("resolve", "org/repo"))
        assert (downloaded(hub), whole) == (["config.json"], folder.parent)
        assert Path(client("resolve", f"org/repo/pytorch_model.bin@{commit}")).read_bytes() == b"pickle"
        with_pickle = client("content_hash", "org/repo")
        with pytest.raises(RefusedError, match="org/repo/none: found no none in the repository"):
            client("resolve", "org/repo/none")
    (files / "pytorch_model.bin").unlink()
    hub.requests.clear()
    with hub_client(environment | {"HF_HUB_OFFLINE": "1"}) as client:
        assert client("resolve", "org/repo") == str(whole)
        assert client("content_hash", "org/repo") == with_pickle == client("content_hash", str(files))
        client("check_access", "org/repo/sub")
        with pytest.raises(RefusedError, match="in the download cache, with HF_HUB_OFFLINE set"):
            client("resolve", "org/other")
    assert hub.requests == []


def test_a_hub_that_cannot_be_reached_leaves_what_was_fetched(hub, files, tmp_path):
    commit = hub.add("org/repo", files)
    environment = hub.environment(tmp_path / "cache") | {"HF_ENDPOINT": "http://127.0.0.1:1"}
    with hub_client(hub.environment(tmp_path / "cache")) as client:
        client("resolve", "org/repo/sub")
    api = "/api/models/org/repo"
    for path in (api, f"{api}/revision/main"):
        hub.spoil(path, "error")
    hub.requests.clear()
    with hub_client(hub.environment(tmp_path / "cache")) as client:
        client("check_access", "org/repo/sub")
        assert client("resolve", "org/repo/sub").endswith(f"{commit}/sub")
        assert [request.path for request in hub.requests] == [api, f"{api}/revision/main"]
        for path in ("/api/models/org/other", "/api/models/org/other/revision/main"):
            hub.spoil(path, "error")
        assert f"org/other: found status 500 in answer from {hub.url}; " in refusal(client, "org/other")
    with hub_client(environment) as client:
        client("check_access", "org/repo/sub")
        assert client("resolve", "org/repo/sub").endswith(f"{commit}/sub")
        assert "Using cached commit hash for 'org/repo'" in client.log()
        with pytest.raises(RefusedError, match="in the download cache, and no answer from http://127.0.0.1:1"):
            client("resolve", "org/other")
        assert "no answer from" in refusal(client, "org/other")


def test_a_branch_that_moves_is_followed_by_the_next_process_alone(hub, files, tmp_path):
    first = hub.add("org/repo", files)
    environment = hub.environment(tmp_path / "cache")
    with hub_client(environment) as client:
        assert client("pinned", "org/repo/sub") == f"org/repo/sub@{first}"
        (files / "sub" / "config.yaml").write_text("a: 2")
        second = hub.add("org/repo", files)
        assert second != first
        assert Path(client("resolve", "org/repo/sub@main"), "config.yaml").read_text() == "a: 1"
        assert client("pinned", "hf://org/repo?revision=main") == f"org/repo@{first}"
        assert client("pinned", str(files)) == str(files)
    with hub_client(environment) as client:
        assert Path(client("resolve", "org/repo/sub@main"), "config.yaml").read_text() == "a: 2"
        assert Path(client("resolve", f"org/repo/sub@{first}"), "config.yaml").read_text() == "a: 1"
        with pytest.raises(RefusedError, match="no revision"):
            client("resolve", f"org/repo/sub@{'0' * 40}")
        hub.remove("org/repo")
        assert Path(client("resolve", f"org/repo/sub@{first}"), "config.yaml").read_text() == "a: 1"


@pytest.mark.parametrize("kind", ["short", "error"])
def test_after_a_download_that_broke_off_the_next_call_fetches_what_is_missing(hub, files, tmp_path, kind):
    hub.add("org/repo", files)
    hub.spoil("model.safetensors", kind, after=20_000)
    with hub_client(hub.environment(tmp_path / "cache")) as client:
        found = {
            "short": r"broke off \(OSError: Consistency check failed: file should be of size 60000",
            "error": "500",
        }
        with pytest.raises(RefusedError, match=found[kind]):
            client("resolve", "org/repo")
        assert downloaded(hub).count("model.safetensors") == 1
        assert not list((tmp_path / "cache").rglob("model.safetensors"))
        assert Path(client("resolve", "org/repo"), "model.safetensors").read_bytes() == WEIGHTS
        again = downloaded(hub)
        assert "model.safetensors" in again
        assert "sub/config.yaml" not in again


def test_a_connection_that_is_cut_is_taken_up_where_it_ended(hub, files, tmp_path):
    chunk, content = 10 * 2**20, WEIGHTS * 200  # the client writes in chunks of this many bytes
    (files / "model.safetensors").write_bytes(content)
    hub.add("org/repo", files)
    hub.spoil("model.safetensors", "cut", after=chunk + 1_000)
    with hub_client(hub.environment(tmp_path / "cache")) as client:
        assert Path(client("resolve", "org/repo/model.safetensors")).read_bytes() == content
    ranges = [request.range for request in hub.requests if request.path in hub.downloads() and request.method == "GET"]
    assert ranges == [None, f"bytes={chunk}-"]


def test_a_process_killed_while_it_downloads_leaves_no_half_file(hub, files, tmp_path):
    hub.add("org/repo", files)
    hub.spoil("model.safetensors", "hold", after=20_000)
    with hub_client(hub.environment(tmp_path / "cache")) as client:
        client.start("resolve", "org/repo")
        assert hub.holding.wait(60)
        client.process.kill()
        client.process.wait()
    assert not list((tmp_path / "cache").rglob("model.safetensors"))
    offline = hub.environment(tmp_path / "cache") | {"HF_HUB_OFFLINE": "1"}
    absent = "of which all that is needed lies in the download cache"
    with hub_client(offline) as client, pytest.raises(RefusedError, match=absent):
        client("resolve", "org/repo")
    with hub_client(hub.environment(tmp_path / "cache")) as client:
        assert Path(client("resolve", "org/repo"), "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.slow
def test_a_hub_that_always_hangs_up_is_given_up(hub, files, tmp_path):
    hub.add("org/repo", files)
    hub.spoil("model.safetensors", "cut", n_times=100)
    environment = hub.environment(tmp_path / "cache")
    with hub_client(environment) as client, pytest.raises(RefusedError, match="no answer from"):
        client("resolve", "org/repo/model.safetensors")
    assert len(downloaded(hub)) < 10
