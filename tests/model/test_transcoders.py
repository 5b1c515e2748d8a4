"""Transcoders: each nonlinearity by hand, decoders left on disk, skip connections the right way round."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.checkpoints import loaded, random_transcoders, write_transcoders
from tracer.errors import ModelError
from tracer.model.checks import check_transcoders
from tracer.model.nonlinearity import JumpReLU, Nonlinearity, ReLU, TopK
from tracer.model.readers import build
from tracer.model.readers.registry import read_transcoders
from tracer.model.stored import StoredTensor
from tracer.model.transcoders import N_CHUNK_POSITIONS, LayerTranscoder, TranscoderSet

CPU = torch.device("cpu")
PRE = torch.tensor([[-3.0, 0.5, -0.2, 2.0], [-1.0, -2.0, -0.5, -4.0]])


@pytest.mark.parametrize(
    ("nonlinearity", "expected"),
    [
        (ReLU(), [[0, 0.5, 0, 2], [0, 0, 0, 0]]),
        (JumpReLU(torch.tensor([0.0, 0.5, -1.0, 1.0])), [[0, 0, -0.2, 2], [0, 0, -0.5, 0]]),
        (TopK(k=3, rectify="no"), [[0, 0.5, -0.2, 2], [-1, -2, -0.5, 0]]),
        (TopK(k=3, rectify="before"), [[0, 0.5, 0, 2], [0, 0, 0, 0]]),
        (TopK(k=3, rectify="after"), [[0, 0.5, 0, 2], [0, 0, 0, 0]]),
        (TopK(k=1, rectify="no"), [[0, 0, 0, 2], [0, 0, -0.5, 0]]),
    ],
)
def test_nonlinearities(nonlinearity: Nonlinearity, expected: list[list[float]]) -> None:
    torch.testing.assert_close(nonlinearity.apply(PRE), torch.tensor(expected))


@pytest.mark.parametrize("cross_layer", [False, True])
@pytest.mark.parametrize("nonlinearity", ["relu", "jumprelu", "topk", "batchtopk"])
def test_a_written_set_is_read_back_equal(tmp_path: Path, cross_layer: bool, nonlinearity: str) -> None:
    checkpoint, model = loaded("llama")
    settings = {"cross_layer": cross_layer, "nonlinearity": nonlinearity, "skip": True}
    write_transcoders(checkpoint, tmp_path, write_hook="hook_mlp_out", **settings)
    expected = random_transcoders(model.n_layers, model.facts.d_model, **settings)
    found = read_transcoders(tmp_path, model.facts, device=CPU)
    assert (found.read_point, found.write_point, found.cross_layer) == ("mlp_in", "residual", cross_layer)
    read = torch.randn(7, model.facts.d_model)
    for ours, theirs in zip(found.layers, expected.layers, strict=True):
        assert type(ours.nonlinearity) is type(theirs.nonlinearity)
        assert torch.equal(ours.encode(read), theirs.encode(read))
        for name in ("W_enc", "b_enc", "W_dec", "b_dec", "W_skip"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


def test_a_skip_matrix_is_applied_as_each_kind_of_file_means_it(tmp_path: Path) -> None:
    checkpoint, model = loaded("llama")
    read = torch.randn(5, model.facts.d_model)
    for cross_layer, name, key in ((False, "layer_1", "W_skip"), (True, "W_enc_1", "W_skip_1")):
        folder = write_transcoders(checkpoint, tmp_path / name, cross_layer=cross_layer, skip=True)
        in_file = load_file(folder / f"{name}.safetensors")[key]
        layer = read_transcoders(folder, model.facts, device=CPU).layers[1]
        expected = read @ in_file if cross_layer else read @ in_file.T
        torch.testing.assert_close(layer.skip(read), expected)


@pytest.mark.parametrize("cross_layer", [False, True])
def test_a_decoder_left_on_disk_gives_the_same_rows(tmp_path: Path, cross_layer: bool) -> None:
    checkpoint, model = loaded("llama")
    write_transcoders(checkpoint, tmp_path, cross_layer=cross_layer)
    held = read_transcoders(tmp_path, model.facts, device=CPU, lazy_decoder=False)
    stored = read_transcoders(tmp_path, model.facts, device=CPU, lazy_decoder=True)
    feature = torch.tensor([5, 0, 47, 5])
    for ours, theirs in zip(stored.layers, held.layers, strict=True):
        assert isinstance(ours.W_dec, StoredTensor)
        assert ours.n_written == theirs.n_written
        assert torch.equal(ours.write_vectors(feature), theirs.W_dec[feature])
        assert ours.decoder_rows(feature[:0], 0).shape == (0, model.facts.d_model)


def test_large_decoders_stay_on_disk_unless_asked_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, model = loaded("llama")
    write_transcoders(checkpoint, tmp_path, cross_layer=True)
    assert isinstance(read_transcoders(tmp_path, model.facts, device=CPU).layers[0].W_dec, torch.Tensor)
    monkeypatch.setattr(build, "N_HELD_BYTES", 1000)
    assert isinstance(read_transcoders(tmp_path, model.facts, device=CPU).layers[0].W_dec, StoredTensor)


def dense_reconstruction(transcoders: TranscoderSet, reads: torch.Tensor, layer: int) -> torch.Tensor:
    """Decoded features, decoder bias and skip connection by dense matrix products."""
    found = transcoders.layers[layer]
    output = found.b_dec + reads[layer] @ found.W_skip.T
    for source in range(layer + 1) if transcoders.cross_layer else (layer,):
        other = transcoders.layers[source]
        output = output + other.encode(reads[source]) @ other.W_dec[:, layer - source]
    return output


@pytest.mark.parametrize("cross_layer", [False, True])
@pytest.mark.parametrize("nonlinearity", ["jumprelu", "topk"])
def test_a_reconstruction_from_sparse_activations_is_the_dense_one(cross_layer: bool, nonlinearity: str) -> None:
    transcoders = random_transcoders(3, 16, cross_layer=cross_layer, skip=True, nonlinearity=nonlinearity)
    reads = torch.randn(3, N_CHUNK_POSITIONS + 40, 16)
    active = [layer.active(read, 0) for layer, read in zip(transcoders.layers, reads, strict=True)]
    if nonlinearity == "topk":
        assert any(bool((activations.value < 0).any()) for activations in active)
    for layer in range(3):
        expected = dense_reconstruction(transcoders, reads, layer)
        torch.testing.assert_close(transcoders.reconstruction(active, reads, layer), expected, atol=1e-4, rtol=1e-4)


def test_activations_are_sorted_and_leave_out_ignored_positions() -> None:
    layer: LayerTranscoder = random_transcoders(1, 16, cross_layer=False).layers[0]
    read = torch.randn(2 * N_CHUNK_POSITIONS + 3, 16)
    active = layer.active(read, 4)
    dense = layer.encode(read)
    dense[:4] = 0
    pos, feature = dense.nonzero(as_tuple=True)
    assert torch.equal(active.pos, pos)
    assert torch.equal(active.feature, feature)
    torch.testing.assert_close(active.value, dense[pos, feature])
    assert len(layer.active(read[:3], 4).pos) == 0


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"activation": "topk"}, "k None"),
        ({"activation": "topk", "k": 0}, "k 0"),
        ({"activation": "gelu"}, "activation 'gelu'"),
        ({"feature_output_hook": "hook_resid_post"}, "hook_resid_post"),
        ({"activation": "relu"}, "thresholds in the files"),
        ({"activation": "topk", "k": True}, "k True"),
        ({"transcoders": "layer_0.safetensors"}, "a list of files"),
        ({"transcoders": ["../other/layer_0.safetensors"]}, "inside the folder"),
        ({"transcoders": ["/etc/layer_0.safetensors"]}, "inside the folder"),
    ],
)
def test_settings_that_mean_nothing_are_refused(tmp_path: Path, settings: dict[str, object], found: str) -> None:
    checkpoint, _ = loaded("llama")
    write_transcoders(checkpoint, tmp_path, cross_layer=False)
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(written | settings))
    with pytest.raises(ModelError, match=found):
        check_transcoders(str(checkpoint), str(tmp_path))


def test_more_features_than_there_are_cannot_be_kept(tmp_path: Path) -> None:
    checkpoint, model = loaded("llama")
    write_transcoders(checkpoint, tmp_path, cross_layer=False, nonlinearity="topk")
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(written | {"activation": "topk", "k": 49}))
    with pytest.raises(ModelError, match="k 49; expected at most 48"):
        read_transcoders(tmp_path, model.facts, device=CPU)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [("W_skip", torch.zeros(32, 31)), ("b_dec", torch.zeros(31)), ("W_gate", torch.zeros(3)), ("W_dec", torch.ones(3))],
)
def test_a_tensor_of_another_shape_or_name_is_refused(tmp_path: Path, name: str, tensor: torch.Tensor) -> None:
    checkpoint, _ = loaded("llama")
    write_transcoders(checkpoint, tmp_path, cross_layer=False)
    path = tmp_path / "layer_0.safetensors"
    save_file(load_file(path) | {name: tensor}, path)
    with pytest.raises(ModelError, match=rf"layer.0.*{name}"):
        check_transcoders(str(checkpoint), str(tmp_path))


def test_a_set_without_skip_connection_skips_nothing() -> None:
    transcoders = random_transcoders(2, 16, cross_layer=False)
    assert not transcoders.layers[0].skip(torch.randn(3, 16)).any()
