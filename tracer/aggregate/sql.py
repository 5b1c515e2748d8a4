"""The SQL files of this package; the header of each says question, grain and cost."""

from pathlib import Path


def read_sql(name: str) -> str:
    """The text of `<name>.sql`, a name with a folder in it for one that lies in a folder."""
    return Path(__file__).parent.joinpath(*f"{name}.sql".split("/")).read_text(encoding="utf-8")
