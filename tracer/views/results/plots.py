"""Figures of the questions that results answer, drawn at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from tracer.views.figures import components, distributions, influence
from tracer.views.figures.circuit import circuit
from tracer.views.figures.graph import graph
from tracer.views.results.components import What

if TYPE_CHECKING:
    from tracer.views.results.results import Results


@dataclass(frozen=True, slots=True)
class Plots:
    """Figures of matplotlib; the arguments are those of the questions, which say what the figures show.

    To draw a frame that was filtered or counted otherwise, call the functions of `tracer.views.figures`.
    """

    results: "Results"

    def frequency_bars(self, by_value: str | None = None, *, by_column: str = "task") -> Figure:
        """`components.frequency` by layer.

        Args:
            by_value: of the graphs of this value alone; None for all graphs.
            by_column: column of `prompts` that has it.
        """
        frame = self.results.components.frequency(by_value, by_column=by_column)
        return components.frequency_bars(frame, note=_graphs(by_value, by_column))

    def component_map(
        self,
        what: What = "frequency",
        by_value: str | None = None,
        *,
        minus: str | None = None,
        by_column: str = "task",
        where: str | None = None,
    ) -> Figure:
        """`components.map`.

        Args:
            what: frequency, n_features, influence_mean or product.
            by_value: of the graphs of this value alone; None for all graphs.
            minus: another value, or counterfactual.
            by_column: column of `prompts` that has the values.
            where: with counterfactual, condition on `prompts`.
        """
        frame = self.results.components.map(what, by_value, minus=minus, by_column=by_column, where=where)
        chosen = [] if by_value is None and where else [_graphs(by_value, by_column)]
        note = ", ".join(chosen + ([where] if where else [])) + (f" minus {minus}" if minus else "")
        return components.component_map(frame, what=what, note=note)

    def cooccurrence_map(self, what: str = "support") -> Figure:
        """`components.pair_map`.

        Args:
            what: a measure of `component_cooccurrence`.
        """
        return components.cooccurrence_map(self.results.components.pair_map(what), what=what)

    def influence_by_layer(self, by_value: str | None = None, *, by_column: str = "task") -> Figure:
        """`graphs.influence_by_layer`.

        Args:
            by_value: of the graphs of this value alone; None for all graphs.
            by_column: column of `prompts` that has it.
        """
        frame = self.results.graphs.influence_by_layer(by_value, by_column=by_column)
        return influence.influence_by_layer(frame, note=_graphs(by_value, by_column))

    def influence_by_token(self, prompt_id: str, graph_id: str | None = None) -> Figure:
        """`graphs.influence_by_token`.

        Args:
            prompt_id: the prompt.
            graph_id: which of its graphs; None where it has but one.
        """
        frame = self.results.graphs.influence_by_token(prompt_id, graph_id)
        return influence.influence_by_token(frame, note=_prompt(self.results.graphs.one(prompt_id, graph_id).row))

    def graph(self, prompt_id: str, graph_id: str | None = None) -> Figure:
        """The graph of a prompt, with labels.

        Args:
            prompt_id: the prompt.
            graph_id: which of its graphs; None where it has but one.
        """
        found = self.results.graphs.one(prompt_id, graph_id)
        note = f"completeness {found.row['completeness_score']:.2f}, replacement {found.row['replacement_score']:.2f}"
        return graph(found.nodes, found.edges, title=_prompt(found.row), note=note, labels=found.labels)

    def completeness(self, by_column: str = "task", *, what: str = "completeness_score") -> Figure:
        """`graphs.completeness`.

        Args:
            by_column: any column of `prompts`.
            what: completeness_score or replacement_score.
        """
        return distributions.completeness(self.results.graphs.completeness(by_column), what=what)

    def unique_features(
        self, names: Sequence[str] = (), *, by_value: str | None = None, by_column: str = "task"
    ) -> Figure:
        """`unique_features`.

        Args:
            names: components, a curve for each; none for the features of all MLPs together.
            by_value: over the prompts of this value alone; None for all.
            by_column: column of `prompts` that has it.
        """
        frame = self.results.unique_features(names, by_value=by_value, by_column=by_column)
        return distributions.unique_features(frame)

    def circuit(self, by_value: str, *, by_column: str = "task", n_per_layer: int = 8) -> Figure:
        """`circuits.consensus`.

        Args:
            by_value: the value, such as a task.
            by_column: column of `prompts` that has it.
            n_per_layer: most nodes drawn of each layer, and of tokens and answers.
        """
        found = self.results.circuits.consensus(by_value, by_column=by_column)
        title = f"What the graphs of {by_value} share"
        note = f"{found.row['n_graphs']} graphs; edges: wider in more graphs; blue raises, orange lowers"
        return circuit(found.nodes, found.edges, title=title, note=note, n_per_layer=n_per_layer)


def _prompt(row: dict[str, Any]) -> str:
    return row["text"] + (f" → {row['answer'].strip()}" if row["answer"] else "")


def _graphs(by_value: str | None, by_column: str) -> str:
    return "all graphs" if by_value is None else f"graphs of {by_column} {by_value}"
