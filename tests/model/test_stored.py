"""Stored tensors: what is read is what plain indexing of the tensor gives, whichever way it is turned and cut."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from tracer.errors import ModelError
from tracer.files.npz import npz_tensors
from tracer.model.stored import StoredTensor, archive_tensors, safetensors_tensors, stored_tensor

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
View = tuple[Callable[[StoredTensor], StoredTensor], Callable[[Tensor], Tensor]]


def numbers(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Entries that are all different, also in half precision."""
    return torch.arange(torch.Size(shape).numel()).view(shape).to(dtype)


def assert_same(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert torch.equal(found, expected)


@st.composite
def views(draw: st.DrawFn, shape: tuple[int, ...]) -> list[View]:
    """Ways of seeing a tensor, one after the other, on both sides."""
    chosen: list[View] = []
    for _ in range(draw(st.integers(0, 3))):
        kinds = ["transposed"] if len(shape) > 1 else []
        kinds += ["from_written"] if len(shape) == 3 else ["with_written"] if len(shape) == 2 else []
        kinds += ["at"] if len(shape) > 1 and shape[0] else []
        kind = draw(st.sampled_from(kinds or ["nothing"]))
        if kind == "transposed":
            chosen.append((StoredTensor.transposed, lambda tensor: tensor.transpose(-1, -2)))
            shape = (*shape[:-2], shape[-1], shape[-2])
        elif kind == "with_written":
            chosen.append((StoredTensor.with_written, lambda tensor: tensor[:, None]))
            shape = (shape[0], 1, shape[1])
        elif kind == "from_written":
            first = draw(st.integers(0, shape[1]))
            n = draw(st.none() | st.integers(0, shape[1] - first))
            end = shape[1] if n is None else first + n
            chosen.append((
                lambda stored, first=first, n=n: stored.from_written(first, n),
                lambda tensor, first=first, end=end: tensor[:, first:end],
            ))
            shape = (shape[0], end - first, shape[2])
        elif kind == "at":
            idx = draw(st.integers(0, shape[0] - 1))
            chosen.append((lambda stored, n=idx: stored.at(n), lambda tensor, n=idx: tensor[n]))
            shape = shape[1:]
    return chosen


def check_views(stored: StoredTensor, plain: Tensor, data: st.DataObject) -> None:
    """A drawn view of both, whole and by rows."""
    for of_stored, of_plain in data.draw(views(tuple(plain.shape))):
        stored, plain = of_stored(stored), of_plain(plain)
    assert stored.n_bytes == 4 * plain.numel()
    assert_same(stored.whole(), plain)
    index = st.integers(0, len(plain) - 1) if len(plain) else st.nothing()
    rows = torch.tensor(data.draw(st.lists(index, max_size=0 if not len(plain) else 6)), dtype=torch.long)
    assert_same(stored.rows(rows), plain[rows])
    if plain.dim() == 3 and plain.shape[1]:
        written_idx = data.draw(st.integers(0, plain.shape[1] - 1))
        assert_same(stored.rows(rows, written_idx), plain[rows, written_idx])


@settings(max_examples=60)
@given(
    shape=st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple), dtype=st.sampled_from(DTYPES),
    note=st.text("abc", max_size=40), data=st.data(),
)  # fmt: skip
def test_tensors_of_a_safetensors_file_are_read_as_plain_indexing_reads_them(
    shape: tuple[int, ...], dtype: torch.dtype, note: str, data: st.DataObject
) -> None:
    plain = numbers(shape, dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tensors.safetensors"
        save_file({"in_front": numbers((3, 7), dtype), "W": plain, "z": numbers((2,), dtype)}, path, {"note": note})
        found = safetensors_tensors(path)
        assert set(found) == {"in_front", "W", "z"}
        check_views(found["W"], plain, data)


@settings(max_examples=60)
@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple), dtype=st.sampled_from(DTYPES),
    offset=st.integers(0, 9000), data=st.data(),
)  # fmt: skip
def test_a_tensor_may_begin_at_any_byte_of_its_file(
    shape: tuple[int, ...], dtype: torch.dtype, offset: int, data: st.DataObject
) -> None:
    plain = numbers(shape, dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "raw"
        path.write_bytes(b"\xff" * offset + plain.flatten().view(torch.uint8).numpy().tobytes())
        check_views(stored_tensor(path, "W", dtype, shape, offset), plain, data)


@given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple), data=st.data())
def test_a_tensor_that_is_held_is_seen_in_the_same_ways(shape: tuple[int, ...], data: st.DataObject) -> None:
    plain = numbers(shape, torch.float32)
    check_views(stored_tensor(Path("nowhere"), "W", torch.float32, shape, 0, held=plain.clone()), plain, data)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
@settings(max_examples=20)
@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple), data=st.data())
def test_arrays_of_an_archive_are_read_as_plain_indexing_reads_them(
    save: Callable[..., None], order: str, shape: tuple[int, ...], data: st.DataObject
) -> None:
    plain = numbers(shape, torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arrays.npz"
        save(path, in_front=np.ones(5), W=np.asarray(plain.numpy(), order=order))
        found = archive_tensors(npz_tensors(path))
        assert (found["W"].held is None) == (save is np.savez)
        check_views(found["W"], plain, data)


def test_whole_numbers_in_an_archive_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", W=np.arange(4))
    with pytest.raises(ModelError, match=r"arrays\.npz, W: found torch.int64; expected floating point numbers"):
        archive_tensors(npz_tensors(tmp_path / "arrays.npz"))


def test_rows_are_copies_that_outlive_their_file(tmp_path: Path) -> None:
    path, plain = tmp_path / "tensors.safetensors", numbers((40, 8), torch.float32)
    save_file({"W": plain}, path)
    rows = safetensors_tensors(path)["W"].rows(torch.tensor([3, 0, 3]))
    path.write_bytes(bytes(path.stat().st_size))
    assert_same(rows, plain[[3, 0, 3]])
    rows[0] = -1
    assert_same(rows[2], plain[3])


def test_what_is_done_to_a_whole_tensor_stays_out_of_its_file(tmp_path: Path) -> None:
    path, plain = tmp_path / "tensors.safetensors", numbers((4, 3), torch.float32)
    save_file({"W": plain}, path)
    safetensors_tensors(path)["W"].whole().zero_()
    assert_same(safetensors_tensors(path)["W"].whole(), plain)


@pytest.mark.parametrize("idx", [-1, 4])
def test_an_entry_that_is_not_there_is_refused(tmp_path: Path, idx: int) -> None:
    save_file({"W": numbers((4, 3), torch.float32)}, tmp_path / "tensors.safetensors")
    stored = safetensors_tensors(tmp_path / "tensors.safetensors")["W"]
    with pytest.raises(ModelError, match=rf"W: found 4 entries; expected an entry {idx}"):
        stored.at(idx)
    with pytest.raises(IndexError):
        stored.rows(torch.tensor([idx]))


def header_and(n_bytes: int, entry: dict[str, object]) -> bytes:
    """A safetensors file of one tensor, made by hand."""
    header = json.dumps({"W": entry}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(n_bytes)


SOUND = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 a zip archive",
        (2**62).to_bytes(8, "little") + b"{}",
        (4).to_bytes(8, "little") + b"{]}}",
        header_and(15, SOUND),
        header_and(17, SOUND),
        header_and(16, SOUND | {"shape": [2, 3]}),
        header_and(16, SOUND | {"data_offsets": [4, 20]}),
        header_and(16, SOUND | {"dtype": "F31"}),
        header_and(16, SOUND | {"shape": [-2, -2]}),
    ],
)
def test_damaged_and_foreign_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tensors.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"tensors\.safetensors: found not a safetensors file; expected"):
        safetensors_tensors(path)


def test_a_file_made_by_hand_is_read(tmp_path: Path) -> None:
    (tmp_path / "W").write_bytes(header_and(16, SOUND))
    assert_same(safetensors_tensors(tmp_path / "W")["W"].whole(), torch.zeros(2, 2))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.safetensors: found no such file"):
        safetensors_tensors(tmp_path / "gone.safetensors")
    with pytest.raises(ModelError, match="found not a safetensors file"):
        safetensors_tensors(tmp_path)


def test_numbers_that_are_no_floating_point_are_refused(tmp_path: Path) -> None:
    save_file({"W": torch.zeros(2, 2, dtype=torch.int64)}, tmp_path / "tensors.safetensors")
    with pytest.raises(ModelError, match=r"W: found dtype I64; expected F64 or F32 or F16 or BF16"):
        safetensors_tensors(tmp_path / "tensors.safetensors")


def test_axes_and_written_layers_that_are_not_there_are_refused(tmp_path: Path) -> None:
    save_file(
        {"flat": torch.zeros(3), "number": torch.zeros(()), "cube": torch.zeros(2, 3, 4)}, tmp_path / "a.safetensors"
    )
    tensors = safetensors_tensors(tmp_path / "a.safetensors")
    for wrong in (
        tensors["flat"].transposed, tensors["number"].with_written, lambda: tensors["number"].at(0),
        lambda: tensors["flat"].from_written(0), lambda: tensors["cube"].from_written(1, 3),
        lambda: tensors["cube"].from_written(4),
    ):  # fmt: skip
        with pytest.raises(ModelError, match=r"a\.safetensors"):
            wrong()
