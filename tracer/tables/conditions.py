"""Prompts chosen by a condition that somebody wrote: checked to be one expression, refused in DuckDB's words."""

import duckdb
import polars as pl

from tracer.errors import DataError
from tracer.tables.database import Connection
from tracer.tables.quoting import quoted

TO_DO = "Write a condition on the columns of `prompts`, such as task = 'antonym' AND n_tokens < 9."


def graphs_where(connection: Connection, condition: str, *, stratum: str | None = None) -> pl.DataFrame:
    """The graphs of the prompts that a condition holds for, by graph id: `graph_id`, `prompt_id`, `pair_id`, `stratum`.

    Args:
        connection: a results file.
        condition: a SQL expression over the columns of `prompts`; it may ask other tables in a subquery.
        stratum: column of `prompts` given as text in `stratum`; null where not given.

    Raises:
        DataError: the condition is no single expression, or DuckDB cannot answer it; or there is no such column.
    """
    _check_expression(connection, condition)
    by = "NULL" if stratum is None else f"CAST({quoted(known_column(connection, stratum))} AS VARCHAR)"
    sql = (
        f"SELECT graph_id, prompt_id, pair_id, CAST({by} AS VARCHAR) AS stratum FROM graphs JOIN "
        f"(SELECT * FROM prompts WHERE (\n{condition}\n)) USING (prompt_id) ORDER BY graph_id"
    )
    try:
        return pl.DataFrame(connection.sql(sql).to_arrow_table())
    except duckdb.Error as error:
        raise _refusal(condition, " ".join(str(error).split())) from error


def known_column(connection: Connection, name: str) -> str:
    """`name`, if `prompts` has a column of that name.

    Raises:
        DataError: it has none.
    """
    columns = [row[0] for row in connection.execute("DESCRIBE prompts").fetchall()]
    if name not in columns:
        found, to_do = f"no column {name!r}", "Name one of them."
        raise DataError("prompts", found=found, expected=f"one of: {', '.join(columns)}", to_do=to_do)
    return name


def _check_expression(connection: Connection, condition: str) -> None:
    """An expression can stand both in parentheses and in a CASE; a part of a statement, or several, in one at most."""
    if not condition.strip():
        raise _refusal(condition, "nothing")
    for sql in (f"SELECT (\n{condition}\n)", f"SELECT CASE WHEN\n{condition}\nTHEN 1 END"):
        try:
            n_statements = len(connection.extract_statements(sql))
        except duckdb.Error as error:
            raise _refusal(condition, " ".join(str(error).split())) from error
        if n_statements != 1:
            raise _refusal(condition, f"{n_statements} statements")


def _refusal(condition: str, found: str) -> DataError:
    return DataError(f"condition {condition!r}", found=found, expected="one condition on prompts", to_do=TO_DO)
