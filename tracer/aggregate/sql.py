"""The SQL files beside this module; the header of each says question, grain and cost."""

from pathlib import Path


def read_sql(name: str) -> str:
    """The text of `<name>.sql`."""
    return Path(__file__).with_name(f"{name}.sql").read_text(encoding="utf-8")
