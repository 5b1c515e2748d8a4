"""JSON objects as files of a store, and the hash of plain data."""

import hashlib
import json

from tracer.errors import ArtifactError
from tracer.storage.store import Store, place


def json_hash(data: object) -> str:
    """16 hex digits over plain data, whatever the order of keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def write_json(store: Store, name: str, data: object, *, new: bool = False) -> None:
    """Write JSON so that the file holds either all of it or what it held before.

    Args:
        store: where.
        name: the file.
        data: plain data.
        new: as for `Store.write`.

    Raises:
        FileExistsError: as `Store.write`.
    """
    store.write(name, json.dumps(data, indent=1, ensure_ascii=False).encode(), new=new)


def read_json(store: Store, name: str) -> dict:
    """Read a JSON object that `write_json` wrote.

    Raises:
        ArtifactError: it is absent or damaged.
    """
    try:
        return json.loads(store.read(name))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            place(store, name), found=str(error), expected="JSON written by tracer", to_do="Start a new run folder."
        ) from error
