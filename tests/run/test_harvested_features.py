"""What a whole harvest says of features beside each other: its tables against the model's own dense activations."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from rich.console import Console

from tracer.aggregate.hypergraph.pairs import Pairs
from tracer.aggregate.hypergraph.significance import pair_measures
from tracer.config.harvest import HarvestConfig
from tracer.harvest.de_embedding import feature_excitations
from tracer.harvest.neighbours import feature_neighbours
from tracer.harvest.promoted import feature_logits
from tracer.model.replacement import ReplacementModel
from tracer.run.harvesting import harvest
from tracer.tables.harvest_tables import HARVEST_TABLES
from tracer.views.results.harvest import Harvest, open_harvest

DEMO = "package:tracer.model.demo/files"
TEXTS = [
    "the capital of the state containing Dallas is Austin .", "Houston is in Texas .", "the bird of Texas is the",
    "the capital of the state containing Houston is Austin . Dallas is in Texas .", "Miami is in Florida .",
    "the capital of the state containing Miami is Tallahassee .", "the bird of Florida is the mockingbird .",
]  # fmt: skip
N_CHOSEN, WINDOW_TOKENS = 60, 8


@pytest.fixture(scope="module")
def firings(demo_model: ReplacementModel) -> list[np.ndarray]:
    """For each document which of all features are active, [position, layer x feature], window by window."""
    found = []
    for text in TEXTS:
        own, rows = demo_model.tokenize(text)[1:], []
        for part in own.split(WINDOW_TOKENS - 1):
            window = torch.cat([demo_model.tokenize(text)[:1], part])
            reads = demo_model.forward(window).reads
            layers = zip(demo_model.transcoders.layers, reads, strict=True)
            rows.append(torch.cat([of.encode(read)[1:] != 0 for of, read in layers], dim=1))
        found.append(torch.cat(rows).numpy().astype(np.int64))
    return found


@pytest.fixture(scope="module")
def chosen(firings: list[np.ndarray]) -> list[int]:
    """The features that fire most, as columns."""
    return sorted(np.argsort(-np.concatenate(firings).sum(0), kind="stable")[:N_CHOSEN].tolist())


@pytest.fixture(scope="module")
def harvested(tmp_path_factory: pytest.TempPathFactory, chosen: list[int]) -> Path:
    folder = tmp_path_factory.mktemp("harvested")
    lines = [json.dumps({"text": text}) for text in TEXTS]
    (folder / "texts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    config = HarvestConfig.model_validate({
        "model": {"checkpoint": f"{DEMO}/language_model", "transcoders": f"{DEMO}/per_layer"},
        "corpus": {"source": str(folder / "texts.jsonl")},
        "harvest": {
            "windows": {"window_tokens": WINDOW_TOKENS, "high_norm_ratio": None},
            "weights": {"n_neighbours": 3, "n_exciting_tokens": 4, "n_exciting_heads": 2},
            "coactivation": {"features": [divmod(column, 768) for column in chosen], "min_support": 2},
            "dense_frequency": 0.5,
        },
        "runner": {"shard_size": 3},
    })
    result = harvest(config, str(folder / "out"), inline=True, console=Console(quiet=True))
    assert result.n_harvested == len(TEXTS)
    assert result.database is not None
    return result.database


def test_tables_of_weights_are_those_of_every_feature(harvested: Path, demo_model: ReplacementModel) -> None:
    made = {
        "feature_logits": feature_logits(demo_model, 20),
        "feature_neighbours": feature_neighbours(demo_model, 3),
        "feature_excitations": feature_excitations(demo_model, 4, 2),
    }
    with open_harvest(harvested) as opened:
        for name, tiles in made.items():
            found, expected = opened.table(name), pl.concat(tiles)
            keys = HARVEST_TABLES[name].key
            assert found.sort(keys).equals(expected.select(found.columns).sort(keys)), name


def test_co_activation_is_that_of_dense_activations(
    harvested: Path, firings: list[np.ndarray], chosen: list[int]
) -> None:
    held = {"token": np.concatenate(firings), "document": np.array([rows.any(0) for rows in firings]).astype(np.int64)}
    with open_harvest(harvested) as opened:
        assert_counts(opened, held)
        table = opened.table("feature_coactivation")
    for grain, matrix in held.items():
        of_grain = table.filter(pl.col("grain") == grain)
        shared = matrix[:, chosen].T @ matrix[:, chosen]
        first, second = np.nonzero(np.triu(shared >= 2, 1))
        columns = np.array(chosen)
        a, b = (of_grain[f"layer_{end}"] * 768 + of_grain[f"feature_{end}"] for end in "ab")
        assert (a.to_list(), b.to_list()) == (columns[first].tolist(), columns[second].tolist())
        pairs = Pairs(first=columns[first], second=columns[second], support=shared[first, second])
        expected = pair_measures(pairs, support=matrix.sum(0), length=matrix.sum(1), min_support=10**9)
        for name in ("support", "n_a", "n_b", "jaccard", "expected", "lift", "npmi", "p_above", "p_below"):
            assert of_grain[name].to_list() == pytest.approx(expected[name].tolist(), rel=1e-6), name
        is_dense = held["token"].mean(0) > 0.5
        assert of_grain["has_dense"].to_list() == (is_dense[columns[first]] | is_dense[columns[second]]).tolist()


def assert_counts(opened: Harvest, held: dict[str, np.ndarray]) -> None:
    features = opened.table("features").sort("layer", "feature")
    assert features["n_firings"].to_list() == held["token"].sum(0).tolist()
    assert features["n_documents"].to_list() == held["document"].sum(0).tolist()
