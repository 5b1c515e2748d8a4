"""Questions about recurring circuits: what the graphs of a task share, and which graphs are alike."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from tracer.errors import DataError
from tracer.tables.database import Connection, ask
from tracer.tables.quoting import quoted
from tracer.views.readings import BEST_LABEL
from tracer.views.results.asking import listed

CONSENSUS = """
    SELECT * FROM circuits
    WHERE kind = 'consensus' AND by_column = $by_column AND by_value = $by_value
"""
NODES = f"""
    WITH {BEST_LABEL}
    SELECT m.kind, m.layer, m.feature, coalesce(label, m.token) AS label, m.support, m.frequency, m.influence_mean,
        m.weight
    FROM circuit_members AS m LEFT JOIN best_label AS l
        ON m.kind = 'feature' AND (m.layer, m.feature) = (l.layer, l.feature)
    WHERE m.circuit_id = $circuit_id ORDER BY m.weight DESC, m.kind, m.layer, m.feature
"""
EDGES = """
    SELECT * EXCLUDE (circuit_id) FROM circuit_edges WHERE circuit_id = $circuit_id
    ORDER BY support DESC, abs(weight_mean) DESC, source_kind, source_layer, source_feature, target_kind, target_layer,
        target_feature
"""
KINDS = ("consensus", "graph_cluster", "feature_cluster", "profile_cluster", "supernode")


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """A recurring circuit: its row of `circuits`, its members with labels and, for a consensus, its edges."""

    row: dict[str, Any]
    nodes: pl.DataFrame
    edges: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Circuits:
    """Questions about recurring circuits; `connection` is to a results file."""

    connection: Connection

    def list(self, kind: str | None = None) -> pl.DataFrame:
        """The circuits of the run, largest first.

        Args:
            kind: consensus, graph_cluster, feature_cluster, profile_cluster or supernode; None for all.

        Raises:
            DataError: another kind.
        """
        if kind is not None and kind not in KINDS:
            raise DataError("circuits", found=f"kind {kind!r}", expected=listed(KINDS), to_do="Name one of them.")
        sql = """
            SELECT * FROM circuits WHERE $kind IS NULL OR kind = $kind
            ORDER BY kind, n_graphs DESC NULLS LAST, n_members DESC, circuit_id
        """
        return ask(self.connection, sql, {"kind": kind})

    def consensus(self, by_value: str, *, by_column: str = "task") -> Circuit:
        """What the graphs of a value share: nodes and edges.

        Args:
            by_value: the value, such as a task.
            by_column: column of `prompts` that has it, one of `aggregate.by`.

        Raises:
            DataError: there is no consensus circuit of the value.
        """
        found = ask(self.connection, CONSENSUS, {"by_column": by_column, "by_value": by_value})
        if found.height != 1:
            sql = "SELECT by_value FROM circuits WHERE kind = 'consensus' AND by_column = $by_column ORDER BY by_value"
            known = ask(self.connection, sql, {"by_column": by_column})["by_value"].to_list()
            raise DataError(
                f"{by_column} {by_value!r}", found="no consensus circuit of it", expected=listed(known),
                to_do="`circuits.list('consensus')` has all of them.",
            )  # fmt: skip
        return self.one(found["circuit_id"][0])

    def one(self, circuit_id: str) -> Circuit:
        """A circuit by its name.

        Args:
            circuit_id: as in `circuits`.

        Raises:
            DataError: there is no such circuit.
        """
        parameters = {"circuit_id": circuit_id}
        rows = ask(self.connection, "SELECT * FROM circuits WHERE circuit_id = $circuit_id", parameters)
        if rows.height != 1:
            to_do = "`circuits.list()` has all of them."
            raise DataError(f"circuit {circuit_id}", found="no such circuit", expected="one of the run's", to_do=to_do)
        return Circuit(
            row=rows.row(0, named=True),
            nodes=ask(self.connection, NODES, parameters),
            edges=ask(self.connection, EDGES, parameters),
        )

    def supernodes(self, circuit_id: str) -> pl.DataFrame:
        """The supernodes of a consensus circuit with their features and labels.

        Args:
            circuit_id: the consensus circuit.

        Raises:
            DataError: there is no such circuit.
        """
        self.one(circuit_id)
        sql = f"""
            WITH {BEST_LABEL}
            SELECT c.circuit_id, c.n_members, c.cohesion, m.layer, m.feature, label, m.weight
            FROM circuits AS c JOIN circuit_members AS m USING (circuit_id)
            LEFT JOIN best_label AS l ON (m.layer, m.feature) = (l.layer, l.feature)
            WHERE c.kind = 'supernode' AND c.parent_id = $circuit_id
            ORDER BY c.n_members DESC, c.circuit_id, m.weight DESC, m.layer, m.feature
        """
        return ask(self.connection, sql, {"circuit_id": circuit_id})

    def clusters_by_value(self, by_column: str = "task") -> pl.DataFrame:
        """Clusters of graphs against values of metadata: how many graphs of each value are in each cluster.

        Args:
            by_column: any column of `prompts`.

        Raises:
            DataError: there is no such column.
        """
        return ask(
            self.connection,
            f"""SELECT circuit_id, CAST(prompts.{quoted(by_column)} AS VARCHAR) AS by_value, count(*) AS n_graphs,
                    count(*) / sum(count(*)) OVER (PARTITION BY circuit_id) AS share_of_cluster,
                    count(*) / sum(count(*)) OVER (PARTITION BY by_value) AS share_of_value
                FROM circuit_graphs JOIN graphs USING (graph_id) JOIN prompts USING (prompt_id)
                GROUP BY circuit_id, by_value ORDER BY circuit_id, n_graphs DESC, by_value""",
        )
