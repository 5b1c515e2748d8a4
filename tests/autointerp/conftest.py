"""Small runs for all tests of this folder; tests that change one copy it first."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.autointerp.demo_harvest import Document, atlas_texts, read_documents, write_harvest
from tests.autointerp.labellers import Oracle, RandomLabeller
from tests.autointerp.server import Answer, Server, serving
from tests.tables.tiny_run import build_tiny_run
from tracer.config.labels import LabellingConfig
from tracer.config.run import checked_config
from tracer.model.replacement import ReplacementModel
from tracer.run.labelling import label_run
from tracer.tables.database import query

N_DOCUMENTS = 400
LABELS = {
    "max_features": 90, "n_scored": 40, "max_groups": 30, "groups": ["consensus", "supernode", "mlp"],
    "scorers": ["detection", "fuzzing", "intruder", "output_logits"], "deep": ["L0/5"], "n_drafts": 3,
    "with_random_direction": True,
}  # fmt: skip
Labelled = Callable[..., Path]


@pytest.fixture(scope="session")
def tiny_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`results.duckdb` of a tiny run, not to be changed."""
    return build_tiny_run(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-of-labels")


@pytest.fixture(scope="session")
def documents(demo_model: ReplacementModel) -> list[Document]:
    """Sentences of the atlas and what fires in them."""
    return read_documents(demo_model, atlas_texts(N_DOCUMENTS, seed=77))


@pytest.fixture(scope="session")
def harvest(
    demo_run: Path, demo_model: ReplacementModel, documents: list[Document], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A harvest of those sentences, of the demo run's transcoders."""
    made_of = query(demo_run / "results.duckdb", "SELECT transcoders_hash FROM runs").item()
    return write_harvest(demo_model, documents, tmp_path_factory.mktemp("harvest"), made_of)


def labelling(url: str, *, autointerp: dict[str, Any] | None = None, **labels: Any) -> LabellingConfig:
    """Settings that ask a server of this machine."""
    prices = {"judge": {"input_usd": 1.0, "output_usd": 4.0}}
    client = {"base_url": f"{url}/v1", "model": "judge", "prices": prices, "cooldown_s": 0.5, "timeout_s": 5.0}
    return checked_config(
        {"autointerp": client | (autointerp or {}), "labels": LABELS | labels}, "test", LabellingConfig
    )


def label_copy(
    demo_run: Path, harvest: Path, folder: Path, answer: Answer, *, faults: Any = None, goes: int = 1, **labels: Any
) -> Path:
    """Copy the demo run and label it; the copy. The server's log is beside it."""
    run = folder / "run"
    shutil.copytree(demo_run, run)
    more = {} if faults is None else {"faults": faults}
    with serving(Server(answer=answer, log=folder / "server.jsonl", hang_s=10.0, **more)) as url:
        for _ in range(goes):
            label_run(run, config=labelling(url, **labels), harvest=harvest, inline=True, console=Console(quiet=True))
    return run


@pytest.fixture(scope="session")
def oracle(documents: list[Document], harvest: Path, demo_run: Path) -> Oracle:
    """Knows everything; what it calls two features would break out of a page."""
    found = Oracle(documents, harvest, demo_run)
    commonest = "SELECT layer, feature FROM features ORDER BY support DESC, layer, feature LIMIT 1"
    found.hostile = {(0, 5), query(demo_run / "results.duckdb", commonest).row(0)}
    return found


@pytest.fixture(scope="session")
def labelled_run(demo_run: Path, harvest: Path, oracle: Oracle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo run, labelled by the oracle, twice; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "sk-test-of-labels")
        return label_copy(demo_run, harvest, tmp_path_factory.mktemp("oracle"), oracle, goes=2)


@pytest.fixture(scope="session")
def guessed_run(demo_run: Path, harvest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo run, labelled at random."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "sk-test-of-labels")
        return label_copy(
            demo_run, harvest, tmp_path_factory.mktemp("guessed"), RandomLabeller(), scorers=["detection", "intruder"],
            groups=[], max_groups=0, deep=[],
        )  # fmt: skip
