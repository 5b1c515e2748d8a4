"""Tables that workers make from weights, kept in the folder under the hash of what was asked."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tracer.run.folder import AGGREGATES
from tracer.storage.json_files import json_hash
from tracer.storage.store import Store


def cached_table(store: Store, name: str, asked: Any, make: Callable[[], pa.Table]) -> pa.Table:
    """The table that an earlier call kept; else it is made, and kept: a resume loads no model.

    Args:
        store: the folder.
        name: of the table.
        asked: all that the table depends on, as plain data.
        make: makes it.
    """
    file = f"{AGGREGATES}/{name}-{json_hash(asked)}/{name}.parquet"
    if store.has([file]):
        return pq.read_table(pa.BufferReader(store.read(file)))
    rows = make()
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    store.write(file, sink.getvalue().to_pybytes())
    return rows
