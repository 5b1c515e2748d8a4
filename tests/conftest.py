"""What every test shares: no network, the shipped demo model loaded once, small random checkpoints."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from pathlib import Path

import pytest
import torch

from tests.checkpoints import write_checkpoint, write_transcoders
from tracer.model.replacement import ReplacementModel

DEMO_FILES = "package:tracer/model/demo/files"


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(2)


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
