"""Question: which pairs of features share graphs more, or less, often than the length-aware null explains?

Tested are all pairs of features that are in at least `min_support` graphs each; listed are those pairs that share at
least `min_support` graphs. A pair that is tested but not listed enters the Benjamini-Hochberg correction with p = 1,
in both directions: with `m` tested pairs, the listed p-values at rank i give `q = min p_(j) m / j` over j >= i. That
can only raise the q-values of listed pairs, so the false discovery rate stays under control however few are listed.
Pairs that avoid each other so well that they share fewer graphs than `min_support` are not listed and cannot be found
by `q_below`.

Two things err on the side of no discovery: the Poisson tails, which are wider than the truth for features in many
graphs, and length as the measure of a graph's room, whose noise makes expectations a little too large.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import sparse, stats

from tracer.aggregate.hypergraph.chances import Floats, Ints, fit_null
from tracer.tables.building import create_table, insert_rows
from tracer.tables.database import Connection, quoted
from tracer.tables.schema import TABLES

FEATURES_PER_BLOCK = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Pairs of columns that share graphs: `first` < `second`, and the number of shared graphs, each [n_pairs]."""

    first: Ints
    second: Ints
    support: Ints


def build_cooccurrence(connection: Connection, *, min_support: int, stratum: str | None) -> None:
    """Make `cooccurrence`.

    Args:
        connection: the results file being built, with the tables of the graphs in it.
        min_support: fewest graphs over the whole run that a listed pair shares.
        stratum: column of `prompts` within whose values the null is taken too; then npmi, p and q are those of
            that null, while `expected` and `lift` stay those of the unstratified one.
    """
    create_table(connection, TABLES["cooccurrence"])
    features, incidence, strata = _read_incidence(connection, stratum)
    if incidence.nnz == 0:
        return
    pairs = count_pairs(incidence, min_support)
    expected = expected_support(incidence, pairs)
    stratified = None if strata is None else expected_in_strata(incidence, pairs, strata)
    support = np.asarray(incidence.sum(axis=0)).ravel()
    n_frequent = int((support >= min_support).sum())
    n_tested = n_frequent * (n_frequent - 1) // 2
    columns = _statistics(pairs, support, incidence.shape[0], expected, stratified, n_tested)
    ends = {
        "layer_a": features[pairs.first, 0],
        "feature_a": features[pairs.first, 1],
        "layer_b": features[pairs.second, 0],
        "feature_b": features[pairs.second, 1],
    }
    schema = TABLES["cooccurrence"].arrow_schema()
    arrays = [pa.array((ends | columns)[field.name], type=field.type) for field in schema]
    insert_rows(connection, TABLES["cooccurrence"], pa.Table.from_arrays(arrays, schema=schema))


def count_pairs(incidence: sparse.csr_array, min_support: int) -> Pairs:
    """Count shared graphs by `X^T X`, a block of features at a time.

    Features below `min_support` cannot be in a pair that reaches it and are left out first.

    Args:
        incidence: 1 where a graph holds a feature, [n_graphs, n_features].
        min_support: fewest shared graphs of a pair that is returned.
    """
    frequent = np.flatnonzero(np.asarray(incidence.sum(axis=0)).ravel() >= min_support)
    blocks = [
        (frequent[block.first], frequent[block.second], block.support)
        for block in _blocks(incidence[:, frequent], min_support)
    ]
    first, second, support = (
        np.concatenate([block[i] for block in blocks] or [np.zeros(0, np.int64)]) for i in range(3)
    )
    return Pairs(first=first, second=second, support=support)


def _blocks(incidence: sparse.csr_array, min_support: int) -> Iterator[Pairs]:
    by_feature = incidence.T.tocsr()
    for start in range(0, by_feature.shape[0], FEATURES_PER_BLOCK):
        shared = (by_feature[start : start + FEATURES_PER_BLOCK] @ incidence).tocoo()
        row, column = shared.row.astype(np.int64) + start, shared.col.astype(np.int64)
        listed = (column > row) & (shared.data >= min_support)
        yield Pairs(first=row[listed], second=column[listed], support=shared.data[listed].astype(np.int64))


def expected_support(incidence: sparse.csr_array, pairs: Pairs) -> Floats:
    """Graphs expected with both features of each pair under the length-aware null (`tracer.aggregate.hypergraph.chances`)."""
    if incidence.nnz == 0:
        return np.zeros(len(pairs.first))
    support = np.asarray(incidence.sum(axis=0)).ravel().astype(np.int64)
    length = np.asarray(incidence.sum(axis=1)).ravel().astype(np.int64)
    return fit_null(support, length).expected(pairs.first, pairs.second)


def expected_in_strata(incidence: sparse.csr_array, pairs: Pairs, strata: Ints) -> Floats:
    """The same with chances fitted within each stratum and expectations summed; `strata` [n_graphs] numbers them."""
    expected = np.zeros(len(pairs.first))
    for stratum in np.unique(strata):
        expected += expected_support(incidence[np.flatnonzero(strata == stratum)], pairs)
    return expected


def benjamini_hochberg(p: Floats, n_tested: int) -> Floats:
    """q-values of the given p-values among `n_tested` tests, the others having p = 1."""
    if len(p) == 0:
        return p
    return np.minimum(stats.false_discovery_control(p, method="bh") * (n_tested / len(p)), 1.0)


def _statistics(
    pairs: Pairs, support: Ints, n_graphs: int, expected: Floats, stratified: Floats | None, n_tested: int
) -> dict[str, Ints | Floats | list[None]]:
    both, n_a, n_b = pairs.support, support[pairs.first], support[pairs.second]
    null = expected if stratified is None else stratified
    surprise = -np.log(both / n_graphs)
    # a pair in every graph says nothing: its lift is 1 and the quotient 0 / 0
    npmi = np.divide(np.log(both / null), surprise, out=np.zeros(len(both)), where=surprise > 0)
    p_above, p_below = stats.poisson.sf(both - 1, null), stats.poisson.cdf(both, null)
    nothing: list[None] = [None] * len(both)
    return {
        "n_a": n_a,
        "n_b": n_b,
        "support": both,
        "expected": expected,
        "lift": both / expected,
        "expected_stratified": nothing if stratified is None else stratified,
        "lift_stratified": nothing if stratified is None else both / stratified,
        "npmi": np.clip(npmi, -1.0, 1.0),
        "jaccard": both / (n_a + n_b - both),
        "p_above": p_above,
        "p_below": p_below,
        "q_above": benjamini_hochberg(p_above, n_tested),
        "q_below": benjamini_hochberg(p_below, n_tested),
    }


def _read_incidence(connection: Connection, stratum: str | None) -> tuple[Ints, sparse.csr_array, Ints | None]:
    """Features [n_features, 2] sorted, the incidence [n_graphs, n_features], and the stratum of each graph."""
    sql = "SELECT layer, feature FROM nodes WHERE kind = 'feature' GROUP BY ALL ORDER BY layer, feature"
    features = connection.execute(sql).fetchnumpy()
    held = connection.execute(
        """
        WITH graph AS (SELECT graph_id, row_number() OVER (ORDER BY graph_id) - 1 AS graph_idx FROM graphs),
        feature AS (
            SELECT layer, feature, row_number() OVER (ORDER BY layer, feature) - 1 AS feature_idx
            FROM (SELECT DISTINCT layer, feature FROM nodes WHERE kind = 'feature')
        )
        SELECT DISTINCT graph_idx, feature_idx
        FROM nodes JOIN graph USING (graph_id) JOIN feature USING (layer, feature) WHERE kind = 'feature'
        """
    ).fetchnumpy()
    column = f"prompts.{quoted(stratum)}" if stratum else "0"
    strata = connection.execute(
        f"SELECT dense_rank() OVER (ORDER BY {column} NULLS FIRST) AS stratum "
        "FROM graphs JOIN prompts USING (prompt_id) ORDER BY graph_id"
    ).fetchnumpy()["stratum"]
    places = np.column_stack([features["layer"], features["feature"]]).astype(np.int64)
    shape = (len(strata), len(places))
    ones = np.ones(len(held["graph_idx"]), dtype=np.int64)
    incidence = sparse.csr_array((ones, (held["graph_idx"], held["feature_idx"])), shape=shape)
    return places, incidence, strata if stratum else None
