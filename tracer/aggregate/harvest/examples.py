"""Question: which windows show a feature, and which ones do not although they might?

Grain: feature x kind x rank. Texts of windows are put in here, some features at a time, so that no shard has to write
them: of a corpus of 25,600 windows nearly every one shows some feature.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tracer.aggregate.sql import read_sql
from tracer.config.harvest import ExampleConfig
from tracer.harvest.examples import N_CONTEXT_AFTER, N_CONTEXT_BEFORE, example_split
from tracer.harvest.windows import document_id
from tracer.tables.building import insert_rows
from tracer.tables.database import Connection
from tracer.tables.harvest_tables import HARVEST_EXAMPLES

FEATURES_AT_ONCE = 4096
CHOSEN_SCHEMA = pa.schema([
    ("layer", pa.int64()), ("feature", pa.int64()), ("kind", pa.string()), ("quantile", pa.int64()),
    ("rank", pa.int64()), ("document_key", pa.int64()), ("window_start", pa.int64()), ("pos", pa.int64()),
    ("activation", pa.float64()), ("firing_pos", pa.list_(pa.int64())),
    ("firing_activations", pa.list_(pa.float64())), ("reason", pa.string()),
])  # fmt: skip
"""Examples before they have their texts."""


class ExampleWriter:
    """Fills `examples` of a harvest that is being built."""

    def __init__(self, connection: Connection, settings: ExampleConfig, separator: str) -> None:
        self._connection, self._separator = connection, separator
        self._given = {
            "n_top": settings.n_top, "n_quantiles": settings.n_quantiles,
            "n_drawn": settings.n_quantiles * settings.n_per_quantile,
            "n_before": settings.n_before, "n_after": settings.n_after,
            "n_context_before": N_CONTEXT_BEFORE, "n_context_after": N_CONTEXT_AFTER,
        }  # fmt: skip
        self._vocabulary = _vocabulary(connection)
        connection.execute("""
            CREATE TEMP TABLE texts AS
            SELECT text_hash, sum(n)::BIGINT AS n FROM part_text_counts
            WHERE text_hash IN (SELECT text_hash FROM part_example_candidates) GROUP BY text_hash
        """)

    def write(self, layer: int, n_features: int, absent: pa.Table) -> None:
        """Add the examples of one layer.

        Args:
            layer: the layer.
            n_features: how many features it has.
            absent: those in which its features are not active, with `CHOSEN_SCHEMA`.
        """
        parts = {name: read_sql(f"harvest/{name}") for name in ("top", "quantiles")}
        query = read_sql("harvest/examples").format(**parts)
        self._connection.register("absent_rows", absent)
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE chosen AS {query}", {"layer": layer, **self._given})
        self._connection.unregister("absent_rows")
        for first in range(0, n_features, FEATURES_AT_ONCE):
            rows = self._connection.sql(
                "SELECT * FROM chosen WHERE feature >= ? AND feature < ? ORDER BY feature, kind, rank",
                params=[first, first + FEATURES_AT_ONCE],
            ).to_arrow_table()
            insert_rows(self._connection, HARVEST_EXAMPLES, self._with_texts(rows))

    def _with_texts(self, rows: pa.Table) -> pa.Table:
        columns: dict[str, Any] = {name: rows[name] for name in rows.column_names}
        columns["document_id"], columns["split"] = _documents(rows["document_key"])
        pos, shown_from = (rows[name].to_numpy() for name in ("pos", "shown_from"))
        shown, ends = _flat(rows["shown_ids"])
        columns["window_start"] = rows["shown_from"]
        columns["window_tokens"] = pa.ListArray.from_arrays(ends, self._vocabulary.take(shown))
        columns["window_activations"] = pa.ListArray.from_arrays(ends, _scattered(rows, ends.to_numpy(), shown_from))
        columns["token"] = self._vocabulary.take(rows["token_id"])
        columns["context"] = self._contexts(rows, pos - rows["context_from"].to_numpy())
        schema = HARVEST_EXAMPLES.arrow_schema()
        return pa.table({field.name: columns[field.name] for field in schema}).cast(schema)

    def _contexts(self, rows: pa.Table, place: np.ndarray) -> pa.Array:
        """A few tokens as readable text, the one at `place` of each row in << >>."""
        ids, ends = _flat(rows["context_ids"])
        texts = self._vocabulary.take(ids)
        is_marked = np.zeros(len(texts), bool)
        is_marked[ends.to_numpy()[:-1] + place] = True
        marked = pc.binary_join_element_wise("<<", texts, ">>", "")
        lists = pa.ListArray.from_arrays(ends, pc.if_else(pa.array(is_marked), marked, texts))
        return pc.utf8_trim(pc.binary_join(lists, self._separator), " ")


def _vocabulary(connection: Connection) -> pa.Array:
    """Texts by token id, empty where the corpus has none of it."""
    texts = dict(connection.execute("SELECT token_id, token FROM token_counts").fetchall())
    return pa.array([texts.get(token_id, "") for token_id in range(max(texts, default=-1) + 1)], pa.string())


def _documents(keys: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """For each key the document's id and its split."""
    encoded = keys.combine_chunks().dictionary_encode()
    ids = [document_id(key) for key in encoded.dictionary.to_pylist()]
    splits = [example_split(name) for name in ids]
    return pa.array(ids, pa.string()).take(encoded.indices), pa.array(splits, pa.string()).take(encoded.indices)


def _flat(lists: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """The members of all lists, and where each list begins among them, the end last."""
    whole = lists.combine_chunks()
    lengths = pc.list_value_length(whole).to_numpy(zero_copy_only=False)
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pc.list_flatten(whole), pa.array(ends)


def _scattered(rows: pa.Table, ends: np.ndarray, shown_from: np.ndarray) -> pa.Array:
    """Activations at every shown position of every row, one row after another; 0 where there is none."""
    positions, firing_ends = _flat(rows["firing_pos"])
    row = np.repeat(np.arange(len(rows)), np.diff(firing_ends.to_numpy()))
    values = np.zeros(ends[-1])
    values[ends[row] + pc.cast(positions, pa.int64()).to_numpy() - shown_from[row]] = pc.list_flatten(
        rows["firing_activations"]
    ).to_numpy()
    return pa.array(values)
