"""Ends of edges as numbers.

`node_place` is a node among those of all numbered graphs, by which edges find both their ends: by the two columns of a
node's key, the database may begin with all pairs of ends of a graph, hundreds of times as many as there are edges.

`end_code` is what stands at an end, shorter to group, to merge and to remember than its columns. A feature is
`layer << LAYER_SHIFT | feature`; a token or a logit is minus one minus its vocabulary id. Which of the two it is, the
end tells: tokens are sources, logits targets.
"""

import numpy as np
import numpy.typing as npt

from tracer.tables.database import Connection

NODE_BITS = 24
"""A graph has fewer nodes than this many bits can number."""
LAYER_SHIFT = 40
_MACROS = (
    f"""CREATE OR REPLACE TEMP MACRO node_place(graph_idx, node_idx) AS
        (graph_idx::BIGINT << {NODE_BITS}) | node_idx::BIGINT""",
    f"""CREATE OR REPLACE TEMP MACRO end_code(kind, layer, idx) AS
        CASE WHEN kind = 'feature' THEN (layer::BIGINT << {LAYER_SHIFT}) | idx::BIGINT ELSE -1 - idx::BIGINT END""",
    """CREATE OR REPLACE TEMP MACRO end_kind(code, other) AS CASE WHEN code >= 0 THEN 'feature' ELSE other END""",
    f"""CREATE OR REPLACE TEMP MACRO end_layer(code) AS CASE WHEN code >= 0 THEN code >> {LAYER_SHIFT} ELSE -1 END""",
    f"""CREATE OR REPLACE TEMP MACRO end_idx(code) AS
        CASE WHEN code >= 0 THEN code & ((1::BIGINT << {LAYER_SHIFT}) - 1) ELSE -1 - code END""",
)


def define_ends(connection: Connection) -> None:
    """Have the functions between columns and numbers in this connection."""
    for macro in _MACROS:
        connection.execute(macro)


def feature_ends(layer: npt.NDArray[np.integer], feature: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """The numbers of features, as `end_code` gives them, [n_features]."""
    return (layer.astype(np.int64) << LAYER_SHIFT) | feature.astype(np.int64)
