"""Names and texts as SQL reads them; needs no database."""


def quoted(name: str) -> str:
    """A name as SQL reads it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL reads it, for the statements that take no parameters."""
    return "'" + text.replace("'", "''") + "'"
