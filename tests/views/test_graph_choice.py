"""Which graph stands for a run."""

from pathlib import Path

from tracer.tables.database import query
from tracer.views.graph_choice import choose_graph, read_graph


def test_the_chosen_graph_answers_right_and_is_no_less_complete_than_most(finished_run: Path):
    graph = choose_graph(finished_run)
    assert graph.is_correct
    median = query(finished_run, "SELECT median(completeness_score) FROM graphs").item()
    assert graph.completeness_score >= median


def test_the_choice_is_the_same_when_asked_again(finished_run: Path):
    assert choose_graph(finished_run).graph_id == choose_graph(finished_run).graph_id


def test_a_graph_comes_with_all_its_nodes_and_its_strongest_edges(finished_run: Path):
    graph = read_graph(finished_run, choose_graph(finished_run).graph_id, n_edges=5)
    assert graph.nodes.height == graph.n_nodes
    where = f"FROM edges WHERE graph_id = '{graph.graph_id}'"
    assert graph.n_edges == query(finished_run, f"SELECT count(*) {where}").item()
    strongest = query(finished_run, f"SELECT edge_score {where} ORDER BY edge_score DESC LIMIT 5")
    assert graph.edges["edge_score"].to_list() == strongest["edge_score"].to_list()


def test_every_logit_has_the_probability_of_its_token(finished_run: Path):
    graph = choose_graph(finished_run)
    logits = graph.nodes.filter(graph.nodes["kind"] == "logit")
    wanted = query(finished_run, f"SELECT token, probability FROM logits WHERE graph_id = '{graph.graph_id}'")
    assert dict(logits.select("token", "probability").iter_rows()) == dict(wanted.iter_rows())


def test_a_run_without_graphs_has_none_to_show(empty_run: Path):
    assert choose_graph(empty_run) is None
