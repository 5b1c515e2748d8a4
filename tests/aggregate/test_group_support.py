"""In how many graphs of a run groups of features are found."""

from pathlib import Path

import pytest

from tracer.aggregate.group_support import group_support
from tracer.errors import DataError
from tracer.graph.formats.groups import Group
from tracer.tables.database import query


def test_graphs_with_one_and_with_all_members_are_counted(tiny_results: Path):
    nodes = query(tiny_results, "SELECT DISTINCT graph_id, layer, feature FROM nodes WHERE kind = 'feature'")
    held = {
        graph_id: set(rows.select("layer", "feature").iter_rows())
        for (graph_id,), rows in nodes.partition_by("graph_id", as_dict=True).items()
    }
    common, *others = sorted(set.union(*held.values()), key=lambda one: -sum(one in graph for graph in held.values()))
    wanted = {
        "one": [common],
        "two": [common, others[0]],
        "some": others[:4],
        "rare": others[-2:],
        "absent": [(0, 10**9)],
    }
    groups = [
        # A position more changes nothing: features count, wherever they are.
        Group.of_features(name, [(layer, pos, feature) for layer, feature in features for pos in (1, 2)])
        for name, features in [*wanted.items(), ("empty", [])]
    ]
    found = group_support(tiny_results, groups)
    (n_graphs,) = query(tiny_results, "SELECT n_graphs FROM runs").row(0)
    expected = [
        (
            name,
            len(features),
            sum(bool(graph & set(features)) for graph in held.values()),
            sum(graph >= set(features) for graph in held.values()) if features else 0,
            n_graphs,
        )
        for name, features in [*wanted.items(), ("empty", [])]
    ]
    assert found.columns == ["name", "n_features", "n_graphs_any", "n_graphs_all", "n_graphs"]
    assert found.rows() == expected
    assert 0 < expected[1][3] < expected[1][2]


def test_no_groups_give_no_rows(tiny_results: Path):
    assert group_support(tiny_results, []).height == 0


def test_groups_are_counted_by_the_values_of_a_column(tiny_results: Path):
    nodes = query(tiny_results, "SELECT DISTINCT graph_id, layer, feature FROM nodes WHERE kind = 'feature'")
    features = nodes.select("layer", "feature").unique().sort("layer", "feature").rows()
    groups = [
        Group.of_features(name, [(layer, 1, feature) for layer, feature in members])
        for name, members in (("some", features[:3]), ("absent", [(0, 10**9)]), ("empty", []))
    ]
    found = group_support(tiny_results, groups, by="state")
    states = dict(
        query(tiny_results, "SELECT state, count(*) FROM prompts JOIN graphs USING (prompt_id) GROUP BY 1").rows()
    )
    assert None in states
    expected = []
    for group in groups:
        for state in sorted(set(states) - {None}):
            sql = f"SELECT graph_id FROM prompts JOIN graphs USING (prompt_id) WHERE state = '{state}'"
            of_state = nodes.join(query(tiny_results, sql), on="graph_id")
            held = [set(rows.select("layer", "feature").rows()) for rows in of_state.partition_by("graph_id")]
            members = set(group.features())
            n_any = sum(bool(graph & members) for graph in held)
            n_all = sum(graph >= members for graph in held) if members else 0
            expected.append((group.name, state, len(members), n_any, n_all, states[state]))
    assert found.columns == ["name", "by_value", "n_features", "n_graphs_any", "n_graphs_all", "n_graphs"]
    assert found.rows() == expected
    assert len({row[3] for row in expected}) > 2


def test_a_column_that_prompts_do_not_have_is_refused(tiny_results: Path):
    with pytest.raises(DataError, match=r"no column 'colour'; expected one of: prompt_id, .* state"):
        group_support(tiny_results, [], by="colour")


def test_a_group_of_another_model_is_refused_and_not_counted_as_absent(tiny_results: Path):
    groups = [Group.of_features("fine", [(2, 1, 0)]), Group.of_features("deep", [(0, 1, 0), (9, 1, 4)])]
    with pytest.raises(DataError, match="group 'deep': found features of layer 9; expected layers 0 to 2"):
        group_support(tiny_results, groups)
