"""`Results`: the tables of a run, read-only, and the questions that are asked of them most."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import polars as pl

from tracer.errors import ArtifactError, DataError
from tracer.tables.database import Connection, Parameters, ask, connect
from tracer.tables.joining import connect_harvest
from tracer.tables.quoting import quoted
from tracer.tables.schema import TABLES
from tracer.views.results.circuits import Circuits
from tracer.views.results.components import Components, hypergraph
from tracer.views.results.cooccurrences import cooccurrences, top_feature_tuples
from tracer.views.results.features import read_features
from tracer.views.results.graphs import Graphs
from tracer.views.results.harvest import Harvest
from tracer.views.results.unique_features import unique_features

if TYPE_CHECKING:
    from tracer.views.results.plots import Plots


class Results:
    """The tables of a run, read-only; frames are of polars. Closes with a `with`, with `close`, or when it is let go.

    `components`, `graphs` and `circuits` hold further questions, `plot` draws the answers.

    Args:
        path: a results.duckdb.
        harvest: that of a harvest of the same transcoders; None without one.

    Raises:
        ArtifactError: absent, not a results file of this version, or a harvest of other transcoders.
    """

    def __init__(self, path: Path, harvest: Path | None = None) -> None:
        self.path, self._harvest = path, harvest
        self._stack = ExitStack()
        opened = connect(path) if harvest is None else connect_harvest(harvest, path)
        self._connection = self._stack.enter_context(opened)

    def __enter__(self) -> "Results":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Results({str(self.path)!r}: {self.run['n_graphs']} graphs of {self.run['corpus']})"

    def close(self) -> None:
        """Close the file; nothing can be asked after."""
        self._stack.close()

    @property
    def connection(self) -> Connection:
        """The read-only DuckDB connection."""
        return self._connection

    @cached_property
    def run(self) -> dict[str, Any]:
        """The row of `runs`: model, transcoders, corpus, counts, versions."""
        rows = self.sql("SELECT * FROM runs")
        if rows.height != 1:
            found, to_do = f"{rows.height} rows in `runs`", "Aggregate the run again."
            raise ArtifactError(str(self.path), found=found, expected="one", to_do=to_do)
        return rows.row(0, named=True)

    @property
    def components(self) -> Components:
        """Frequency, maps and pairs of MLPs and attention heads."""
        return Components(self._connection)

    @property
    def graphs(self) -> Graphs:
        """Influence by layer and by token, errors, completeness."""
        return Graphs(self._connection)

    @property
    def circuits(self) -> Circuits:
        """Consensus circuits, clusters, supernodes."""
        return Circuits(self._connection)

    @property
    def harvest(self) -> Harvest:
        """What features do over the reference corpus of the harvest that was opened with the run.

        Raises:
            DataError: none was.
        """
        if self._harvest is None:
            to_do = "Open both: tracer.open(run, harvest=FOLDER)."
            raise DataError(str(self.path), found="a run alone", expected="a harvest beside it", to_do=to_do)
        return Harvest(self._connection)

    @property
    def plot(self) -> "Plots":
        """Figures of the answers."""
        from tracer.views.results.plots import Plots

        return Plots(self)

    def sql(self, query: str, parameters: Parameters = None) -> pl.DataFrame:
        """Answer a query; of columns of one name, the later ones are numbered: a, a_1, a_2.

        Args:
            query: SQL over the tables that `tracer tables` lists.
            parameters: what stands for its `?`, in order, or for its `$name`, by name.

        Raises:
            DataError: the query is wrong, in DuckDB's words.
        """
        return ask(self._connection, query, parameters)

    def table(self, name: str) -> pl.DataFrame:
        """A whole table; of a large run, ask for a part of `nodes` or `edges` by `sql`.

        Args:
            name: one of those that `tracer tables` lists.

        Raises:
            DataError: there is no such table in the results.
        """
        if name not in TABLES:
            to_do = "`tracer tables` lists them."
            raise DataError(f"table {name!r}", found="no such table", expected="a table of results", to_do=to_do)
        return self.sql(f"SELECT * FROM {quoted(name)}")

    def features(
        self, by_value: str | None = None, *, hide_dense: bool = False, by_column: str = "task"
    ) -> pl.DataFrame:
        """Features that graphs hold, with labels: support, frequency, influence, activation; most support first.

        `activation_mean` and `activation_min` are those of the nodes that these graphs keep.

        Args:
            by_value: in the graphs of this value alone; None for all graphs.
            hide_dense: leave out features that fire at more than `aggregate.dense_frequency` of all tokens.
            by_column: column of `prompts` that has the value, one of `aggregate.by`.

        Raises:
            DataError: no graphs were counted under the value.
        """
        return read_features(self._connection, by_value, by_column, hide_dense=hide_dense)

    def hypergraph(self, by_value: str | None = None, *, by_column: str = "task") -> dict[str, dict[str, Any]]:
        """For each component its `frequency`, a share of graphs, and its `features`: layer, feature and support of
        each, most support first.

        Features of an MLP are its own, those of a head the ones that it carries the largest part of an edge from. A
        graph counts to the frequency of a head only if the head carries `aggregate.head_share` of it, so a head may
        have features, of graphs in which it carries less, and a frequency of 0.

        Args:
            by_value: over the graphs of this value alone; None for all graphs.
            by_column: column of `prompts` that has it, one of `aggregate.by`.

        Raises:
            DataError: no graphs were counted under the value.
        """
        return hypergraph(self._connection, by_value, by_column)

    def cooccurrences(self, component_a: str, component_b: str, *, min_support: int = 1) -> pl.DataFrame:
        """Pairs of a feature of one component and a feature of the other that share graphs, most support first.

        `expected_independent` and `lift_independent` take graphs to be alike; `lift`, `q_above` and the like are those
        of `cooccurrence`, null for pairs that it does not list and where a head reads a feature. A feature of an
        MLP is not paired with itself as what a head reads.

        Args:
            component_a: name of a component, such as MLP0.
            component_b: another, such as L9H9, or the same again.
            min_support: fewest graphs of a pair that is listed.

        Raises:
            DataError: an unknown component.
        """
        return cooccurrences(self._connection, component_a, component_b, min_support)

    def top_feature_tuples(
        self, k: int, components: Sequence[str], *, by_value: str | None = None, by_column: str = "task"
    ) -> pl.DataFrame:
        """The `k` tuples of one feature of each component that most graphs hold: columns `MLP0_layer`,
        `MLP0_feature`, ... say which component owns which feature. A feature of an MLP is in no tuple with itself as
        what a head reads.

        Args:
            k: most tuples.
            components: names, each once.
            by_value: over the graphs of this value alone; None for all graphs.
            by_column: column of `prompts` that has it, one of `aggregate.by`.

        Raises:
            DataError: an unknown component or value, a component given twice, or no tuple asked for.
        """
        return top_feature_tuples(self._connection, k, components, by_value, by_column)

    def unique_features(
        self,
        components: Sequence[str] = (),
        *,
        n_resamples: int = 10,
        n_points: int = 40,
        seed: int = 0,
        by_value: str | None = None,
        by_column: str = "task",
    ) -> pl.DataFrame:
        """Mean number of distinct features among n prompts, by n, with its spread over resamples.

        Args:
            components: a curve for each of these; none for the features of all MLPs together.
            n_resamples: random orders of the prompts, by hashes of their ids.
            n_points: most values of n, evenly spread up to the number of prompts.
            seed: names the orders.
            by_value: over the prompts of this value alone; None for all.
            by_column: column of `prompts` that has it, one of `aggregate.by`.

        Raises:
            DataError: an unknown component or value.
        """
        return unique_features(
            self._connection, components, n_resamples=n_resamples, n_points=n_points, seed=seed, by_value=by_value,
            by_column=by_column,
        )  # fmt: skip

    def circuit_at(self, threshold: float, by_value: str | None = None, *, by_column: str = "task") -> pl.DataFrame:
        """The components whose frequency is above a threshold, most frequent first.

        Args:
            threshold: share of graphs, 0 to 1.
            by_value: over the graphs of this value alone; None for all graphs.
            by_column: column of `prompts` that has it, one of `aggregate.by`.

        Raises:
            DataError: no graphs were counted under the value, or the threshold is no share.
        """
        if not (isinstance(threshold, int | float) and 0 <= threshold <= 1):
            to_do = "Give a share of graphs."
            raise DataError("threshold", found=repr(threshold), expected="a number from 0 to 1", to_do=to_do)
        found = self.components.frequency(by_value, by_column=by_column)
        above = found.filter(pl.col("frequency") > threshold)
        return above.sort("frequency", "component", descending=[True, False])
