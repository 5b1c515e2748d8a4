"""Rules without a language model name the state of a city, and hold for cities that no rule was made from."""

from collections import defaultdict
from pathlib import Path

import pytest

from tests.autointerp.demo_harvest import Document, Key, read_documents, write_harvest
from tracer.autointerp.feature_evidence import source_of
from tracer.autointerp.harvest_labels import harvest_rows
from tracer.autointerp.sampled_rules import Background, sampled_context_rule
from tracer.autointerp.texts import FeatureText
from tracer.corpus.tasks.atlas_rows import AtlasOptions, atlas_rows
from tracer.corpus.tasks.atlas_words import N_SEEN_CITIES, STATES
from tracer.model.replacement import ReplacementModel
from tracer.tables.joining import connect_harvest

TASKS = ["two_hop_capital", "two_hop_bird", "two_hop_region"]
FEWEST = 3
"""Fewest sentences in which a feature is strong, for it to count."""


def two_hop(model: ReplacementModel, split: str, n: int) -> tuple[list[Document], list[str]]:
    """Sentences about the state of a city, and the state of each."""
    options = AtlasOptions(n_prompts=n, split=split, tasks=TASKS, seed=5)  # type: ignore[arg-type]
    rows = list(atlas_rows(None, options))  # type: ignore[arg-type]
    return read_documents(model, [str(row["text"]) for row in rows]), [str(row["state"]) for row in rows]


def largest_activations(documents: list[Document]) -> dict[Key, float]:
    """The largest activation of every feature."""
    largest: dict[Key, float] = defaultdict(float)
    for document in documents:
        for key, firing in document.firing.items():
            largest[key] = max(largest[key], *firing.values())
    return largest


def precision(documents: list[Document], states: list[str], key: Key, state: str, floor: float) -> tuple[float, int]:
    """Of the sentences in which a feature reaches an activation, the share about a state; and how many they are."""
    fired = [
        found
        for document, found in zip(documents, states, strict=True)
        if key in document.firing and max(document.firing[key].values()) >= floor
    ]
    return (sum(found == state for found in fired) / len(fired), len(fired)) if fired else (0.0, 0)


@pytest.fixture(scope="module")
def named(demo_model: ReplacementModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Key, float]]:
    """By state the feature whose rule label names it and that is strong for it most purely, with what counts as strong:
    half its largest activation. All on sentences of seen cities, from which the rules are made too.
    """
    documents, states = two_hop(demo_model, "seen", 416)
    held_out = {city for state in STATES for city in state.cities[N_SEEN_CITIES:]}
    assert not held_out & {token for document in documents for token in document.tokens}
    folder: Path = write_harvest(demo_model, documents, tmp_path_factory.mktemp("seen"), "x")
    with connect_harvest(folder / "results.duckdb") as connection:
        rows = [row for batch in harvest_rows(connection, source_of(connection, has_harvest=True)) for row in batch]
    chosen: dict[str, tuple[float, int, Key]] = {}
    names, largest = {state.name for state in STATES}, largest_activations(documents)
    for row in rows:
        words = set((row["label"] + " " + row["description"]).replace(",", " ").replace(".", " ").split())
        for state in words & names:
            key = row["layer"], row["feature"]
            share, n = precision(documents, states, key, state, largest[key] / 2)
            if n >= FEWEST:
                chosen[state] = max(chosen.get(state, (0.0, 0, key)), (share, n, key))
    return {state: (key, largest[key] / 2) for state, (_, _, key) in chosen.items()}


def test_rules_name_the_state_and_hold_for_held_out_cities(
    named: dict[str, tuple[Key, float]], demo_model: ReplacementModel, capsys: pytest.CaptureFixture[str]
) -> None:
    documents, states = two_hop(demo_model, "held_out", 200)
    found = {state: precision(documents, states, key, state, floor) for state, (key, floor) in named.items()}
    good = [state for state, (share, n) in found.items() if share >= 0.9 and n >= FEWEST]
    with capsys.disabled():
        print(f"\nstates named by a rule with precision at least .9 on held-out cities: {len(good)} of {len(STATES)}")
    assert len(good) >= 22


def text(document_id: str, split: str, kind: str, words: str, peak_idx: int) -> FeatureText:
    """A text of some words."""
    tokens = tuple(words.split())
    activations = tuple(float(kind == "quantile" and idx == peak_idx) for idx in range(len(tokens)))
    return FeatureText(
        document_id=document_id, split=split, kind=kind, tokens=tokens, activations=activations, peak_idx=peak_idx
    )


def test_a_context_rule_is_chosen_on_one_half_and_measured_on_the_other() -> None:
    texts = []
    for number in range(40):
        split = "explain" if number % 2 else "score"
        holds = number % 2 == 1 or number % 8 == 0  # of those to score on, every fourth
        texts.append(text(f"d{number}", split, "quantile", f"{'cat' if holds else 'dog'} sat on it {number}", 3))
    background = ["cat a b c", *["sat on z w"] * 9]
    rule = sampled_context_rule(
        texts, 0.01, Background(line.split() for line in background), Background(line.split() for line in background)
    )
    assert rule is not None
    assert rule.tokens == ("cat",)
    assert rule.recall == 0.25
    assert rule.recall_interval[0] < 0.25 < rule.recall_interval[1]
    share = (3 + 2) / (40 + 4)  # three positions behind `cat` of forty, and half a text more
    assert rule.precision == pytest.approx(0.25 * 0.01 / share)
    assert rule.precision_interval[0] < rule.precision < rule.precision_interval[1]


def test_without_enough_texts_there_is_no_sampled_rule() -> None:
    few = [text("d0", "explain", "quantile", "cat sat", 1), text("d1", "score", "quantile", "cat sat", 1)]
    assert sampled_context_rule(few, 0.01, Background([["a"]] * 9), Background([["a"]] * 9)) is None
    assert sampled_context_rule([], 0.01, Background([]), Background([])) is None
