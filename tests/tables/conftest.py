"""One tiny run for all tests of this folder; tests that change it copy it first."""

from pathlib import Path

import pytest

from tests.tables.tiny_harvest import build_tiny_harvest
from tests.tables.tiny_run import build_tiny_run


@pytest.fixture(scope="session")
def tiny_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`results.duckdb` of a tiny run, not to be changed."""
    return build_tiny_run(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_harvest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`results.duckdb` of a tiny harvest of the same transcoders, not to be changed."""
    return build_tiny_harvest(tmp_path_factory.mktemp("tiny_harvest"))
