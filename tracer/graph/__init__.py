"""Attribution graphs as data, and the mathematics on them: influence, pruning, scores."""

from tracer.graph.graph import Graph, Target
from tracer.graph.layout import NodeLayout

__all__ = ["Graph", "NodeLayout", "Target"]
