"""`tracer import groups` and `tracer export --groups`: what was named in a viewer comes in and goes out."""

import json
from urllib.parse import quote

import pytest

from tests.test_cli import refusal, tiny_run, tracer
from tracer.attribution.attribute import attribute
from tracer.graph.formats.graph_json import read_json, to_graph_json
from tracer.graph.formats.groups import Group, Groups, load_groups, save_groups

__all__ = ["tiny_run"]
PROMPT = "the capital of the state containing Dallas is"


@pytest.fixture(scope="module")
def shown(demo_model):
    """A pruned graph for viewers."""
    return to_graph_json(attribute(PROMPT, demo_model), slug="graph", scan="org/set")


@pytest.fixture
def feature_ids(shown):
    """Two of its features."""
    return [node["node_id"] for node in shown.nodes if node["activation"] is not None][:2]


def address_of(**parameters) -> str:
    texts = [
        f"{name}={quote(value if isinstance(value, str) else json.dumps(value))}" for name, value in parameters.items()
    ]
    return f"https://www.neuronpedia.org/demo/graph?slug=dallas&{'&'.join(texts)}"


def test_groups_pins_and_labels_are_read_from_an_address_or_a_file(capsys, shown, feature_ids, tmp_path):
    view = {"supernodes": [["Texas", *feature_ids]], "pinnedIds": ",".join(feature_ids), "clerps": [["12", "a label"]]}
    shown.save(tmp_path / "graph.json")
    files = ("-o", tmp_path / "groups.yaml", "--graph", tmp_path / "graph.json")
    assert tracer("import", "groups", address_of(**view), *files) == 0
    counts = "1 groups, 2 members, 2 pinned, 1 labels"
    assert capsys.readouterr().out.splitlines() == [counts, f"written {tmp_path / 'groups.yaml'}"]
    found = load_groups(tmp_path / "groups.yaml")
    assert found.groups[0].node_ids == tuple(feature_ids) == found.pinned
    assert found.labels == {"12": "a label"}
    data = shown.data | {"qParams": view}
    (tmp_path / "saved.json").write_text(json.dumps(data))
    assert tracer("import", "groups", tmp_path / "saved.json", "-o", tmp_path / "again.yaml") == 0
    assert load_groups(tmp_path / "again.yaml").groups == found.groups
    assert capsys.readouterr().out.splitlines()[0] == counts


@pytest.mark.parametrize(
    ("node_id", "options", "n_members", "doubt"),
    [
        ("0_3_8", (), 1, "errors and targets cannot be told apart"),
        ("5_17_8", (), 1, "errors and targets cannot be told apart"),
        ("5_17_8", ("--n-layers", 4), 0, None),
        ("0_3_8", ("--n-layers", 4), 1, "errors cannot be told apart from features of layer 0"),
        ("2_3_8", ("--n-layers", 4), 1, None),
        ("0_3_8", ("--graph", "graph.json"), 0, None),
    ],
)
def test_members_that_may_be_other_nodes_are_spoken_of(
    node_id, options, n_members, doubt, capsys, shown, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shown.save("graph.json")
    assert tracer("import", "groups", address_of(supernodes=[["one", node_id]]), "-o", "groups.yaml", *options) == 0
    printed = capsys.readouterr().out
    assert f"1 groups, {n_members} members" in printed
    doubts = [line for line in printed.splitlines() if line.startswith("members may be other nodes: ")]
    assert len(doubts) == (doubt is not None)
    assert all(doubt in line for line in doubts)


def test_pins_alone_are_written_and_counted(capsys, tmp_path):
    assert tracer("import", "groups", address_of(pinnedIds="1_2_3,2_3_4"), "-o", tmp_path / "groups.yaml") == 0
    assert "0 groups, 0 members, 2 pinned, 0 labels" in capsys.readouterr().out
    assert load_groups(tmp_path / "groups.yaml").pinned == ("1_2_3", "2_3_4")


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (address_of(supernodes=[1]), (), "supernodes"),
        (address_of(supernodes=[], pinnedIds=""), (), "found no group, pinned node or label"),
        ("{tmp}/graph.json", (), "found no group, pinned node or label"),
        ("{tmp}/graph.json", ("--n-layers", 4), "found --n-layers; expected it with an address alone"),
        ("{tmp}/graph.json", ("--graph", "{tmp}/graph.json"), "found --graph; expected it with an address alone"),
        (
            address_of(pinnedIds="1_2_3"),
            ("--graph", "{tmp}/graph.json", "--n-layers", 4),
            "found --graph and --n-layers",
        ),
        (address_of(pinnedIds="1_2_3"), ("-o", "{tmp}/groups.txt"), "ending .txt"),
    ],
)
def test_a_view_without_anything_and_options_that_say_nothing_are_refused(
    source, options, message, capsys, shown, tmp_path
):
    shown.save(tmp_path / "graph.json")
    filled = [str(part).format(tmp=tmp_path) for part in (source, "-o", "{tmp}/groups.yaml", *options)]
    assert message in refusal(capsys, "import", "groups", *filled)
    assert [path.name for path in tmp_path.iterdir()] == ["graph.json"]


def test_the_graphs_of_a_run_that_hold_a_group_are_counted(capsys, tiny_run, tmp_path):
    from tracer.tables.database import query

    sql = "SELECT layer, pos, feature FROM nodes WHERE kind = 'feature' ORDER BY graph_id, node_idx LIMIT 1"
    (member,) = query(tiny_run / "results.duckdb", sql).rows()
    layer, _, feature = member
    groups = (Group.of_features("one", [member]), Group.of_features("more", [member, (0, 0, 10**6)]))
    save_groups(Groups(groups=groups), tmp_path / "groups.yaml")
    assert tracer("groups", tiny_run, tmp_path / "groups.yaml") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.split()[:1] in (["one"], ["more"])]
    sql = f"SELECT count(DISTINCT graph_id) FROM nodes WHERE layer = {layer} AND feature = {feature}"
    n_any, n_graphs = (
        str(query(tiny_run / "results.duckdb", sql).item())
        for sql in (f"{sql} AND kind = 'feature'", "SELECT n_graphs FROM runs")
    )
    assert rows == [["one", "1", n_any, n_any, n_graphs], ["more", "2", n_any, "0", n_graphs]]
    assert "results.duckdb: found no such file" in refusal(capsys, "groups", tmp_path, tmp_path / "groups.yaml")
    assert "absent.yaml" in refusal(capsys, "groups", tiny_run, tmp_path / "absent.yaml")


def test_groups_are_exported_with_the_graphs_of_a_run(capsys, tiny_run, tmp_path):
    from tracer.tables.database import query

    sql = (
        "SELECT prompt_id, layer, pos, feature FROM nodes JOIN graphs USING (graph_id) "
        "WHERE kind = 'feature' ORDER BY prompt_id, node_idx LIMIT 1"
    )
    ((prompt_id, *member),) = query(tiny_run / "results.duckdb", sql).rows()
    named = Groups(groups=(Group.of_features("one", [tuple(member), (0, 0, 10**6)]),))
    save_groups(named, tmp_path / "groups.yaml")
    arguments = ("--format", "circuit-tracer", "--groups", tmp_path / "groups.yaml")
    assert tracer("export", tiny_run, *arguments, "--prompt-id", prompt_id, "-o", tmp_path / "shown") == 0
    printed = capsys.readouterr().out.splitlines()
    slug = next(line.removeprefix("graph ") for line in printed if line.startswith("graph "))
    layer, pos, feature = member
    supernodes = read_json(tmp_path / "shown" / f"{slug}.json").data["qParams"]["supernodes"]
    assert supernodes == [["one", f"{layer}_{feature}_{pos}"]]
    assert any(line.startswith(f"  with its groups: index.html?slug={slug}&") for line in printed)
    assert sum("viewers will find no features" in line for line in printed) == 1
    message = refusal(capsys, "export", tiny_run, *arguments, "-o", tmp_path / "other")
    assert "found --groups without a graph" in message
    assert not (tmp_path / "other").exists()
