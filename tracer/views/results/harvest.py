"""Questions about a harvest: what a feature fires on, what it writes, which others are like it or fire with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from tracer.errors import DataError
from tracer.tables.database import Connection, Parameters, ask
from tracer.tables.joining import SCHEMA, connect_harvest
from tracer.tables.quoting import quoted

_ONE = "layer = $layer AND feature = $feature"
TOKENS = f"""
    SELECT t.token_id, t.token, t.n_at, t.n_at / nullif(f.n_firings, 0) AS share_of_firings,
        t.n_at / nullif(c.n_at, 0) AS share_of_token, t.n_before, t.n_after
    FROM {SCHEMA}.feature_tokens AS t JOIN {SCHEMA}.features AS f USING (layer, feature)
    JOIN {SCHEMA}.token_counts AS c USING (token_id)
    WHERE t.layer = $layer AND t.feature = $feature ORDER BY t.n_at DESC, t.token_id
"""
NEIGHBOURS = f"""
    SELECT n.scope, n.rank, n.neighbour_layer, n.neighbour_feature, n.cosine, f.activation_frequency, f.top_tokens
    FROM {SCHEMA}.feature_neighbours AS n
    JOIN {SCHEMA}.features AS f ON (f.layer, f.feature) = (n.neighbour_layer, n.neighbour_feature)
    WHERE n.layer = $layer AND n.feature = $feature ORDER BY n.cosine DESC, n.neighbour_layer, n.neighbour_feature
"""
COACTIVE = f"""
    WITH both_ways AS (
        SELECT * FROM {SCHEMA}.feature_coactivation
        UNION ALL BY NAME
        SELECT grain, layer_b AS layer_a, feature_b AS feature_a, layer_a AS layer_b, feature_a AS feature_b,
            n_b AS n_a, n_a AS n_b, * EXCLUDE (grain, layer_a, feature_a, layer_b, feature_b, n_a, n_b)
        FROM {SCHEMA}.feature_coactivation
    )
    SELECT layer_b AS other_layer, feature_b AS other_feature,
        * EXCLUDE (grain, layer_a, feature_a, layer_b, feature_b)
    FROM both_ways WHERE grain = $grain AND layer_a = $layer AND feature_a = $feature
    ORDER BY q_above, lift DESC, support DESC, other_layer, other_feature
"""


@dataclass(frozen=True, slots=True)
class Harvest:
    """Questions about a harvest; `connection` has its tables under `harvest`. Frames are of polars."""

    connection: Connection

    @property
    def about(self) -> dict[str, Any]:
        """The row of `harvests`: model, transcoders, corpus, counts, versions."""
        return self.sql(f"SELECT * FROM {SCHEMA}.harvests").row(0, named=True)

    def sql(self, query: str, parameters: Parameters = None) -> pl.DataFrame:
        """Answer a query over `harvest.features` and the others, and over the run's tables where one is open.

        Args:
            query: SQL.
            parameters: what stands for its `?`, in order, or for its `$name`, by name.

        Raises:
            DataError: the query is wrong, in DuckDB's words.
        """
        return ask(self.connection, query, parameters)

    def table(self, name: str) -> pl.DataFrame:
        """A whole table, such as `features`.

        Args:
            name: as `tracer tables` lists it.

        Raises:
            DataError: the harvest has no such table.
        """
        return self.sql(f"SELECT * FROM {SCHEMA}.{quoted(name)}")

    def feature(self, layer: int, feature: int) -> dict[str, Any]:
        """The row of `features`: how often, how strongly, what it promotes.

        Args:
            layer: its layer.
            feature: its index there.

        Raises:
            DataError: it was not harvested.
        """
        rows = self._of(f"SELECT * FROM {SCHEMA}.features WHERE {_ONE}", layer, feature)
        if rows.height != 1:
            of_layer = f"SELECT count(*) AS n FROM {SCHEMA}.features WHERE layer = $layer"
            n_features = ask(self.connection, of_layer, {"layer": layer})["n"][0]
            raise DataError(
                f"feature {feature} of layer {layer}", found=f"{n_features} features of that layer",
                expected="one of them", to_do=f"`SELECT layer, feature FROM {SCHEMA}.features` lists all.",
            )  # fmt: skip
        return rows.row(0, named=True)

    def examples(self, layer: int, feature: int, kind: str | None = "top") -> pl.DataFrame:
        """Windows that show a feature.

        Args:
            layer: its layer.
            feature: its index there.
            kind: top, quantile, random or near_miss; None for all.
        """
        sql = f"""
            SELECT * FROM {SCHEMA}.examples WHERE {_ONE} AND ($kind IS NULL OR kind = $kind)
            ORDER BY kind = 'top' DESC, kind, quantile DESC, rank
        """
        return ask(self.connection, sql, {"layer": layer, "feature": feature, "kind": kind})

    def tokens(self, layer: int, feature: int) -> pl.DataFrame:
        """The tokens around a feature's firings, those it fires on most first; `share_of_token` is the share of the
        token's places at which it fires.

        Args:
            layer: its layer.
            feature: its index there.
        """
        return self._of(TOKENS, layer, feature)

    def neighbours(self, layer: int, feature: int) -> pl.DataFrame:
        """The features that write most alike, of its own layer and of others.

        Args:
            layer: its layer.
            feature: its index there.
        """
        return self._of(NEIGHBOURS, layer, feature)

    def excitations(self, layer: int, feature: int) -> pl.DataFrame:
        """The tokens whose embeddings excite a feature, straight or through an attention head.

        Args:
            layer: its layer.
            feature: its index there.
        """
        return self._of(f"SELECT * FROM {SCHEMA}.feature_excitations WHERE {_ONE} ORDER BY ALL", layer, feature)

    def coactive(self, layer: int, feature: int, grain: str = "token") -> pl.DataFrame:
        """The features that are active where a feature is, most beyond chance first.

        Args:
            layer: its layer.
            feature: its index there.
            grain: token or document.
        """
        return ask(self.connection, COACTIVE, {"layer": layer, "feature": feature, "grain": grain})

    def _of(self, sql: str, layer: int, feature: int) -> pl.DataFrame:
        return ask(self.connection, sql, {"layer": layer, "feature": feature})


@contextmanager
def open_harvest(harvest: str | Path, run: str | Path | None = None) -> Iterator[Harvest]:
    """The results of a harvest, to be read; with a run's where one is given.

    Args:
        harvest: its folder, its results.duckdb, or the URI of a folder in an object store, which is fetched.
        run: the same of a run.

    Raises:
        ArtifactError: there are no results, not of this version, or of different transcoders.
    """
    from tracer.views.results.opening import local_results

    with connect_harvest(local_results(harvest), None if run is None else local_results(run)) as connection:
        yield Harvest(connection)
