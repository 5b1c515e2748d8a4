"""Which features' co-activation is counted, as configured."""

import pytest
from pydantic import ValidationError

from tracer.config.coactivation import CoactivationConfig


def test_nothing_is_counted_unless_features_or_a_run_are_named() -> None:
    assert not CoactivationConfig().is_wanted
    assert CoactivationConfig(run="runs/demo").is_wanted
    assert CoactivationConfig(features=[(0, 1), (0, 2)]).is_wanted


@pytest.mark.parametrize(
    "settings", [{"features": [(0, 1)]}, {"features": [(0, 1), (0, 2), (1, 0)], "max_features": 2}, {"min_graphs": 0}]
)
def test_what_cannot_be_paired_or_held_is_refused(settings: dict) -> None:
    with pytest.raises(ValidationError):
        CoactivationConfig(**settings)
