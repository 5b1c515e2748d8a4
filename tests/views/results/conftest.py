"""The tiny run, opened, and its rows as plain Python."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import tracer
from tests.tables.tiny_run import build_tiny_run
from tests.views.results.naive import Naive, naive_run
from tracer import Results


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`results.duckdb` of a tiny run, not to be changed."""
    return build_tiny_run(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def results(tiny_path: Path) -> Iterator[Results]:
    """The tiny run, opened."""
    with tracer.open(tiny_path) as opened:
        yield opened


@pytest.fixture(scope="session")
def naive() -> Naive:
    """The same by hand."""
    return naive_run()
