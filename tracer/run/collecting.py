"""Garbage of a run folder: parts that no receipt names and temporary files, left by attempts that were killed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tracer.run.folder import AGGREGATES, QUARANTINE, RECEIPTS, claimed, existing
from tracer.run.ledger import ids_in, read_receipt
from tracer.storage.store import Say, Store, file_name, in_parallel, place
from tracer.tables.parts import FOLDER
from tracer.tables.schema import PART_TABLES

PART_NAME = re.compile(rf"({'|'.join(PART_TABLES)})-[0-9a-f]{{16}}-\d+\.parquet")
"""As `write_part` names what a worker makes. The driver's own part has no shard, is made anew each time, and stays."""
TEMPORARY_NAME = re.compile(r"\..+\.\d+\.tmp(\.wal)?")
"""As `write_file` and `build_database` name what is not whole yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """Files that nothing refers to, by path or URI, and their size."""

    paths: tuple[str, ...]
    n_bytes: int


def collect_garbage(root: str | Path, *, remove: bool, say: Say = lambda _: None) -> Garbage:
    """Find, and if asked remove, the files of a run that nothing refers to; no driver can work on it meanwhile.

    Args:
        root: the run folder, a path or URI.
        remove: False only looks.
        say: told what is waited for.

    Raises:
        ArtifactError: `root` is no run folder, or a receipt cannot be read, so that its parts are not known.
        RunError: a driver is at work.
    """
    with claimed(existing(root).reference, say=say) as (store, _):
        sizes = dict(sorted([*_orphans(store), *_temporary(store)]))
        if remove:
            list(in_parallel(store, store.remove, sizes))
        return Garbage(paths=tuple(place(store, name) for name in sizes), n_bytes=sum(sizes.values()))


def _orphans(store: Store) -> Iterator[tuple[str, int]]:
    receipts = in_parallel(store, lambda shard_id: read_receipt(store, shard_id), ids_in(store, RECEIPTS))
    named = {part.path for receipt in receipts for part in receipt.parts.values()}
    for name, n_bytes in store.list(FOLDER).items():
        if n_bytes is not None and PART_NAME.fullmatch(file_name(name)) and name not in named:
            yield name, n_bytes


def _temporary(store: Store) -> Iterator[tuple[str, int]]:
    inner = [name for name, n_bytes in store.list(AGGREGATES).items() if n_bytes is None]
    for folder in ("", FOLDER, RECEIPTS, QUARANTINE, AGGREGATES, *inner):
        for name, n_bytes in store.list(folder).items():
            if n_bytes is not None and TEMPORARY_NAME.fullmatch(file_name(name)):
                yield name, n_bytes
