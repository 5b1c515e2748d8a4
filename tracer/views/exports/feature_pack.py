"""circuit-tracer's binary pack: all features of a layer in one file, of which a viewer fetches a range of bytes.

`features/index.json.gz` holds, per layer, a file name and offsets: the record of feature f lies in
`offsets[f] .. offsets[f + 1]` of that file, an empty range where there is none. A record is the length of what follows
(uint32, little-endian) and the feature's JSON, compressed by zlib.

Source of the format: `frontend/assets/feature_examples/init-feature-examples.js` and `frontend/assets/util.js` of
circuit-tracer 0.5.0. Published packs have the index as an object with the layer numbers as keys, and gzip in the
records; the viewer takes either, and so does `read_pack`.
"""

import gzip
import json
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from tracer.errors import DataError
from tracer.views.exports.feature_files import (
    MAX_RECORD_BYTES,
    FeatureFile,
    FeatureRecord,
    Record,
    as_data_error,
    check_number,
    parse_record,
)

FOLDER_NAME, INDEX_NAME = "features", "index.json.gz"
MAX_INDEX_BYTES = 128 * 1024**2
"""Largest index that is read, as JSON text."""
LENGTH = struct.Struct("<I")
GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
"""Makes zlib tell by the header which of the two it is."""
TO_DO = "Write or download the pack again."


class LayerIndex(Record):
    """Where the features of one layer lie; `filename` is a name within the folder of the index."""

    filename: str
    offsets: tuple[NonNegativeInt, ...]


INDEX: TypeAdapter[tuple[LayerIndex, ...] | dict[str, LayerIndex]] = TypeAdapter(
    tuple[LayerIndex, ...] | dict[str, LayerIndex]
)


def write_pack(folder: Path, layers: Iterable[Iterable[FeatureFile]]) -> None:
    """Write a pack into an existing folder, one layer after the other; of each, the offsets alone are held.

    Args:
        folder: gets the sub-folder `features`.
        layers: the features of every layer from 0, each in ascending order.
    """
    target = folder / FOLDER_NAME
    target.mkdir()
    # neither a time nor a name in the header: equal features make equal files
    with (target / INDEX_NAME).open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as index:
        index.write(b"[")
        for layer, files in enumerate(layers):
            name = f"layer_{layer}.bin"
            with (target / name).open("wb") as out:
                entry = {"filename": name, "offsets": _write_layer(out, files)}
            index.write(b"," if layer else b"")
            index.write(json.dumps(entry, separators=(",", ":")).encode())
        index.write(b"]")


def _write_layer(out: BinaryIO, files: Iterable[FeatureFile]) -> list[int]:
    offsets = [0]
    for file in files:
        assert file.feature >= len(offsets) - 1, "features come in ascending order"
        offsets += [offsets[-1]] * (file.feature + 1 - len(offsets))
        compressed = zlib.compress(file.record.to_json())
        out.write(LENGTH.pack(len(compressed)) + compressed)
        offsets.append(offsets[-1] + LENGTH.size + len(compressed))
    return offsets


def read_pack(folder: Path) -> Iterator[FeatureFile]:
    """Every feature of a pack, by layer and feature; the index is checked before the first of them.

    Args:
        folder: what `write_pack` was given, or a download of the same layout.

    Raises:
        DataError: a file is absent, a name leads out of the folder, offsets descend or end behind the file, or a
            record is damaged, larger than `MAX_RECORD_BYTES` or of another feature.
    """
    features = folder / FOLDER_NAME
    index = read_index(features / INDEX_NAME)
    for entry in index.values():
        _check_entry(features, entry)
    return _read_layers(features, index)


def read_index(path: Path) -> dict[int, LayerIndex]:
    """The index by layer, in ascending order.

    Raises:
        DataError: absent, damaged, larger than `MAX_INDEX_BYTES`, or not an index.
    """
    if not path.is_file():
        raise DataError(str(path), found="no such file", expected="the index of a pack", to_do="Check the path.")
    content = _decompress(path.read_bytes(), MAX_INDEX_BYTES, str(path))
    try:
        index = INDEX.validate_json(content)
    except ValidationError as error:
        raise as_data_error(error, str(path), "file name and offsets of every layer") from error
    if not isinstance(index, dict):
        return dict(enumerate(index))
    foreign = [key for key in index if not re.fullmatch("0|[1-9][0-9]{0,8}", key)]
    if foreign:
        raise DataError(str(path), found=f"a layer {foreign[0]!r}", expected="layer numbers", to_do=TO_DO)
    return {layer: index[str(layer)] for layer in sorted(map(int, index))}


def _check_entry(folder: Path, entry: LayerIndex) -> None:
    name, offsets = entry.filename, entry.offsets
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        expected = "a plain file name, with no folder in it"
        raise DataError(str(folder / INDEX_NAME), found=f"a file {name!r}", expected=expected, to_do=TO_DO)
    path = folder / name
    if not path.is_file():
        raise DataError(str(path), found="no such file", expected="what the index names", to_do=TO_DO)
    n_bytes = path.stat().st_size
    if any(start > stop for start, stop in pairwise(offsets)) or (offsets and offsets[-1] > n_bytes):
        expected = f"ascending offsets up to {n_bytes}, the size of the file"
        raise DataError(str(path), found="offsets that descend or end behind it", expected=expected, to_do=TO_DO)


def _read_layers(folder: Path, index: dict[int, LayerIndex]) -> Iterator[FeatureFile]:
    for layer, entry in index.items():
        with (folder / entry.filename).open("rb") as file:
            for feature, (start, stop) in enumerate(pairwise(entry.offsets)):
                if start == stop:
                    continue
                where = f"{folder / entry.filename}, feature {feature}"
                record = _read_record(file, start, stop, where)
                check_number(record, layer, feature, where)
                yield FeatureFile(layer, feature, record)


def _read_record(file: BinaryIO, start: int, stop: int, where: str) -> FeatureRecord:
    if stop - start > MAX_RECORD_BYTES:
        found, expected = f"a record of {stop - start} bytes", f"at most {MAX_RECORD_BYTES}"
        raise DataError(where, found=found, expected=expected, to_do=TO_DO)
    file.seek(start)
    record = file.read(stop - start)
    n_bytes = LENGTH.unpack_from(record)[0] if len(record) >= LENGTH.size else None
    if n_bytes != stop - start - LENGTH.size:
        found, expected = f"length {n_bytes}", f"{stop - start - LENGTH.size}, as the index says"
        raise DataError(where, found=found, expected=expected, to_do=TO_DO)
    return parse_record(_decompress(record[LENGTH.size :], MAX_RECORD_BYTES, where), where)


def _decompress(content: bytes, max_bytes: int, where: str) -> bytes:
    stream = zlib.decompressobj(GZIP_OR_ZLIB)
    try:
        text = stream.decompress(content, max_bytes + 1)
    except zlib.error as error:
        raise DataError(where, found=str(error), expected="data compressed by zlib or gzip", to_do=TO_DO) from error
    if len(text) > max_bytes:
        expected = f"at most {max_bytes} bytes"
        raise DataError(where, found="more than that, decompressed", expected=expected, to_do=TO_DO)
    if not stream.eof or stream.unused_data:
        found = "bytes behind the end" if stream.eof else "data that ends early"
        raise DataError(where, found=found, expected="data compressed as a whole", to_do=TO_DO)
    return text
