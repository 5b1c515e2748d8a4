"""Passes of several prompts: one that fails does not take others with it, one that spoils the process is found."""

import pytest
import torch

import tracer.run.attributing as attributing_module
from tracer.config import RunConfig, parse_config
from tracer.corpus.prompts import Prompt
from tracer.model.forward import Forward
from tracer.model.replacement import ReplacementModel
from tracer.run.attributing import (
    LEAST_BUDGET_BYTES,
    MAX_PASS_TOKENS,
    Attributed,
    NotAttributed,
    attribute_prompts,
    with_less_memory,
)
from tracer.run.work import SpoilingPromptError

CONFIG: RunConfig = parse_config({"model": {"checkpoint": "x", "transcoders": "x"}, "corpus": {"source": "x"}})
TEXTS = (
    "the capital of the state containing Dallas is",
    "the keys near the cabinet",
    "Mary went to the",
    "the capital of the state containing Miami is",
    "when Mary and John went to the store John gave a book to",
)


def made(idx: int, token_ids: tuple[int, ...], text: str = "") -> Prompt:
    return Prompt(
        prompt_id=str(idx), text=text, token_ids=token_ids, targets=(), task=None, split=None, pair_id=None,
        answer=None, counterfactual_answer=None, answer_token_id=None, metadata={},
    )  # fmt: skip


@pytest.fixture(scope="module")
def prompts(demo_model: ReplacementModel) -> list[Prompt]:
    return [made(idx, tuple(demo_model.tokenize(text).tolist()), text) for idx, text in enumerate(TEXTS)]


def graphs(outcomes: list[Attributed | NotAttributed]) -> dict[str, Attributed]:
    return {outcome.prompt.prompt_id: outcome for outcome in outcomes if isinstance(outcome, Attributed)}


def test_outcomes_come_in_the_order_of_the_prompts_and_do_not_depend_on_the_pass(
    demo_model: ReplacementModel, prompts: list[Prompt]
) -> None:
    single = list(attribute_prompts(demo_model, CONFIG, prompts, 1))
    for prompts_per_pass in (2, 8):
        found = list(attribute_prompts(demo_model, CONFIG, prompts, prompts_per_pass))
        assert [outcome.prompt.prompt_id for outcome in found] == [prompt.prompt_id for prompt in prompts]
        for prompt_id, alone in graphs(single).items():
            other = graphs(found)[prompt_id]
            assert torch.equal(other.graph.prune().node_mask, alone.graph.prune().node_mask)
            torch.testing.assert_close(other.graph.influence, alone.graph.influence, atol=1e-5, rtol=1e-5)


def test_one_prompt_that_fails_leaves_the_others_of_its_pass(
    demo_model: ReplacementModel, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_forward = attributing_module.prepare_forward

    def fail_for_one(model: ReplacementModel, forward: Forward, **settings: object) -> object:
        if forward.n_pos == len(prompts[2].token_ids):
            raise ValueError("made to fail")
        return prepare_forward(model, forward, **settings)

    monkeypatch.setattr(attributing_module, "prepare_forward", fail_for_one)
    found = list(attribute_prompts(demo_model, CONFIG, prompts, 8))
    assert sorted(graphs(found)) == ["0", "1", "3", "4"]
    (failed,) = [outcome for outcome in found if isinstance(outcome, NotAttributed)]
    assert (failed.prompt.prompt_id, str(failed.error)) == ("2", "made to fail")


def test_memory_that_runs_out_names_the_prompt_only_where_it_is_alone(
    demo_model: ReplacementModel, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_: object, **__: object) -> None:
        raise MemoryError("made to fail")

    monkeypatch.setattr(attributing_module, "prepare_forward", run_out)
    with pytest.raises(MemoryError):
        list(attribute_prompts(demo_model, CONFIG, prompts, 8))
    with pytest.raises(SpoilingPromptError) as error:
        list(attribute_prompts(demo_model, CONFIG, prompts, 1))
    assert error.value.prompt_id == "0"


def test_passes_hold_so_many_prompts_and_tokens_and_no_more() -> None:
    long, short = (1,) * (MAX_PASS_TOKENS // 2), (1,) * 4
    prompts = [made(idx, token_ids) for idx, token_ids in enumerate((short, short, long, long, long, short))]
    passes = list(attributing_module._passes(prompts, 3))
    assert [prompt for together in passes for prompt in together] == prompts
    assert [len(together) for together in passes] == [2, 2, 2]
    for together in passes:
        assert max(len(prompt.token_ids) for prompt in together) * len(together) <= MAX_PASS_TOKENS


def test_each_time_that_memory_runs_out_passes_and_batches_become_smaller_down_to_one_and_nothing_else_changes():
    asked = CONFIG.model_copy(
        update={"attribution": CONFIG.attribution.model_copy(update={"prompts_per_pass": 8, "batch_size": 6})}
    )
    found = [with_less_memory(asked, n_halved).attribution for n_halved in range(14)]
    assert [less.prompts_per_pass for less in found[:4]] == [8, 4, 1, 1]
    assert [less.batch_size for less in found[:4]] == [6, 3, 1, 1]
    assert found[1].memory_budget_bytes == asked.attribution.memory_budget_bytes // 2
    assert found[13].memory_budget_bytes == LEAST_BUDGET_BYTES
    changed = {"prompts_per_pass", "batch_size", "memory_budget_bytes"}
    assert all(less.model_dump(exclude=changed) == found[0].model_dump(exclude=changed) for less in found)
    assert with_less_memory(CONFIG, 3).attribution.batch_size is None
