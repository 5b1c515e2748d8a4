"""Influence by layer and token, errors and completeness, counted by hand."""

import pytest

from tests.tables.tiny_prompts import N_LAYERS
from tests.views.results.naive import Naive
from tracer import Results
from tracer.errors import DataError


@pytest.mark.parametrize("task", [None, "antonym"])
def test_influence_by_layer_is_that_of_kept_nodes_per_graph(results: Results, naive: Naive, task: str | None) -> None:
    graphs = naive.of_task(task)
    sums: dict[tuple[int, str], float] = {}
    for graph_id in graphs:
        for node in naive.graphs[graph_id].nodes:
            if node["kind"] != "logit":
                place = node.get("layer", -1), node["kind"]
                sums[place] = sums.get(place, 0.0) + node["influence"] / len(graphs)
    frame = results.graphs.influence_by_layer(task)
    found = {row[:2]: row[2] for row in frame.select("layer", "kind", "influence_mean").iter_rows()}
    assert set(found) == {(-1, "token"), *((layer, kind) for layer in range(N_LAYERS) for kind in ("feature", "error"))}
    assert {place: value for place, value in found.items() if value} == pytest.approx(sums)


def test_influence_by_token_has_every_position_and_kind(results: Results, naive: Naive) -> None:
    prompt = naive.prompts[0]
    frame = results.graphs.influence_by_token(prompt.prompt_id)
    assert frame.height == 3 * len(prompt.tokens)
    for pos, token, kind, influence, n_nodes in frame.iter_rows():
        nodes = [node for node in naive.graphs[prompt.graph_id].nodes if (node["pos"], node["kind"]) == (pos, kind)]
        assert token == prompt.tokens[pos]
        assert n_nodes == len(nodes)
        assert influence == pytest.approx(sum(node["influence"] for node in nodes))
    assert results.graphs.influence_by_token(prompt.prompt_id, prompt.graph_id).equals(frame)


def test_a_prompt_without_a_graph_is_refused(results: Results, naive: Naive) -> None:
    with pytest.raises(DataError, match="0 graphs of it"):
        results.graphs.influence_by_token("p0")
    with pytest.raises(DataError, match="no graph g0 of it"):
        results.graphs.influence_by_token(naive.prompts[0].prompt_id, "g0")


def test_completeness_is_given_graph_by_graph(results: Results, naive: Naive) -> None:
    frame = results.graphs.completeness()
    assert frame.height == 60
    rows = {prompt.graph_id: prompt.task for prompt in naive.prompts}
    for task, graph_id, completeness, replacement in frame.iter_rows():
        row = naive.graphs[graph_id].row
        assert (task, completeness, replacement) == (
            rows[graph_id],
            row["completeness_score"],
            row["replacement_score"],
        )
    assert results.graphs.completeness("state").height == sum("state" in p.metadata for p in naive.prompts)
    with pytest.raises(DataError, match="charm"):
        results.graphs.completeness("charm")


def test_errors_are_those_of_the_tables(results: Results) -> None:
    assert results.graphs.errors().equals(results.sql("FROM errors ORDER BY layer, pos"))
    of_task = results.graphs.errors("antonym")
    assert of_task.columns == results.graphs.errors().columns
    assert of_task.height == results.sql("FROM error_frequency WHERE by_value = 'antonym'").height
