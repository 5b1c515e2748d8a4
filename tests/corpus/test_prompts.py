"""Prompt ids and hashes."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tracer.corpus.prompts import Prompt, hash_ids, identified, make_prompt_id, share_of

VALUES = st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"))
METADATA = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), VALUES, max_size=4)
TOKEN_IDS = st.lists(st.integers(0, 50_000), max_size=6)

PROMPT = Prompt(
    prompt_id="",
    text="a b",
    token_ids=(0, 1, 2),
    targets=(),
    task=None,
    split=None,
    pair_id=None,
    answer=None,
    counterfactual_answer=None,
    answer_token_id=None,
    metadata={"city": "Dallas"},
)


@given(TOKEN_IDS, METADATA)
def test_prompt_id_is_16_hex_digits_and_does_not_depend_on_the_order_of_metadata(token_ids, metadata):
    prompt_id = make_prompt_id(token_ids, (), metadata, 0)
    assert len(prompt_id) == 16
    assert set(prompt_id) <= set("0123456789abcdef")
    assert prompt_id == make_prompt_id(tuple(token_ids), [], dict(reversed(metadata.items())), 0)


@given(TOKEN_IDS, METADATA)
def test_null_metadata_and_absent_metadata_give_the_same_prompt_id(token_ids, metadata):
    known = {name: value for name, value in metadata.items() if value is not None}
    assert make_prompt_id(token_ids, (), metadata, 0) == make_prompt_id(token_ids, (), known, 0)


def test_prompt_id_differs_by_tokens_targets_metadata_and_occurrence():
    variants = [
        make_prompt_id([1, 2], [], {}, 0),
        make_prompt_id([1, 3], [], {}, 0),
        make_prompt_id([1], [2], {}, 0),
        make_prompt_id([1, 2], [], {"a": 1}, 0),
        make_prompt_id([1, 2], [], {"a": "1"}, 0),
        make_prompt_id([1, 2], [], {"a": True}, 0),
        make_prompt_id([1, 2], [], {}, 1),
    ]
    assert len(set(variants)) == len(variants)


def test_prompt_id_is_the_same_in_every_version_of_tracer():
    assert make_prompt_id((1, 4, 280), (), {"city": "Dallas"}, 0) == "47112a7b6ef3f31d"


def test_reserved_columns_tell_prompts_apart_and_text_alone_does_not():
    ids = {
        identified(prompt, 0).prompt_id for prompt in (PROMPT, replace(PROMPT, answer="c"), replace(PROMPT, task="t"))
    }
    assert len(ids) == 3
    assert identified(replace(PROMPT, text="a  b"), 0) == replace(identified(PROMPT, 0), text="a  b")


def test_an_answer_is_not_taken_for_a_metadata_column_of_the_same_value():
    as_answer = replace(PROMPT, answer="x", metadata={})
    as_metadata = replace(PROMPT, metadata={"answer": "x"})
    assert identified(as_answer, 0).prompt_id != identified(as_metadata, 0).prompt_id


def test_hash_ids_depends_on_order_and_on_where_names_end():
    assert len({hash_ids(names) for names in (["a", "b"], ["b", "a"], ["ab"], ["a"], [])}) == 5


def test_share_of_is_spread_evenly_and_changes_with_the_seed():
    shares = [share_of(0, f"prompt {i}") for i in range(2_000)]
    assert all(0 <= share < 1 for share in shares)
    assert abs(sum(share < 0.3 for share in shares) / 2_000 - 0.3) < 0.04
    assert share_of(0, "prompt 1") != share_of(1, "prompt 1")
