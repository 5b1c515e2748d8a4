"""QK attribution: its scores against the model's own attention on every architecture, its parts against autograd."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.attribution.matrix import Cell, model_of
from tests.checkpoints import ARCHITECTURE_KINDS, loaded, write_checkpoint, write_transcoders
from tracer.attribution import qk
from tracer.attribution.oracle import Oracle
from tracer.attribution.prepared import Prepared, prepare
from tracer.attribution.qk import QKAttribution, qk_attribution, qk_attributions
from tracer.errors import DataError, ModelError
from tracer.model.attention_scores import AttentionScores, attention_scores
from tracer.model.replacement import Hook, ReplacementModel

PROMPT = "w3 w14 w15 w9 w26 w1 w7"
PLACES = [(0, 1, 5, 2), (1, 3, 6, 0), (2, 2, 7, 7)]
ROTARY: dict[str, dict[str, Any]] = {
    "llama": {
        "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8,
        }
    },
    "gpt2": {"scale_attn_by_inverse_layer_idx": True},
    "gemma2": {"query_pre_attn_scalar": 13},
    "gpt_oss": {
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 150000.0, "factor": 8.0, "beta_fast": 32.0, "beta_slow": 1.0,
            "truncate": False, "original_max_position_embeddings": 8,
        }
    },
    "neox": {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}},
}  # fmt: skip
"""Settings that change how scores are made, beside those of `tests.checkpoints`."""


def softmaxed(model: ReplacementModel, scores: AttentionScores, head: int, query_pos: int) -> torch.Tensor:
    """A head's pattern from its scores, with mask and attention sinks as the checkpoint's own module has them."""
    module: Any = model.bridge.blocks[scores.layer].attn.original_component
    found = scores.capped(scores.at(head, query_pos))
    distance = query_pos - torch.arange(len(found))
    window = getattr(module, "sliding_window", None) or len(found)
    found = found.masked_fill((distance < 0) | (distance >= window), -torch.inf)
    sinks = getattr(module, "sinks", None)
    with_sink = found if sinks is None else torch.cat([found, sinks[head].detach()[None]])
    return with_sink.softmax(0)[: len(found)]


def assert_patterns_are_the_models(model: ReplacementModel) -> None:
    forward = model.forward(model.tokenize(PROMPT))
    for layer, scores in attention_scores(model, forward, list(range(model.n_layers))).items():
        for head in range(model.facts.n_heads):
            for query_pos in range(forward.n_pos):
                scores.check(forward, head, query_pos)
                found = softmaxed(model, scores, head, query_pos)
                torch.testing.assert_close(found, forward.patterns[layer, head, query_pos], atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", ARCHITECTURE_KINDS)
def test_scores_are_the_models_own_and_their_parts_add_up(kind: str) -> None:
    _, model = loaded(kind)
    assert_patterns_are_the_models(model)
    prepared = prepare(model, model.tokenize(PROMPT))
    for found in qk_attributions(model, prepared, PLACES):
        everything = found.top_pairs(10**9).weight.sum()
        for total in (found.query_marginals().sum(), found.key_marginals().sum(), everything):
            assert float(total) == pytest.approx(found.score, abs=2e-5)


@pytest.mark.parametrize("kind", ROTARY)
def test_other_angles_and_scales_are_taken_from_the_model(kind: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(kind, tmp_path / "checkpoint", **ROTARY[kind])
    transcoders = write_transcoders(checkpoint, tmp_path / "transcoders", cross_layer=False)
    model = ReplacementModel.from_pretrained(checkpoint, transcoders, device="cpu")
    assert_patterns_are_the_models(model)
    _, usual = loaded(kind)
    token_ids = model.tokenize(PROMPT)
    assert not torch.allclose(model.forward(token_ids).patterns, usual.forward(token_ids).patterns, atol=1e-4)


def autograd_parts(model: ReplacementModel, prepared: Prepared, found: QKAttribution) -> dict[str, torch.Tensor]:
    """Parts of query and key from the oracle's frozen pass, in which norms of queries and keys are frozen too."""
    kept: dict[str, torch.Tensor] = {}
    prefix, offered = f"blocks.{found.layer}.attn.", model.bridge.hook_dict
    scales = [f"{prefix}{side}_norm.hook_scale" for side in "qk" if f"{prefix}{side}_norm.hook_scale" in offered]

    def keep(name: str) -> Hook:
        return name, lambda value, hook: kept.__setitem__(name, value)

    with model.hooks([keep(name) for name in scales]) as bridge:
        bridge(prepared.forward.token_ids[None])
    frozen: list[Hook] = [(name, lambda value, hook, scale=kept[name]: scale) for name in scales]
    turned = {side: next(
        name for name in (f"{prefix}hook_rot_{side}", f"{prefix}hook_{side}") if name in offered
    ) for side in "qk"}  # fmt: skip
    with model.hooks([*frozen, *(keep(name) for name in turned.values())]):
        oracle = Oracle(model, prepared)
    group = model.facts.n_heads // model.facts.n_kv_heads
    places = {"q": (found.query_pos, found.head), "k": (found.key_pos, found.head // group)}
    parts = {}
    for side, (pos, head) in places.items():
        vector = kept[turned[side]][0, pos, head]
        edges = [oracle.edges(value)[: prepared.layout.first_target] for value in vector]
        by_source = torch.stack(edges, dim=1)
        parts[side] = torch.cat([by_source, (vector.detach() - by_source.sum(0))[None]])
    return parts


@pytest.mark.parametrize(
    "cell",
    [
        Cell("gpt2", "per-layer skip", "jumprelu", "mlp.hook_in -> mlp.hook_out"),
        Cell("qwen3", "cross-layer", "relu", "mlp.hook_in -> mlp.hook_out"),
        Cell("gemma3", "per-layer skip", "topk", "ln2.hook_normalized -> hook_mlp_out"),
    ],
    ids=str,
)
def test_parts_of_query_and_key_are_those_of_autograd(cell: Cell) -> None:
    model = model_of(cell)
    prepared = prepare(model, model.tokenize(PROMPT))
    for found in qk_attributions(model, prepared, PLACES):
        parts = autograd_parts(model, prepared, found)
        torch.testing.assert_close(found.query_parts, parts["q"], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(found.key_parts, parts["k"], atol=2e-5, rtol=1e-4)
        products = found.scale * parts["q"] @ parts["k"].T
        top = found.top_pairs(20)
        torch.testing.assert_close(top.weight, products[top.query_source, top.key_source], atol=2e-5, rtol=1e-4)
        largest = products[products != 0].abs().sort(descending=True).values[: len(top.weight)]
        torch.testing.assert_close(top.weight.abs(), largest, atol=2e-5, rtol=1e-4)
        assert len(top.weight) >= min(20, len(products[products.abs() > 1e-5]))


@pytest.fixture(scope="module")
def of_demo(demo_model: ReplacementModel) -> tuple[Prepared, QKAttribution]:
    prepared = prepare(demo_model, demo_model.tokenize("the capital of the state containing Dallas is"))
    return prepared, qk_attribution(demo_model, prepared, layer=2, head=1, query_pos=8, key_pos=7)


def test_top_pairs_do_not_depend_on_how_they_are_chunked(
    of_demo: tuple[Prepared, QKAttribution], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, found = of_demo
    whole = found.top_pairs(30)
    monkeypatch.setattr(qk, "N_CHUNK_QUERIES", 3)
    chunked = found.top_pairs(30)
    torch.testing.assert_close(chunked.weight, whole.weight)
    assert torch.equal(chunked.query_source, whole.query_source)
    assert torch.equal(chunked.key_source, whole.key_source)


def test_the_frame_names_the_sources(of_demo: tuple[Prepared, QKAttribution]) -> None:
    prepared, found = of_demo
    layout, frame = prepared.layout, found.frame(prepared.layout, 12)
    assert frame["rank"].to_list() == [*range(12)] * 3
    marginals = found.query_marginals()
    nodes = {tuple(place): node for node, place in enumerate(layout.features.tolist())}
    for row in frame.filter(frame["side"] == "query").to_dicts():
        assert row["key_kind"] is None
        if row["query_kind"] == "feature":
            node = nodes[row["query_layer"], row["query_source_pos"], row["query_feature"]]
        elif row["query_kind"] == "error":
            node = layout.errors(row["query_layer"]).start + row["query_source_pos"]
        else:
            node = -1 if row["query_kind"] == "bias" else layout.first_token + row["query_source_pos"]
        assert row["weight"] == pytest.approx(float(marginals[node]))
    pairs = frame.filter(frame["side"] == "pair")
    assert pairs["query_kind"].null_count() == pairs["key_kind"].null_count() == 0
    assert {"feature", "bias"} <= set(pairs["query_kind"]) | set(pairs["key_kind"])
    assert pairs["weight"].abs().to_list() == sorted(pairs["weight"].abs(), reverse=True)


@pytest.mark.parametrize("place", [(9, 0, 5, 2), (0, 9, 5, 2), (0, 0, 50, 2), (0, 0, 2, 5), (0, 0, 2, -1)])
def test_a_place_that_is_not_there_is_refused(
    demo_model: ReplacementModel, of_demo: tuple[Prepared, QKAttribution], place: tuple[int, int, int, int]
) -> None:
    with pytest.raises(DataError, match="attention score"):
        qk_attributions(demo_model, of_demo[0], [place])


def test_an_architecture_outside_the_table_is_refused() -> None:
    _, model = loaded("mistral")
    prepared = prepare(model, model.tokenize(PROMPT))
    with pytest.raises(ModelError, match="outside the table"):
        qk_attributions(model, prepared, PLACES)


def test_attention_that_is_computed_in_another_way_is_refused(demo_model: ReplacementModel) -> None:
    forward = demo_model.forward(demo_model.tokenize("the capital of the state containing Dallas is"))
    scores = attention_scores(demo_model, forward, [1])[1]
    scores.check(forward, 0, 8)
    with pytest.raises(ModelError, match="another|scaled dot products"):
        replace(scores, scale=1.1 * scores.scale).check(forward, 0, 8)
