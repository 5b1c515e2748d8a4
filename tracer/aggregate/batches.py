"""Shards in batches of bounded size: what is counted at once, and which of them are new since the last build."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import PurePosixPath

from tracer.aggregate.partial.count import READ, Batch
from tracer.tables.parts import Part

ROWS_PER_BATCH = 4_000_000
"""Rows of all tables together that one batch has at most, but for a shard that is larger by itself."""
REBUILT = ("failures",)
"""Tables that are made anew from all parts: the driver writes its part of them again in every session."""

Parts = Mapping[str, Sequence[Part]]


def make_batches(parts: Parts, first_graph_idx: int) -> list[Batch]:
    """The shards of some parts, in the order of their names; one empty batch where there are none.

    Args:
        parts: the parts by table.
        first_graph_idx: number of the first graph.
    """
    shards: dict[str, dict[str, Part]] = defaultdict(dict)
    for name in READ:
        for part in parts.get(name, ()):
            shards[PurePosixPath(part.path).name.removeprefix(f"{name}-")][name] = part
    groups: list[list[dict[str, Part]]] = []
    n_rows = 0
    for _, shard in sorted(shards.items()):
        size = sum(part.n_rows for part in shard.values())
        if not groups or n_rows + size > ROWS_PER_BATCH:
            groups.append([])
            n_rows = 0
        groups[-1].append(shard)
        n_rows += size
    return _numbered(groups or [[]], first_graph_idx)


def _numbered(groups: Sequence[Sequence[Mapping[str, Part]]], first_graph_idx: int) -> list[Batch]:
    batches = []
    for number, group in enumerate(groups):
        parts = {name: tuple(shard[name] for shard in group if name in shard) for name in READ}
        batches.append(Batch(number=number, parts=parts, first_graph_idx=first_graph_idx))
        first_graph_idx += sum(part.n_rows for part in parts["graphs"])
    return batches


def names_of(parts: Parts) -> set[str]:
    """By which names a state remembers the parts that it adds up: their paths and the hashes of their bytes."""
    return {_name(part) for name, listed in parts.items() if name not in REBUILT for part in listed}


def without(parts: Parts, known: Set[str]) -> dict[str, list[Part]]:
    """The parts whose names are not known, and all those of the tables that are made anew."""
    return {
        name: [part for part in listed if name in REBUILT or _name(part) not in known] for name, listed in parts.items()
    }


def parts_hash(names: Iterable[str]) -> str:
    """One hash of all of them."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]


def _name(part: Part) -> str:
    return f"{part.path} {part.sha256}"
