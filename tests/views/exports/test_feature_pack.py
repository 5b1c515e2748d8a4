"""The binary pack: written and read back, fetched by ranges, and refused where it is damaged or lies."""

import gzip
import json
import struct
import threading
import urllib.request
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.views.exports.drawn_features import layers
from tracer.errors import DataError
from tracer.graph.formats.ids import cantor
from tracer.views.exports import feature_pack
from tracer.views.exports.feature_files import FeatureFile, FeatureRecord
from tracer.views.exports.feature_pack import read_pack, write_pack


def file_of(layer: int, feature: int, name: str = "x") -> FeatureFile:
    return FeatureFile(layer, feature, FeatureRecord(index=feature, transcoder_id=name, examples_quantiles=()))


FILES = [[file_of(0, 2), file_of(0, 3, "long" * 50)], [], [file_of(2, 0)]]


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    write_pack(tmp_path, FILES)
    return tmp_path


def index_of(pack: Path) -> list[dict]:
    return json.loads(gzip.decompress((pack / "features" / "index.json.gz").read_bytes()))


def rewrite_index(pack: Path, index: object) -> None:
    (pack / "features" / "index.json.gz").write_bytes(gzip.compress(json.dumps(index).encode()))


@settings(max_examples=40)
@given(drawn=layers())
def test_a_pack_gives_back_what_was_written(drawn: list[list[FeatureFile]], tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("pack")
    write_pack(folder, drawn)
    assert list(read_pack(folder)) == [file for files in drawn for file in files]


def test_the_bytes_are_those_of_the_format(pack: Path):
    index = index_of(pack)
    assert [entry["filename"] for entry in index] == ["layer_0.bin", "layer_1.bin", "layer_2.bin"]
    content = (pack / "features" / "layer_0.bin").read_bytes()
    offsets = index[0]["offsets"]
    assert offsets[:3] == [0, 0, 0]
    assert offsets[-1] == len(content)
    record = content[offsets[3] : offsets[4]]
    (n_bytes,) = struct.unpack("<I", record[:4])
    assert n_bytes == len(record) - 4
    assert json.loads(zlib.decompress(record[4:])) == {
        "index": 3, "transcoder_id": "long" * 50, "examples_quantiles": [],
    }  # fmt: skip
    assert index[1] == {"filename": "layer_1.bin", "offsets": [0]}


def test_equal_features_make_equal_files(pack: Path, tmp_path_factory: pytest.TempPathFactory):
    again = tmp_path_factory.mktemp("again")
    write_pack(again, FILES)
    for path in sorted((pack / "features").iterdir()):
        assert path.read_bytes() == (again / "features" / path.name).read_bytes()


def test_published_packs_with_an_object_and_gzip_are_read(pack: Path):
    record = gzip.compress(file_of(0, 0).record.to_json())
    (pack / "features" / "layer_0.bin").write_bytes(struct.pack("<I", len(record)) + record)
    entry = {"filename": "layer_0.bin", "offsets": [0, len(record) + 4]}
    rewrite_index(pack, {"10": entry, "2": entry})
    assert [(file.layer, file.feature) for file in read_pack(pack)] == [(2, 0), (10, 0)]


@settings(max_examples=150)
@given(data=st.data())
def test_a_changed_byte_is_refused_or_says_nothing(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("damaged")
    write_pack(folder, FILES)
    path = folder / "features" / data.draw(st.sampled_from(["index.json.gz", "layer_0.bin", "layer_2.bin"]))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        found = list(read_pack(folder))
    except DataError:
        return
    # some bytes of the compressors' headers, such as the time
    assert found == [file for files in FILES for file in files]


@given(content=st.binary(max_size=64), n_cut=st.integers(1, 30))
@settings(max_examples=60)
def test_foreign_and_cut_files_are_refused(content: bytes, n_cut: int, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("foreign")
    write_pack(folder, FILES)
    whole = (folder / "features" / "layer_0.bin").read_bytes()
    (folder / "features" / "layer_0.bin").write_bytes(whole[:-n_cut])
    with pytest.raises(DataError, match="offsets that descend or end behind it"):
        read_pack(folder)
    (folder / "features" / "index.json.gz").write_bytes(content)
    with pytest.raises(DataError):
        read_pack(folder)


@pytest.mark.parametrize(
    "name", ["../secret.bin", "/etc/hostname", "sub/layer_0.bin", "..", "", "a\\b", ".hidden", "layer_0.bin\n"]
)
def test_a_name_that_leads_elsewhere_is_refused(pack: Path, name: str):
    (pack / "secret.bin").write_bytes(b"secret")
    rewrite_index(pack, [{"filename": name, "offsets": [0, 6]}])
    with pytest.raises(DataError, match="expected a plain file name"):
        read_pack(pack)


@pytest.mark.parametrize(
    ("offsets", "found"),
    [
        ([0, 5, 3], "descend"),
        ([0, 10**12], "end behind"),
        ([10**30], "end behind"),
        ([-4, 0], "offsets"),
        ([0.5, 3], "offsets"),
        ("0", "offsets"),
    ],
)
def test_offsets_that_lie_are_refused(pack: Path, offsets: object, found: str):
    rewrite_index(pack, [{"filename": "layer_0.bin", "offsets": offsets}])
    with pytest.raises(DataError, match=found):
        read_pack(pack)


@pytest.mark.parametrize("key", ["-1", "01", "x", "1" * 5000])
def test_an_index_with_foreign_layers_is_refused(pack: Path, key: str):
    rewrite_index(pack, {key: {"filename": "layer_0.bin", "offsets": [0]}})
    with pytest.raises(DataError, match="expected layer numbers"):
        read_pack(pack)


def test_what_is_absent_is_refused(pack: Path):
    (pack / "features" / "layer_1.bin").unlink()
    with pytest.raises(DataError, match="layer_1.bin: found no such file"):
        read_pack(pack)
    with pytest.raises(DataError, match="the index of a pack"):
        read_pack(pack / "features")


def test_more_data_than_the_bounds_is_refused(pack: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feature_pack, "MAX_RECORD_BYTES", 150)
    with pytest.raises(DataError, match="feature 3: found more than that, decompressed"):
        list(read_pack(pack))
    monkeypatch.setattr(feature_pack, "MAX_RECORD_BYTES", 20)
    with pytest.raises(DataError, match="feature 2: found a record of"):
        list(read_pack(pack))
    monkeypatch.setattr(feature_pack, "MAX_INDEX_BYTES", 20)
    with pytest.raises(DataError, match=r"index\.json\.gz: found more than that, decompressed"):
        read_pack(pack)


class RangeHandler(BaseHTTPRequestHandler):
    """Answers range requests as the hub does: both ends are included."""

    folder: Path

    def do_GET(self) -> None:
        content = (self.folder / self.path.lstrip("/")).read_bytes()
        asked = self.headers.get("Range")
        if asked:
            start, stop = (int(end) for end in asked.removeprefix("bytes=").split("-"))
            content = content[start : stop + 1]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        return


def test_a_viewer_can_fetch_one_feature_by_its_range(pack: Path):
    handler = type("Handler", (RangeHandler,), {"folder": pack})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    site = f"http://127.0.0.1:{server.server_port}/features"

    def fetch(name: str, asked: str | None = None) -> bytes:
        request = urllib.request.Request(f"{site}/{name}", headers={"Range": asked} if asked else {})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()

    try:
        entry = json.loads(gzip.decompress(fetch("index.json.gz")))[0]
        # as the viewer asks: one byte further than the record, of which it takes the length in front
        start, stop = entry["offsets"][2:4]
        content = fetch(entry["filename"], f"bytes={start}-{stop}")
    finally:
        server.shutdown()
        server.server_close()
    assert len(content) == stop - start + 1
    (n_bytes,) = struct.unpack("<I", content[:4])
    assert json.loads(zlib.decompress(content[4 : 4 + n_bytes]))["index"] == 2


@pytest.mark.parametrize(("index", "is_right"), [(cantor(2, 5), True), (5, True), (6, False), (cantor(5, 2), False)])
def test_a_record_of_another_feature_is_refused(tmp_path: Path, index: int, is_right: bool):
    record = FeatureRecord(index=index, examples_quantiles=())
    write_pack(tmp_path, [[], [], [FeatureFile(2, 5, record)]])
    if is_right:
        assert [file.record for file in read_pack(tmp_path)] == [record]
        return
    with pytest.raises(DataError, match=rf"layer_2\.bin, feature 5: found index {index}; expected 33 or 5"):
        list(read_pack(tmp_path))
