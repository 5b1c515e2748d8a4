"""Figures of every question: drawn from the frames, with titles, names of axes and what the frames say in them."""

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure

import tracer
from tests.tables.tiny_run import build_tiny_run
from tracer import Results
from tracer.views.figures import comparisons, components, distributions
from tracer.views.figures.circuit import circuit
from tracer.views.figures.graph import graph
from tracer.views.figures.style import apart, figure_text, heat_map, new_figure


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    with tracer.open(build_tiny_run(tmp_path_factory.mktemp("tiny"))) as opened:
        yield opened


def texts(figure: Figure) -> set[str]:
    """All that is written in a figure, after it was drawn."""
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return {text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))}


def test_every_plot_of_results_has_a_title_and_says_of_what(results: Results) -> None:
    prompt_id = results.sql("SELECT prompt_id FROM graphs ORDER BY ALL LIMIT 1").item()
    plot = results.plot
    drawn = {
        "How often each component takes part": plot.frequency_bars("antonym"),
        "Attention heads and MLPs by frequency": plot.component_map(),
        "Attention heads and MLPs by distinct features": plot.component_map("n_features"),
        "Components that share graphs, by support": plot.cooccurrence_map(),
        "Components that share graphs, by lift": plot.cooccurrence_map("lift"),
        "Influence by layer and kind of node": plot.influence_by_layer(),
        "Influence by token": plot.influence_by_token(prompt_id),
        "Where transcoders fail": components.error_map(results.graphs.errors()),
        "Completeness of graphs": plot.completeness(),
        "Replacement of graphs": plot.completeness(what="replacement_score"),
        "Distinct features in more and more prompts": plot.unique_features(["MLP0", "L1H0"]),
    }
    for title, figure in drawn.items():
        assert title in texts(figure)
    assert "graphs of task antonym" in texts(drawn["How often each component takes part"])
    assert {"MLP0", "L1H0"} <= texts(drawn["Distinct features in more and more prompts"])


def test_a_graph_shows_tokens_answers_and_a_key_of_labels(results: Results) -> None:
    prompt_id, graph_id = results.sql("SELECT prompt_id, graph_id FROM graphs ORDER BY ALL LIMIT 1").row(0)
    found = results.graphs.one(prompt_id)
    figure = results.plot.graph(prompt_id, graph_id)
    written = texts(figure)
    assert found.nodes.height == results.sql("SELECT * FROM nodes WHERE graph_id = ?", [graph_id]).height
    for row in found.nodes.iter_rows(named=True):
        assert row["kind"] not in ("token", "logit") or row["token"].strip() in written
    strongest = found.nodes.filter(pl.col("kind") == "feature").sort("influence").row(-1, named=True)
    (key,) = (text for text in written if text.startswith("1  L"))
    layer, feature = strongest["layer"], strongest["feature"]
    assert f"1  L{layer}/{feature}  {found.labels[layer, feature]}" in key
    assert len(figure.axes[0].patches) == found.edges.height


def test_two_dollars_in_a_label_or_a_token_are_no_formula(results: Results) -> None:
    label, token = r"<script>alert(1)</script> [red]$\frac$", r"$\sqrt$"
    found = results.graphs.one(results.sql("SELECT prompt_id FROM graphs ORDER BY ALL LIMIT 1").item())
    features = found.nodes.filter(pl.col("kind") == "feature")
    labels = {(row["layer"], row["feature"]): label for row in features.iter_rows(named=True)}
    nodes = found.nodes.with_columns(token=pl.lit(token))
    written = texts(graph(nodes, found.edges, title=token, note=label, labels=labels))
    assert token in written
    assert any(label in text for text in written)
    matrix = np.array([[0.2, 0.7]])
    figure = new_figure(4.0, 3.0)
    heat_map(figure.subplots(), matrix, rows=[label], columns=[token, label], label=token, is_annotated=True)
    assert {label, token} <= texts(figure)
    members = pl.DataFrame({
        "kind": ["feature", "logit"], "layer": [0, -1], "feature": [3, 7], "label": [r"says $\frac$", token],
        "frequency": [1.0, 0.5], "weight": [1.0, 0.5],
    })  # fmt: skip
    edges = pl.DataFrame(schema={name: pl.Int64 for name in ("source_kind", "source_layer", "frequency")})
    assert {token, r"says $\frac$"} <= texts(circuit(members, edges, title=label))


def test_a_difference_is_coloured_both_ways_from_zero(results: Results) -> None:
    figure = results.plot.component_map("frequency", "antonym", minus="city_state")
    assert "graphs of task antonym minus city_state" in texts(figure)
    norm = figure.axes[0].collections[0].norm
    assert norm(0.0) == pytest.approx(0.5)


def test_a_run_without_heads_has_bars_and_a_map_of_mlps_alone() -> None:
    frame = pl.DataFrame({"layer": [0, 1], "kind": ["mlp", "mlp"], "head": [-1, -1], "frequency": [1.0, 0.5]})
    assert "MLP" in texts(components.frequency_bars(frame))
    only_mlps = pl.DataFrame({"layer": [0, 1], "MLP": [1.0, 0.5]})
    assert {"MLP", "1.0", ".50"} <= texts(components.component_map(only_mlps))


def test_many_cells_are_not_written_into_and_missing_ones_stay_empty() -> None:
    wide = pl.DataFrame({
        "layer": range(30),
        **{f"H{head}": np.full(30, 0.25) for head in range(20)},
        "MLP": np.ones(30),
    })
    assert ".25" not in texts(components.component_map(wide))
    small = pl.DataFrame({"layer": [0], "H0": [float("nan")], "MLP": [0.25]})
    assert ".25" in texts(components.component_map(small))


def test_few_graphs_are_dots_and_values_without_spread_are_drawn() -> None:
    frame = pl.DataFrame({"by_value": ["a"] * 3 + ["b"] * 20, "completeness_score": [0.5, 0.6, 0.7] + [0.9] * 20})
    assert {"a  (3)", "b  (20)"} <= texts(distributions.completeness(frame))


def test_a_circuit_shows_its_strongest_nodes_and_the_edges_between_them() -> None:
    nodes = pl.DataFrame({
        "kind": ["token", "feature", "feature", "logit", "feature"],
        "layer": [-1, 0, 2, -1, 2],
        "feature": [7, 3, 5, 9, 8],
        "label": [" Dallas", "says Texas", None, " Austin", "weak"],
        "frequency": [1.0, 0.9, 0.8, 0.7, 0.1],
        "weight": [1.0, 0.9, 0.8, 0.7, 0.1],
    })
    edges = pl.DataFrame(
        [("token", -1, 7, "feature", 0, 3, 0.9, 1.0), ("feature", 0, 3, "feature", 2, 5, 0.5, -1.0),
         ("feature", 2, 5, "logit", -1, 9, 0.7, 2.0), ("feature", 0, 3, "feature", 2, 8, 0.7, 2.0)],
        schema=["source_kind", "source_layer", "source_feature", "target_kind", "target_layer", "target_feature",
                "frequency", "weight_mean"], orient="row",
    )  # fmt: skip
    figure = circuit(nodes, edges, title="A circuit", n_per_layer=1)
    written = texts(figure)
    assert {"A circuit", "L0/3", "L2/5", "Dallas", "Austin", "says Texas", "tokens", "layer 0", "answers"} <= written
    assert "L2/8" not in written
    assert len(figure.axes[0].patches) == 3


def test_differences_are_drawn_with_their_intervals_the_largest_on_top() -> None:
    frame = pl.DataFrame({
        "kind": ["feature", "feature", "edge"],
        "layer_a": [0, 1, 2],
        "feature_a": [3, 4, 5],
        "difference": [0.2, -0.5, 1.0],
        "difference_low": [-0.1, -0.7, 0.9],
        "difference_high": [0.5, -0.3, 1.0],
        "effect_size": [0.4, -1.0, 3.0],
        "p_permutation": [0.5, 0.01, 0.01],
        "q": [0.5, 0.01, 0.01],
    })
    figure = comparisons.intervals(frame, title="One against another", labels={(1, 4): "says Texas"})
    assert {"One against another", "says Texas  L1/4", "L0/3"} <= texts(figure)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["L0/3", "says Texas  L1/4"]


def test_clusters_stand_beside_the_values_that_they_hold() -> None:
    frame = pl.DataFrame({
        "circuit_id": ["graphs-00", "graphs-01", "graphs-01"],
        "by_value": ["b", "a", "b"],
        "n_graphs": [8, 5, 2],
        "share_of_value": [0.8, 1.0, 0.2],
    })
    figure = comparisons.cluster_map(frame)
    assert {".80", "1.0", ".20", "graphs-00"} <= texts(figure)
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["b", "a"]


def test_labels_are_moved_apart_and_figures_stay_short() -> None:
    assert apart([5.0, 1.0, 1.5], 1.0) == [5.0, 1.0, 2.0]
    values = np.array([0.5, -0.25, 0.001, 12.0])
    assert [figure_text(value, values) for value in values] == [".50", "−.25", "0", "12.0"]
    assert figure_text(3.0, np.array([3.0, np.nan])) == "3"


def test_matplotlib_is_loaded_only_for_figures() -> None:
    code = (
        "import sys, tracer, tracer.views.results.opening; "
        "print(sorted(name for name in sys.modules if name in {'matplotlib', 'torch'}))"
    )
    root = Path(__file__).resolve().parents[3]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
