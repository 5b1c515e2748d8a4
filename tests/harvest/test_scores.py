"""Scores of features and directions against dense encodings of whole prompts, and families against their sums."""

from pathlib import Path
from typing import get_args

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkpoints import NonlinearityName, loaded, random_transcoders
from tests.model.readers.sae_lens_writer import random_sae
from tracer.corpus.prompt_files import writing
from tracer.corpus.prompts import Prompt
from tracer.corpus.windows import stored_windows
from tracer.errors import ArtifactError, DataError, ModelError
from tracer.harvest.examples import N_AFTER, N_BEFORE
from tracer.harvest.families import EXAMPLE_SCHEMA, family_examples, family_promoted
from tracer.harvest.promoted import promoted_logits, write_directions
from tracer.harvest.scored import DictionaryFeature, Direction, Scored, ScoredBy
from tracer.harvest.scores import feature_scores
from tracer.model.dictionaries import SITE_HOOKS, Dictionary, Site, read_dictionary
from tracer.model.replacement import ReplacementModel

PROMPTS = [[0, 5, 9, 33, 7, 21, 2], [0, 4], [0, 9, 0, 9, 41], [0, *range(1, 30)]]
FEATURES = [(2, 47), (0, 5), (2, 3), (0, 0)]


def with_nonlinearity(name: NonlinearityName, *, cross_layer: bool = False) -> ReplacementModel:
    _, model = loaded("gpt2")
    transcoders = random_transcoders(
        model.n_layers, model.facts.d_model, cross_layer=cross_layer, nonlinearity=name, seed=3
    )
    return ReplacementModel(model.bridge, model.tokenizer, transcoders, model.facts)


def dense(model: ReplacementModel, prompt: list[int], feature: tuple[int, int], by: ScoredBy) -> torch.Tensor:
    """What a feature scores at every position, from all features of its layer."""
    layer, idx = feature
    forward, transcoder = model.forward(torch.tensor(prompt)), model.transcoders.layers[layer]
    if by == "decoder":
        return forward.mlp_outputs[layer] @ transcoder.W_dec[idx, 0]
    if by == "activation":
        return transcoder.encode(forward.reads[layer])[:, idx]
    scores = transcoder.pre_activations(forward.reads[layer])[:, idx]
    return scores if by == "pre_activation" else scores - transcoder.b_enc[idx]


@pytest.mark.parametrize("by", get_args(ScoredBy))
@pytest.mark.parametrize("nonlinearity", ["relu", "jumprelu", "topk"])
def test_scores_equal_dense_encodings_of_each_prompt(nonlinearity: NonlinearityName, by: ScoredBy) -> None:
    model = with_nonlinearity(nonlinearity, cross_layer=nonlinearity == "jumprelu")
    found = feature_scores(model, FEATURES, PROMPTS, by=by, skip_special=False, n_batch_tokens=16)
    assert found.dtype == torch.float16
    assert found.shape == (len(PROMPTS), len(FEATURES), 30)
    for place, prompt in enumerate(PROMPTS):
        assert found[place, :, len(prompt) :].isnan().all()
        for column, feature in enumerate(FEATURES):
            expected = dense(model, prompt, feature, by)
            torch.testing.assert_close(found[place, column, : len(prompt)].float(), expected, atol=2e-3, rtol=1e-3)


def test_batches_of_any_size_give_the_same() -> None:
    model = with_nonlinearity("topk")
    alone, together = (feature_scores(model, FEATURES, PROMPTS, n_batch_tokens=n).float() for n in (1, 4096))
    torch.testing.assert_close(alone, together, atol=2e-3, rtol=1e-3, equal_nan=True)


def test_special_tokens_are_not_scored_wherever_they_are() -> None:
    model = with_nonlinearity("relu")
    found = feature_scores(model, FEATURES, PROMPTS, by="pre_activation")
    for place, prompt in enumerate(PROMPTS):
        is_special = torch.tensor([token_id == 0 for token_id in prompt] + [True] * (30 - len(prompt)))
        assert (found[place].isnan() == is_special).all()


def test_the_pass_stops_at_the_last_layer_needed() -> None:
    model, ran = with_nonlinearity("relu"), []
    hooks = [
        block.register_forward_pre_hook(lambda *_, place=place: ran.append(place))
        for place, block in enumerate(model.bridge.blocks)
    ]
    try:
        feature_scores(model, [(1, 3), (0, 5)], PROMPTS[:1])
        assert ran == [0, 1]
        model.forward(torch.tensor(PROMPTS[0]))
        assert ran == [0, 1, 0, 1, 2]
    finally:
        for hook in hooks:
            hook.remove()


@pytest.fixture(scope="module", params=get_args(Site))
def sae(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dictionary:
    _, model = loaded("llama")
    width = model.facts.n_heads * model.facts.d_head if request.param == "attn_z" else model.facts.d_model
    folder = tmp_path_factory.mktemp("sae")
    hook = f"blocks.1.{SITE_HOOKS[request.param]}"
    random_sae("jumprelu", hook, d_in=width, apply_b_dec_to_input=False).save_model(folder)
    return read_dictionary(str(folder), model.facts, device=torch.device("cpu"))


def test_features_of_saes_and_directions_are_scored_beside_transcoders(sae: Dictionary) -> None:
    _, model = loaded("llama")
    direction = torch.randn(sae.transcoder.W_enc.shape[1], generator=torch.Generator().manual_seed(0))
    scored: list[Scored] = [
        DictionaryFeature(dictionary=sae, feature=7),
        (2, 5),
        Direction(layer=1, site=sae.site, vector=direction),
        DictionaryFeature(dictionary=sae, feature=2),
    ]
    for by in ("activation", "decoder"):
        found = feature_scores(model, scored, PROMPTS, by=by, skip_special=False)
        for place, prompt in enumerate(PROMPTS):
            values = sae.values(model, torch.tensor(prompt))
            of_sae = sae.encode(values) if by == "activation" else values @ sae.transcoder.W_dec[:, 0].T
            expected = torch.stack([of_sae[:, 7], dense(model, prompt, (2, 5), by), values @ direction, of_sae[:, 2]])
            torch.testing.assert_close(found[place, :, : len(prompt)].float(), expected, atol=4e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "scored",
    [(3, 0), (0, 48), (0, -1), Direction(layer=0, site="attn_z", vector=torch.zeros(5)),
     Direction(layer=3, site="resid_pre", vector=torch.zeros(32))],
)  # fmt: skip
def test_what_the_model_does_not_have_is_refused(scored: Scored) -> None:
    with pytest.raises(DataError, match="to score|direction at"):
        feature_scores(with_nonlinearity("relu"), [scored], PROMPTS)


def naive_family(model: ReplacementModel, documents: list[tuple[str, list[int]]], weights: list[float]) -> list[tuple]:
    """(document, position, sum) of the strongest position of each document, sorted in Python."""
    found = []
    for document_id, prompt in documents:
        scores = torch.stack([dense(model, prompt, feature, "activation") for feature in FEATURES])
        together = (torch.tensor(weights) @ scores).tolist()
        pos = max(range(len(prompt)), key=lambda place: (prompt[place] != 0, together[place], -place))
        if prompt[pos] != 0 and together[pos] > 0:
            found.append((document_id, pos, together[pos]))
    return sorted(found, key=lambda row: (-round(row[2], 4), row[0]))


@settings(max_examples=8)
@given(
    documents=st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=24), min_size=0, max_size=9),
    n_examples=st.integers(1, 4),
    weights=st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=4, max_size=4),
)
def test_a_family_is_shown_where_its_sum_is_largest(
    documents: list[list[int]], n_examples: int, weights: list[float]
) -> None:
    model = with_nonlinearity("relu")
    named = [(f"{place:03d}", [0, *ids, 1]) for place, ids in enumerate(documents)]
    found = family_examples(model, FEATURES, iter(named), weights=weights, n_examples=n_examples)
    assert found.schema == EXAMPLE_SCHEMA
    expected = naive_family(model, named, weights)[:n_examples]
    assert found["activation"].to_list() == pytest.approx([strength for _, _, strength in expected], abs=1e-4)
    by_id = dict(named)
    for row in found.iter_rows(named=True):
        prompt, place = by_id[row["document_id"]], row["pos"] - row["window_start"]
        members = [float(dense(model, prompt, feature, "activation")[row["pos"]]) for feature in FEATURES]
        assert row["member_activations"] == pytest.approx(members, abs=1e-4)
        assert row["window_activations"][place] == pytest.approx(row["activation"], abs=1e-5)
        shown = prompt[max(0, row["pos"] - N_BEFORE) : row["pos"] + N_AFTER + 1]
        assert row["window_tokens"] == [model.tokenizer.decode([token_id]) for token_id in shown]
        assert row["token"] == row["window_tokens"][place]
        assert f"<<{row['token']}>>" in row["context"]


def test_equal_documents_come_in_the_order_of_their_ids() -> None:
    model = with_nonlinearity("relu")
    documents = [(name, PROMPTS[3]) for name in ("c", "a", "b")]
    found = family_examples(model, FEATURES, documents, n_examples=2)
    assert found["document_id"].to_list() == ["a", "b"]
    assert found["rank"].to_list() == [0, 1]


def test_a_document_in_windows_is_shown_once_where_it_is_strongest(tmp_path: Path) -> None:
    model = with_nonlinearity("relu")
    own = [[5, 9, 33, 7, 21, 2, 14, 6, 8, 3, 40], [9, 41, 17, 2], list(range(1, 30))]
    with writing(tmp_path) as writer:
        for place, token_ids in enumerate(own):
            absent = dict.fromkeys(("task", "split", "pair_id", "answer", "counterfactual_answer", "answer_token_id"))
            document = {"prompt_id": f"{place:016x}", "text": "", "token_ids": (0, *token_ids), "targets": ()}
            writer.add(Prompt(**document, **absent, metadata={}))
    windows = [*stored_windows(tmp_path, model.special_token_rule, window_tokens=5)]
    assert [len(window.token_ids) for window in windows] == [5, 5, 4, 5, 5, 5, 5, 5, 5, 5, 5, 2]
    found = family_examples(model, FEATURES, windows, n_examples=9)
    strongest: dict[str, float] = {}
    for window in windows:
        for _, _, strength in naive_family(model, [("", list(window.token_ids))], [1.0] * 4):
            strongest[window.document_id] = max(strength, strongest.get(window.document_id, 0))
    assert dict(found.select("document_id", "activation").iter_rows()) == pytest.approx(strongest, abs=1e-4)
    assert max(found["document_start"]) > 0
    for row in found.iter_rows(named=True):
        token_id = own[int(row["document_id"], 16)][row["document_start"] + row["pos"] - 1]
        assert row["token"] == model.tokenizer.decode([token_id])
    with pytest.raises(ArtifactError, match="stored prompts"):
        next(stored_windows(tmp_path / "absent", model.special_token_rule, window_tokens=5))


def test_where_a_member_is_no_number_a_family_is_not_shown() -> None:
    model = with_nonlinearity("relu")
    broken = Direction(layer=0, site="resid_pre", vector=torch.full((model.facts.d_model,), torch.nan))
    assert family_examples(model, [*FEATURES, broken], [("a", PROMPTS[3])]).is_empty()


def test_a_family_promotes_what_the_sum_of_its_write_vectors_promotes(sae: Dictionary) -> None:
    _, model = loaded("llama")
    vector = torch.ones(model.facts.d_model)
    members: list[Scored] = [
        (0, 5),
        (2, 7),
        DictionaryFeature(dictionary=sae, feature=7),
        Direction(layer=1, site="resid_post", vector=vector),
    ]
    decoder = sae.transcoder.W_dec[7, 0]
    if sae.site == "attn_z":
        decoder = sum(
            decoder.reshape(4, -1)[head] @ model.bridge.blocks[1].attn.W_O[head].detach() for head in range(4)
        )
    total = write_directions(model, [(0, 5)])[0] + 2 * write_directions(model, [(2, 7)])[0] + 3 * decoder - vector
    logits = promoted_logits(model, total[None])[0]
    found = family_promoted(model, members, weights=[1.0, 2.0, 3.0, -1.0], n_tokens=4)
    top, bottom = (found.filter(pl.col("kind") == kind) for kind in ("top", "bottom"))
    order = logits.argsort(descending=True).tolist()
    assert top["token"].to_list() == [model.tokenizer.decode([idx]) for idx in order[:4]]
    assert bottom["token"].to_list() == [model.tokenizer.decode([idx]) for idx in order[:-5:-1]]
    assert top["logit"].to_list() == pytest.approx(logits[order[:4]].tolist(), abs=1e-4)


def test_a_family_without_members_or_with_other_weights_is_refused() -> None:
    model = with_nonlinearity("relu")
    for members, weights in (([], None), (FEATURES, [1.0])):
        with pytest.raises(DataError, match="as many of both"):
            family_promoted(model, members, weights=weights)
        with pytest.raises(DataError, match="as many of both"):
            family_examples(model, members, [], weights=weights)


def test_heads_of_an_unknown_architecture_promote_nothing_that_is_known() -> None:
    _, model = loaded("mistral")
    direction = Direction(layer=0, site="attn_z", vector=torch.zeros(32))
    with pytest.raises(ModelError, match="outside the table"):
        family_promoted(model, [direction])
