"""The labelled groups of a run as the supernodes of one graph."""

from collections import defaultdict

from tracer.graph.formats.groups import Group, Groups, Member
from tracer.tables.database import Connection
from tracer.tables.quoting import quoted

COLUMNS = """
SELECT DISTINCT by_column FROM circuits
WHERE kind = 'consensus' AND by_column IN (SELECT column_name FROM duckdb_columns() WHERE table_name = 'prompts')
ORDER BY by_column
"""
GROUPS = """
SELECT labels.label, c.circuit_id, n.layer, n.pos, n.feature
FROM circuits AS parent JOIN circuits AS c ON c.parent_id = parent.circuit_id AND c.kind = 'supernode'
JOIN labels ON labels.target_kind = 'group' AND labels.target_id = c.circuit_id
JOIN circuit_members AS m ON m.circuit_id = c.circuit_id AND m.kind = 'feature'
JOIN nodes AS n ON (n.layer, n.feature) = (m.layer, m.feature) AND n.kind = 'feature'
WHERE n.graph_id = $graph_id AND parent.kind = 'consensus' AND parent.by_column = $by_column
    AND parent.by_value = (
        SELECT {column}::VARCHAR FROM prompts JOIN graphs USING (prompt_id) WHERE graph_id = $graph_id
    )
ORDER BY c.n_members DESC, c.circuit_id, n.layer, n.pos, n.feature
"""


def labelled_groups(connection: Connection, graph_id: str) -> Groups:
    """The supernodes of the consensus circuits that a graph's prompt belongs to, as far as they have labels and the
    graph has their features; a node is in the first of them alone.

    Args:
        connection: to a results file.
        graph_id: one of its graphs.
    """
    members: dict[tuple[str, str], list[Member]] = defaultdict(list)
    taken: set[Member] = set()
    for (column,) in connection.execute(COLUMNS).fetchall():
        sql = GROUPS.format(column=quoted(column))
        for label, circuit_id, *place in connection.execute(
            sql, {"graph_id": graph_id, "by_column": column}
        ).fetchall():
            member = (place[0], place[1], place[2])
            if member not in taken:
                taken.add(member)
                members[label, circuit_id].append(member)
    return Groups(groups=tuple(Group.of_features(label, places) for (label, _), places in members.items()))
