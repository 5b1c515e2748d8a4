"""Neuronpedia's bulk import read back, line by line."""

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from tracer.errors import DataError
from tracer.views.exports.feature_files import as_data_error
from tracer.views.exports.neuronpedia_lines import (
    ActivationLine,
    ExplanationLine,
    FeatureLine,
    Line,
    ModelLine,
    ReleaseLine,
    SourceLine,
    SourceSetLine,
)

EXPORTS_NAME = "exports"
MAX_LINE_BYTES = 16 * 1024**2
"""Longest line that is read."""
TO_DO = "Export again."

AnyLine = TypeVar("AnyLine", bound=Line)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceExport:
    """One source of an export: its four single lines, and its rows, which are read when they are asked for."""

    folder: Path
    release: ReleaseLine
    model: ModelLine
    source_set: SourceSetLine
    source: SourceLine

    def features(self) -> Iterator[FeatureLine]:
        """The rows of features/; raises as `read_neuronpedia` does."""
        return _read_batches(self.folder / "features", FeatureLine)

    def activations(self) -> Iterator[ActivationLine]:
        """The rows of activations/; raises as `read_neuronpedia` does."""
        return _read_batches(self.folder / "activations", ActivationLine)

    def explanations(self) -> Iterator[ExplanationLine]:
        """The rows of explanations/; raises as `read_neuronpedia` does."""
        return _read_batches(self.folder / "explanations", ExplanationLine)


def read_neuronpedia(folder: Path) -> Iterator[SourceExport]:
    """Every source of an export, by model and layer.

    Args:
        folder: what `export_neuronpedia` wrote.

    Raises:
        DataError: no export, or a file is absent, damaged, or has a line without just the fields of its class.
    """
    sources = list((folder / EXPORTS_NAME).glob("*/*/source.jsonl"))
    if not sources:
        expected = f"{EXPORTS_NAME}/MODEL/LAYER-SOURCE_SET/source.jsonl"
        raise DataError(str(folder), found="no source", expected=expected, to_do="Check the path.")
    for path in sorted(sources, key=lambda path: (path.parent.parent.name, _number_in(path.parent.name))):
        yield SourceExport(
            folder=path.parent,
            release=_read_single(path.parent / "release.jsonl", ReleaseLine),
            model=_read_single(path.parent / "model.jsonl", ModelLine),
            source_set=_read_single(path.parent / "sourceset.jsonl", SourceSetLine),
            source=_read_single(path, SourceLine),
        )


def _number_in(name: str) -> int:
    found = re.search("[0-9]+", name)
    return int(found[0]) if found else -1


def _read_single(path: Path, kind: type[AnyLine]) -> AnyLine:
    if not path.is_file():
        raise DataError(str(path), found="no such file", expected="one line of JSON", to_do=TO_DO)
    with path.open("rb") as file:
        return _parse(file.readline(MAX_LINE_BYTES + 1), kind, str(path))


def _read_batches(folder: Path, kind: type[AnyLine]) -> Iterator[AnyLine]:
    for path in sorted(folder.glob("batch-*.jsonl.gz"), key=lambda path: _number_in(path.name)):
        for number, line in enumerate(_read_lines(path)):
            yield _parse(line, kind, f"{path}, line {number + 1}")


def _read_lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                yield line
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(str(path), found=str(error), expected="a whole gzip file", to_do=TO_DO) from error


def _parse(line: bytes, kind: type[AnyLine], where: str) -> AnyLine:
    if len(line) > MAX_LINE_BYTES:
        raise DataError(where, found="a longer line", expected=f"at most {MAX_LINE_BYTES} bytes", to_do=TO_DO)
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        raise as_data_error(error, where, f"the fields of a {kind.__name__}, no more and no fewer") from error
