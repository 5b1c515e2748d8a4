"""Examples in docstrings run and give what they say."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "tracer"


def modules_with_examples() -> list[str]:
    """Dotted names of the modules whose text holds an example."""
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]
    parts = [path.relative_to(PACKAGE.parent).with_suffix("").parts for path in paths]
    return [".".join(part for part in names if part != "__init__") for names in parts]


MODULES = modules_with_examples()


def test_there_are_examples():
    assert {"tracer.model.replacement", "tracer.attribution.attribute"} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_examples_of(module):
    found = doctest.testmod(import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert found.attempted > 0, "examples that no docstring holds"
    assert found.failed == 0
