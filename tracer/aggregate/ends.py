"""What stands at an end of an edge as one number: shorter to group, to merge and to remember than its columns.

A feature is `layer << 40 | feature`; a token or a logit is minus one minus its vocabulary id. Which of the two it is,
the end tells: tokens are sources, logits targets.
"""

from tracer.tables.database import Connection

_MACROS = (
    """CREATE OR REPLACE TEMP MACRO end_code(kind, layer, idx) AS
        CASE WHEN kind = 'feature' THEN (layer::BIGINT << 40) | idx::BIGINT ELSE -1 - idx::BIGINT END""",
    """CREATE OR REPLACE TEMP MACRO end_kind(code, other) AS CASE WHEN code >= 0 THEN 'feature' ELSE other END""",
    """CREATE OR REPLACE TEMP MACRO end_layer(code) AS CASE WHEN code >= 0 THEN code >> 40 ELSE -1 END""",
    """CREATE OR REPLACE TEMP MACRO end_idx(code) AS
        CASE WHEN code >= 0 THEN code & ((1::BIGINT << 40) - 1) ELSE -1 - code END""",
)


def define_ends(connection: Connection) -> None:
    """Have the functions between columns and numbers in this connection."""
    for macro in _MACROS:
        connection.execute(macro)
