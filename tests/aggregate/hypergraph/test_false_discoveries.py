"""False discoveries stay under control and planted structure is found, on corpora whose truth is known.

All of it over 50 corpora, with power against strength and frequency: `python -m tests.benchmarks.planted`.
"""

import numpy as np
import pytest

from tests.aggregate.hypergraph.planted_corpora import PAIRS, SETS, Recipe, planted_corpus, task_corpus
from tests.aggregate.hypergraph.planted_scores import (
    LEVEL,
    Score,
    measures_of,
    score_pairs,
    score_sets,
    score_tasks,
)  # fmt: skip

SHORT = Recipe(n_graphs=20_000, alone=((40, 0.01, 0.05), (8, 0.05, 0.5), (3, 0.5, 0.8)), sets=())
FEW_SETS = Recipe(
    n_graphs=2000,
    alone=((20, 0.02, 0.05), (5, 0.05, 0.5), (2, 0.5, 0.8)),
    sets=(
        ("pair", 2, 0.1, 0.6),
        ("pair", 2, 0.3, 0.6),
        *(("triple", 3, frequency, 0.5) for frequency in (0.05, 0.1, 0.3)),
        ("five", 5, 0.05, 0.5),
    ),
)


def uncontrolled(score: Score) -> dict[str, tuple[float, float]]:
    """Names with too many false discoveries, with their means and errors."""
    names = [name for name in score.proportions if name not in {"tasks above", "tasks below"}]
    return {name: score.mean(name) for name in names if not score.is_controlled(name)}


def share_found(score: Score, kind: str, strength: float) -> float:
    hits = [hit for (of, _, at), found in score.found.items() if of == kind and at >= strength for hit in found]
    return float(np.mean(hits))


def test_few_discoveries_of_pairs_are_false_in_every_band_and_strong_ones_are_found() -> None:
    score = Score()
    score_pairs((planted_corpus(PAIRS, seed) for seed in range(4)), score)
    assert uncontrolled(score) == {}
    assert share_found(score, "pair", 0.4) > 0.95
    assert share_found(score, "community", 0.7) > 0.95
    assert share_found(score, "avoiding", 0.6) > 0.5


def test_few_discoveries_of_sets_are_false_given_their_parts_and_strong_ones_are_found() -> None:
    score = Score()
    score_sets((planted_corpus(FEW_SETS, seed) for seed in range(3)), score)
    assert uncontrolled(score) == {}
    assert share_found(score, "triple", 0.4) > 0.9
    assert share_found(score, "five", 0.4) > 0.9


def test_tasks_of_independent_features_are_all_discoveries_and_none_within_strata() -> None:
    score = Score()
    score_tasks((task_corpus(seed) for seed in range(2)), score)
    assert uncontrolled(score) == {}
    assert score.mean("tasks above")[0] == 1


def test_expectations_of_independent_features_are_unbiased_whatever_their_frequency() -> None:
    corpus = planted_corpus(Recipe(n_graphs=20_000, alone=PAIRS.alone, sets=()), 0)
    pairs, measures = measures_of(corpus.incidence, 1)
    band = corpus.band(pairs.first, pairs.second)
    for number, tolerance in enumerate((0.03, 0.005, 0.002, 0.002)):
        ratio = pairs.support[band == number].sum() / measures["expected"][band == number].sum()
        assert abs(ratio - 1) < tolerance


def test_features_of_short_graphs_do_not_seem_to_avoid_each_other() -> None:
    for seed in range(2):
        _, measures = measures_of(planted_corpus(SHORT, seed).incidence)
        assert (measures["q_below"] <= LEVEL).sum() == 0


@pytest.mark.slow
def test_false_discoveries_over_fifty_corpora() -> None:
    score = Score()
    score_pairs((planted_corpus(PAIRS, seed) for seed in range(50)), score)
    score_sets((planted_corpus(SETS, seed) for seed in range(50)), score)
    score_tasks((task_corpus(seed) for seed in range(50)), score)
    assert uncontrolled(score) == {}
