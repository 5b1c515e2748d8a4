"""Questions about components, that is MLPs and attention heads: how often, with which features, and how well they
agree with a list of heads.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from scipy import stats

from tracer.errors import DataError
from tracer.tables.conditions import known_column
from tracer.tables.database import Connection, ask
from tracer.tables.quoting import literal, quoted
from tracer.views.results.asking import (
    aggregate_settings,
    check_value,
    component_names,
    graphs_of,
    listed,
    parse_component,
)
from tracer.views.results.held_components import counterfactual_difference

What = Literal["frequency", "n_features", "influence_mean", "product"]
"""What a component is measured by; `product` is frequency times n_features."""
COUNTERFACTUAL = "counterfactual"
"""In the place of a value to subtract: the counterfactual partners of the prompts."""

OVERALL = "SELECT *, (SELECT n_graphs FROM runs) AS n_graphs, frequency * n_features AS product FROM components"
BY_VALUE = """
    SELECT *, frequency * n_features AS product FROM component_frequency
    WHERE by_column = $by_column AND by_value = $by_value
"""
HEAD_FEATURES = """
    WITH chosen AS ({graphs})
    SELECT 'L' || parts.layer || 'H' || parts.head AS component, nodes.layer, nodes.feature,
        count(DISTINCT graph_id) AS support
    FROM head_loadings AS parts JOIN nodes USING (graph_id) SEMI JOIN chosen USING (graph_id)
    WHERE parts.kind = 'head' AND parts.rank = 0 AND parts.weight <> 0
        AND nodes.node_idx = parts.source_idx AND nodes.kind = 'feature'
    GROUP BY ALL
"""
PAIRS = """
    SELECT component_a, component_b, * EXCLUDE (component_a, component_b) FROM component_cooccurrence
    UNION ALL BY NAME
    SELECT component_b AS component_a, component_a AS component_b, n_b AS n_a, n_a AS n_b,
        * EXCLUDE (component_a, component_b, n_a, n_b)
    FROM component_cooccurrence
"""


@dataclass(frozen=True, slots=True)
class Components:
    """Questions about components; `connection` is to a results file."""

    connection: Connection

    def frequency(self, by_value: str | None = None, *, by_column: str = "task") -> pl.DataFrame:
        """Every component with support, frequency, distinct features and influence, MLPs first.

        Args:
            by_value: count the graphs of this value alone; None for all graphs.
            by_column: column of `prompts` that has it, one of `aggregate.by`.

        Raises:
            DataError: no graphs were counted under the value.
        """
        columns = ("component", "kind", "layer", "head", "support", "n_graphs", "frequency", "n_features")
        sql, parameters = _measures(self.connection, by_value, by_column)
        selected = ", ".join((*columns, "influence_mean", "product"))
        return ask(self.connection, f"SELECT {selected} FROM ({sql}) ORDER BY kind = 'head', layer, head", parameters)

    def map(
        self,
        what: What = "frequency",
        by_value: str | None = None,
        *,
        minus: str | None = None,
        by_column: str = "task",
        where: str | None = None,
    ) -> pl.DataFrame:
        """A measure of all components, a row for each layer: columns `layer`, `H0`, `H1`, ..., `MLP`.

        Heads that never carried a listed part of an edge have 0 while others have rows; NaN is what is undefined.

        Args:
            what: frequency, n_features, influence_mean or product.
            by_value: of the graphs of this value alone; None for all graphs.
            minus: subtract the measure of this other value, or, for frequencies, with `counterfactual` that of the
                counterfactual partners: graphs of the value that have partners against these partners.
            by_column: column of `prompts` that has the values; with `counterfactual` any, else one of `aggregate.by`.
            where: SQL condition on `prompts` that with `counterfactual` says, beside the value, which prompts are meant
                and which are the partners, such as "state = 'Texas'".

        Raises:
            DataError: an unknown value or measure; with `counterfactual` another measure than frequency, no graph, no
                partner, or both prompts of a pair. A condition without it.
        """
        if what not in get_args(What):
            raise DataError("component map", found=repr(what), expected=listed(get_args(What)), to_do="Name a measure.")
        if minus == COUNTERFACTUAL:
            if what != "frequency":
                to_do = "Subtract the measure of another value instead."
                raise DataError("component map", found=what, expected="frequency", to_do=to_do)
            condition = _condition(self.connection, by_column, by_value, where)
            head_share = aggregate_settings(self.connection).head_share
            return _as_map(
                counterfactual_difference(self.connection, condition, head_share), "difference", self._n_layers()
            )
        if where is not None:
            to_do = f"Use it with minus={COUNTERFACTUAL!r}, or give a value."
            raise DataError("component map", found="a condition", expected="none", to_do=to_do)
        found = self.frequency(by_value, by_column=by_column)
        if minus is not None:
            other = self.frequency(minus, by_column=by_column).select("component", pl.col(what).alias("other"))
            found = found.join(other, on="component", how="left").with_columns(pl.col(what) - pl.col("other"))
        return _as_map(found, what, self._n_layers())

    def pairs(self, component: str | None = None) -> pl.DataFrame:
        """Pairs of components that share graphs, as in `component_cooccurrence`, of most support first.

        Args:
            component: only its pairs, in which it is always `component_a`; None for all pairs, each once.

        Raises:
            DataError: an unknown component.
        """
        order = "ORDER BY support DESC, component_a, component_b"
        if component is None:
            return ask(self.connection, f"SELECT * FROM component_cooccurrence {order}")
        name = parse_component(self.connection, component).name
        return ask(self.connection, f"SELECT * FROM ({PAIRS}) WHERE component_a = $name {order}", {"name": name})

    def pair_map(self, what: str = "support") -> pl.DataFrame:
        """A measure of every pair of components: column `component`, then a column for each, in the same order.

        What is not known is NaN: pairs of fewer graphs than `aggregate.min_support` are not listed. Of components that
        no graph holds the support is 0. With itself a component has its own support, else NaN.

        Args:
            what: a measure of `component_cooccurrence`: support, lift, jaccard, npmi, lift_stratified, ...

        Raises:
            DataError: an unknown measure.
        """
        pairs = ask(self.connection, PAIRS)
        measures = pairs.columns[2:]
        if what not in measures:
            raise DataError("pair map", found=repr(what), expected=listed(measures), to_do="Name a measure.")
        names = component_names(self.connection)
        place = {name: number for number, name in enumerate(names)}
        matrix = np.full((len(names), len(names)), np.nan)
        if what == "support":
            own = np.array(self.frequency()["support"].to_list(), dtype=np.float64)
            matrix[(own[:, None] == 0) | (own == 0)] = 0.0
            np.fill_diagonal(matrix, own)
        for first, second, value in pairs.select("component_a", "component_b", what).iter_rows():
            matrix[place[first], place[second]] = np.nan if value is None else value
        columns = {name: matrix[:, number] for name, number in place.items()}
        return pl.DataFrame({"component": names, **columns})

    def roc_auc(
        self,
        heads: Collection[str],
        score: What = "frequency",
        by_value: str | None = None,
        *,
        n_heads: int | None = None,
        by_column: str = "task",
    ) -> float:
        """How well a score tells given heads from all others: the chance that one of them scores above another head,
        ties counting half.

        Heads without a row in `components` score 0.

        Args:
            heads: names of the heads that are right: L9H9, ...
            score: what heads are ranked by.
            by_value: over the graphs of this value alone; None for all graphs.
            n_heads: heads of a layer; None for the largest number that any layer shows.
            by_column: column of `prompts` that has the value.

        Raises:
            DataError: a head that the model does not have, or no head, or all of them; a run without graphs or heads.
        """
        if not any(name.startswith("L") for name in component_names(self.connection)):
            to_do = "Set `attribution.head_loadings` and trace prompts that succeed."
            raise DataError("ROC-AUC", found="no attention head in any graph", expected="heads", to_do=to_do)
        measured = self.map(score, by_value, by_column=by_column).drop("layer", "MLP").to_numpy()
        grid = np.zeros((self._n_layers(), max(n_heads or 0, measured.shape[1])))
        grid[:, : measured.shape[1]] = np.nan_to_num(measured)
        names = [f"L{layer}H{head}" for layer in range(grid.shape[0]) for head in range(grid.shape[1])]
        unknown = sorted(set(heads) - set(names))
        if unknown or not 0 < len(set(heads)) < len(names):
            found = f"no head {', '.join(unknown)}" if unknown else f"{len(set(heads))} of {len(names)} heads"
            expected = f"some of {grid.shape[0]} layers x {grid.shape[1]} heads, not all: L0H0, ..."
            raise DataError("ROC-AUC", found=found, expected=expected, to_do="Give `n_heads` if the model has more.")
        is_right = np.isin(names, list(heads))
        ranks = stats.rankdata(grid.ravel())
        n_right = int(is_right.sum())
        above = ranks[is_right].sum() - n_right * (n_right + 1) / 2
        return float(above / (n_right * (len(names) - n_right)))

    def _n_layers(self) -> int:
        return int(ask(self.connection, "SELECT n_layers FROM runs")["n_layers"][0])


def hypergraph(connection: Connection, by_value: str | None, by_column: str) -> dict[str, dict[str, Any]]:
    """For each component its frequency and its features, most support first.

    Args:
        connection: to a results file.
        by_value: over the graphs of this value alone; None for all graphs.
        by_column: column of `prompts` that has it.
    """
    found = Components(connection).frequency(by_value, by_column=by_column)
    if by_value is None:
        sql = "SELECT component, feature_layer AS layer, feature, support FROM component_features"
        features = ask(connection, sql)
    else:
        of_mlps = """
            SELECT 'MLP' || layer AS component, layer, feature, support FROM feature_frequency
            WHERE by_column = $by_column AND by_value = $by_value
        """
        of_heads = HEAD_FEATURES.format(graphs=graphs_of(connection, by_column, by_value))
        features = pl.concat([
            ask(connection, of_mlps, {"by_column": by_column, "by_value": by_value}),
            ask(connection, of_heads, {"by_value": by_value}),
        ])
    features = features.sort("support", "layer", "feature", descending=[True, False, False])
    members: dict[str, list[dict[str, int]]] = {name: [] for name in found["component"]}
    for row in features.iter_rows(named=True):
        members[row.pop("component")].append(row)
    return {
        name: {"frequency": frequency, "features": members[name]}
        for name, frequency in found.select("component", "frequency").iter_rows()
    }


def _measures(connection: Connection, by_value: str | None, by_column: str) -> tuple[str, dict[str, str] | None]:
    if by_value is None:
        return OVERALL, None
    check_value(connection, by_column, by_value)
    return BY_VALUE, {"by_column": by_column, "by_value": by_value}


def _condition(connection: Connection, by_column: str, by_value: str | None, where: str | None) -> str:
    """SQL condition on `prompts` for a value, a condition, or both."""
    parts = [] if where is None else [f"(\n{where}\n)"]
    if by_value is not None:
        parts.append(f"CAST({quoted(known_column(connection, by_column))} AS VARCHAR) = {literal(by_value)}")
    return " AND ".join(parts) or "true"


def _as_map(found: pl.DataFrame, what: str, n_layers: int) -> pl.DataFrame:
    """`found` has component, layer, head (-1 for an MLP) and the measure."""
    n_heads = int(found["head"].max() or 0) + 1 if (found["head"] >= 0).any() else 0  # type: ignore[arg-type]
    matrix = np.zeros((n_layers, n_heads + 1))
    for layer, head, value in found.select("layer", "head", what).iter_rows():
        matrix[layer, head] = np.nan if value is None else value
    names = [*(f"H{head}" for head in range(n_heads)), "MLP"]
    return pl.DataFrame({"layer": range(n_layers), **{name: matrix[:, idx] for idx, name in enumerate(names)}})
