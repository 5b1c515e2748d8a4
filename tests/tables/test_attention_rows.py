"""Rows of the tables of attention from a real graph: exact schemas, parts that add up, and how many are listed."""

import polars as pl
import pytest

from tracer.attribution.graphs import graph_of
from tracer.attribution.head_loadings import HeadLoadings, head_loadings
from tracer.attribution.prepared import Prepared, prepare
from tracer.attribution.qk import qk_attributions
from tracer.graph.graph import Graph
from tracer.model.replacement import ReplacementModel
from tracer.tables import rows
from tracer.tables.attention_rows import head_loading_frame, qk_frame
from tracer.tables.schema import TABLES


@pytest.fixture(scope="module")
def prepared(demo_model: ReplacementModel) -> Prepared:
    return prepare(demo_model, demo_model.tokenize("the capital of the state containing Dallas is"))


@pytest.fixture(scope="module")
def pruned(demo_model: ReplacementModel, prepared: Prepared) -> Graph:
    return graph_of(demo_model, prepared).prune()


@pytest.fixture(scope="module")
def loadings(demo_model: ReplacementModel, prepared: Prepared, pruned: Graph) -> HeadLoadings:
    return head_loadings(demo_model, prepared, pruned)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 1.0])
def test_parts_of_every_edge_add_up_to_it_however_many_are_listed(
    pruned: Graph, loadings: HeadLoadings, share: float
) -> None:
    frame = head_loading_frame(pruned, loadings, "g", share)
    table = rows.as_table(TABLES["head_loadings"], frame)
    assert table.schema.equals(TABLES["head_loadings"].arrow_schema())
    assert frame.n_unique(list(TABLES["head_loadings"].key)) == len(frame)
    sums = frame.group_by("target_idx", "source_idx").agg(pl.col("weight").sum())
    compared = rows.edge_frame(pruned, "g").join(sums, on=["target_idx", "source_idx"], suffix="_of_parts")
    assert len(compared) == len(pruned.edge_weight) == len(sums)
    assert (compared["weight"] - compared["weight_of_parts"]).abs().max() < 1e-4


def test_a_share_lists_the_largest_parts_that_reach_it(pruned: Graph, loadings: HeadLoadings) -> None:
    whole = head_loading_frame(pruned, loadings, "g", 1.0)
    assert "rest" not in set(whole["kind"])
    for share in (0.5, 0.9):
        listed = head_loading_frame(pruned, loadings, "g", share)
        for edge, parts in listed.sort("rank").group_by("target_idx", "source_idx"):
            every = whole.filter((pl.col("target_idx") == edge[0]) & (pl.col("source_idx") == edge[1])).sort("rank")
            sizes = every["weight"].abs()
            assert sizes.to_list() == sorted(sizes, reverse=True)
            kept = parts.filter(pl.col("kind") != "rest")
            assert kept["weight"].to_list() == every["weight"][: len(kept)].to_list()
            assert sizes[: len(kept)].sum() >= share * sizes.sum() * (1 - 1e-9)
            assert sizes[: len(kept) - 1].sum() < share * sizes.sum()
            assert parts["rank"].to_list() == list(range(len(parts)))
            assert "rest" not in set(parts["kind"][:-1])


def test_layer_and_head_are_given_where_they_say_something(pruned: Graph, loadings: HeadLoadings) -> None:
    frame = head_loading_frame(pruned, loadings, "g", 0.9)
    heads, others = frame.filter(pl.col("kind") == "head"), frame.filter(pl.col("kind") != "head")
    assert heads["layer"].null_count() == heads["head"].null_count() == 0
    assert others["layer"].is_null().all()
    assert others["head"].is_null().all()


def test_scores_become_rows_of_the_declared_schema(demo_model: ReplacementModel, prepared: Prepared) -> None:
    places = [(1, 0, 8, 7), (2, 1, 8, 6)]
    scores = qk_attributions(demo_model, prepared, places)
    frame = qk_frame(prepared, scores, "g", 5)
    table = rows.as_table(TABLES["qk_edges"], frame)
    assert table.schema.equals(TABLES["qk_edges"].arrow_schema())
    assert frame.n_unique(list(TABLES["qk_edges"].key)) == len(frame) == 2 * 3 * 5
    found = frame.select("layer", "head", "query_pos", "key_pos").unique(maintain_order=True).rows()
    assert found == places
    for place, score in zip(places, scores, strict=True):
        of_score = frame.filter((pl.col("layer") == place[0]) & (pl.col("key_pos") == place[3]))
        assert set(of_score["score"]) == {score.score}
        assert set(of_score["pattern"]) == {float(prepared.forward.patterns[place])}
