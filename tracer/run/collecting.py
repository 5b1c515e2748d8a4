"""Garbage of a run folder: parts that no receipt names and temporary files, left by attempts that were killed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tracer.run.folder import RunFolder, claimed, existing
from tracer.run.ledger import read_receipt
from tracer.tables.schema import SHARD_TABLES

PART_NAME = re.compile(rf"({'|'.join(table.name for table in SHARD_TABLES)})-[0-9a-f]{{16}}-\d+\.parquet")
"""As `write_part` names what a worker makes. The driver's own part has no shard, is made anew each time, and stays."""
TEMPORARY_NAME = re.compile(r"\..+\.\d+\.tmp(\.wal)?")
"""As `write_file` and `build_database` name what is not whole yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """Files that nothing refers to, and their size."""

    paths: tuple[Path, ...]
    n_bytes: int


def collect_garbage(root: Path | str, *, remove: bool) -> Garbage:
    """Find, and if asked remove, the files of a run that nothing refers to; no driver can work on it meanwhile.

    Args:
        root: the run folder.
        remove: False only looks.

    Raises:
        ArtifactError: `root` is no run folder, or a receipt cannot be read, so that its parts are not known.
        RunError: a driver is at work.
    """
    with claimed(existing(root).root) as (folder, _):
        paths = tuple(sorted([*_orphans(folder), *_temporary(folder)]))
        garbage = Garbage(paths=paths, n_bytes=sum(path.stat().st_size for path in paths))
        if remove:
            for path in paths:
                path.unlink()
    return garbage


def _orphans(folder: RunFolder) -> Iterator[Path]:
    receipts = [read_receipt(path) for path in folder.receipts.glob("[!.]*.json")]
    named = {folder.root / part.path for receipt in receipts for part in receipt.parts.values()}
    for path in (folder.root / "parts").glob("*"):
        if PART_NAME.fullmatch(path.name) and path not in named:
            yield path


def _temporary(folder: RunFolder) -> Iterator[Path]:
    places = [folder.root, folder.root / "parts", folder.receipts, folder.quarantine, folder.aggregates]
    places += [path for path in folder.aggregates.glob("*") if path.is_dir()]
    for place in places:
        yield from (path for path in place.glob(".*") if TEMPORARY_NAME.fullmatch(path.name) and path.is_file())
