"""Every table of a harvest against a count by plain Python; however the corpus is cut, ordered, batched and shared out
among workers, the tables are the same.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.harvest import naive, naive_absent
from tests.harvest.random_windows import N_FEATURES, TEXTS, PlainDocument, batches, corpora
from tracer.aggregate.harvest.build import HarvestParts, build_harvest
from tracer.config.harvest import ExampleConfig, HarvestSettings
from tracer.harvest import example_candidates, key_counts
from tracer.harvest.example_candidates import ExampleCandidates
from tracer.harvest.shard import accumulators_of, rule_of
from tracer.harvest.window_texts import token_hashes
from tracer.storage.store import open_store
from tracer.tables.database import ask, connect
from tracer.tables.harvest_tables import HARVEST_SHARD_TABLES, HARVEST_TABLES
from tracer.tables.parts import write_part
from tracer.tables.rows import as_table, from_records

EXAMPLES = ExampleConfig(
    n_top=3, n_quantiles=2, n_per_quantile=2, n_random=2, n_near_miss=2, n_before=2, n_after=1, seed=7
)
SETTINGS = HarvestSettings(examples=EXAMPLES)
TABLES = ("documents", "features", "feature_activation_hist", "feature_positions", "feature_tokens", "token_counts",
          "examples")  # fmt: skip
REFERENCE_SHARE, REFERENCE_SEED = 0.7, 3
ROW = {"started_at": None, "corpus": "c", "window_tokens": 5}


def built(shards: Sequence[Sequence[PlainDocument]], batch_tokens: int, n_workers: int) -> dict[str, pl.DataFrame]:
    """Tables of a harvest whose shards are worked on by several workers in turn."""
    with tempfile.TemporaryDirectory() as place:
        store, parts = open_store(place), {table.name: [] for table in HARVEST_SHARD_TABLES}
        known = [{} for _ in range(n_workers)]
        for number, documents in enumerate(shards):
            tables = _counted(documents, batch_tokens, known[number % n_workers])
            for table in HARVEST_SHARD_TABLES:
                rows = tables.get(table.name, table.arrow_schema().empty_table())
                parts[table.name].append(write_part(store, table, rows, shard_id=f"s{number}", attempt=0))
        target = Path(place) / "results.duckdb"
        build_harvest(
            target,
            HarvestParts(root=Path(place), parts=parts, n_features=N_FEATURES, token_separator=" "),
            config=SETTINGS,
            harvest_row=ROW,
            weights_table=_weights_table,
        )
        with connect(target) as connection:
            return {name: ask(connection, f"SELECT * FROM {name}") for name in (*TABLES, "harvests")}


def _counted(documents, batch_tokens, known):
    hashes = token_hashes(len(TEXTS), TEXTS.__getitem__)
    examples = ExampleCandidates(N_FEATURES, hashes, rule_of(EXAMPLES), known)
    device = torch.device("cpu")
    found = accumulators_of(N_FEATURES, hashes, TEXTS.__getitem__, reference_share=REFERENCE_SHARE, seed=REFERENCE_SEED,
                            device=device)  # fmt: skip
    for batch in batches(documents, batch_tokens):
        for accumulator in (examples, *found):
            accumulator.add(batch)
    frames = {name: frame for accumulator in (examples, *found) for name, frame in accumulator.tables().items()}
    known.update(examples.known)
    by_name = {table.name: table for table in HARVEST_SHARD_TABLES}
    records = [
        {"document_id": document.document_id, "n_eligible_tokens": sum(token != 0 for token in document.token_ids)}
        for document in documents
    ]
    tables = {name: as_table(by_name[name], frame) for name, frame in frames.items()}
    return tables | {"documents": from_records(by_name["documents"], records)}


def _weights_table(name):
    """One neighbour for feature 0 of layer 0; nothing else is known of weights."""
    if name != "feature_neighbours":
        return HARVEST_TABLES[name].arrow_schema().empty_table()
    row = {"layer": 0, "feature": 0, "scope": "across", "rank": 0, "neighbour_layer": 2, "neighbour_feature": 1}
    return from_records(HARVEST_TABLES[name], [row | {"cosine": 0.5}])


@st.composite
def cut(draw):
    """A corpus, and two ways to cut it into shards."""
    documents = draw(corpora())
    ways = []
    for _ in range(2):
        order = draw(st.permutations(documents))
        edges = draw(st.lists(st.integers(1, len(order)), max_size=3, unique=True))
        bounds = sorted({0, *edges, len(order)})
        ways.append([order[first:last] for first, last in zip(bounds, bounds[1:], strict=False)])
    return documents, ways


@settings(max_examples=10, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(cut(), st.integers(1, 40), st.integers(1, 2), st.sampled_from([1, 2**20]))
def test_tables_equal_a_plain_count_however_the_corpus_is_cut(found, batch_tokens, n_workers, n_pending):
    documents, ways = found
    with pytest.MonkeyPatch.context() as patch:
        for module in (example_candidates, key_counts):
            patch.setattr(module, "N_PENDING", n_pending)
        tables = built(ways[0], batch_tokens, n_workers)
    _check_counts(documents, tables)
    _check_examples(documents, tables["examples"])
    _check_absent(documents, tables["examples"])
    others = built(ways[1], 10, 1)
    for name in TABLES:
        floats = [column for column in ("activation_sum", "activation_square_sum", "activation_mean", "activation_sd")
                  if column in tables[name].columns]  # fmt: skip
        assert tables[name].drop(floats).equals(others[name].drop(floats)), name
        for column in floats:
            both = zip(tables[name][column], others[name][column], strict=True)
            assert all(one == other or one == pytest.approx(other, rel=1e-6, abs=1e-9) for one, other in both)


def _check_counts(documents, tables):
    expected = naive.sums(documents)
    rows = {(row["layer"], row["feature"]): row for row in tables["features"].iter_rows(named=True)}
    assert list(rows) == [(layer, feature) for layer, n in N_FEATURES.items() for feature in range(n)]
    for feature, row in rows.items():
        n, n_documents, total, squares, largest = expected.get(feature, (0, 0, 0.0, 0.0, None))
        assert (row["n_firings"], row["n_documents"], row["activation_max"]) == (n, n_documents, largest)
        assert (row["activation_sum"], row["activation_square_sum"]) == pytest.approx((total, squares), rel=1e-9)
    hist = tables["feature_activation_hist"]
    assert {tuple(row[:-1]): row[-1] for row in hist.iter_rows()} == dict(naive.histogram(documents))
    assert {tuple(row[:-1]): row[-1] for row in tables["feature_positions"].iter_rows()} == naive.positions(documents)
    of_features, of_all = naive.tokens(documents)
    token_rows = tables["feature_tokens"].rows()
    assert {(layer, feature, token): [*n] for layer, feature, token, _, *n in token_rows} == of_features
    assert {token: [*n] for token, _, *n in tables["token_counts"].rows()} == of_all
    assert all(text == TEXTS[token] for token, text, *_ in tables["token_counts"].rows())
    assert tables["harvests"]["n_eligible_tokens"].item() == sum(counts[0] for counts in of_all.values())


def _check_examples(documents, examples):
    by_id = {document.document_id: document for document in documents}
    copies = naive.copies(documents)
    expected = {("top", *feature): rows for feature, rows in naive.top(documents, 3).items()}
    drawn = naive.quantiles(documents, 2, 4, seed=7)
    expected |= {("quantile", *feature): [row[:3] for row in rows] for feature, rows in drawn.items()}
    found = {}
    for row in examples.filter(pl.col("kind").is_in(["top", "quantile"])).iter_rows(named=True):
        place = row["document_start"] + row["pos"] - 1
        group = found.setdefault((row["kind"], row["layer"], row["feature"]), [])
        assert row["rank"] == len(group)
        group.append((row["document_id"], place, row["activation"]))
        document = by_id[row["document_id"]]
        window = naive.window_of(document, row["document_start"])
        shown = range(max(0, row["pos"] - 2), min(len(window), row["pos"] + 2))
        assert row["window_start"] == shown[0]
        assert row["window_tokens"] == [TEXTS[window[pos]] for pos in shown]
        values = [document.firings.get((row["layer"], row["document_start"] + pos - 1, row["feature"]), 0.0)
                  for pos in shown]  # fmt: skip
        assert row["window_activations"] == values if shown[0] else values[1:] == row["window_activations"][1:]
        assert row["token"] == TEXTS[window[row["pos"]]]
        assert f"<<{row['token']}>>" in row["context"]
        assert row["copies"] == copies[naive.text_before(document, place)] - 1
    assert found == expected
    groups = examples.filter(pl.col("kind") == "quantile").select("layer", "feature", "quantile").rows()
    assert groups == [(*feature, row[3]) for feature, rows in sorted(drawn.items()) for row in rows]


def _check_absent(documents, examples):
    chosen = examples.filter(pl.col("kind").is_in(["random", "near_miss"]))
    found = {}
    for row in chosen.iter_rows(named=True):
        group = found.setdefault((row["kind"], row["layer"], row["feature"]), [])
        assert row["rank"] == len(group)
        group.append((row["document_id"], row["document_start"], row["pos"], row["reason"]))
        assert not any(row["window_activations"])
        assert row["copies"] is None
    assert found == naive_absent.absent(
        documents, reference=(REFERENCE_SHARE, REFERENCE_SEED), n_random=2, n_near_miss=2, seed=7
    )


def test_a_shard_that_a_worker_does_again_gives_its_examples_again():
    documents = [PlainDocument(document_id=f"{n:016x}", token_ids=(1, 3), firings={(0, 1, 0): 1.0 + n}) for n in (1, 2)]
    known = {}
    first = _counted(documents, 10, known)["example_candidates"]
    again = _counted(documents, 10, known)["example_candidates"]
    assert again.equals(first)


def test_only_features_that_a_shard_touches_are_chosen_again(monkeypatch):
    many = [
        PlainDocument(document_id=f"{n:016x}", token_ids=(1, *[3] * n), firings={(0, n, 0): 2.0, (2, n, 1): 1.0 + n})
        for n in (1, 2, 3, 4)
    ]
    few = [PlainDocument(document_id=f"{9:016x}", token_ids=(5, 5), firings={(2, 1, 1): 9.0})]
    known, chosen_among = {}, []
    _counted(many, 10, known)
    choose = example_candidates.candidates.best
    monkeypatch.setitem(
        example_candidates._CHOICES,
        "top",
        lambda rows, n: chosen_among.append(rows.feature.tolist()) or choose(rows, n),
    )
    _counted(few, 10, known)
    assert {feature for features in chosen_among for feature in features} == {4}
    top = known["top"]
    assert list(zip(top.feature.tolist(), top.activation.tolist(), strict=True)) == [
        (0, 2.0), (0, 2.0), (0, 2.0), (4, 9.0), (4, 5.0), (4, 4.0),
    ]  # fmt: skip


def test_a_worker_leaves_out_what_cannot_be_among_the_best_any_more():
    strong = [
        PlainDocument(document_id=f"{n:016x}", token_ids=(1, *[3] * n), firings={(0, n, 0): 5.0}) for n in (1, 2, 3)
    ]
    weak = [PlainDocument(document_id=f"{9:016x}", token_ids=(5, 5), firings={(0, 1, 0): 1.0})]
    known = {}
    _counted(strong, 10, known)
    kinds = _counted(weak, 10, known)["example_candidates"]["kind"].to_pylist()
    assert "top" not in kinds
