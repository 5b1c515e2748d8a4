"""On the demo run, the features known to stand for a state are what two-hop prompts have and counterfactuals lack."""

from pathlib import Path

import pytest

from tests.benchmarks.demo_comparisons import compare_states
from tracer.intervene.atlas_measures import state_features
from tracer.model.replacement import ReplacementModel
from tracer.tables.database import connect


@pytest.mark.slow
def test_known_state_features_are_among_the_ten_strongest_differences(demo_run: Path, demo_model: ReplacementModel):
    with connect(demo_run / "results.duckdb") as connection:
        states = compare_states(connection, state_features(demo_model))
    assert len(states) == 26
    assert sum(found.is_found for found in states) >= 20
    assert sum(found.has_control for found in states) <= 3
    assert all(found.row is None or found.row["difference"] > 0 for found in states)
