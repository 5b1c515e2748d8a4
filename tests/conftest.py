"""What every test shares: no network, the shipped demo model loaded once, small random checkpoints."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.pop("COLUMNS", None)  # what is printed is not to depend on whose terminal tests run in

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.checkpoints import write_checkpoint, write_transcoders
from tracer.model.replacement import ReplacementModel

REPOSITORY = Path(__file__).resolve().parent.parent
DEMO_FILES = "package:tracer/model/demo/files"

# How long an example takes says nothing on a busy machine.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run in several processes, those of a file stay together, and so do those that share a demo run."""
    for item in items:
        shares_demo_run = "demo_run" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("demo_run" if shares_demo_run else item.nodeid.split("::")[0]))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # Tensors here are so small that a second thread costs more in waiting than it brings: many times so on busy cores.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def demo_model() -> ReplacementModel:
    """The shipped model with its per-layer transcoders."""
    return ReplacementModel.from_pretrained(f"{DEMO_FILES}/language_model", f"{DEMO_FILES}/per_layer", device="cpu")


@pytest.fixture(scope="session")
def demo_cross_layer() -> ReplacementModel:
    """The shipped model with its cross-layer transcoders."""
    return ReplacementModel.from_pretrained(f"{DEMO_FILES}/language_model", f"{DEMO_FILES}/cross_layer", device="cpu")


@pytest.fixture(scope="session", params=["gpt2", "llama"])
def random_checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small randomly initialised checkpoint folder with a tokenizer."""
    return write_checkpoint(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session", params=["per_layer", "cross_layer"])
def random_model(
    request: pytest.FixtureRequest, random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> ReplacementModel:
    """A random checkpoint with random transcoders, one of both kinds."""
    folder = write_transcoders(
        random_checkpoint, tmp_path_factory.mktemp("transcoders"), cross_layer=request.param == "cross_layer"
    )
    return ReplacementModel.from_pretrained(random_checkpoint, folder, device="cpu")


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole `tracer run configs/demo.yaml`, made once by the command itself with two Ray actors."""
    out = tmp_path_factory.mktemp("demo") / "run"
    command = [sys.executable, "-m", "tracer", "run", "configs/demo.yaml", "--out", str(out)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out
