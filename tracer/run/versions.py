"""Versions of what results depend on."""

import platform
from importlib.metadata import PackageNotFoundError, version

from tracer import __version__

PACKAGES = ("torch", "transformers", "transformer-lens", "ray", "duckdb", "pyarrow", "polars", "numpy")


def package_versions() -> dict[str, str]:
    """Versions of tracer, of Python and of the packages that results depend on; imports none of them."""
    return {"tracer": __version__, "python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
