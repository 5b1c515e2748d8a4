"""Makes circuit-tracer's environment: its pins conflict with ours, so it gets one of its own.

The package is circuit-tracer on PyPI, a fork of the original; torch comes first so that both sides have the same.
"""

import subprocess
import sys
from pathlib import Path

import typer

from tests.benchmarks.shapes import FOLDER

CIRCUIT_TRACER_PYTHON = FOLDER / "circuit-tracer-env" / "bin" / "python"
INSTALLS = (("torch==2.13.0",), ("circuit-tracer==0.5.0", "torch==2.13.0", "transformer-lens<3", "pyarrow<20"))


def circuit_tracer_python() -> Path:
    """The interpreter that has circuit-tracer."""
    if not CIRCUIT_TRACER_PYTHON.exists():
        raise SystemExit("circuit-tracer's environment is not there: run `make benchmark-setup`")
    return CIRCUIT_TRACER_PYTHON


def main() -> None:
    """Install circuit-tracer into an environment of its own under `runs/benchmarks`."""
    subprocess.run([sys.executable, "-m", "venv", str(CIRCUIT_TRACER_PYTHON.parent.parent)], check=True)
    for packages in INSTALLS:
        subprocess.run([CIRCUIT_TRACER_PYTHON, "-m", "pip", "install", "--quiet", *packages], check=True)
    code = "import circuit_tracer, torch; print(circuit_tracer.__name__, torch.__version__)"
    subprocess.run([CIRCUIT_TRACER_PYTHON, "-c", code], check=True)


if __name__ == "__main__":
    typer.run(main)
