"""numpy archives read back without unpickling, and those that are refused."""

import io
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from tests.files.archives import write_zip
from tracer.errors import DataError
from tracer.files import npz as module
from tracer.files.npz import npz_tensors

ARRAYS = arrays_of.arrays(
    dtype=st.sampled_from(sorted(module._DTYPES, key=str)),
    shape=arrays_of.array_shapes(min_dims=0, min_side=0, max_side=5),
)


def npy(array, **changes):
    buffer = io.BytesIO()
    np.save(buffer, array)
    content = buffer.getvalue()
    for old, new in changes.items():
        content = content.replace(old.encode(), new)
    return content


@given(
    saved=st.dictionaries(st.text("abcW_", min_size=1, max_size=5), ARRAYS, max_size=3),
    save=st.sampled_from([np.savez, np.savez_compressed]),
    is_fortran=st.booleans(),
    data=st.data(),
)
def test_arrays_are_read_whole_and_by_rows(tmp_path_factory, saved, save, is_fortran, data):
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    save(
        path,
        **{name: np.asfortranarray(array) if is_fortran and array.ndim else array for name, array in saved.items()},
    )
    found = npz_tensors(path)
    assert found.keys() == saved.keys()
    for name, array in saved.items():
        stored = found[name]
        assert stored.shape == array.shape
        assert stored.whole().numpy().tobytes() == array.tobytes()
        assert (stored.offset is None) == (save is np.savez_compressed)
        if array.ndim and len(array):
            rows = data.draw(st.lists(st.integers(0, len(array) - 1), max_size=4))
            found_rows = stored.rows(torch.tensor(rows, dtype=torch.long))
            assert found_rows.numpy().tobytes() == array[rows].tobytes()


def test_only_the_rows_asked_for_are_read(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, W_dec=np.arange(3000.0).reshape(1000, 3))
    stored = npz_tensors(path)["W_dec"]
    path.write_bytes(path.read_bytes()[: stored.offset + 10 * 3 * 8])
    assert stored.rows(torch.tensor([9, 2])).tolist() == [[27.0, 28.0, 29.0], [6.0, 7.0, 8.0]]
    assert stored.rows(torch.tensor([], dtype=torch.long)).shape == (0, 3)
    with pytest.raises(DataError, match=r"the file ends in W_dec\.npy"):
        stored.rows(torch.tensor([10]))


@pytest.mark.parametrize("row", [-1, 1000])
def test_a_row_that_is_not_there_is_an_index_error(tmp_path, row):
    np.savez(tmp_path / "a.npz", a=np.zeros((1000, 2)))
    with pytest.raises(IndexError, match="of a tensor of"):
        npz_tensors(tmp_path / "a.npz")["a"].rows(torch.tensor([5, row]))


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.array([{}], dtype=object), "a.npy of Python objects, which are a pickle"),
        (np.zeros(2, dtype=[("x", "f4")]), "a.npy of "),
        (np.zeros(2, dtype=[("x", object)]), "Python objects"),
        (np.zeros(2, dtype=">f4"), "a.npy of >f4"),
        (np.array(["x"]), "a.npy of <U1"),
    ],
)
def test_arrays_of_other_than_plain_numbers_are_refused(tmp_path, array, found):
    np.savez(tmp_path / "a.npz", a=array)
    with pytest.raises(DataError, match=rf"{found}.*; expected little-endian numbers"):
        npz_tensors(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "expected the header of a numpy array"),
        (b"\x93NUMPY\x03\x00", "version"),
        (npy(np.zeros(4))[:40], "expected the header of a numpy array"),
        (npy(np.zeros(4), **{"(4,)": b"[4,]"}), "expected the header of a numpy array"),
        (npy(np.zeros(4), **{"False": b"len()"}), "expected the header of a numpy array"),
        (npy(np.zeros(4))[:-1], r"of shape \(4,\) in 31 bytes; expected 32 bytes"),
    ],
)
def test_a_damaged_array_is_refused(tmp_path, content, found):
    with pytest.raises(DataError, match=found):
        npz_tensors(write_zip(tmp_path / "a.npz", {"a.npy": content}))


def with_shape(text):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {text}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize("shape", ["(-1, -1)", "(-4,)", f"(0, {2**70})", f"({2**70},)", f"({2**40}, {2**40})"])
def test_an_impossible_shape_is_refused(tmp_path, shape):
    with pytest.raises(DataError, match=r"of shape"):
        npz_tensors(write_zip(tmp_path / "a.npz", {"a.npy": with_shape(shape) + bytes(8)}))


def test_a_header_of_nested_brackets_is_refused(tmp_path):
    with pytest.raises(DataError, match="expected the header of a numpy array"):
        npz_tensors(write_zip(tmp_path / "a.npz", {"a.npy": with_shape("(" * 9000)}))


def test_other_members_bombs_and_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"a member 'notes\.txt'; expected arrays"):
        npz_tensors(write_zip(tmp_path / "a.npz", {"notes.txt": b"x"}))
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(2**22))
    with pytest.raises(DataError, match="at most 200 times"):
        npz_tensors(tmp_path / "bomb.npz")
    np.savez_compressed(tmp_path / "large.npz", a=np.random.default_rng(0).random(100))
    with pytest.raises(DataError, match="expected at most 500 bytes"):
        npz_tensors(tmp_path / "large.npz", max_bytes=500)
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(DataError, match="no readable zip archive"):
        npz_tensors(tmp_path / "a.npy")


def test_a_damaged_compressed_array_is_refused_when_it_is_read(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.random.default_rng(0).random(4000))
    stored = npz_tensors(path)["a"]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npy"):
        stored.whole()


def test_members_may_lie_in_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.mkdir("params")
        archive.writestr("params/W.npy", npy(np.ones(2)))
    assert npz_tensors(tmp_path / "a.npz")["params/W"].whole().tolist() == [1.0, 1.0]
