"""The incidences of the run, read from the state as sparse matrices."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tracer.aggregate.incidence import Incidence, Ints, feature_codes
from tracer.aggregate.state import SCHEMA, WHOLE_RUN
from tracer.tables.database import Connection
from tracer.tables.quoting import literal, quoted

ROWS_AT_ONCE = 2**20
ROWS_PER_BLOCK = 2**21
POS_BITS = 20
MAX_TABLE = 2**26
"""Layers x features of which each has 4 bytes in a table."""

Numbering = Callable[..., npt.NDArray[np.integer]]
"""Gives the columns of layers, features and positions, [n] each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """What the columns of an incidence stand for, sorted: `places` [n_items, 3] are layer, feature (or head) and pos.

    `granularity` is feature, component or position; columns that it does not know are -1. Of a component, the second
    column is the head, -1 for an MLP.
    """

    granularity: str
    places: Ints

    def index(self, layer: npt.NDArray[np.integer], second: npt.NDArray[np.integer]) -> Ints:
        """The columns of items that are here, by layer and feature (or head), at any position."""
        codes = feature_codes(self.places[:, 0], self.places[:, 1])
        return np.searchsorted(codes, feature_codes(layer, second))


@dataclass(frozen=True, slots=True, kw_only=True)
class Influences:
    """How much each feature of some graphs carries at each position: which of the `n_graphs` graphs (`row`), the number
    of the feature (`place`) and its `influence`, [n] each.
    """

    row: npt.NDArray[np.integer]
    place: npt.NDArray[np.integer]
    influence: npt.NDArray[np.float64]
    n_graphs: int

    def matrix(self, n_features: int) -> sparse.csr_array:
        """Influence summed over positions, [n_graphs, n_features]."""
        places = (self.row.astype(np.int32), self.place.astype(np.int32))
        matrix = sparse.csr_array(sparse.coo_array((self.influence, places), shape=(self.n_graphs, n_features)))
        matrix.sum_duplicates()
        return matrix


def read_influences(connection: Connection, n_graphs: int, numbered: Numbering) -> Iterator[Influences]:
    """The influences of all graphs, some whole graphs at a time, in the order of their numbers."""
    sql = f"SELECT graph_idx, layer, feature, influence FROM {SCHEMA}.incidence"
    waiting: list[tuple[npt.NDArray[Any], ...]] = [(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0))]
    first = n_waiting = 0
    for batch in connection.sql(sql).to_arrow_reader(ROWS_AT_ONCE):
        graph, layer, feature, influence = (column.to_numpy() for column in batch.columns)
        waiting.append((graph, numbered(layer, feature, np.zeros(len(layer), np.int64)), influence))
        n_waiting += len(graph)
        if n_waiting >= ROWS_PER_BLOCK:
            last = int(graph[-1])
            block, rest = _cut(waiting, first, last)
            yield block
            first, waiting, n_waiting = last, [rest], len(rest[0])
    yield _cut(waiting, first, n_graphs)[0]


def _cut(
    pieces: list[tuple[npt.NDArray[Any], ...]], first: int, stop: int
) -> tuple[Influences, tuple[npt.NDArray[Any], ...]]:
    """The influences of the graphs `first` to `stop` - 1, and what is left."""
    graph, place, influence = (np.concatenate(column) for column in zip(*pieces, strict=True))
    assert np.all(np.diff(graph, prepend=first) >= 0), "batches were put one after another"
    cut = int(np.searchsorted(graph, stop))
    block = Influences(row=graph[:cut] - first, place=place[:cut], influence=influence[:cut], n_graphs=stop - first)
    return block, (graph[cut:], place[cut:], influence[cut:])


def feature_incidence(connection: Connection, strata: Ints | None) -> tuple[Items, Incidence]:
    """Which graph holds which feature at any position; `strata` [n_graphs] numbers the graphs' strata."""
    sql = "SELECT graph_idx, layer, feature, 0 AS pos FROM {state}.incidence"
    listed = f"SELECT layer, feature FROM {SCHEMA}.features WHERE by_column = {literal(WHOLE_RUN)}"
    return _read(connection, "feature", sql, strata, listed=listed)


def position_incidence(connection: Connection, strata: Ints | None) -> tuple[Items, Incidence]:
    """Which graph holds which feature at which position."""
    return _read(connection, "position", "SELECT graph_idx, layer, feature, pos FROM {state}.incidence", strata)


def component_incidence(connection: Connection, strata: Ints | None) -> tuple[Items, Incidence]:
    """Which graph holds which component; MLPs sort before the heads of their layer."""
    sql = "SELECT graph_idx, layer, head + 1 AS feature, 0 AS pos FROM {state}.component_incidence"
    items, incidence = _read(connection, "component", sql, strata)
    return Items(granularity="component", places=items.places - np.array([0, 1, 0])), incidence


def component_names(items: Items) -> list[str]:
    """The names of components, as in the table `components`."""
    return [f"MLP{layer}" if head < 0 else f"L{layer}H{head}" for layer, head, _ in items.places.tolist()]


def read_strata(connection: Connection, stratum: str | None) -> Ints | None:
    """For each graph the number of its value of a column of `prompts`, [n_graphs]; no value is a stratum too."""
    if stratum is None:
        return None
    found = connection.execute(
        f"SELECT dense_rank() OVER (ORDER BY prompts.{quoted(stratum)} NULLS FIRST) - 1 AS stratum "
        f"FROM {SCHEMA}.graph_numbers JOIN graphs USING (graph_id) JOIN prompts USING (prompt_id) ORDER BY graph_idx"
    ).fetchnumpy()
    return np.asarray(found["stratum"], dtype=np.int64)


def _read(
    connection: Connection, granularity: str, sql: str, strata: Ints | None, listed: str | None = None
) -> tuple[Items, Incidence]:
    """Columns are numbered in pieces, since a hundred million rows of several columns would not fit side by side; they
    are those that the query `listed` gives, at position 0, or without it those found among the rows.
    """
    held = f"({sql.format(state=SCHEMA)})"
    n_graphs, n_rows = (
        int(connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])
        for table in (f"{SCHEMA}.graph_numbers", held)
    )
    distinct = f"DISTINCT layer, feature, pos FROM {held}" if listed is None else f"*, 0 AS pos FROM ({listed})"
    found = connection.execute(f"SELECT {distinct} ORDER BY ALL").fetchnumpy()
    places = np.column_stack([np.asarray(found[name], dtype=np.int64) for name in ("layer", "feature", "pos")])
    numbered = numbering(places)
    lengths, indices, n_read, latest = np.zeros(n_graphs, np.int64), np.empty(n_rows, np.int32), 0, 0
    for batch in connection.sql(f"SELECT * FROM {held}").to_arrow_reader(ROWS_AT_ONCE):
        graph_idx, layer, feature, pos = (column.to_numpy() for column in batch.columns)
        assert np.all(np.diff(graph_idx, prepend=latest) >= 0), "batches were put one after another"
        latest = graph_idx[-1]
        lengths += np.bincount(graph_idx, minlength=n_graphs)
        indices[n_read : n_read + len(layer)] = numbered(layer, feature, pos)
        n_read += len(layer)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64 if n_rows > 2**31 - 1 else np.int32)
    matrix = sparse.csr_array((np.ones(n_rows, np.int32), indices, indptr), shape=(n_graphs, len(places)))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    if granularity != "position":
        places[:, 2] = -1
    return Items(granularity=granularity, places=places), Incidence(matrix=matrix, stratum=strata)


def numbering(places: Ints) -> Numbering:
    """What numbers layers, features and positions by sorted `places` [n_places, 3], among which they are.

    By a table of layers x features, where all are at position 0 and it is not too large; otherwise by bisection.
    """
    n_layers, width, n_pos = (int(most) + 1 for most in places.max(axis=0, initial=0))
    if n_pos > 1 or n_layers * width > MAX_TABLE:
        codes = _codes(*places.T)
        return lambda layer, feature, pos: np.searchsorted(codes, _codes(layer, feature, pos))
    table = np.zeros(n_layers * width, np.int32)
    table[places[:, 0] * width + places[:, 1]] = np.arange(len(places))
    return lambda layer, feature, _: table[layer.astype(np.int64) * width + feature]


def _codes(layer: npt.NDArray[np.integer], feature: npt.NDArray[np.integer], pos: npt.NDArray[np.integer]) -> Ints:
    """One number for each place, in the order of layer, feature and position."""
    return (feature_codes(layer, feature) << POS_BITS) | pos.astype(np.int64)
