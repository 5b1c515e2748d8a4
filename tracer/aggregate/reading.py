"""The incidences of the run, read from the state as sparse matrices."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tracer.aggregate.incidence import FEATURE_BITS, Incidence, Ints, feature_codes
from tracer.aggregate.state import SCHEMA
from tracer.tables.database import Connection
from tracer.tables.quoting import quoted

ROWS_AT_ONCE = 2**20
POS_BITS = 20
CODE = f"(layer::BIGINT << {FEATURE_BITS + POS_BITS}) | (feature::BIGINT << {POS_BITS}) | pos::BIGINT"
"""SQL: one number for each place, in the order of layer, feature and position."""


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


def feature_incidence(connection: Connection, strata: Ints | None) -> tuple[Items, Incidence]:
    """Which graph holds which feature at any position; `strata` [n_graphs] numbers the graphs' strata."""
    return _read(connection, "feature", "SELECT graph_idx, layer, feature, 0 AS pos FROM {state}.incidence", strata)


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


def _read(connection: Connection, granularity: str, sql: str, strata: Ints | None) -> tuple[Items, Incidence]:
    """Codes are read in pieces, since a hundred million rows of several columns would not fit side by side."""
    n_graphs = int(connection.execute(f"SELECT count(*) FROM {SCHEMA}.graph_numbers").fetchall()[0][0])
    coded = f"SELECT graph_idx, {CODE} AS code FROM ({sql.format(state=SCHEMA)})"
    distinct = connection.execute(f"SELECT DISTINCT code FROM ({coded}) ORDER BY code").fetchnumpy()
    universe = np.asarray(distinct["code"], dtype=np.int64)
    codes, lengths = _codes(connection, coded, n_graphs)
    indices = np.empty(sum(map(len, codes)), dtype=np.int32)
    place = 0
    while codes:
        piece = codes.pop(0)
        indices[place : place + len(piece)] = np.searchsorted(universe, piece)
        place += len(piece)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64 if len(indices) > 2**31 - 1 else np.int32)
    matrix = sparse.csr_array((np.ones(len(indices), np.int32), indices, indptr), shape=(n_graphs, len(universe)))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return Items(granularity=granularity, places=_decoded(universe, granularity)), Incidence(
        matrix=matrix, stratum=strata
    )


def _codes(connection: Connection, coded: str, n_graphs: int) -> tuple[list[Ints], Ints]:
    """The code of each place, graph after graph, and how many places each graph has."""
    reader = connection.sql(coded).to_arrow_reader(ROWS_AT_ONCE)
    lengths, codes, latest = np.zeros(n_graphs, np.int64), [], 0
    for batch in reader:
        graph_idx = batch["graph_idx"].to_numpy()
        assert np.all(np.diff(graph_idx, prepend=latest) >= 0), "batches were put one after another"
        latest = graph_idx[-1]
        lengths += np.bincount(graph_idx, minlength=n_graphs)
        codes.append(batch["code"].to_numpy())
    return codes, lengths


def _decoded(universe: Ints, granularity: str) -> Ints:
    layer = universe >> (FEATURE_BITS + POS_BITS)
    feature = (universe >> POS_BITS) & ((1 << FEATURE_BITS) - 1)
    pos = universe & ((1 << POS_BITS) - 1)
    return np.column_stack([layer, feature, pos if granularity == "position" else np.full_like(pos, -1)])
