"""The shipped demo model keeps every floor, and its circuits are the known ones, on held-out prompts.

Rates are printed with their 95 % Wilson intervals; `pytest -rP tests/circuits` shows them too.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import DEMO_FILES, REPOSITORY
from tracer.corpus.tasks import atlas_words
from tracer.intervene import atlas_measures as measures
from tracer.intervene.atlas_card import FLOORS, Floor, check_floors, measure_card
from tracer.model.replacement import ReplacementModel
from tracer.tables.database import query

FLOOR_TASKS = tuple(floor.figure.removeprefix("answers.") for floor in FLOORS if floor.figure.startswith("answers."))
SEEN_TWO_HOP = ["two_hop_capital", "two_hop_bird", "two_hop_region", "state_attribute"]


@pytest.fixture(scope="module")
def pairs(demo_model: ReplacementModel) -> list[measures.SwapPair]:
    return measures.held_out_pairs(demo_model, 200)


@pytest.fixture(scope="module")
def per_layer_card(demo_model: ReplacementModel, pairs: list[measures.SwapPair]) -> dict[str, Any]:
    return measure_card(demo_model, pairs, tasks=FLOOR_TASKS, replaced_tasks=())


@pytest.fixture(scope="module")
def cross_layer_card(demo_cross_layer: ReplacementModel) -> dict[str, Any]:
    pairs = measures.held_out_pairs(demo_cross_layer, 60)
    return measure_card(demo_cross_layer, pairs, tasks=FLOOR_TASKS, replaced_tasks=(), n_prompts=60)


def assert_floor(card: dict[str, Any], wanted: Floor, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    value, holds = next((value, holds) for floor, value, holds in check_floors(card) if floor == wanted)
    entry: Any = card
    for part in wanted.figure.split("."):
        entry = entry[part]
    interval = f" [{entry['low']:.3f}, {entry['high']:.3f}], n {entry['n_trials']}" if isinstance(entry, dict) else ""
    bound = f"at least {wanted.at_least}" if wanted.at_least is not None else f"at most {wanted.at_most}"
    with capsys.disabled():
        print(f"\n{kind}: {wanted.figure} {value:.3f}{interval}, {bound}", end=" ")
    assert holds


@pytest.mark.parametrize("floor", FLOORS, ids=lambda floor: floor.figure)
def test_per_layer_floor_holds(
    per_layer_card: dict[str, Any], floor: Floor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_floor(per_layer_card, floor, "per-layer", capsys)


@pytest.mark.slow
@pytest.mark.parametrize("floor", FLOORS, ids=lambda floor: floor.figure)
def test_cross_layer_floor_holds(
    cross_layer_card: dict[str, Any], floor: Floor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_floor(cross_layer_card, floor, "cross-layer", capsys)


def test_both_sets_agree_on_texas_for_the_dallas_prompt(
    per_layer_card: dict[str, Any], demo_cross_layer: ReplacementModel
) -> None:
    assert per_layer_card["texas_features_of_dallas"]
    assert measures.texas_features_of_dallas(demo_cross_layer, measures.state_features(demo_cross_layer))


@pytest.fixture(scope="module")
def seen_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over two-hop prompts about seen cities alone: held-out cities are in none of its tables."""
    folder = tmp_path_factory.mktemp("seen")
    settings = {
        "model": {"checkpoint": f"{DEMO_FILES}/language_model", "transcoders": f"{DEMO_FILES}/per_layer"},
        "corpus": {"source": "tasks:atlas", "options": {"n_prompts": 440, "split": "seen", "tasks": SEEN_TWO_HOP}},
    }
    (folder / "seen.yaml").write_text(yaml.safe_dump(settings))
    command = [
        sys.executable,
        "-m",
        "tracer",
        "run",
        str(folder / "seen.yaml"),
        "--out",
        str(folder / "run"),
        "--inline",
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run" / "results.duckdb"


def test_features_whose_label_names_the_state_flip_the_answer(
    demo_model: ReplacementModel,
    pairs: list[measures.SwapPair],
    per_layer_card: dict[str, Any],
    seen_run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cities = set(query(seen_run, "SELECT DISTINCT city FROM prompts WHERE city IS NOT NULL")["city"])
    held_out = {city for state in atlas_words.STATES for city in state.cities[atlas_words.N_SEEN_CITIES :]}
    assert cities
    assert not cities & held_out
    named: dict[str, set[measures.FeatureKey]] = {state.name: set() for state in atlas_words.STATES}
    for layer, feature, label in query(seen_run, "SELECT layer, feature, label FROM labels").iter_rows():
        for state in set(re.findall(r"\w+", label)) & named.keys():
            named[state].add((layer, feature))
    flips = measures.flip_rate(demo_model, pairs, measures.named_features(named))
    random = per_layer_card["flips"]["random_20"]["share"]
    with capsys.disabled():
        print(f"\nfeatures labelled with the state: flips {flips}; 20 random ones: {random:.3f}", end=" ")
    assert flips.share >= 0.40
    assert flips.share >= 2 * random
