"""Labels of a run in an object store, on a real server of which one request in twenty fails: nothing is asked twice."""

import json
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from tests.autointerp.asked import asked_for
from tests.autointerp.conftest import labelling
from tests.autointerp.labellers import RandomLabeller
from tests.autointerp.server import Server, read_log, serving
from tests.run.tiny_worker import TinyWorker, begin_tiny_run
from tests.storage.s3_server import BUCKET, REPOSITORY, in_environment, started_s3
from tracer.autointerp.client.ledger import COMPACTED_NAME, read_rows, segment_names
from tracer.autointerp.keeping import FOLDER, KEPT
from tracer.cli import app
from tracer.config.labels import LabellingConfig
from tracer.run import pipeline
from tracer.run.labelling import import_labels, label_run
from tracer.storage.store import open_store
from tracer.tables.database import query
from tracer.views.results.opening import local_results

FEW = {"max_features": 25, "n_scored": 0, "groups": ["consensus"], "max_groups": 2, "deep": []}
COMPACTED = {f"{FOLDER}/{name}" for name in (COMPACTED_NAME, *(f"{kept}.parquet" for kept in KEPT))}
EXPLANATION = {
    "modelId": "m", "layer": "0-demo", "index": "1", "description": "about one", "typeName": "t",
    "explanationModelName": "gpt-x", "createdAt": "2024-05-01T00:00:00Z",
}  # fmt: skip
COUNT_DIRECTIONS = "SELECT count(*) FROM all_labels WHERE target_kind = 'random_direction'"
N_IN_FLIGHT = 2
DEADLINE_S = 120.0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of made-up prompts, in a folder."""
    root = tmp_path_factory.mktemp("tiny") / "run"
    config = begin_tiny_run(root, lease_s=2.0)
    pipeline.run(config, root, inline=True, console=Console(quiet=True), make_worker=TinyWorker)
    return root


@pytest.fixture(scope="module")
def _bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    cache = {"TRACER_CACHE": str(tmp_path_factory.mktemp("cache"))}
    with started_s3(failures=0.05) as environment, in_environment(environment | cache):
        yield


def copied(folder: Path) -> str:
    """What labelling reads of a run or a harvest, in the bucket; the URI."""
    uri = f"s3://{BUCKET}/{uuid.uuid4().hex}/run"
    store = open_store(uri)
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if name in ("run.json", "results.duckdb") or name.startswith("corpus/"):
            store.write(name, path.read_bytes())
    return uri


def label_in_process(uri: str, config: LabellingConfig, harvest: str | None = None) -> None:
    """The stage, without a word."""
    label_run(uri, config=config, harvest=harvest, inline=True, console=Console(quiet=True))


@pytest.mark.usefixtures("_bucket")
def test_every_answer_is_kept_and_imports_and_a_persons_labels_stand_beside_it(tiny: Path, tmp_path: Path) -> None:
    uri, log = copied(tiny), tmp_path / "server.jsonl"
    (tmp_path / "explanations.jsonl").write_text(json.dumps(EXPLANATION))
    with serving(Server(answer=RandomLabeller(), log=log)) as url:
        label_in_process(uri, labelling(url, **FEW))
    assert len(read_rows(open_store(uri), FOLDER)) == len(read_log(log)) > 20
    assert open_store(uri).list(FOLDER).keys() == COMPACTED
    assert import_labels(uri, tmp_path / "explanations.jsonl", Console(quiet=True)) == 1
    done = CliRunner().invoke(app, ["relabel", uri, "L0/1", "mine", "--by", "Ada"])
    assert done.exit_code == 0, done.output
    said = query(local_results(uri), "SELECT label, method FROM all_labels").rows()
    assert Counter(method for _, method in said)["llm"] > 20
    assert {("mine", "person"), ("about one", "neuronpedia:t")} <= set(said)


@pytest.mark.usefixtures("_bucket")
@pytest.mark.parametrize(
    ("lane", "result", "n_results"), [("now", "answer", 9), pytest.param("batch", "batch", 1, marks=pytest.mark.slow)]
)
def test_a_killed_stage_is_gone_on_with_and_nothing_known_is_asked_again(
    tiny: Path, tmp_path: Path, lane: str, result: str, n_results: int
) -> None:
    uri, log, file = copied(tiny), tmp_path / "server.jsonl", tmp_path / "label.yaml"
    client = {
        "lane": lane, "batch_poll_s": 0.1, "start_concurrency": N_IN_FLIGHT, "max_concurrency": N_IN_FLIGHT,
    }  # fmt: skip
    with serving(Server(answer=RandomLabeller(), log=log, latency_s=0.1, n_batch_polls=10)) as url:
        config = labelling(url, autointerp=client, **FEW)
        file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
        command = [sys.executable, "-m", "tracer", "label", uri, "--config", str(file), "--inline"]
        kill_when(command, lambda: sum(entry["result"] == result for entry in read_log(log)) >= n_results)
        store, n_before = open_store(uri), len(read_log(log))
        known, n_segments = read_rows(store, FOLDER), len(segment_names(store, FOLDER))
        assert n_segments > 0
        assert len(store.list(f"{FOLDER}/batches")) == (lane == "batch")
        label_in_process(uri, config)
        entries = read_log(log)
    assert not {asked_for(row) for row in known} & {entry["asked"] for entry in entries[n_before:] if "asked" in entry}
    rows = read_rows(store, FOLDER)
    assert len(rows) == len({row.request_hash for row in rows}) > 20
    n_answers = sum(entry["result"] == "answer" for entry in entries)
    assert 0 <= n_answers - len(rows) <= N_IN_FLIGHT * (lane == "now")
    assert sum(entry["result"] == "batch" for entry in entries) == 2 * (lane == "batch")  # labels, then groups
    assert open_store(uri).list(FOLDER).keys() == COMPACTED


def kill_when(command: list[str], is_time: Callable[[], bool]) -> None:
    """Start a command, and end it without warning."""
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    begun = time.monotonic()
    while not is_time():
        assert process.poll() is None
        assert time.monotonic() < begun + DEADLINE_S
        time.sleep(0.02)
    process.kill()
    process.wait()
    time.sleep(0.5)  # what was in flight at the servers ends


@pytest.mark.slow
@pytest.mark.usefixtures("_bucket")
def test_a_harvest_may_lie_in_an_object_store_too(demo_run: Path, harvest: Path, tmp_path: Path) -> None:
    uri = copied(demo_run)
    with serving(Server(answer=RandomLabeller(), log=tmp_path / "server.jsonl")) as url:
        few = FEW | {"max_features": 8, "n_scored": 4, "scorers": ["detection"], "max_groups": 0}
        label_in_process(uri, labelling(url, **few), copied(harvest))
    methods = dict(query(local_results(uri), "SELECT method, count(*) FROM all_labels GROUP BY method").rows())
    assert methods["rule_harvest"] > 100
    assert query(local_results(uri), "SELECT count(DISTINCT label_id) FROM label_scores").item() == 4
    assert methods["llm"] - 8 == query(local_results(uri), COUNT_DIRECTIONS).item() == 4
