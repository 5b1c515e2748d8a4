"""Checkpoints of `torch.save` read back without unpickling, and hostile ones that leave no trace."""

import copyreg
import pickle
import zipfile
from collections import OrderedDict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.files.archives import write_checkpoint, write_zip
from tracer.errors import DataError
from tracer.files import torch_archive as module
from tracer.files.pickle_machine import Inert
from tracer.files.torch_archive import archive_tensors, read_archive

DTYPES = sorted(module._DTYPES.values(), key=str)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
SIZES = st.lists(st.integers(0, 4), max_size=3)


@st.composite
def tensors(draw):
    """Any dtype and shape; some transposed, some part of a larger storage, some with a stride of 0."""
    dtype, sizes = draw(st.sampled_from(DTYPES)), draw(SIZES)
    seed = draw(st.integers(0, 1000))
    n_bytes = (torch.Size(sizes).numel() + 3) * dtype.itemsize
    entries = torch.randint(0, 2, (n_bytes,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    entries = entries.view(dtype)
    tensor = entries[draw(st.integers(0, 3)) :][: torch.Size(sizes).numel()].view(sizes)
    if sizes and draw(st.booleans()):
        tensor = tensor.transpose(0, len(sizes) - 1)
    return tensor.unsqueeze(0).expand(2, *tensor.shape) if draw(st.booleans()) else tensor


VALUES = st.recursive(
    PLAIN | tensors(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    | st.tuples(inner, inner),
    max_leaves=6,
)  # fmt: skip


def as_bytes(tensor):
    # A copy has plain strides, which `contiguous` leaves odd where a dimension has one entry.
    plain = tensor.clone(memory_format=torch.contiguous_format).view(-1)
    return bytes(plain.view(torch.uint8).tolist())


def assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert (found.dtype, found.shape, found.stride()) == (expected.dtype, expected.shape, expected.stride())
        assert as_bytes(found) == as_bytes(expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for left, right in zip(found, expected, strict=True):
            assert_same(left, right)
    else:
        assert found == expected


@given(value=VALUES, protocol=st.sampled_from([2, 3, 4, 5]))
def test_what_torch_saves_is_read_back_bit_for_bit(tmp_path_factory, value, protocol):
    path = tmp_path_factory.mktemp("archives") / "a.pt"
    torch.save(value, path, pickle_protocol=protocol)
    assert_same(read_archive(path), value)


@given(saved=st.dictionaries(st.text(min_size=1, max_size=5), tensors(), max_size=4), data=st.data())
def test_tensors_are_read_on_demand_whole_and_by_rows(tmp_path_factory, saved, data):
    path = tmp_path_factory.mktemp("archives") / "a.pt"
    torch.save(saved, path)
    found = archive_tensors(path)
    assert list(found) == list(saved)
    for name, tensor in saved.items():
        stored = found[name]
        assert (stored.path, stored.dtype, stored.shape, stored.stride) == (
            path, tensor.dtype, tuple(tensor.shape), tensor.stride(),
        )  # fmt: skip
        assert_same(stored.whole(), tensor)
        if tensor.ndim and len(tensor):
            rows = torch.tensor(data.draw(st.lists(st.integers(0, len(tensor) - 1), max_size=4)), dtype=torch.long)
            found_rows = stored.rows(rows)
            assert found_rows.shape == (len(rows), *tensor.shape[1:])
            assert [as_bytes(row) for row in found_rows] == [as_bytes(tensor[row]) for row in rows.tolist()]


def test_tensors_of_one_storage_share_memory_once_read(tmp_path):
    base = torch.arange(12.0)
    torch.save({"all": base, "turned": base.view(3, 4).t(), "part": base[2:5]}, tmp_path / "a.pt")
    found = read_archive(tmp_path / "a.pt")
    found["all"][3] = 100.0
    assert found["part"].tolist() == [2.0, 100.0, 4.0]
    assert found["turned"][3, 0] == 100.0


def test_state_dicts_parameters_and_torchs_small_records_have_their_meaning(tmp_path):
    linear = torch.nn.Linear(3, 2)
    small = {"size": torch.Size([2, 3]), "device": torch.device("cuda", 1), "dtype": torch.bfloat16}
    torch.save(
        {"weights": linear.state_dict(), "bias": linear.bias, "ordered": OrderedDict(a=1), **small}, tmp_path / "a"
    )
    found = read_archive(tmp_path / "a")
    assert_same(found["weights"], {"weight": linear.weight.detach(), "bias": linear.bias.detach()})
    assert_same(found["bias"], linear.bias.detach())
    assert found["ordered"] == {"a": 1}
    assert {key: found[key] for key in small} == small


class Settings:
    def __init__(self) -> None:
        self.n_layers, self.dtype = 2, torch.float32


def test_objects_of_a_named_package_are_inert_records_and_others_are_refused_by_name(tmp_path):
    torch.save({"settings": Settings(), "weight": torch.ones(2)}, tmp_path / "a.pt")
    package, _, _ = Settings.__module__.partition(".")
    settings = read_archive(tmp_path / "a.pt", packages=[package])["settings"]
    assert isinstance(settings, Inert)
    assert (settings.module, settings.name, settings.arguments) == (Settings.__module__, "Settings", ())
    assert settings.state == {"n_layers": 2, "dtype": torch.float32}
    with pytest.raises(DataError, match=r"a\.pt: found .*\.Settings; expected tensors and plain data"):
        read_archive(tmp_path / "a.pt")


def attacks(command):
    """Pickles that run a command when they are unpickled, one for each way of naming and calling a function."""
    text = b"V" + command.encode() + b"\n"
    call = b"cposix\nsystem\n(" + text + b"tR"
    code = 200
    return {
        "GLOBAL": call + b".",
        "STACK_GLOBAL": b"\x80\x04\x8c\x05posix\x8c\x06system\x93(" + text + b"tR.",
        "INST": b"(" + text + b"iposix\nsystem\n.",
        "OBJ": b"(cposix\nsystem\n" + text + b"o.",
        "EXT1": b"\x82" + bytes([code]) + b"(" + text + b"tR.",
        "EXT2": b"\x83" + bytes([code, 0]) + b"(" + text + b"tR.",
        "EXT4": b"\x84" + bytes([code, 0, 0, 0]) + b"(" + text + b"tR.",
        "in BUILD": b"ccollections\nOrderedDict\n)R}Va\n" + call + b"sb.",
        "as a key": b"}" + call + b"K\x01s.",
        "in a list": b"](" + call + b"e.",
        "as an argument": b"ccollections\nOrderedDict\n(](" + call + b"e0tR.",
        "thrown away": call + b"0N.",
        "eval": b"cbuiltins\neval\n(V__import__('os').system(" + repr(command).encode() + b")\ntR.",
    }


@pytest.mark.parametrize("kind", list(attacks("")))
def test_a_hostile_pickle_is_refused_by_name_and_leaves_no_trace(tmp_path, kind):
    victim = tmp_path / "victim"
    pickled = attacks(f"touch {victim}")[kind]
    copyreg.add_extension("posix", "system", 200)
    try:
        for read in (read_archive, archive_tensors):
            with pytest.raises(DataError, match=r"posix\.system|EXT\d 200|builtins\.eval"):
                read(write_checkpoint(tmp_path / "a.pt", pickled))
        assert not victim.exists()
        # That the same bytes do harm where they are unpickled shows that the refusal is what prevented it.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(copyreg, "_extension_cache", {})
            pickle.loads(pickled)
        assert victim.exists()
    finally:
        copyreg.remove_extension("posix", "system", 200)


@pytest.mark.parametrize(
    ("pickled", "found"),
    [
        (b"", "damaged pickle"),
        (b".", "damaged pickle"),
        (b"K\x01", "damaged pickle"),
        (b"h\x05.", "damaged pickle"),
        (b"t.", "damaged pickle"),
        (b"(K\x01\x86.", "damaged pickle"),
        (b"K\x01a.", "damaged pickle"),
        (b"K\x01K\x02a.", "a int filled like a list"),
        (b"}]K\x01s.", "a key that is a list"),
        (b"K\x01K\x01b.", "a state for a int"),
        (b"K\x01)R.", "a call of a int with a tuple"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"P0\n.", "PERSID"),
        (b"ctorch\nload\n.", "torch.load"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R.", "called in an unforeseen way"),
        (b"ctorch._utils\n_rebuild_parameter\n(K\x01\x89NtR.", "called in an unforeseen way"),
        (b"ctorch\ndevice\n(Vcuda:x\ntR.", "torch.device, called in an unforeseen way"),
        (b"ctorch\nSize\n((J\xff\xff\xff\xffttR.", "torch.Size, called in an unforeseen way"),
        (b"(Vstorage\nctorch\nFloatStorage\nV7\nVcpu\nK\x01tQ.", "a tensor without its bytes"),
        (b"(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nK\x05tQ.", "16 bytes in archive/data/0"),
    ],
)
def test_a_pickle_that_makes_no_sense_is_refused(tmp_path, pickled, found):
    with pytest.raises(DataError, match=found):
        read_archive(write_checkpoint(tmp_path / "a.pt", pickled, {"0": bytes(16)}))


def tensor_pickle(offset, shape, stride, n_entries=4):
    """A float32 tensor over storage "0"."""
    arguments = [b"(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI%d\ntQ" % n_entries, b"I%d\n" % offset]
    arguments += [b"(" + b"".join(b"L%dL\n" % size for size in sizes) + b"t" for sizes in (shape, stride)]
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + b"".join(arguments) + b"\x89}tR."


def test_a_tensor_of_its_whole_storage_is_read(tmp_path):
    path = write_checkpoint(
        tmp_path / "a.pt", tensor_pickle(0, [2, 2], [1, 2]), {"0": torch.arange(4.0).numpy().tobytes()}
    )
    assert read_archive(path).tolist() == [[0.0, 2.0], [1.0, 3.0]]


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [(0, [5], [1]), (1, [4], [1]), (0, [2, 2], [1, 3]), (0, [2], [2**70]), (5, [0], [1]), (0, [0, 2**70], [1, 1]),
     (-1, [2], [1]), (0, [-2], [1]), (0, [2], [-1]), (0, [2], []), (0, [1] * 65, [0] * 65), (0, [2**62], [0])],
)  # fmt: skip
def test_a_tensor_outside_its_storage_is_refused(tmp_path, offset, shape, stride):
    path = write_checkpoint(tmp_path / "a.pt", tensor_pickle(offset, shape, stride), {"0": bytes(16)})
    for lazy in (False, True):
        with pytest.raises(DataError, match=r"a tensor (of shape|that is not plain)"):
            read_archive(path, lazy=lazy)


def test_tensors_beyond_the_limit_are_refused_those_of_stride_zero_too(tmp_path):
    torch.save([torch.zeros(8), torch.ones(8)], tmp_path / "a.pt")
    assert len(read_archive(tmp_path / "a.pt", max_bytes=64)) == 2
    with pytest.raises(DataError, match="tensors of 64 bytes; expected at most 63"):
        read_archive(tmp_path / "a.pt", max_bytes=63)
    torch.save({"a": torch.zeros(1).expand(2**40)}, tmp_path / "b.pt")
    for read in (read_archive, archive_tensors):
        with pytest.raises(DataError, match=f"tensors of {2**42:,} bytes"):
            read(tmp_path / "b.pt")


def test_a_pickle_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_HEADER_BYTES", 100)
    with pytest.raises(DataError, match=r"data\.pkl of 102 bytes; expected at most 100"):
        read_archive(write_checkpoint(tmp_path / "a.pt", b"N0" * 50 + b"N."))


def test_archives_that_are_no_torch_checkpoints_are_refused(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(DataError, match=r"no zip archive.*weights_only=True and save it anew"):
        read_archive(tmp_path / "old.pt")
    with pytest.raises(DataError, match="0 members"):
        read_archive(write_zip(tmp_path / "a.zip", {"data.pkl": b"N."}))
    with pytest.raises(DataError, match="2 members"):
        read_archive(write_zip(tmp_path / "b.zip", {"a/data.pkl": b"N.", "b/data.pkl": b"N."}))
    with pytest.raises(DataError, match="bytes in another order"):
        read_archive(write_checkpoint(tmp_path / "c.pt", b"N.", byteorder=b"big"))
    with pytest.raises(DataError, match="method 8; expected members stored"):
        read_archive(write_zip(tmp_path / "d.pt", {"a/data.pkl": b"N0" * 50 + b"N."}, zipfile.ZIP_DEFLATED))
    with pytest.raises(DataError, match="no such file"):
        read_archive(tmp_path / "absent.pt")


def test_a_state_dict_must_hold_tensors_alone(tmp_path):
    torch.save({"weight": torch.ones(1), "k": 3}, tmp_path / "a.pt")
    with pytest.raises(DataError, match="'k': int; expected tensors by name"):
        archive_tensors(tmp_path / "a.pt")
    torch.save([torch.ones(1)], tmp_path / "b.pt")
    with pytest.raises(DataError, match="'the whole': list"):
        archive_tensors(tmp_path / "b.pt")


@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4))
def test_a_damaged_pickle_is_read_or_refused_and_nothing_else(tmp_path_factory, flips):
    path = tmp_path_factory.mktemp("archives") / "a.pt"
    torch.save({"a": torch.ones(2, 3), "b": [1, (2.5, "x")], "c": torch.device("cpu")}, path)
    with zipfile.ZipFile(path) as archive:
        pickled = bytearray(archive.read("a/data.pkl"))
    for place, change in flips:
        pickled[place % len(pickled)] ^= change
    try:
        read_archive(write_checkpoint(path, bytes(pickled), {"0": bytes(24)}))
    except DataError as error:
        assert error.where == str(path)  # noqa: PT017 - either outcome is right


def test_deeply_nested_data_is_read(tmp_path):
    depth = 20_000
    found = read_archive(write_checkpoint(tmp_path / "a.pt", b"]" * depth + b"a" * (depth - 1) + b"."))
    n_levels = 1
    while found:
        (found,), n_levels = found, n_levels + 1
    assert n_levels == depth
