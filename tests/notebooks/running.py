"""Runs the notebooks on a demo run; `--update` keeps in them what they print and draw.

python -m tests.notebooks.running --run runs/demo --update
"""

import argparse
import base64
import io
import os
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
TIMEOUT_S = 300
N_COLOURS = 64


def execute(path: Path, run: Path) -> nbformat.NotebookNode:
    """A notebook after all its cells ran on the run.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    harvest = run.absolute().with_name("harvest-of-demo")
    environment = os.environ | {
        "TRACER_DEMO_RUN": str(run.absolute()),
        "TRACER_DEMO_HARVEST": str(harvest),
        "PYTHONWARNINGS": "ignore",
    }
    client = NotebookClient(notebook, timeout=TIMEOUT_S, resources={"metadata": {"path": str(path.parent)}})
    return client.execute(env=environment)


def kinds(cell: nbformat.NotebookNode) -> list[str]:
    """Of what kinds a cell's outputs are; pieces of one stream are one output."""
    found: list[str] = []
    for output in cell.get("outputs", ()):
        kind = output["output_type"]
        named = output["name"] if kind == "stream" else "+".join(sorted(output.get("data", ())))
        if not found or found[-1] != f"{kind} {named}":
            found.append(f"{kind} {named}")
    return found


def keep(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write an executed notebook without times and machine."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _with_few_colours(output.data["image/png"])
    notebook.metadata["language_info"] = {"name": "python"}
    text: Any = nbformat.writes(notebook)
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


def _with_few_colours(png: str) -> str:
    """The same picture with a palette, a third as large; both in base64."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture = picture.quantize(N_COLOURS, Image.Quantize.MAXCOVERAGE)
    small = io.BytesIO()
    picture.save(small, format="png", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def main() -> None:
    """Run the notebooks, or those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="beginnings of names; none for all")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--update", action="store_true")
    arguments = parser.parse_args()
    for path in NOTEBOOKS:
        if not arguments.names or path.name.startswith(tuple(arguments.names)):
            notebook = execute(path, arguments.run)
            if arguments.update:
                keep(notebook, path)
            print(f"{path.name}: {len(notebook.cells)} cells, {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
