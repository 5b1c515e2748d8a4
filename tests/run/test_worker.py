"""The real worker on the embedded model: one table of the declared schema per shard table, failures as rows."""

from dataclasses import replace

import polars as pl
import pyarrow as pa
import pytest
import torch

from tracer.config import parse_config
from tracer.corpus.prompts import Prompt
from tracer.errors import ModelError
from tracer.harvest.promoted import promoted_tokens
from tracer.model.references import content_hash, resolve
from tracer.run import attributing as attributing_module
from tracer.run import worker as worker_module
from tracer.run.ledger import ShardError
from tracer.run.work import SpoilingPromptError
from tracer.run.worker import TraceWorker
from tracer.tables import rows
from tracer.tables.schema import SHARD_TABLES, TABLES

DEMO = "package:tracer/model/demo/files"
CONFIG = parse_config({
    "model": {"checkpoint": f"{DEMO}/language_model", "transcoders": f"{DEMO}/per_layer", "device": "cpu"},
    "corpus": {"source": "prompts.jsonl"},
    "aggregate": {"n_examples": 2},
    "attribution": {"prompts_per_pass": 1},
})
"""One prompt a pass: sums round by what is computed together, and here rows are compared bit by bit."""
CAPITAL = "the capital of the state containing Dallas is"
ANSWERS = {"right": (CAPITAL, "Austin"), "wrong": (CAPITAL, "Boston"), "plain": ("Mary went to the", None)}


@pytest.fixture(scope="module")
def worker() -> TraceWorker:
    return TraceWorker(CONFIG)


@pytest.fixture(scope="module")
def prompts(worker: TraceWorker) -> list[Prompt]:
    ids = worker.model.tokenizer.get_vocab()
    return [
        Prompt(
            prompt_id=name, text=text, token_ids=tuple(worker.model.tokenize(text).tolist()), targets=(), task="toy",
            split=None, pair_id=None, answer=answer, counterfactual_answer=None,
            answer_token_id=None if answer is None else ids[answer], metadata={"city": "Dallas"},
        )
        for name, (text, answer) in ANSWERS.items()
    ]  # fmt: skip


@pytest.fixture(scope="module")
def traced(worker: TraceWorker, prompts: list[Prompt]) -> dict[str, pa.Table]:
    return worker.trace(prompts, "shard", 0)


def frame(tables: dict[str, pa.Table], name: str) -> pl.DataFrame:
    found = pl.from_arrow(tables[name])
    assert isinstance(found, pl.DataFrame)
    return found


def stable(tables: dict[str, pa.Table]) -> dict[str, list[tuple]]:
    """Rows without the columns that may differ between two runs of the same work."""
    return {name: frame(tables, name).select(TABLES[name].stable_columns()).rows() for name in tables}


def without(tables: dict[str, list[tuple]], *names: str) -> dict[str, list[tuple]]:
    return {name: found for name, found in tables.items() if name not in names}


def test_a_shard_gives_one_table_of_the_declared_schema_per_shard_table(traced: dict[str, pa.Table]) -> None:
    assert set(traced) == {table.name for table in SHARD_TABLES}
    for table in SHARD_TABLES:
        assert traced[table.name].schema.equals(table.arrow_schema()), table.name
        if table.name not in ("failures", "head_loadings", "qk_edges"):
            keys = frame(traced, table.name).select(table.key)
            assert len(keys) == keys.n_unique() > 0, table.name
    assert len(traced["failures"]) == len(traced["head_loadings"]) == len(traced["qk_edges"]) == 0


def test_a_shard_without_prompts_gives_empty_tables_of_the_same_schema(worker: TraceWorker) -> None:
    for name, table in worker.trace([], "shard", 0).items():
        assert table.schema.equals(TABLES[name].arrow_schema())
        assert len(table) == 0


def test_tracing_again_gives_the_same_rows(
    worker: TraceWorker, prompts: list[Prompt], traced: dict[str, pa.Table]
) -> None:
    assert stable(worker.trace(prompts, "shard", 4)) == stable(traced)


@pytest.mark.parametrize("place", [0, 1, 3])
@pytest.mark.parametrize("bad_ids", [(1, 10**6), (1, *[5] * 64)])
def test_a_prompt_that_fails_is_a_row_of_failures_and_leaves_the_others_untouched(
    worker: TraceWorker, prompts: list[Prompt], traced: dict[str, pa.Table], place: int, bad_ids: tuple[int, ...]
) -> None:
    bad = replace(prompts[0], prompt_id="bad", token_ids=bad_ids, text="the bad one")
    found = worker.trace([*prompts[:place], bad, *prompts[place:]], "shard", 0)
    (failure,) = frame(found, "failures").to_dicts()
    assert (failure["stage"], failure["item_id"], failure["shard_id"]) == ("trace", "bad", "shard")
    assert failure["text"] == "the bad one"
    assert failure["error_class"]
    assert failure["message"]
    assert without(stable(found), "failures", "prompts") == without(stable(traced), "failures", "prompts")
    bad_row = frame(found, "prompts").row(place, named=True)
    assert (bad_row["prompt_id"], bad_row["answer_rank"]) == ("bad", None)
    others = frame(found, "prompts").filter(pl.col("prompt_id") != "bad")
    assert others.rows() == frame(traced, "prompts").rows()


def test_a_failure_late_in_a_prompt_leaves_nothing_of_it(
    worker: TraceWorker, prompts: list[Prompt], traced: dict[str, pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_for_extra(prompt_idx: int, token_ids: tuple[int, ...], tokens: tuple[str, ...]) -> pl.DataFrame:
        if len(token_ids) == 3:
            raise ValueError("made to fail")
        return token_frame(prompt_idx, token_ids, tokens)

    token_frame = worker_module.token_frame
    monkeypatch.setattr(worker_module, "token_frame", fail_for_extra)
    extra = replace(prompts[0], prompt_id="extra", token_ids=prompts[0].token_ids[:3])
    found = worker.trace([prompts[0], extra, *prompts[1:]], "shard", 0)
    assert frame(found, "failures")["item_id"].to_list() == ["extra"]
    assert without(stable(found), "failures", "prompts") == without(stable(traced), "failures", "prompts")


def test_answer_columns_say_how_the_model_does_on_the_answer(worker: TraceWorker, traced: dict[str, pa.Table]) -> None:
    right, wrong, plain = frame(traced, "prompts").to_dicts()
    with torch.no_grad():
        probabilities = worker.model.forward(worker.model.tokenize(CAPITAL)).logits[-1].double().softmax(-1)
    ids = worker.model.tokenizer.get_vocab()
    assert (right["answer_rank"], right["is_correct"]) == (0, True)
    assert right["answer_prob"] == pytest.approx(float(probabilities[ids["Austin"]]))
    assert right["answer_loss"] == pytest.approx(-float(probabilities[ids["Austin"]].log()))
    assert wrong["answer_rank"] == int((probabilities > probabilities[ids["Boston"]]).sum()) > 0
    assert wrong["is_correct"] is False
    assert {plain[name] for name in ("answer_rank", "answer_prob", "answer_loss", "is_correct")} == {None}


def test_graph_ids_come_from_the_prompt_and_its_targets(
    worker: TraceWorker, prompts: list[Prompt], traced: dict[str, pa.Table]
) -> None:
    salient = {"max_n_logits": 10, "desired_logit_prob": 0.95}
    graph_ids = [rows.make_graph_id(prompt.prompt_id, salient) for prompt in prompts]
    assert frame(traced, "graphs")["graph_id"].to_list() == graph_ids
    for name in ("nodes", "edges", "logits"):
        assert frame(traced, name)["graph_id"].unique(maintain_order=True).to_list() == graph_ids
    austin = worker.model.tokenizer.get_vocab()["Austin"]
    given = worker.trace([replace(prompts[0], targets=(austin,))], "shard", 0)
    assert frame(given, "graphs")["graph_id"].to_list() == [rows.make_graph_id("right", {"given": [austin]})]
    assert frame(given, "logits")["token"].to_list() == ["Austin"]


def test_counts_are_taken_before_pruning_and_examples_are_capped(traced: dict[str, pa.Table]) -> None:
    n_active = frame(traced, "graphs")["n_active_features"].sum()
    assert frame(traced, "feature_counts")["n_firings"].sum() == n_active
    assert frame(traced, "feature_activation_hist")["n"].sum() == n_active
    assert frame(traced, "graphs")["n_feature_nodes"].sum() < n_active
    assert frame(traced, "token_counts")["n_at"].sum() == sum(frame(traced, "prompts")["n_tokens"] - 1)
    assert frame(traced, "examples")["rank"].max() == 1


@pytest.mark.parametrize("kind", [MemoryError, torch.OutOfMemoryError])
def test_an_error_that_spoils_the_process_is_not_swallowed(
    worker: TraceWorker, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def run_out(*_: object, **__: object) -> None:
        raise kind("made to fail")

    monkeypatch.setattr(attributing_module, "prepare_forward", run_out)
    with pytest.raises(SpoilingPromptError) as error:
        worker.trace(prompts, "shard", 0)
    assert error.value.prompt_id == prompts[0].prompt_id
    assert isinstance(error.value.__cause__, kind)


def test_a_prompt_to_skip_is_a_row_of_failures_and_is_not_tried(
    worker: TraceWorker, prompts: list[Prompt], traced: dict[str, pa.Table]
) -> None:
    error = ShardError(
        shard_id="shard", attempt=1, error_class="OutOfMemoryError", message="made\n to fail", prompt_id="extra"
    )
    extra = replace(prompts[0], prompt_id="extra")
    found = worker.trace([prompts[0], extra, *prompts[1:]], "shard", 2, skipped=[error])
    (failure,) = frame(found, "failures").to_dicts()
    assert (failure["item_id"], failure["error_class"], failure["message"], failure["attempts"]) == (
        "extra", "OutOfMemoryError", "made to fail", 2,
    )  # fmt: skip
    assert without(stable(found), "failures", "prompts") == without(stable(traced), "failures", "prompts")
    assert frame(found, "prompts")["prompt_id"].to_list() == ["right", "extra", "wrong", "plain"]


def test_feature_logits_are_rows_of_their_table_in_the_order_asked(worker: TraceWorker) -> None:
    features = [(3, 7), (0, 2), (1, 700)]
    table = worker.feature_logits(features, 4)
    assert table.schema.equals(TABLES["feature_logits"].arrow_schema())
    with torch.no_grad():
        assert table.to_pylist() == promoted_tokens(worker.model, features, 4)
    assert [len(tokens) for tokens in table["top_tokens"].to_pylist()] == [4, 4, 4]
    assert len(worker.feature_logits([], 4)) == 0


def test_facts_name_the_files_by_content(worker: TraceWorker) -> None:
    assert worker.facts() == {
        "n_layers": 4,
        "model_hash": content_hash(resolve(f"{DEMO}/language_model")),
        "transcoders_hash": content_hash(resolve(f"{DEMO}/per_layer")),
        "device": "cpu",
        "complaint": None,
    }


def test_a_model_that_cannot_be_loaded_is_a_model_error() -> None:
    model = CONFIG.model.model_copy(update={"checkpoint": "/no/such/folder"})
    with pytest.raises(ModelError, match="no such folder"):
        TraceWorker(CONFIG.model_copy(update={"model": model}))
