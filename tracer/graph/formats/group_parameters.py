"""The parameters in which viewers keep groups of nodes, taken apart: lists, or texts of JSON, once or twice escaped."""

import json
from typing import Any
from urllib.parse import unquote

from tracer.errors import DataError
from tracer.files.limits import shown


def supernodes(found: Any, where: str) -> list[tuple[str, tuple[str, ...]]]:
    """The names and node ids of `supernodes`.

    Args:
        found: the parameter.
        where: what it is of, named in errors.

    Raises:
        DataError: it is no list of lists of texts.
    """
    groups = []
    for entry in _listed(found, "supernodes", where):
        if not isinstance(entry, list) or not entry or not all(isinstance(part, str) for part in entry):
            raise malformed(where, f"a supernode {shown(entry)}")
        groups.append((entry[0], tuple(entry[1:])))
    return groups


def pinned_ids(found: Any, where: str) -> tuple[str, ...]:
    """The node ids of `pinnedIds`: a list, or text with commas, from which viewers read it too.

    Args:
        found: the parameter.
        where: what it is of, named in errors.

    Raises:
        DataError: it is neither.
    """
    node_ids = unquote(found).split(",") if isinstance(found, str) else found
    if not isinstance(node_ids, list) or not all(isinstance(node_id, str) for node_id in node_ids):
        raise malformed(where, f"pinnedIds {shown(found)}")
    return tuple(node_id for node_id in node_ids if node_id)


def labels_by_key(found: Any, where: str) -> dict[str, str]:
    """The labels of `clerps` by their keys.

    Args:
        found: the parameter.
        where: what it is of, named in errors.

    Raises:
        DataError: it is no list of pairs.
    """
    labels = {}
    for entry in _listed(found, "clerps", where):
        match entry:
            case [(str() | int()) as key, str() as label]:
                labels[str(key)] = label
            case _:
                raise malformed(where, f"an entry of clerps {shown(entry)}")
    return labels


def _listed(found: Any, name: str, where: str) -> list[Any]:
    """A list, or text that is one in JSON, once or twice escaped; none where there is nothing."""
    if isinstance(found, str):
        if not found:
            return []
        for text in (found, unquote(found)):
            try:
                found = json.loads(text)
                break
            except (ValueError, RecursionError):
                continue
    if found is None:
        return []
    if not isinstance(found, list):
        raise malformed(where, f"{name} {shown(found)}")
    return found


def malformed(where: str, found: str) -> DataError:
    """The error with which an address or a file is refused; the caller raises it."""
    return DataError(
        where, found=found,
        expected="pinnedIds as id,id,...; supernodes as [[label, id, ...], ...]; clerps as [[key, label], ...]",
        to_do="Copy the whole address, or save the view again.",
    )  # fmt: skip
