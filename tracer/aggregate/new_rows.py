"""From which rows on `nodes` and `edges` hold graphs that no earlier build had: they are put behind all others."""

from tracer.tables.database import Connection

_ROWS = {"first_node": "nodes", "first_edge": "edges"}


def mark_new_rows(connection: Connection, n_graphs: int) -> None:
    """Note where new rows begin, before they are added; graphs are numbered on from `n_graphs`."""
    connection.execute(f"SET VARIABLE first_new_graph = {n_graphs}")
    for name, table in _ROWS.items():
        sql = f"SELECT count(*), coalesce(max(rowid) + 1, 0) FROM {table}"
        ((n_rows, n_places),) = connection.execute(sql).fetchall()
        assert n_rows == n_places, "rows are only ever put behind others"
        connection.execute(f"SET VARIABLE {name} = {n_rows}")


def first_rows(connection: Connection, graphs: str) -> dict[str, int]:
    """Rows before which there is none of some graphs, as parameters `first_node` and `first_edge` of a query.

    Args:
        connection: the results being built; where nothing was marked, every row is looked at.
        graphs: table of the `graph_idx` of the graphs.
    """
    variables = ", ".join(f"getvariable('{name}')" for name in ("first_new_graph", *_ROWS))
    sql = f"SELECT min(graph_idx), {variables} FROM {graphs}"
    ((least, first_new_graph, *rows),) = connection.execute(sql).fetchall()
    are_new = None not in (least, first_new_graph) and least >= first_new_graph
    return dict(zip(_ROWS, rows if are_new else (0, 0), strict=True))
