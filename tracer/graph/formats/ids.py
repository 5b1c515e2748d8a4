"""Names of nodes in graph JSON, as circuit-tracer writes them (`circuit_tracer/frontend/graph_models.py` 0.5.0).

| node | `node_id` | `feature` | `jsNodeId` |
|---|---|---|---|
| feature | `{layer}_{feature}_{pos}` | `cantor(layer, feature)` | `{layer}_{feature}-0` |
| error | `0_{layer}_{pos}` | -1 | `{layer}_{pos}-0` |
| token | `E_{token id}_{pos}` | `pos` | `E_{token id}-{pos}` |
| target | `{n_layers + 1}_{token id}_{pos}` | token id | `L_{token id}-{pos}` |

Errors and features share names: the README of this folder says which names are written where they would clash.
"""

import math
import re
from dataclasses import dataclass

from tracer.errors import DataError
from tracer.graph.graph import Graph
from tracer.graph.layout import NodeKind

FEATURE_TYPES = {
    NodeKind.feature: "cross layer transcoder",
    NodeKind.error: "mlp reconstruction error",
    NodeKind.token: "embedding",
    NodeKind.logit: "logit",
}
"""The `feature_type` of each kind of node; features have the same one whatever their transcoders."""
FIRST_DIRECTION = 2_000_000_000
"""In place of a token id: what targets that are no token's logit are numbered from."""
_FEATURE_ID = re.compile(r"([0-9]{1,18})_([0-9]{1,18})_([0-9]{1,18})")
_LAYER = re.compile(r"[0-9]{1,4}")
_SLUG = re.compile(r"\w[\w .,()+=@~-]*")
_LONGEST_SLUG_BYTES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeNames:
    """What a node is called."""

    node_id: str
    feature: int
    js_id: str


def cantor(layer: int, feature: int) -> int:
    """Cantor's pairing: one number for two."""
    return (layer + feature) * (layer + feature + 1) // 2 + feature


def uncantor(number: int) -> tuple[int, int]:
    """The layer and feature of a pairing.

    Args:
        number: the pairing, not negative.
    """
    total = (math.isqrt(8 * number + 1) - 1) // 2
    feature = number - total * (total + 1) // 2
    return total - feature, feature


def feature_id(layer: int, pos: int, feature: int) -> str:
    """The `node_id` of a feature."""
    return f"{layer}_{feature}_{pos}"


def feature_of_id(node_id: str) -> tuple[int, int, int] | None:
    """The (layer, pos, feature) that a name of three numbers may stand for; None for other names.

    Args:
        node_id: the name.
    """
    named = _FEATURE_ID.fullmatch(node_id)
    return (int(named[1]), int(named[3]), int(named[2])) if named else None


def layer_number(layer: str | int) -> int | None:
    """A node's `layer` as a number; None where it is none, as for tokens.

    Args:
        layer: as the file has it.
    """
    return int(layer) if _LAYER.fullmatch(str(layer)) else None


def feature_js_id(layer: int, feature: int) -> str:
    """The `jsNodeId` of a feature, the same at every position."""
    return f"{layer}_{feature}-0"


def error_id(layer: int | str, pos: int, *, is_free: bool = True) -> str:
    """The `node_id` of an error.

    Args:
        layer: its layer.
        pos: its position.
        is_free: whether no feature has circuit-tracer's name for it.
    """
    return f"0_{layer}_{pos}" if is_free else f"{layer}_err_{pos}"


def error_js_id(layer: int | str, pos: int, *, is_free: bool = True) -> str:
    """The `jsNodeId` of an error.

    Args:
        layer: its layer.
        pos: its position.
        is_free: whether no feature has circuit-tracer's name for it.
    """
    return f"{layer}_{pos}-0" if is_free else f"{layer}_err-{pos}"


def names_of(graph: Graph) -> list[NodeNames | None]:
    """Names of the kept nodes in node order, None for those that are not kept; no two `node_id` are equal."""
    layout = graph.layout
    kept = graph.node_mask.tolist()
    features = [
        NodeNames(
            node_id=feature_id(layer, pos, feature),
            feature=cantor(layer, feature),
            js_id=feature_js_id(layer, feature),
        )
        for layer, pos, feature in layout.features.tolist()
    ]
    in_use = [names for names, is_kept in zip(features, kept[: layout.n_features], strict=True) if is_kept]
    ids, js_ids = {names.node_id for names in in_use}, {names.js_id for names in in_use}
    errors = [
        NodeNames(
            node_id=error_id(layer, pos, is_free=error_id(layer, pos) not in ids),
            feature=-1,
            js_id=error_js_id(layer, pos, is_free=error_js_id(layer, pos) not in js_ids),
        )
        for layer in range(layout.n_layers)
        for pos in range(layout.n_pos)
    ]
    tokens = [
        NodeNames(node_id=f"E_{token_id}_{pos}", feature=pos, js_id=f"E_{token_id}-{pos}")
        for pos, token_id in enumerate(graph.token_ids.tolist())
    ]
    names = features + errors + tokens + _target_names(graph)
    return [name if is_kept else None for name, is_kept in zip(names, kept, strict=True)]


def _target_names(graph: Graph) -> list[NodeNames]:
    taken: set[tuple[int, int]] = set()
    names = []
    for idx, target in enumerate(graph.targets):
        number = FIRST_DIRECTION + idx if target.token_id is None else target.token_id
        if (number, target.pos) in taken:
            number = FIRST_DIRECTION + idx
        taken.add((number, target.pos))
        node_id = f"{graph.layout.n_layers + 1}_{number}_{target.pos}"
        names.append(NodeNames(node_id=node_id, feature=number, js_id=f"L_{number}-{target.pos}"))
    return names


def checked_slug(slug: str) -> str:
    """The slug, if it can name a file and stand in a URL.

    Args:
        slug: the name of a graph, without an ending.

    Raises:
        DataError: it is empty, too long, the name of the listing, or has characters beyond letters, digits, spaces and
            `_ . , ( ) + = @ ~ -`, or does not begin with a letter, digit or underscore.
    """
    if not _SLUG.fullmatch(slug) or len(slug.encode()) > _LONGEST_SLUG_BYTES or slug == "graph-metadata":
        raise DataError(
            "slug", found=repr(slug[:_LONGEST_SLUG_BYTES]),
            expected=f"a file name of letters, digits and _.,()+=@~- up to {_LONGEST_SLUG_BYTES} bytes",
            to_do="Name the graph otherwise.",
        )  # fmt: skip
    return slug
