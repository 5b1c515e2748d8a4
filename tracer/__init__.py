"""tracer: circuit tracing over whole corpora.

`ReplacementModel`, `Graph`, `attribute`, `open` and `Results` are imported when first asked for, so that importing the
package loads no torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracer.attribution.attribute import attribute
    from tracer.graph.graph import Graph
    from tracer.model.replacement import ReplacementModel
    from tracer.views.results.opening import open_results as open
    from tracer.views.results.results import Results

__version__ = "0.1.0"
__all__ = ["Graph", "ReplacementModel", "Results", "__version__", "attribute", "open"]

_HOMES = {
    "ReplacementModel": ("tracer.model.replacement", "ReplacementModel"),
    "Graph": ("tracer.graph.graph", "Graph"),
    "attribute": ("tracer.attribution.attribute", "attribute"),
    "open": ("tracer.views.results.opening", "open_results"),
    "Results": ("tracer.views.results.results", "Results"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tracer' has no attribute {name!r}")
    from importlib import import_module

    module, attribute_name = _HOMES[name]
    return getattr(import_module(module), attribute_name)
