"""Comparisons in a configuration: read, part of its fingerprint, and one message where they are wrong."""

import pytest

from tracer.config import AggregateConfig, ComparisonConfig, RunConfig, parse_config
from tracer.errors import ConfigError

TEXAS = {"name": "texas", "first": "state = 'Texas'"}


def config_with(*comparisons: dict[str, object]) -> RunConfig:
    return parse_config({
        "model": {"checkpoint": "m", "transcoders": "t"},
        "corpus": {"source": "tasks:atlas"},
        "aggregate": {"comparisons": list(comparisons)},
    })


def test_comparisons_are_read_and_part_of_the_fingerprint() -> None:
    config = config_with(TEXAS, {"name": "tasks", "first": "task = 'a'", "second": "task = 'b'", "kinds": ["edge"]})
    assert [comparison.second for comparison in config.aggregate.comparisons] == [None, "task = 'b'"]
    assert config.aggregate.comparisons[0] == ComparisonConfig(**TEXAS)
    assert config.result_settings()["aggregate"]["comparisons"][1]["kinds"] == ["edge"]
    prints = {config.fingerprint(), config_with(TEXAS).fingerprint(), config_with().fingerprint()}
    assert len(prints) == 3
    assert AggregateConfig().comparisons == []


@pytest.mark.parametrize(
    ("comparison", "message"),
    [
        ({**TEXAS, "frist": "true"}, r"comparisons\.1\.frist: found an unknown setting; expected one of: name, first,"),
        ({"name": "half"}, r"comparisons\.1\.first: found nothing"),
        ({**TEXAS, "name": "odd", "kinds": ["colour"]}, r"comparisons\.1\.kinds\.0: found 'colour'"),
        (TEXAS, r"aggregate\.comparisons: .* expected value error, comparisons of different names"),
    ],
)
def test_wrong_comparisons_are_refused(comparison: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_with(TEXAS, comparison)
