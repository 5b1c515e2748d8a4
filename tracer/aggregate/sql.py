"""The SQL files of this package; the header of each says question, grain and cost."""

import re
from pathlib import Path

from tracer.tables.database import Connection


def read_sql(name: str) -> str:
    """The text of `<name>.sql`, a name with a folder in it for one that lies in a folder."""
    return Path(__file__).parent.joinpath(*f"{name}.sql".split("/")).read_text(encoding="utf-8")


def execute_sql(connection: Connection, name: str, **asked: str | int) -> None:
    """Execute the statements of `<name>.sql`, each ended by a semicolon, with those of the parameters that it names."""
    *statements, rest = read_sql(name).split(";\n")
    assert not rest.strip(), f"{name}.sql: the last statement has no semicolon"
    for statement in statements:
        named = set(re.findall(r"\$(\w+)", statement))
        connection.execute(statement, {key: value for key, value in asked.items() if key in named})
