"""The notebooks run from end to end on the demo run, and what they hold is of the kinds that they give today."""

import base64
import re
from pathlib import Path

import nbformat
import pytest

from tests.notebooks.running import NOTEBOOKS, REPOSITORY, execute, kinds

MOST_BYTES = 600_000
MOST_CODE_LINES = 22
AGAIN = "If this is right: python -m tests.notebooks.running --run RUN --update"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_a_notebook_runs_and_gives_the_kinds_of_outputs_that_it_holds(path: Path, demo_run: Path) -> None:
    executed = execute(path, demo_run)
    held = nbformat.read(path, as_version=4)
    for was, now in zip(held.cells, executed.cells, strict=True):
        assert kinds(was) == kinds(now), f"{path.name}, cell {was.id}: {was.source[:80]}\n{AGAIN}"


def test_a_notebook_is_whole_small_and_without_traces_of_a_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert len(text) < MOST_BYTES
    assert [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"] == list(
        range(1, 1 + sum(cell.cell_type == "code" for cell in notebook.cells))
    )
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert {output.output_type for output in outputs} <= {"stream", "execute_result", "display_data"}
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert not re.search(r"/(tmp|home|root|work|Users)/", text)
    pictures = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert pictures
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)


def test_cells_of_code_are_short_and_each_notebook_begins_with_its_question(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= MOST_CODE_LINES, cell.source[:80]


def test_every_notebook_is_described() -> None:
    described = (REPOSITORY / "notebooks" / "README.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 6
    assert all(f"[{path.name}]({path.name})" in described for path in NOTEBOOKS)
