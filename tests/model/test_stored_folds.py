"""Folded tensors: what is read is what plain arithmetic on the whole tensors gives."""

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from tracer.model.stored import StoredTensor, safetensors_tensors
from tracer.model.stored_folds import in_memory, joined, scaled

PATH = Path("set.safetensors")


def stored(folder: Path, **tensors: torch.Tensor) -> dict[str, StoredTensor]:
    save_file(tensors, folder / PATH)
    return safetensors_tensors(folder / PATH)


@given(
    n_rows=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    factors=st.sampled_from([torch.tensor(2.5), torch.tensor([0.5, 3.0, -1.0])]),
    is_scaled=st.booleans(),
    data=st.data(),
)
def test_rows_of_scaled_and_joined_tensors_are_those_of_the_whole(
    n_rows: list[int], dtype: torch.dtype, factors: torch.Tensor, is_scaled: bool, data: st.DataObject
) -> None:
    tensors = {f"part{idx}": torch.randn(n, 3, 5).to(dtype) for idx, n in enumerate(n_rows)}
    with tempfile.TemporaryDirectory() as folder:
        found = stored(Path(folder), **tensors)
        parts = [scaled(found[name], factors) if is_scaled else found[name] for name in tensors]
        together, expected = joined(parts), torch.cat(list(tensors.values()))
        if is_scaled:
            expected = expected.float() * (factors if not factors.dim() else factors[:, None])
        assert together.shape == expected.shape
        assert torch.equal(together.whole(), expected)
        indices = st.lists(st.integers(0, len(expected) - 1), max_size=8) if len(expected) else st.just([])
        rows = torch.tensor(data.draw(indices), dtype=torch.long)
        written_idx = data.draw(st.none() | st.integers(0, 2))
        picked = expected[rows] if written_idx is None else expected[rows, written_idx]
        assert torch.equal(together.rows(rows, written_idx), picked)
        assert together.rows(rows, written_idx).dtype == picked.dtype


def test_a_matrix_may_be_scaled_by_one_number(tmp_path: Path) -> None:
    matrix = torch.randn(4, 6)
    found = scaled(stored(tmp_path, W=matrix)["W"].transposed(), torch.tensor(0.25))
    assert torch.equal(found.whole(), matrix.T * 0.25)
    assert torch.equal(found.rows(torch.tensor([5, 0])), matrix.T[[5, 0]] * 0.25)


def test_what_was_scaled_or_joined_cannot_be_turned(tmp_path: Path) -> None:
    found = stored(tmp_path, W=torch.randn(4, 6))["W"]
    for finished in (scaled(found, torch.tensor(2.0)), joined([found, found])):
        with pytest.raises(AssertionError, match="come last"):
            finished.transposed()


def test_a_tensor_in_memory_is_read_like_a_stored_one(tmp_path: Path) -> None:
    tensor = torch.randn(3, 4).T
    found = in_memory(tensor, tmp_path / PATH, "threshold")
    assert torch.equal(found.whole(), tensor)
    assert torch.equal(found.transposed().rows(torch.tensor([2, 1])), tensor.T[[2, 1]])


def test_ignored_tensors_may_hold_anything(tmp_path: Path) -> None:
    save_file({"W": torch.ones(2), "count": torch.ones(2, dtype=torch.long)}, tmp_path / PATH)
    assert list(safetensors_tensors(tmp_path / PATH, ignored=("count",))) == ["W"]


def test_some_written_layers_are_cut_out(tmp_path: Path) -> None:
    decoder = torch.randn(4, 6, 3)
    found = stored(tmp_path, W=decoder)["W"].from_written(2, 3)
    assert torch.equal(found.whole(), decoder[:, 2:5])
    assert torch.equal(found.rows(torch.tensor([3, 1]), 1), decoder[[3, 1], 3])
