"""A harvest beside a run, and what is asked of it, against its tables read whole."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl
import pytest

import tracer
from tests.tables.tiny_harvest import DEAD, DENSE, build_tiny_harvest
from tracer import Results
from tracer.errors import ArtifactError, DataError
from tracer.views.results.harvest import open_harvest


@pytest.fixture(scope="module")
def harvest_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_harvest(tmp_path_factory.mktemp("harvest"))


@pytest.fixture(scope="module")
def joined(tiny_path: Path, harvest_path: Path) -> Iterator[Results]:
    with tracer.open(tiny_path, harvest=harvest_path.parent) as opened:
        yield opened


def test_a_query_joins_the_tables_of_run_and_harvest(joined: Results, tiny_path: Path) -> None:
    sql = """
        SELECT layer, feature, f.support, h.n_firings FROM features AS f JOIN harvest.features AS h
        USING (layer, feature) WHERE f.support > 0 ORDER BY layer, feature
    """
    found = joined.sql(sql)
    with tracer.open(tiny_path) as alone:
        kept = alone.sql("SELECT layer, feature, support FROM features WHERE support > 0 ORDER BY layer, feature")
    assert found.select("layer", "feature", "support").equals(kept)
    assert found["n_firings"].sum() > 0


def test_questions_about_a_feature_give_its_rows(joined: Results) -> None:
    harvest, tables = joined.harvest, {}
    for name in ("features", "examples", "feature_tokens", "token_counts", "feature_neighbours", "feature_excitations"):
        tables[name] = harvest.table(name)
    layer, feature = tables["features"].filter(pl.col("n_firings") > 5).row(0)[:2]
    is_it = (pl.col("layer") == layer) & (pl.col("feature") == feature)
    assert harvest.feature(layer, feature) == tables["features"].filter(is_it).row(0, named=True)
    examples = harvest.examples(layer, feature)
    assert examples.equals(tables["examples"].filter(is_it, pl.col("kind") == "top").sort("rank"))
    every = harvest.examples(layer, feature, kind=None)
    assert every.height == tables["examples"].filter(is_it).height > examples.height
    tokens, n_firings = harvest.tokens(layer, feature), harvest.feature(layer, feature)["n_firings"]
    assert tokens["n_at"].sum() == n_firings
    assert tokens["share_of_firings"].sum() == pytest.approx(1)
    n_places = dict(tables["token_counts"].select("token_id", "n_at").iter_rows())
    expected = [
        n / n_places[idx] if n_places[idx] else None for idx, n in tokens.select("token_id", "n_at").iter_rows()
    ]
    assert tokens["share_of_token"].to_list() == expected
    assert tokens.height == tables["feature_tokens"].filter(is_it).height
    neighbours = harvest.neighbours(layer, feature)
    assert neighbours.height == tables["feature_neighbours"].filter(is_it).height
    assert neighbours["cosine"].is_sorted(descending=True)
    assert harvest.excitations(layer, feature).height == tables["feature_excitations"].filter(is_it).height


def test_co_active_features_are_found_from_either_end(joined: Results) -> None:
    pairs = joined.harvest.table("feature_coactivation").filter(pl.col("grain") == "document")
    assert pairs.height > 3
    for row in pairs.iter_rows(named=True):
        a, b = ((row[f"layer_{end}"], row[f"feature_{end}"]) for end in "ab")
        for one, other, n_one in ((a, b, row["n_a"]), (b, a, row["n_b"])):
            found = joined.harvest.coactive(*one, "document")
            of_pair = found.filter(pl.col("other_layer") == other[0], pl.col("other_feature") == other[1])
            assert of_pair.select("support", "n_a", "q_above").row(0) == (row["support"], n_one, row["q_above"])


def test_a_dead_feature_is_there_and_an_unknown_one_is_refused(joined: Results) -> None:
    assert joined.harvest.feature(*DEAD)["n_firings"] == 0
    assert joined.harvest.feature(*DENSE)["is_dense"]
    with pytest.raises(DataError, match="27 features of that layer"):
        joined.harvest.feature(0, 999)


def test_a_run_is_opened_with_several_harvests_at_once(joined: Results, tiny_path: Path, tmp_path: Path) -> None:
    with tracer.open(tiny_path, harvest=build_tiny_harvest(tmp_path, seed=2)) as other, tracer.open(tiny_path) as alone:
        n_firings = "SELECT sum(n_firings) AS n FROM harvest.features"
        assert other.sql(n_firings)["n"][0] != joined.sql(n_firings)["n"][0]
        counted = "SELECT count(*) AS n FROM incidence"
        assert other.sql(counted)["n"][0] == alone.sql(counted)["n"][0] > 0
        with pytest.raises(DataError):
            alone.sql(n_firings)


def test_a_harvest_is_opened_alone(harvest_path: Path) -> None:
    with open_harvest(harvest_path) as harvest:
        assert harvest.about["harvest_id"] == "tiny-harvest"
        with pytest.raises(DataError):
            harvest.sql("SELECT * FROM graphs")


def test_what_does_not_belong_together_is_refused(tiny_path: Path, harvest_path: Path, tmp_path: Path) -> None:
    other = tmp_path / "results.duckdb"
    shutil.copy(harvest_path, other)
    with duckdb.connect(str(other)) as connection:
        connection.execute("UPDATE harvests SET transcoders_hash = 'zz'")
    with pytest.raises(ArtifactError, match="traced with"):
        tracer.open(tiny_path, harvest=other)
    with duckdb.connect(str(other)) as connection:
        connection.execute("UPDATE harvests SET schema_version = 0")
    with pytest.raises(ArtifactError, match="schema version 0"):
        tracer.open(tiny_path, harvest=other)
    with pytest.raises(ArtifactError, match="no such file"):
        tracer.open(tiny_path, harvest=tmp_path / "absent")
    with pytest.raises(ArtifactError, match="a harvest's tables"):
        tracer.open(tiny_path, harvest=tiny_path)
    with tracer.open(tiny_path) as alone, pytest.raises(DataError, match="a harvest beside it"):
        alone.harvest  # noqa: B018 - asked for
