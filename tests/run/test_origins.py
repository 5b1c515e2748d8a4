"""Runs whose model, transcoders and prompts lie on a hub: what is recorded, what workers take, what is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.hub.client import hub_client
from tests.hub.server import Hub, hub_server
from tracer.config import parse_config
from tracer.model.references import resolve
from tracer.run.origins import Origin
from tracer.run.plan import for_workers
from tracer.run.record import load_record
from tracer.storage.store import open_store

REPOSITORY = Path(__file__).resolve().parent.parent.parent
FILES = resolve("package:tracer.model.demo/files")
TOKEN = "hf_recognisableRECOGNISABLE"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SETTINGS = {
    "model": {"checkpoint": "org/model", "transcoders": "hf://org/sets/per_layer?revision=main", "device": "cpu"},
    "corpus": {"source": "org/prompts", "streaming": True},
}


@pytest.fixture
def hub(tmp_path):
    """A hub with the demo model, gated; its transcoders in a folder; and a dataset."""
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    listing = tmp_path / "listing"
    listing.mkdir()
    settings = yaml.safe_load((FILES / "per_layer" / "config.yaml").read_text())
    n_layers = len(list((FILES / "per_layer").glob("layer_*.safetensors")))
    settings["transcoders"] = [f"hf://org/sets/per_layer/layer_{layer}.safetensors" for layer in range(n_layers)]
    (listing / "config.yaml").write_text(yaml.safe_dump(settings))
    texts = [f"the capital of the state containing {city} is" for city in ("Dallas", "Oakland")]
    (prompts / "train.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    with hub_server() as served:
        served.tokens = {TOKEN: {"org/model", "org/prompts"}}
        served.add("org/model", FILES / "language_model", gated=True)
        served.add("org/sets", FILES)
        served.add("org/listing", listing)
        served.add("org/prompts", prompts, kind="dataset", private=True)
        yield served


def trace(hub: Hub, tmp_path: Path, token: str | None, **model: str) -> subprocess.CompletedProcess[str]:
    """`tracer trace` into `tmp_path/run`."""
    (tmp_path / "run.yaml").write_text(json.dumps(SETTINGS | {"model": SETTINGS["model"] | model}))
    command = [sys.executable, "-m", "tracer", "trace", str(tmp_path / "run.yaml"), "--inline"]
    return subprocess.run(
        [*command, "--out", str(tmp_path / "run")],
        cwd=REPOSITORY,
        env=hub.environment(tmp_path / "cache", token) | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_run_records_its_commits_and_its_workers_take_them_when_a_branch_has_moved(hub, tmp_path):
    done = trace(hub, tmp_path, TOKEN)
    assert done.returncode == 0, done.stdout + done.stderr
    record = load_record(open_store(tmp_path / "run"))
    commits = {name: origin.commit for name, origin in record.origins.items()}
    names = {"checkpoint": "org/model", "transcoders": "org/sets", "dataset": "org/prompts"}
    kinds = {"dataset": "dataset"}
    assert commits == {
        name: hub.repository(kinds.get(name, "model"), repository, TOKEN)[0].revisions["main"]
        for name, repository in names.items()
    }
    assert record.origins["transcoders"].reference == SETTINGS["model"]["transcoders"]
    assert record.origins["checkpoint"].content_hash == record.model["model_hash"]
    assert (record.corpus.source, record.corpus.n_prompts) == ("org/prompts", 2)
    assert record.model_names["checkpoint"] == "org/model"

    hub.add("org/model", FILES / "per_layer", gated=True)
    hub.add("org/sets", FILES / "language_model")
    taken = for_workers(record.config, record.origins).model
    assert taken.checkpoint == f"org/model@{commits['checkpoint']}"
    assert taken.transcoders == f"org/sets/per_layer@{commits['transcoders']}"
    with hub_client(hub.environment(tmp_path / "empty cache", TOKEN)) as client:
        assert client("content_hash", taken.checkpoint) == record.model["model_hash"]
        assert client("content_hash", taken.transcoders) == record.model["transcoders_hash"]

    kept = [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert kept == []
    assert TOKEN not in done.stdout + done.stderr


def test_what_a_set_lists_is_recorded_and_a_resumed_run_reads_it_at_the_same_commit(hub, tmp_path):
    done = trace(hub, tmp_path, TOKEN, transcoders="org/listing")
    assert done.returncode == 0, done.stdout + done.stderr
    record = load_record(open_store(tmp_path / "run"))
    commit = hub.repository("model", "org/sets", None)[0].revisions["main"]
    set_hash = record.origins["transcoders"].content_hash
    listed = Origin(reference="org/sets", commit=commit, content_hash=set_hash)
    assert set(record.origins) == {"checkpoint", "transcoders", "listed:org/sets", "dataset"}
    assert record.origins["listed:org/sets"] == listed

    assert hub.add("org/sets", FILES / "language_model") != commit
    receipts = tmp_path / "run" / "shards"
    done_before = sorted(receipts.iterdir())
    assert done_before
    for path in done_before:
        path.unlink()
    for folder in (tmp_path / "cache").rglob("models--org--sets"):
        shutil.rmtree(folder)
    done = trace(hub, tmp_path, TOKEN, transcoders="org/listing")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in (tmp_path / "cache").rglob("models--org--sets/snapshots/*")] == [commit]
    assert sorted(receipts.iterdir()) == done_before


def test_a_run_that_may_not_read_everything_is_refused_before_any_download(hub, tmp_path):
    done = trace(hub, tmp_path, None)
    assert done.returncode == 2
    message = " ".join(done.stderr.split())
    assert "org/model, org/prompts: found org/model: a gated repository, and no token; org/prompts: neither" in message
    assert f"Accept its terms at {hub.url}/org/model and set HF_TOKEN" in message
    assert hub.downloads() == []
    assert not (tmp_path / "run" / "run.json").exists()


def test_workers_get_local_paths_made_absolute_and_packages_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    config = parse_config({
        "model": {"checkpoint": "model", "transcoders": "package:tracer.model.demo/files/per_layer"},
        "corpus": {"source": "tasks:atlas"},
    })
    local = Origin(reference="model", commit=None, content_hash="aa")
    taken = for_workers(config, {"checkpoint": local}).model
    assert taken.checkpoint == str(tmp_path / "model")
    assert taken.transcoders == config.model.transcoders
    on_hub = config.model_copy(update={"model": config.model.model_copy(update={"checkpoint": "org/model@main"})})
    origins = {"checkpoint": Origin(reference="org/model@main", commit=COMMIT, content_hash="aa")}
    assert for_workers(on_hub, origins).model.checkpoint == f"org/model@{COMMIT}"
    assert for_workers(on_hub).model.checkpoint == "org/model@main"
