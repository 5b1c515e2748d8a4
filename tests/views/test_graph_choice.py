"""Which graph stands for a run."""

import inspect
import shutil
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from tracer import views
from tracer.tables import database
from tracer.tables.database import connect, query
from tracer.views.graph_choice import choose_graph, read_graph


def test_the_chosen_graph_answers_right_and_is_no_less_complete_than_most(finished_run: Path):
    graph = choose_graph(finished_run)
    assert graph.is_correct
    median = query(finished_run, "SELECT median(completeness_score) FROM graphs").item()
    assert graph.completeness_score >= median


def test_among_equals_the_choice_avoids_graphs_whose_features_have_unclear_labels_only(
    finished_run: Path, tmp_path: Path
):
    copy = tmp_path / "results.duckdb"
    shutil.copy(finished_run, copy)
    with connect(copy, read_only=False) as connection:
        connection.execute("UPDATE graphs SET n_nodes = 20, completeness_score = 0.5")
        connection.execute("UPDATE prompts SET is_correct = true, answer_prob = 1.0")
        connection.execute("UPDATE all_labels SET kind = 'both'")
    first = choose_graph(copy)
    of_first = f"(SELECT layer, feature FROM nodes WHERE graph_id = '{first.graph_id}' AND kind = 'feature')"
    with connect(copy, read_only=False) as connection:
        connection.execute(f"UPDATE all_labels SET kind = 'unclear' WHERE (layer, feature) IN {of_first}")
    second = choose_graph(copy)
    clear = f"""
        SELECT count(*) FROM nodes JOIN labels USING (layer, feature)
        WHERE graph_id = '{second.graph_id}' AND labels.kind <> 'unclear'
    """
    assert query(copy, clear).item() > 0


def test_without_labels_a_graph_is_chosen_all_the_same(finished_run: Path, tmp_path: Path):
    copy = tmp_path / "results.duckdb"
    shutil.copy(finished_run, copy)
    with connect(copy, read_only=False) as connection:
        connection.execute("DELETE FROM all_labels")
    assert choose_graph(copy).is_correct


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


def test_views_define_no_function_that_the_tables_already_have():
    shared = {name for name, value in inspect.getmembers(database, inspect.isfunction) if not name.startswith("_")}
    for module in iter_modules(views.__path__, "tracer.views."):
        functions = inspect.getmembers(import_module(module.name), inspect.isfunction)
        assert not shared & {name for name, function in functions if function.__module__ == module.name}
