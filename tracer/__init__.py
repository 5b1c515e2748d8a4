"""tracer: circuit tracing over whole corpora.

`ReplacementModel`, `Graph` and `attribute` are imported when first asked for, so that importing the package loads no
torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracer.attribution.attribute import attribute
    from tracer.graph.graph import Graph
    from tracer.model.replacement import ReplacementModel

__version__ = "0.1.0"
__all__ = ["Graph", "ReplacementModel", "__version__", "attribute"]

_HOMES = {
    "ReplacementModel": "tracer.model.replacement",
    "Graph": "tracer.graph.graph",
    "attribute": "tracer.attribution.attribute",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tracer' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
