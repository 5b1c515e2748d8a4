"""Zip archives that claim too much, point outside, lie over each other or end early."""

import struct
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.files.archives import directory_fields, with_directory_field, write_zip
from tracer.errors import DataError
from tracer.files import zip_members as module
from tracer.files.zip_members import zip_members

NAMES = st.text("abcxyz/", min_size=1, max_size=8).filter(lambda name: not name.startswith("/") and name[-1] != "/")


def members_of(path, *, max_bytes=2**30, may_be_compressed=True):
    return zip_members(path, max_bytes=max_bytes, may_be_compressed=may_be_compressed)


@given(
    contents=st.dictionaries(NAMES, st.binary(max_size=40), max_size=4),
    compression=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    data=st.data(),
)
def test_every_byte_of_every_member_is_found(tmp_path_factory, contents, compression, data):
    path = write_zip(tmp_path_factory.mktemp("zips") / "a.zip", contents, compression)
    members = members_of(path)
    assert {name: bytes(member.read()) for name, member in members.items()} == contents
    for name, content in contents.items():
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, len(content)))
        assert members[name].read(start, end - start) == content[start:end]
        if not members[name].is_compressed:
            assert path.read_bytes()[members[name].offset :].startswith(content)


@pytest.mark.parametrize("name", ["../a", "b/../../a", "/a", "\\a", "c:a", "b\\..\\a"])
def test_names_that_leave_the_archive_are_refused(tmp_path, name):
    with pytest.raises(DataError, match="names that stay inside"):
        members_of(write_zip(tmp_path / "a.zip", {name: b"x"}))


def test_a_name_with_a_zero_byte_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"nul0name": b"x"})
    path.write_bytes(path.read_bytes().replace(b"nul0name", b"nul\0name"))
    with pytest.raises(DataError, match="names that stay inside"):
        members_of(path)


def test_two_members_of_one_name_are_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"same": b"x", "twin": b"y"})
    path.write_bytes(path.read_bytes().replace(b"twin", b"same"))
    with pytest.raises(DataError, match="'same'; expected distinct names"):
        members_of(path)


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "a.zip", {str(idx): b"" for idx in range(11)})
    monkeypatch.setattr(module, "MAX_MEMBERS", 11)
    assert len(members_of(path)) == 11
    monkeypatch.setattr(module, "MAX_MEMBERS", 10)
    with pytest.raises(DataError, match="11 members; expected at most 10"):
        members_of(path)


def test_a_table_of_contents_is_not_read_beyond_its_limit(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "a.zip", {f"{'n' * 200}{idx}": b"" for idx in range(1000)})
    assert len(members_of(path)) == 1000
    monkeypatch.setattr(module, "MAX_DIRECTORY_BYTES", 100_000)
    with pytest.raises(DataError, match="a table of contents of more than 100,000 bytes"):
        members_of(path)


def test_a_bomb_is_refused_by_its_ratio_and_by_its_size(tmp_path):
    bomb = write_zip(tmp_path / "bomb.zip", {"zeros": bytes(2**24)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match=r"zeros, .* bytes that unpack to 16,777,216; expected .* at most 200 times"):
        members_of(bomb)
    small = write_zip(tmp_path / "small.zip", {"zeros": bytes(2**20)}, zipfile.ZIP_DEFLATED)
    assert members_of(small)["zeros"].read() == bytes(2**20)
    with pytest.raises(DataError, match=r"unpack to 1,048,576; expected at most 1,000 bytes"):
        members_of(small, max_bytes=1000)


def test_a_member_that_unpacks_to_more_than_it_says_gives_no_more_and_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"zeros": bytes(2**20)}, zipfile.ZIP_DEFLATED)
    member = members_of(with_directory_field(path, "zeros", 24, 1000))["zeros"]
    assert member.n_bytes == 1000
    with pytest.raises(DataError, match="zeros"):
        member.read()


def test_a_stored_member_of_two_sizes_is_refused(tmp_path):
    path = with_directory_field(write_zip(tmp_path / "a.zip", {"a": b"0123"}), "a", 24, 2**31)
    with pytest.raises(DataError, match="a of two sizes"):
        members_of(path)


def test_members_that_share_bytes_are_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a": b"0123456789", "b": b"0123456789"})
    content, place = directory_fields(path, "a")
    for at in (20, 24):
        struct.pack_into("<I", content, place + at, 50)
    path.write_bytes(content)
    with pytest.raises(DataError, match="a reaches into what follows it|overlap"):
        members_of(path)


def test_a_member_that_reaches_into_the_table_of_contents_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a": b"0123456789"})
    for at in (20, 24):
        with_directory_field(path, "a", at, 30)
    with pytest.raises(DataError, match="a reaches into what follows it|overlap"):
        members_of(path)


@pytest.mark.parametrize(("at", "value", "found"), [(8, 1, "encrypted"), (10, 14, "method 14")])
def test_encrypted_and_oddly_packed_members_are_refused(tmp_path, at, value, found):
    path = write_zip(tmp_path / "a.zip", {"a": b"0123456789" * 9}, zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match=found):
        members_of(with_directory_field(path, "a", at, value, "<H"))


def test_compressed_members_are_refused_where_they_must_be_stored(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a": b"0123456789" * 9}, zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match="method 8; expected members stored"):
        members_of(path, may_be_compressed=False)


@given(n_left=st.integers(0, 300))
def test_a_truncated_archive_is_refused(tmp_path_factory, n_left):
    path = write_zip(tmp_path_factory.mktemp("zips") / "a.zip", {"a": b"0123456789" * 9, "b": b"0123456789" * 9})
    path.write_bytes(path.read_bytes()[:n_left])
    with pytest.raises(DataError, match=r"a\.zip: found no readable zip archive"):
        members_of(path)


@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=6))
def test_a_damaged_archive_is_read_or_refused_and_nothing_else(tmp_path_factory, flips):
    path = write_zip(tmp_path_factory.mktemp("zips") / "a.zip", {"a": bytes(99), "b": b"z" * 9}, zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    for place, change in flips:
        content[place % len(content)] ^= change
    path.write_bytes(content)
    try:
        assert all(len(member.read()) == member.n_bytes for member in members_of(path).values())
    except DataError as error:
        assert error.where == str(path)  # noqa: PT017 - either outcome is right


def test_a_file_that_shrinks_after_it_was_opened_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a": b"0123456789"})
    member = members_of(path)["a"]
    path.write_bytes(path.read_bytes()[: member.offset + 4])
    with pytest.raises(DataError, match="the file ends in a"):
        member.read()
