"""Groups from saved views: files, circuit-tracer's viewer, Neuronpedia's addresses."""

import json
from urllib.parse import parse_qsl, quote, unquote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.graph.formats.graphs import graph_with_features
from tracer.errors import DataError
from tracer.graph.formats.graph_json import read_json, to_graph_json, write_json
from tracer.graph.formats.groups import Group, Groups, load_groups, save_groups
from tracer.graph.formats.ids import cantor

NEURONPEDIA = (
    "https://www.neuronpedia.org/gemma-2-2b/graph?slug=gemma-fact-dallas-austin"
    "&pinnedIds=27_22605_10%2C20_15589_10%2CE_26865_9%2C21_5943_10%2C15_4494_4"
    "&supernodes=%5B%5B%22capital%22%2C%2215_4494_4%22%2C%226_4662_4%22%5D%2C%5B%22preposition+followed+by+place+name%22"
    "%2C%2219_1445_10%22%5D%2C%5B%22say+%5C%22Austin%5C%22+%26+more%22%2C%2227_22605_10%22%2C%22E_26865_9%22%5D%5D"
    "&clerps=%5B%5B%2223_2312237_10%22%2C%22Cities+and+states+names+%28say+Austin%29%22%5D%2C%5B%2218_1808959_10%22%2C"
    "%22state%2Fregional+government%22%5D%5D&pruningThreshold=0.6&clickedId=21_5943_10&densityThreshold=0.99"
)
VIEWER = {
    "slug": "dallas",
    "pinnedIds": "3_540_8,E_17_2,5_22605_8",
    "supernodes": json.dumps([["100% Texas, é", "3_540_8", "0_666_8"], ["tokens", "E_17_2"]]),
    "clerps": json.dumps([[str(cantor(3, 540)), "say Austin"]]),
}
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)


def test_an_address_of_neuronpedia_gives_groups_labels_slug_and_model():
    groups = Groups.from_url(NEURONPEDIA, n_layers=26)
    assert (groups.slug, groups.model) == ("gemma-fact-dallas-austin", "gemma-2-2b")
    assert groups.pinned == ("27_22605_10", "20_15589_10", "E_26865_9", "21_5943_10", "15_4494_4")
    assert [(group.name, group.members) for group in groups.groups] == [
        ("capital", ((15, 4, 4494), (6, 4, 4662))),
        ("preposition followed by place name", ((19, 10, 1445),)),
        ('say "Austin" & more', ()),
    ]
    assert groups.groups[2].node_ids == ("27_22605_10", "E_26865_9")
    assert groups.label_of(23, 10, 12237) == "Cities and states names (say Austin)"
    assert groups.label_of(18, 10, 8959) == "state/regional government"
    assert groups.label_of(18, 9, 8959) is None
    assert Groups.from_url(NEURONPEDIA).groups[2].members == ((27, 10, 22605),), "without layers, three numbers count"


@pytest.mark.parametrize("before", ["http://localhost:8041/index.html?", "http://localhost:8041/index.html#", "x#?"])
def test_an_address_of_the_viewer_gives_groups_and_labels_by_pairing(before):
    groups = Groups.from_url(before + urlencode(VIEWER), n_layers=4)
    assert (groups.slug, groups.model) == ("dallas", None)
    assert groups.groups[0] == Group.of_features("100% Texas, é", [(3, 8, 540), (0, 8, 666)])
    assert (groups.groups[1].name, groups.groups[1].members) == ("tokens", ())
    assert groups.label_of(3, 8, 540) == groups.label_of(3, 1, 540) == "say Austin"
    assert groups.label_of(2, 8, 540) is None


def test_an_address_that_was_escaped_twice_is_read():
    plain = VIEWER | {"supernodes": json.dumps([["Texas", "3_540_8"]])}
    twice = {name: quote(value) for name, value in plain.items()}
    assert Groups.from_url(f"http://h/?{urlencode(twice)}") == Groups.from_url(f"http://h/?{urlencode(plain)}")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("slug=a", "an address without pinnedIds, supernodes and clerps"),
        ("", "an address without"),
        ("supernodes=[[", r"supernodes '\[\['"),
        ("supernodes={}", "supernodes \\{\\}"),
        ("supernodes=3", "supernodes 3"),
        ("supernodes=[[]]", "a supernode"),
        ('supernodes=[["a",3]]', "a supernode"),
        ('supernodes=["a"]', "a supernode 'a'"),
        ('clerps=[["a"]]', "an entry of clerps"),
        ('clerps=[["a",null]]', "an entry of clerps"),
        ("clerps=" + "[" * 100_000, "clerps"),
    ],
)
def test_a_malformed_address_is_refused(query, found):
    with pytest.raises(DataError, match=rf"http://h/\?.*found {found}.*; expected pinnedIds as id,id"):
        Groups.from_url(f"http://h/?{query}")


def test_what_is_no_address_is_refused():
    with pytest.raises(DataError, match="no address"):
        Groups.from_url("http://[::1?pinnedIds=a")


GROUPS = st.lists(
    st.tuples(TEXTS, st.lists(st.from_regex(r"[0-9E]_[0-9]{1,3}_[0-9]", fullmatch=True), max_size=3)), max_size=3
)


@given(
    groups=GROUPS, pinned=st.none() | st.lists(st.sampled_from(["1_2_3", "E_1_1"]), max_size=3),
    labels=st.dictionaries(TEXTS, TEXTS, max_size=2),
)  # fmt: skip
def test_groups_survive_q_params_and_addresses(groups, pinned, labels):
    saved = Groups(
        groups=tuple(Group(name=name, node_ids=tuple(ids), members=()) for name, ids in groups),
        pinned=None if pinned is None else tuple(pinned),
        labels=labels,
    )
    q_params = json.loads(json.dumps(saved.q_params({"linkType": "either", "gridsnap": "x"})))
    assert (q_params["linkType"], q_params["gridsnap"]) == ("either", "x")
    views = [Groups.from_q_params(q_params)]
    if saved.query():
        views.append(Groups.from_url(f"http://h/#{saved.query()}"))
        for _, value in parse_qsl(saved.query()):
            assert unquote(value) == value, "circuit-tracer's viewer unescapes it once more"
    for found in views:
        assert [(group.name, list(group.node_ids)) for group in found.groups] == groups
        assert dict(found.labels) == labels
        assert found.q_params(q_params)["supernodes"] == q_params["supernodes"]
    if pinned is None:
        assert set(q_params["pinnedIds"]) == {name for _, ids in groups for name in ids}
    else:
        assert q_params["pinnedIds"] == pinned


def test_a_files_groups_know_features_from_errors_and_targets(tmp_path):
    graph = graph_with_features([[0, 1, 2], [1, 2, 30]])
    write_json(graph, tmp_path, "a", scan="s", node_threshold=None, edge_threshold=None)
    record = read_json(tmp_path / "a.json")
    record.data["qParams"] |= {
        "supernodes": [["mixed", "0_2_1", "2_err_1", "1_30_2", "5_22605_2", "E_0_0", "9_9_9"]], "pinnedIds": "0_2_1,",
    }  # fmt: skip
    groups = record.groups()
    assert groups.groups[0].members == ((0, 1, 2), (1, 2, 30))
    assert groups.pinned == ("0_2_1",)


def test_groups_are_written_into_a_file_with_their_members_pinned():
    group = Group.of_features("capitals", [(1, 2, 30), (0, 1, 2)])
    graph = graph_with_features([[0, 1, 2], [1, 2, 30]])
    settings = {"node_threshold": None, "edge_threshold": None, "groups": Groups(groups=(group,))}
    record = to_graph_json(graph, slug="a", scan="s", **settings)
    assert record.data["qParams"]["supernodes"] == [["capitals", "1_30_2", "0_2_1"]]
    assert record.data["qParams"]["pinnedIds"] == ["1_30_2", "0_2_1"]
    assert "clerps" not in record.data["qParams"]
    assert record.groups().groups == (group,)


@pytest.mark.parametrize("q_params", [{"pinnedIds": 3}, {"pinnedIds": [1]}, {"supernodes": "x"}, {"clerps": {}}])
def test_malformed_q_params_are_refused_with_their_file(q_params):
    with pytest.raises(DataError, match=r"a\.json: found (pinnedIds|supernodes|clerps)"):
        Groups.from_q_params(q_params, where="a.json")


MEMBERS = st.lists(st.tuples(*[st.integers(0, 10**9)] * 3), max_size=3)


@given(
    groups=st.lists(st.tuples(TEXTS, MEMBERS, st.lists(TEXTS, max_size=2)), max_size=3),
    pinned=st.none() | st.lists(TEXTS, max_size=2), labels=st.dictionaries(TEXTS, TEXTS, max_size=2),
    slug=st.none() | TEXTS,
)  # fmt: skip
def test_groups_survive_their_own_file(tmp_path_factory, groups, pinned, labels, slug):
    saved = Groups(
        groups=tuple(Group(name=name, node_ids=tuple(ids), members=tuple(members)) for name, members, ids in groups),
        pinned=None if pinned is None else tuple(pinned), labels=labels, slug=slug,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("groups") / "groups.yaml"
    save_groups(saved, path)
    assert load_groups(path) == saved


def test_groups_can_be_written_by_hand(tmp_path):
    path = tmp_path / "groups.yaml"
    path.write_text("groups:\n- name: say Austin\n  members: [[3, 8, 540], [0, 8, 666]]\n- name: empty\n", "utf-8")
    groups = load_groups(path)
    assert groups.groups == (
        Group.of_features("say Austin", [(3, 8, 540), (0, 8, 666)]),
        Group.of_features("empty", []),
    )
    assert groups.pinned is None
    assert groups.groups[0].features() == [(3, 540), (0, 666)]
    assert Group.of_features("twice", [(3, 8, 540), (3, 9, 540)]).features() == [(3, 540)]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", "the whole"),
        ("groups: 3", "groups"),
        ("groups: [{members: []}]", "groups.0.name"),
        ("groups: [{name: a, members: [[1, 2]]}]", "groups.0.members.0"),
        ("groups: [{name: a, members: [[1, 2, -3]]}]", "groups.0.members.0.2"),
        ("groups: [{name: a, members: [[1, 2, '3']]}]", "groups.0.members.0.2"),
        ("groups: []\nother: 1", "other"),
        ("groups: []\nlabels: {a: 1}", "labels.a"),
        ("groups: [&a {name: a}, *a]", "an alias"),
        ("groups: !!python/name:os.system", "could not determine a constructor"),
        ("[" * 5000, "RecursionError|maximum recursion"),
        ("a: [", "expected the node content"),
        ("\x00", "special characters"),
    ],
)
def test_a_file_that_holds_no_groups_is_refused(tmp_path, content, found):
    (tmp_path / "groups.yaml").write_text(content, "utf-8")
    with pytest.raises(DataError, match=rf"groups\.yaml: found .*({found}).*; expected groups, each with a name"):
        load_groups(tmp_path / "groups.yaml")


def test_groups_that_are_absent_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load_groups(tmp_path / "groups.yaml")


def test_what_is_deep_or_shared_is_shown_short():
    deep = {"supernodes": json.loads("[" * 800 + "]" * 800)}
    with pytest.raises(DataError, match="a supernode"):
        Groups.from_q_params(deep)
