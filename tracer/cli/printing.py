"""What commands print with."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    import polars as pl

UNLIMITED_WIDTH = 100_000
"""Characters of a line where no terminal limits it, so that a redirected table is never cut."""


def make_console(width_elsewhere: int = 100) -> Console:
    """As wide as the terminal; where there is none, as wide as asked unless COLUMNS says otherwise."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = width_elsewhere
    return console


def print_table(frame: "pl.DataFrame") -> None:
    """A frame, not cut where the output is redirected."""
    from tracer.views.frames import print_frame

    print_frame(frame, make_console(width_elsewhere=UNLIMITED_WIDTH))


def print_summary_of(run: str) -> None:
    """The summary of a run, given as for `database_of`."""
    from tracer.storage.store import is_uri
    from tracer.views.summary import print_summary, summarise

    print_summary(summarise(database_of(run)), make_console(), uri=run if is_uri(run) else None)


def print_written(path: Path) -> None:
    """Say that a file or folder was written."""
    make_console().print(Text(f"written {path}"), soft_wrap=True)


def print_no_features(scan: str) -> None:
    """Say that viewers will show a graph without examples of its features."""
    text = f"viewers will find no features: the transcoders are on no hub, and the files call them {scan}"
    make_console().print(Text(text), soft_wrap=True)


def database_of(run: str) -> Path:
    """The results file of a run folder, fetched where that is a URI, or the file itself where that is given.

    Raises:
        ArtifactError: a URI without results. That a local file is absent, whoever opens it says.
    """
    from tracer.views.results.opening import local_results

    return local_results(run)
