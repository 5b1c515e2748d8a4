"""Random directions: drawn by name, active as often as their feature, told of as features are."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.autointerp.demo_harvest import CONFIG, atlas_texts
from tracer.autointerp.direction_evidence import DirectionTask, DirectionTexts, read_directions
from tracer.autointerp.explaining import choose_texts, explain_call
from tracer.autointerp.random_directions import (
    N_LEVELS,
    activations_of,
    pre_activations,
    read_vectors,
    write_vectors,
)
from tracer.autointerp.scoring.asking import choose_scoring_texts
from tracer.autointerp.splits import check_apart, held_out, part
from tracer.config.harvest import HarvestConfig
from tracer.corpus.windows import Window
from tracer.harvest.examples import example_split
from tracer.harvest.promoted import write_directions
from tracer.model.replacement import ReplacementModel

FREQUENCIES = {(0, 5): 0.02, (0, 7): 0.2, (2, 3): 0.0001}
KEYS = list(FREQUENCIES)
N_FEWEST = 20
EFFECTS = {
    "top_tokens": [["a"]],
    "top_token_logits": [[1.0]],
    "bottom_tokens": [["b"]],
    "bottom_token_logits": [[-1.0]],
}
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def task(demo_model: ReplacementModel) -> DirectionTask:
    """Three features and some sentences."""
    texts = tuple(
        (f"{idx:016x}", demo_model.tokenize(text).tolist()) for idx, text in enumerate(atlas_texts(200, seed=77))
    )
    settings = HarvestConfig.model_validate(CONFIG).harvest
    return DirectionTask(
        frequencies=FREQUENCIES, documents=texts, harvest=settings, n_fewest=N_FEWEST, seed=0, between=" "
    )


@pytest.fixture(scope="module")
def windows(task: DirectionTask) -> list[Window]:
    """Those sentences."""
    return [Window(document_id=name, start=0, token_ids=tuple(token_ids)) for name, token_ids in task.documents]


@pytest.mark.parametrize("name", ["demo_model", "demo_cross_layer"])
def test_directions_follow_from_seed_and_feature_and_are_as_long_as_the_features_own(
    name: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(name)
    written = dict(zip(KEYS, write_directions(model, KEYS), strict=True))
    for vectors in (read_vectors, write_vectors):
        found, of_other_seed = vectors(model, KEYS, 0), vectors(model, KEYS, 1)
        assert torch.equal(vectors(model, KEYS[1:], 0)[KEYS[1]], found[KEYS[1]])
        for layer, feature in KEYS:
            vector, transcoder = found[layer, feature], model.transcoders.layers[layer]
            own = transcoder.W_enc[feature] if vectors is read_vectors else written[layer, feature]
            torch.testing.assert_close(vector.norm(), own.norm())
            for other in (own, of_other_seed[layer, feature]):
                assert abs(float(torch.cosine_similarity(vector, other, dim=0))) < 0.6
    assert not torch.allclose(read_vectors(model, KEYS, 0)[KEYS[0]], write_vectors(model, KEYS, 0)[KEYS[0]])


def test_pre_activations_are_those_of_a_pass_over_each_text_alone(
    demo_model: ReplacementModel, task: DirectionTask, windows: list[Window]
) -> None:
    vectors = read_vectors(demo_model, KEYS, 0)
    place, scores = pre_activations(demo_model, vectors, windows, task.harvest)
    expected = [(row, pos) for row, window in enumerate(windows) for pos in range(1, len(window.token_ids))]
    assert place.tolist() == [list(one) for one in expected]
    for row in (0, 7, 199):
        reads = demo_model.forward(torch.tensor(windows[row].token_ids)).reads
        naive = torch.stack([reads[layer] @ vector for (layer, _), vector in vectors.items()])[:, 1:]
        torch.testing.assert_close(scores[:, place[:, 0] == row], naive, atol=1e-4, rtol=1e-4)


@given(SEEDS, st.integers(4, 400), st.floats(0.001, 0.7), st.integers(0, 12))
def test_a_direction_is_active_at_its_largest_values_as_often_as_asked_and_in_enough_texts(
    seed: int, n_positions: int, frequency: float, n_windows: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(50 + 3 * rng.standard_normal(n_positions)).float()
    window = torch.from_numpy(np.sort(rng.integers(0, 10, n_positions)))
    found = activations_of(scores, window, frequency=frequency, n_windows=n_windows)
    centred = scores - scores.mean()
    level, is_active = centred.square().mean().sqrt() / N_LEVELS, found > 0
    assert ((found - centred)[is_active].abs() <= level).all()
    if not is_active.all():
        assert centred[is_active].min() >= centred[~is_active].max() - level
    n_fewest = min(n_windows, (int(window.max()) + 1) // 2)

    def is_enough(chosen: torch.Tensor) -> bool:
        return int(chosen.sum()) >= max(1, round(frequency * n_positions)) and len(window[chosen].unique()) >= n_fewest

    assert is_enough(is_active) or bool(is_active[centred > level].all())
    assert not is_enough(found > found[is_active].min())


def test_where_everything_is_the_same_a_direction_is_never_active() -> None:
    window = torch.arange(6) // 2
    assert not activations_of(torch.full((6,), 2.5), window, frequency=0.5, n_windows=2).any()


def test_what_is_told_of_a_direction_does_not_depend_on_the_others_and_not_on_the_time(
    demo_model: ReplacementModel, task: DirectionTask
) -> None:
    found = read_directions(demo_model, task)
    assert [evidence.key for evidence in found] == KEYS
    for evidence in found:
        alone = replace(task, frequencies={evidence.key: FREQUENCIES[evidence.key]})
        assert read_directions(demo_model, alone) == [evidence]


def test_what_is_told_of_a_direction_is_in_the_words_for_features(
    demo_model: ReplacementModel, task: DirectionTask, windows: list[Window]
) -> None:
    n_positions = sum(len(window.token_ids) - 1 for window in windows)
    for evidence in read_directions(demo_model, task):
        wanted = FREQUENCIES[evidence.key] * n_positions
        assert evidence.n_firings >= round(wanted)
        assert evidence.activation_frequency == pytest.approx(evidence.n_firings / n_positions)
        assert len(evidence.promoted) == len(evidence.suppressed) == task.harvest.weights.n_promoted_tokens
        active = [text for text in evidence.texts if text.is_active]
        assert len({text.document_id for text in active}) >= N_FEWEST
        assert evidence.activation_max == pytest.approx(max(active[0].activations))
        call = explain_call(evidence, choose_texts(part(evidence.texts)[0], 15), {})
        assert call.target == f"random_direction/{evidence.layer}/{evidence.feature}"
        said = call.messages[1].content
        assert said.startswith("Active on ")
        assert not {"random", "direction", "gaussian"} & set(said.lower().split())


@given(seed=SEEDS)
def test_texts_of_a_direction_are_apart_by_document_and_its_counts_are_right(task: DirectionTask, seed: int) -> None:
    rng = np.random.default_rng(seed)
    windows = [
        Window(document_id=f"{idx:016x}", start=0, token_ids=(0, *rng.integers(1, 6, rng.integers(1, 12)).tolist()))
        for idx in range(rng.integers(1, 40))
    ]
    place = np.array([(row, pos) for row, window in enumerate(windows) for pos in range(1, len(window.token_ids))])
    activations = (rng.random(len(place)) * (rng.random(len(place)) < 0.2)).astype(np.float32)
    evidence = DirectionTexts(windows, place, str, task).evidence((0, 1), activations, EFFECTS)
    explaining, _ = part(evidence.texts)
    seen = choose_texts(explaining, 15)
    scored = choose_scoring_texts(held_out(evidence.texts, seen), 10, 10, 0)
    check_apart(seen, [*scored.active, *scored.inactive])
    for text in evidence.texts:
        assert text.split == example_split(text.document_id)
        assert text.is_active == (text.kind in ("top", "quantile"))
        assert bool(text.activations[text.peak_idx]) == text.is_active
        whole = windows[int(text.document_id, 16)].token_ids
        assert " ".join(text.tokens) in " ".join(map(str, whole))
    n_of = Counter((text.kind, text.document_id) for text in evidence.texts)
    assert set(n_of.values()) <= {1}
    for found, back in ((evidence.fires_on, 0), (evidence.fires_after, 1)):
        tokens = [str(windows[row].token_ids[pos - back]) for row, pos in place.tolist()]
        n_all = Counter(tokens)
        n = Counter(token for token, activation in zip(tokens, activations, strict=True) if activation)
        assert set(found) == {(token, n[token], n_all[token]) for token in n}
