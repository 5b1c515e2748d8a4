"""Matrices left on disk: the same graphs and activations, no row read that is not needed, little memory."""

import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.benchmarks import lazy_set
from tests.checkpoints import loaded, write_transcoders
from tracer.attribution.attribute import attribute
from tracer.attribution.graphs import graph_of
from tracer.attribution.prepared import Prepared, prepare
from tracer.intervene.edits import Edit
from tracer.intervene.intervene import intervene
from tracer.model import transcoders as transcoders_module
from tracer.model.readers.registry import read_transcoders
from tracer.model.replacement import ReplacementModel
from tracer.model.stored import StoredTensor

PROMPT = "w3 w14 w15 w9 w26 w5 w14 w3"
PAIRS = [(False, False), (False, True), (True, False), (True, True)]
SMALL = lazy_set.SetShape(n_layers=2, n_features=2048, d_model=256)
MAX_PEAK_BYTES = 2 * 1024**3


def model_of(folder: Path, lazy_encoder: bool, lazy_decoder: bool) -> ReplacementModel:
    _, trunk = loaded("llama")
    transcoders = read_transcoders(
        folder, trunk.facts, device=torch.device("cpu"), lazy_encoder=lazy_encoder, lazy_decoder=lazy_decoder
    )
    for layer in transcoders.layers:
        assert isinstance(layer.W_enc, StoredTensor) == lazy_encoder
        assert isinstance(layer.W_dec, StoredTensor) == lazy_decoder
    return ReplacementModel(trunk.bridge, trunk.tokenizer, transcoders, trunk.facts)


def written(folder: Path, cross_layer: bool, nonlinearity: str) -> Path:
    checkpoint, _ = loaded("llama")
    return write_transcoders(checkpoint, folder, cross_layer=cross_layer, skip=True, nonlinearity=nonlinearity)


@pytest.fixture(params=[(cross, kind) for cross in (False, True) for kind in ("jumprelu", "topk")], ids=str)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A set with skip connections, per-layer or cross-layer, JumpReLU or TopK."""
    return written(tmp_path, *request.param)


def test_all_four_ways_to_hold_a_set_give_equal_graphs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcoders_module, "N_CHUNK_FEATURES", 20)
    monkeypatch.setattr(transcoders_module, "N_CHUNK_ROWS", 7)
    held = model_of(folder, False, False)
    expected, expected_active = attribute(PROMPT, held), held.get_activations(PROMPT)
    assert expected.layout.n_features > 50
    for lazy in PAIRS[1:]:
        model = model_of(folder, *lazy)
        for found, active in zip(model.get_activations(PROMPT), expected_active, strict=True):
            assert torch.equal(found.pos, active.pos)
            assert torch.equal(found.feature, active.feature)
            torch.testing.assert_close(found.value, active.value, atol=1e-6, rtol=1e-6)
        graph = attribute(PROMPT, model)
        assert torch.equal(graph.layout.features, expected.layout.features)
        torch.testing.assert_close(graph.adjacency(), expected.adjacency(), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(graph.influence, expected.influence, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("cross_layer", [False, True])
def test_rows_made_anew_for_every_pass_and_met_in_the_middle_are_equal_too(cross_layer: bool, tmp_path: Path) -> None:
    folder = written(tmp_path, cross_layer, "jumprelu")
    held, lazy = model_of(folder, False, False), model_of(folder, True, True)
    for settings in ({"every_row_flops": 0.0}, {"memory_budget_bytes": 200_000, "node_threshold": 0.9}):
        expected, found = (
            graph_of(model, prepare(model, model.tokenize(PROMPT)), **settings) for model in (held, lazy)
        )
        torch.testing.assert_close(found.adjacency(), expected.adjacency(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("cross_layer", "nonlinearity"), [(True, "jumprelu"), (False, "topk")])
def test_autograd_and_interventions_agree_as_well(cross_layer: bool, nonlinearity: str, tmp_path: Path) -> None:
    folder = written(tmp_path, cross_layer, nonlinearity)
    held, lazy = model_of(folder, False, False), model_of(folder, True, True)
    expected, found = (attribute("w3 w14 w15", model, engine="oracle").adjacency() for model in (held, lazy))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    active = held.get_activations(PROMPT)[0]
    edit = Edit(layer=0, pos=int(active.pos[0]), feature=int(active.feature[0]), value=3.0)
    logits = [intervene(PROMPT, model, [edit]).logits for model in (held, lazy)]
    torch.testing.assert_close(logits[1], logits[0], atol=1e-5, rtol=1e-5)
    token_ids = held.tokenize(PROMPT)
    torch.testing.assert_close(lazy.replaced_logits(token_ids), held.replaced_logits(token_ids), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dense_share", [0.0, 1.0], ids=["one product", "row by row"])
@pytest.mark.parametrize("lazy", [False, True])
def test_decoding_is_the_product_with_the_decoder(
    folder: Path, lazy: bool, dense_share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcoders_module, "DENSE_SHARE", dense_share)
    monkeypatch.setattr(transcoders_module, "N_CHUNK_ROWS", 7)
    held, model = model_of(folder, False, False), model_of(folder, False, lazy)
    read = torch.randn(11, model.facts.d_model)
    for layer, other in zip(model.transcoders.layers, held.transcoders.layers, strict=True):
        active = layer.active(read, 2)
        assert len(active.pos) > 7
        for written_idx in range(layer.n_written):
            expected = other.encode(read) @ other.W_dec[:, written_idx]
            expected[:2] = 0
            torch.testing.assert_close(layer.decoded(active, written_idx, 11), expected, atol=1e-5, rtol=1e-5)


class RowsRead:
    """Rows asked of stored tensors, by tensor and written layer, one list a call."""

    def __init__(self) -> None:
        self.calls: dict[tuple[StoredTensor, int | None], list[list[int]]] = defaultdict(list)

    def distinct(self, stored: StoredTensor, written_idx: int | None = None) -> list[int]:
        """Those asked for at all."""
        return sorted({row for call in self.calls[stored, written_idx] for row in call})

    def n_asked(self, stored: StoredTensor, written_idx: int | None = None) -> int:
        """All that were asked for, each time they were."""
        return sum(map(len, self.calls[stored, written_idx]))


@contextmanager
def rows_read(monkeypatch: pytest.MonkeyPatch) -> Iterator[RowsRead]:
    """Counts rows; nothing may be read whole meanwhile."""
    read, plain = RowsRead(), StoredTensor.rows

    def rows(self: StoredTensor, rows: torch.Tensor, written_idx: int | None = None) -> torch.Tensor:
        read.calls[self, written_idx].append(rows.tolist())
        return plain(self, rows, written_idx)

    def whole(self: StoredTensor) -> torch.Tensor:
        raise AssertionError(f"{self.name} was read whole")

    with monkeypatch.context() as patched:
        patched.setattr(StoredTensor, "rows", rows)
        patched.setattr(StoredTensor, "whole", whole)
        yield read


def prepared_and_read(model: ReplacementModel, monkeypatch: pytest.MonkeyPatch) -> tuple[Prepared, RowsRead]:
    token_ids = model.tokenize(PROMPT)
    with rows_read(monkeypatch) as read:
        return prepare(model, token_ids), read


def test_errors_take_every_encoder_row_once_and_the_decoder_rows_of_active_features(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(folder, True, True)
    prepared, read = prepared_and_read(model, monkeypatch)
    for layer, active in zip(model.transcoders.layers, prepared.active, strict=True):
        assert read.distinct(layer.W_enc) == list(range(len(layer.b_enc)))
        assert read.n_asked(layer.W_enc) == len(layer.b_enc)
        for written_idx in range(layer.n_written):
            assert read.distinct(layer.W_dec, written_idx) == active.feature.unique().tolist()
            assert read.n_asked(layer.W_dec, written_idx) <= len(active.pos)


@pytest.mark.parametrize("every_row_flops", [1e9, 0.0], ids=["one sweep", "met in the middle"])
def test_rows_of_the_graph_take_the_rows_of_active_features_alone(
    folder: Path, every_row_flops: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(folder, True, True)
    prepared, _ = prepared_and_read(model, monkeypatch)
    with rows_read(monkeypatch) as read:
        graph = graph_of(model, prepared, every_row_flops=every_row_flops)
    assert bool(graph.has_row.all())
    for layer, active in zip(model.transcoders.layers, prepared.active, strict=True):
        features = active.feature.unique().tolist()
        assert read.distinct(layer.W_enc) == features
        for written_idx in range(layer.n_written):
            assert read.distinct(layer.W_dec, written_idx) == features
            assert read.n_asked(layer.W_dec, written_idx) == len(active.pos)


def test_a_row_that_is_not_computed_takes_no_encoder_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(written(tmp_path, False, "jumprelu"), True, True)
    prepared, _ = prepared_and_read(model, monkeypatch)
    with rows_read(monkeypatch) as read:
        graph = graph_of(model, prepared, max_feature_nodes=5)
    n_asked = [read.n_asked(layer.W_enc) for layer in model.transcoders.layers]
    assert sum(n_asked) == int(graph.has_row.sum()) == 5


def test_a_small_set_is_encoded_in_parts_and_gathered_by_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcoders_module, "N_CHUNK_FEATURES", 500)
    transcoders = lazy_set.read_lazily(lazy_set.write_set(tmp_path, SMALL), SMALL)
    with rows_read(monkeypatch) as read:
        n_active = lazy_set.encode_and_gather(transcoders)
    for layer, n in zip(transcoders.layers, n_active, strict=True):
        assert 0 < n < SMALL.n_features // 10
        *encoding, gathered = read.calls[layer.W_enc, None]
        assert [len(call) for call in encoding] == [500, 500, 500, 500, 48]
        assert len(gathered) == read.n_asked(layer.W_dec, 0) == n


@pytest.mark.slow
def test_a_set_of_4_gb_on_disk_takes_less_than_2_gb_in_memory(tmp_path: Path) -> None:
    large = lazy_set.LARGE
    if shutil.disk_usage(tmp_path).free < 2 * large.n_bytes:
        pytest.skip(f"{2 * large.n_bytes:,} bytes of disk are not free")
    found = lazy_set.measured(large, tmp_path)
    print(f"high-water mark {found['peak_bytes'] / 1e9:.2f} GB for {large.n_bytes / 1e9:.2f} GB on disk")
    assert min(found["n_active"]) > 0
    assert found["peak_bytes"] < MAX_PEAK_BYTES
    assert list(tmp_path.iterdir()) == []
