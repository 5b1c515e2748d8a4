"""The worker with attention asked for: rows of both tables, which agree with the edges of the same shard."""

import polars as pl
import pyarrow as pa
import pytest

from tests.checkpoints import loaded
from tracer.config import AttributionConfig, parse_config
from tracer.corpus.prompts import Prompt
from tracer.errors import ModelError
from tracer.run.attending import check_attention
from tracer.run.worker import TraceWorker
from tracer.tables.schema import SHARD_TABLES

DEMO = "package:tracer/model/demo/files"
TEXTS = ("the capital of the state containing Dallas is", "Mary went to the")


@pytest.fixture(scope="module")
def traced() -> dict[str, pl.DataFrame]:
    worker = TraceWorker(
        parse_config({
            "model": {"checkpoint": f"{DEMO}/language_model", "transcoders": f"{DEMO}/per_layer", "device": "cpu"},
            "corpus": {"source": "prompts.jsonl"},
            "attribution": {"head_loadings": 0.9, "n_qk_scores": 3, "n_qk_sources": 4},
        })
    )
    prompts = [
        Prompt(
            prompt_id=text, text=text, token_ids=tuple(worker.model.tokenize(text).tolist()), targets=(), task=None,
            split=None, pair_id=None, answer=None, counterfactual_answer=None, answer_token_id=None, metadata={},
        )
        for text in TEXTS
    ]  # fmt: skip
    found = worker.trace(prompts, "shard", 0)
    return {name: as_frame(table) for name, table in found.items()}


def as_frame(table: pa.Table) -> pl.DataFrame:
    found = pl.from_arrow(table)
    assert isinstance(found, pl.DataFrame)
    return found


def test_every_table_has_rows_with_distinct_keys(traced: dict[str, pl.DataFrame]) -> None:
    for table in SHARD_TABLES:
        if table.name != "failures":
            frame = traced[table.name]
            assert frame.n_unique(list(table.key)) == len(frame) > 0, table.name
    assert traced["failures"].is_empty()


def test_parts_add_up_to_the_edges_of_the_same_graph(traced: dict[str, pl.DataFrame]) -> None:
    edge = ["graph_id", "target_idx", "source_idx"]
    sums = traced["head_loadings"].group_by(edge).agg(pl.col("weight").sum())
    compared = traced["edges"].join(sums, on=edge, suffix="_of_parts")
    assert len(compared) == len(sums) == len(traced["edges"])
    assert (compared["weight"] - compared["weight_of_parts"]).abs().max() < 1e-4


def test_the_scores_explained_are_of_heads_that_carry_edges(traced: dict[str, pl.DataFrame]) -> None:
    place = ["graph_id", "layer", "head", "query_pos", "key_pos"]
    scores = traced["qk_edges"].unique(place)
    assert scores.group_by("graph_id").len()["len"].to_list() == [3, 3]
    heads = traced["head_loadings"].filter(pl.col("kind") == "head")
    assert len(scores.join(heads, on=["graph_id", "layer", "head"], how="semi")) == len(scores)
    assert traced["qk_edges"]["rank"].max() == 3


def test_an_architecture_outside_the_table_is_refused_before_any_prompt() -> None:
    _, model = loaded("mistral")
    check_attention(model, AttributionConfig())
    for asked in ({"head_loadings": 0.9}, {"n_qk_scores": 1}):
        with pytest.raises(ModelError, match="outside the table"):
            check_attention(model, AttributionConfig.model_validate(asked))
