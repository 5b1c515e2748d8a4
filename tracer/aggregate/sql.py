"""The SQL files of this package; the header of each says question, grain and cost."""

from pathlib import Path

from tracer.tables.database import Connection


def read_sql(name: str) -> str:
    """The text of `<name>.sql`, a name with a folder in it for one that lies in a folder."""
    return Path(__file__).parent.joinpath(*f"{name}.sql".split("/")).read_text(encoding="utf-8")


def execute_sql(connection: Connection, name: str, **asked: str | int) -> None:
    """Execute the statements of `<name>.sql`, each ended by a semicolon, with those of the parameters that it names."""
    for statement in read_sql(name).split(";\n")[:-1]:
        connection.execute(statement, {key: value for key, value in asked.items() if f"${key}" in statement})
