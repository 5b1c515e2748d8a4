"""The shape of the house: who may import whom, how large things get, what carries a docstring, where files lie."""

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import repo_shape

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "tracer"
TOP_LEVEL = {
    "tracer", "jobs", "notebooks", "tests", "configs", "pyproject.toml", "README.md", "LICENSE", "Makefile",
    "constraints.txt",
}  # fmt: skip
NOT_COMMITTED = {"runs", "dist", "build", "__pycache__"}
TEST_FOLDERS_OF_THEIR_OWN = {"benchmarks", "circuits", "faults", "hub", "jobs", "notebooks", "recipes", "simulator"}
"""Tests of the whole rather than of a folder of the package."""


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((REPOSITORY / folder).rglob("*.py"))


def room_of(path: Path) -> str:
    """First name below the package: a folder, or a module of the top level; "" for the package's `__init__`."""
    name = path.relative_to(PACKAGE).with_suffix("").parts[0]
    return "" if name == "__init__" else name


def complaints_about(check: Callable[[str], list[str]], *folders: str) -> list[str]:
    return [
        f"{path.relative_to(REPOSITORY)}: {complaint}"
        for path in sources(*folders)
        for complaint in check(path.read_text(encoding="utf-8"))
    ]


def complaints_by_room(check: Callable[[str, str], list[str]]) -> list[str]:
    return [
        f"{path.relative_to(REPOSITORY)}: {complaint}"
        for path in sources("tracer")
        for complaint in check(room_of(path), path.read_text(encoding="utf-8"))
    ]


def test_every_room_of_the_package_has_its_place_in_the_import_order() -> None:
    rooms = {room_of(path) for path in sources("tracer")} - {""}
    assert rooms == set(repo_shape.LEVEL_OF)


def test_imports_go_one_way() -> None:
    assert complaints_by_room(repo_shape.import_order) == []


def test_duckdb_is_imported_by_tables_alone_and_ray_by_run_alone() -> None:
    assert complaints_by_room(repo_shape.owned_imports) == []
    assert complaints_about(lambda source: repo_shape.owned_imports("jobs", source), "jobs") == []


def test_no_import_is_relative() -> None:
    assert complaints_about(repo_shape.relative_imports, "tracer", "jobs", "tests") == []


def test_nothing_is_unpickled() -> None:
    assert complaints_about(repo_shape.unsafe_loading, "tracer", "jobs") == []


def test_files_functions_and_classes_are_small() -> None:
    assert complaints_about(repo_shape.sizes, "tracer", "jobs", "tests") == []


def test_modules_and_public_names_have_docstrings() -> None:
    assert complaints_about(repo_shape.missing_docstrings, "tracer") == []


def test_importing_the_package_loads_none_of_the_heavy_packages() -> None:
    heavy = {"torch", "ray", "transformers", "transformer_lens", "duckdb", "polars", "pydantic"}
    code = f"import sys, tracer; print(sorted({heavy!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_tests_mirror_the_package() -> None:
    folders = {path.parent.relative_to(REPOSITORY / "tests") for path in sources("tests")} - {Path()}
    strangers = {folder for folder in folders if folder.parts[0] not in TEST_FOLDERS_OF_THEIR_OWN}
    assert {str(folder) for folder in strangers if not (PACKAGE / folder).is_dir()} == set()


def test_the_top_level_holds_nothing_unforeseen() -> None:
    found = {path.name for path in REPOSITORY.iterdir() if not path.name.startswith(".")}
    assert {name for name in found - NOT_COMMITTED if not name.endswith(".egg-info")} <= TOP_LEVEL


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("graph", "from tracer.attribution.attribute import attribute"),
        ("graph", "from tracer.model.replacement import ReplacementModel"),
        ("errors", "from tracer.config import RunConfig"),
        ("corpus", "def late():\n    import tracer.model.replacement"),
        ("model", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tracer.graph.graph import Graph"),
        ("harvest", "from tracer.intervene.edits import Edit"),
        ("intervene", "from tracer import harvest"),
        ("errors", "from tracer import config"),
        ("model", "from tracer import attribute"),
        ("views", "import tracer.no_such_room"),
    ],
)
def test_an_import_upwards_or_sideways_is_found(room: str, source: str) -> None:
    (complaint,) = repo_shape.import_order(room, source)
    assert f"{room} imports tracer." in complaint


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("attribution", "from tracer.graph.graph import Graph\nimport tracer.errors"),
        ("harvest", "from tracer.harvest.firings import Firings"),
        ("errors", "from tracer import __version__"),
        ("cli", "def attribute():\n    from tracer import ReplacementModel"),
        ("corpus", "import torch\nfrom pathlib import Path"),
        ("", "from tracer.attribution.attribute import attribute"),
    ],
)
def test_an_import_downwards_is_let_pass(room: str, source: str) -> None:
    assert repo_shape.import_order(room, source) == []


def test_a_package_in_the_wrong_room_is_found() -> None:
    source = "import os\ndef query():\n    from duckdb import connect\nimport ray.util"
    assert sorted(repo_shape.owned_imports("views", source)) == [
        "line 3: duckdb.connect belongs to tables",
        "line 4: ray.util belongs to run",
    ]
    assert repo_shape.owned_imports("tables", "import duckdb") == []
    assert len(repo_shape.owned_imports("tables", "import ray")) == 1


@pytest.mark.parametrize("source", ["from . import corpus", "def late():\n    from ..errors import TracerError"])
def test_a_relative_import_is_found(source: str) -> None:
    assert len(repo_shape.relative_imports(source)) == 1
    assert repo_shape.relative_imports("from tracer import errors") == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def load():\n    from joblib import load",
        "import torch\ntorch.load('weights.pt')",
        "from torch import load",
        "import numpy as np\nnp.load('array.npy', allow_pickle=True)",
    ],
)
def test_unpickling_is_found(source: str) -> None:
    assert len(repo_shape.unsafe_loading(source)) == 1
    assert repo_shape.unsafe_loading("import json\njson.load(file)\nnp.load(path, allow_pickle=False)") == []


def test_what_is_too_large_is_found_and_the_largest_allowed_is_not() -> None:
    def function_of(n_lines: int) -> str:
        return "def work():\n" + "    pass\n" * (n_lines - 1)

    def class_of(n_methods: int) -> str:
        methods = "".join(f"    def method_{idx}(self): ...\n" for idx in range(n_methods))
        return f"class Thing:\n    def __len__(self): ...\n    @property\n    def size(self): ...\n{methods}"

    assert repo_shape.sizes(function_of(59) + class_of(9)) == []
    assert repo_shape.sizes(function_of(60)) == ["line 1: work has 60 lines"]
    assert repo_shape.sizes(class_of(10)) == ["line 1: Thing has 10 methods"]
    assert repo_shape.sizes("\n" * 299) == []
    assert repo_shape.sizes("\n" * 300) == ["300 lines"]


def test_a_missing_docstring_is_found() -> None:
    bare = """
        def work():
            def inner(): ...
        class Thing:
            size: int = 0
            def method(self): ...
            def __len__(self): ...
            def _hidden(self): ...
        class _Hidden:
            def method(self): ...
    """
    assert repo_shape.missing_docstrings(inspect.cleandoc(bare)) == [
        "no module docstring",
        "line 1: work has no docstring",
        "line 3: Thing has no docstring",
        "line 5: method has no docstring",
    ]
    whole = '"""Module."""\nclass Thing:\n    """Thing."""\n    def method(self):\n        """Method."""\n'
    assert repo_shape.missing_docstrings(whole) == []


def test_tests_of_a_file_stay_in_one_process(request: pytest.FixtureRequest) -> None:
    """pytest-xdist writes a test's group behind its name; a pytest that forbids it leaves tests ungrouped, silently."""
    if not request.config.getoption("loadgroup", default=False):
        pytest.skip("tests are not spread by group")
    assert request.node.nodeid.endswith("@tests/test_repo_shape.py")
