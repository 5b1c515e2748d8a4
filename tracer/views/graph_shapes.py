"""The shapes of a drawn attribution graph; places and sizes are in pixels of the SVG."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedNode:
    """A node with its middle; `width` is that of a token's or logit's pill, `radius` that of a feature or error."""

    node_idx: int
    kind: str
    x: float
    y: float
    title: str
    text: str = ""
    width: float = 0.0
    radius: float = 0.0
    number: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedEdge:
    """An edge as a curve from source to target."""

    source_idx: int
    target_idx: int
    path: str
    is_negative: bool
    width: float
    opacity: float
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """The stripe of one layer (or of tokens or logits)."""

    y: float
    height: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """The stripe of one token position."""

    pos: int
    x: float
    width: float

    @property
    def middle(self) -> float:
        """Where its nodes are centred."""
        return self.x + self.width / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """The label of a cell's strongest feature, where it is a numbered one."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEntry:
    """What a number in the picture stands for."""

    number: int
    name: str
    label: str
    pos: int
    token: str
    activation: float
    influence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphDrawing:
    """Everything that the SVG shows."""

    width: float
    height: float
    columns: tuple[Column, ...]
    bands: tuple[Band, ...]
    captions: tuple[Caption, ...]
    nodes: tuple[PlacedNode, ...]
    edges: tuple[PlacedEdge, ...]
    key: tuple[KeyEntry, ...]
