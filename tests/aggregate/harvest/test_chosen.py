"""Which features' co-activation is counted: those listed, and those of a run that are in enough graphs."""

from pathlib import Path

import pytest

from tests.tables.tiny_run import build_tiny_run
from tracer.aggregate.harvest.chosen import features_to_pair
from tracer.config.coactivation import CoactivationConfig
from tracer.errors import ArtifactError, ConfigError
from tracer.tables.database import query

N_FEATURES = {0: 27, 1: 27, 2: 27}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_run(tmp_path_factory.mktemp("run")).parent


def chosen(run: Path | None, **settings: object) -> list[tuple[int, int]]:
    config = CoactivationConfig.model_validate({"run": None if run is None else str(run)} | settings)
    return features_to_pair(config, N_FEATURES, "bb")


def in_graphs(run: Path, min_graphs: int) -> list[tuple[int, int]]:
    sql = f"SELECT layer, feature FROM features WHERE support >= {min_graphs} ORDER BY support DESC, layer, feature"
    return query(run / "results.duckdb", sql).rows()


def test_features_of_enough_graphs_and_those_listed_are_chosen(run: Path) -> None:
    assert chosen(run, min_graphs=10) == sorted(in_graphs(run, 10))
    listed = [(0, 26), (2, 26)]
    assert chosen(run, min_graphs=10, features=listed) == sorted({*listed, *in_graphs(run, 10)})
    assert chosen(None, features=listed) == listed
    assert chosen(None) == []


def test_where_there_is_no_room_those_in_most_graphs_are_taken(run: Path) -> None:
    assert chosen(run, min_graphs=1, max_features=6) == sorted(in_graphs(run, 1)[:6])
    assert chosen(run, min_graphs=1, max_features=6, features=[(0, 26)]) == sorted([(0, 26), *in_graphs(run, 1)[:5]])


def test_other_transcoders_and_unknown_features_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="transcoders bb"):
        features_to_pair(CoactivationConfig(run=str(run)), N_FEATURES, "zz")
    with pytest.raises(ConfigError, match=r"\[0, 27\]"):
        chosen(None, features=[(0, 27), (0, 1)])
    with pytest.raises(ArtifactError, match="no such file"):
        chosen(tmp_path / "absent")
