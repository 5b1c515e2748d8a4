"""Questions about graphs: where influence lies by layer, kind and token, and how complete graphs are."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from tracer.errors import DataError
from tracer.tables.database import Connection, ask
from tracer.tables.quoting import quoted
from tracer.views.readings import BEST_LABEL
from tracer.views.results.asking import check_value, graphs_of

BY_LAYER = """
    SELECT layer, 'feature' AS kind, influence_mean FROM components WHERE kind = 'mlp'
    UNION ALL
    SELECT layer, 'error', error_influence_mean FROM components WHERE kind = 'mlp'
"""
BY_LAYER_OF_VALUE = """
    WITH errors_of AS (
        SELECT layer, sum(influence_sum) AS influence_sum FROM error_frequency
        WHERE by_column = $by_column AND by_value = $by_value GROUP BY layer
    )
    SELECT layer, 'feature' AS kind, influence_mean FROM component_frequency
    WHERE kind = 'mlp' AND by_column = $by_column AND by_value = $by_value
    UNION ALL
    SELECT layer, 'error', coalesce(errors_of.influence_sum, 0) / n_graphs
    FROM component_frequency LEFT JOIN errors_of USING (layer)
    WHERE kind = 'mlp' AND by_column = $by_column AND by_value = $by_value
"""
TOKENS = """
    WITH chosen AS ({graphs})
    SELECT -1 AS layer, 'token' AS kind, sum(influence) / (SELECT count(*) FROM chosen) AS influence_mean
    FROM nodes SEMI JOIN chosen USING (graph_id) WHERE kind = 'token'
"""
BY_TOKEN = """
    WITH places AS (
        SELECT generate_subscripts(tokens, 1) - 1 AS pos, unnest(tokens) AS token
        FROM prompts WHERE prompt_id = $prompt_id
    ),
    kinds AS (SELECT unnest(['feature', 'error', 'token']) AS kind),
    found AS (
        SELECT pos, kind, sum(influence) AS influence, count(*) AS n_nodes
        FROM nodes WHERE graph_id = $graph_id GROUP BY pos, kind
    )
    SELECT pos, token, kind, coalesce(influence, 0) AS influence, coalesce(n_nodes, 0) AS n_nodes
    FROM places CROSS JOIN kinds LEFT JOIN found USING (pos, kind) ORDER BY pos, kind
"""


ONE = "SELECT * FROM graphs JOIN prompts USING (prompt_id) WHERE graph_id = $graph_id"
EDGES = "SELECT * FROM edges WHERE graph_id = $graph_id ORDER BY edge_score DESC, target_idx, source_idx"
LABELS = f"""
    WITH {BEST_LABEL}
    SELECT DISTINCT layer, feature, label FROM best_label JOIN nodes USING (layer, feature) WHERE graph_id = $graph_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OneGraph:
    """The pruned graph of a prompt: its row of `graphs` and `prompts`, nodes, edges, and labels by (layer, feature)."""

    row: dict[str, Any]
    nodes: pl.DataFrame
    edges: pl.DataFrame
    labels: dict[tuple[int, int], str]


@dataclass(frozen=True, slots=True)
class Graphs:
    """Questions about graphs; `connection` is to a results file."""

    connection: Connection

    def influence_by_layer(self, by_value: str | None = None, *, by_column: str = "task") -> pl.DataFrame:
        """Mean influence of the kept nodes of a graph by layer and kind: feature, error, and token as layer -1.

        Tokens are looked up in `nodes`, all others in tables of components and errors.

        Args:
            by_value: of the graphs of this value alone; None for all graphs.
            by_column: column of `prompts` that has it, one of `aggregate.by`.

        Raises:
            DataError: no graphs were counted under the value.
        """
        tokens = TOKENS.format(graphs=graphs_of(self.connection, by_column, by_value))
        sql, parameters = BY_LAYER, None
        if by_value is not None:
            sql, parameters = BY_LAYER_OF_VALUE, {"by_column": by_column, "by_value": by_value}
        found = [ask(self.connection, tokens, {"by_value": by_value}), ask(self.connection, sql, parameters)]
        return pl.concat(found, how="vertical_relaxed").sort("layer", "kind", descending=[False, True])

    def influence_by_token(self, prompt_id: str, graph_id: str | None = None) -> pl.DataFrame:
        """Influence of the kept nodes of one graph by position and kind: a row for each, 0 where none is kept.

        Args:
            prompt_id: the prompt.
            graph_id: which of its graphs; None where it has but one.

        Raises:
            DataError: no such graph, or several.
        """
        wanted = _graph_id(self.connection, prompt_id, graph_id)
        return ask(self.connection, BY_TOKEN, {"prompt_id": prompt_id, "graph_id": wanted})

    def one(self, prompt_id: str, graph_id: str | None = None) -> OneGraph:
        """The graph of a prompt: its nodes and edges, and labels of its features.

        Args:
            prompt_id: the prompt.
            graph_id: which of its graphs; None where it has but one.

        Raises:
            DataError: no such graph, or several.
        """
        parameters = {"graph_id": _graph_id(self.connection, prompt_id, graph_id)}
        labels = ask(self.connection, LABELS, parameters)
        return OneGraph(
            row=ask(self.connection, ONE, parameters).row(0, named=True),
            nodes=ask(self.connection, "SELECT * FROM nodes WHERE graph_id = $graph_id ORDER BY node_idx", parameters),
            edges=ask(self.connection, EDGES, parameters),
            labels={(layer, feature): label for layer, feature, label in labels.iter_rows()},
        )

    def completeness(self, by_column: str = "task") -> pl.DataFrame:
        """The two scores of every graph with its value of a column of `prompts`; graphs without a value are left out.

        Args:
            by_column: any column of `prompts`.

        Raises:
            DataError: there is no such column.
        """
        return ask(
            self.connection,
            f"""SELECT CAST(prompts.{quoted(by_column)} AS VARCHAR) AS by_value, graph_id, completeness_score,
                    replacement_score
                FROM graphs JOIN prompts USING (prompt_id) WHERE by_value IS NOT NULL
                ORDER BY by_value, graph_id""",
        )

    def errors(self, by_value: str | None = None, *, by_column: str = "task") -> pl.DataFrame:
        """Where transcoders fail: kept error nodes by layer and position.

        Args:
            by_value: in the graphs of this value alone; None for all graphs.
            by_column: column of `prompts` that has it, one of `aggregate.by`.

        Raises:
            DataError: no graphs were counted under the value.
        """
        if by_value is None:
            return ask(self.connection, "SELECT * FROM errors ORDER BY layer, pos")
        check_value(self.connection, by_column, by_value)
        sql = """
            SELECT * EXCLUDE (by_column, by_value) FROM error_frequency
            WHERE by_column = $by_column AND by_value = $by_value ORDER BY layer, pos
        """
        return ask(self.connection, sql, {"by_column": by_column, "by_value": by_value})


def _graph_id(connection: Connection, prompt_id: str, graph_id: str | None) -> str:
    sql = "SELECT graph_id FROM graphs WHERE prompt_id = $prompt_id ORDER BY graph_id"
    known = ask(connection, sql, {"prompt_id": prompt_id})["graph_id"].to_list()
    wanted = [name for name in known if graph_id in (None, name)]
    if len(wanted) != 1:
        found = f"{len(known)} graphs of it" if graph_id is None else f"no graph {graph_id} of it"
        to_do = "`SELECT prompt_id, graph_id FROM graphs` lists them."
        raise DataError(f"prompt {prompt_id}", found=found, expected="one graph", to_do=to_do)
    return wanted[0]
