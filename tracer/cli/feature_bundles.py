"""Feature examples in any of the forms that tracer reads: counted, and as rows of a Parquet file."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tracer.errors import DataError
from tracer.views.exports import neuronpedia_lines
from tracer.views.exports.circuit_tracer_features import TOP_GROUP
from tracer.views.exports.feature_files import FeatureFile, read_files
from tracer.views.exports.feature_pack import FOLDER_NAME, INDEX_NAME, read_pack
from tracer.views.exports.neuronpedia_lines import ActivationLine
from tracer.views.exports.neuronpedia_reading import EXPORTS_NAME, SourceExport, read_neuronpedia

ROWS_AT_ONCE = 4096
SCHEMA = pa.schema([
    ("layer", pa.int64()), ("feature", pa.int64()), ("group", pa.string()), ("tokens", pa.list_(pa.string())),
    ("activations", pa.list_(pa.float64())), ("peak_idx", pa.int64()),
])  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A window of tokens with the feature's activation at each; `peak_idx` is the place in it that is meant."""

    layer: int
    feature: int
    group: str
    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    peak_idx: int


@dataclass(slots=True)
class Bundle:
    """A folder of features; the counts grow as its examples are read."""

    folder: Path
    layers: set[int] = field(default_factory=set)
    n_features: int = 0
    n_examples: int = 0
    n_labels: int = 0

    def examples(self) -> Iterator[Example]:
        """Every example, checked as it is read.

        Raises:
            DataError: the folder is in none of the known forms, or damaged.
        """
        for example in self._examples():
            self.n_examples += 1
            yield example

    def _examples(self) -> Iterator[Example]:
        if (self.folder / FOLDER_NAME / INDEX_NAME).is_file():
            return self._of_files(read_pack(self.folder))
        if (self.folder / EXPORTS_NAME).is_dir():
            return self._of_sources(read_neuronpedia(self.folder))
        for folder in (self.folder / FOLDER_NAME, self.folder):
            if any(path.stem.isdecimal() for path in folder.glob("*.json")):
                return self._of_files(read_files(folder))
        raise DataError(
            str(self.folder), found="none of the known forms",
            expected=f"{FOLDER_NAME}/{INDEX_NAME}, files NUMBER.json, or {EXPORTS_NAME}/", to_do="Check the path.",
        )  # fmt: skip

    def _of_files(self, files: Iterable[FeatureFile]) -> Iterator[Example]:
        for file in files:
            self.layers.add(file.layer)
            self.n_features += 1
            for group in file.record.examples_quantiles:
                for example in group.examples:
                    yield Example(
                        layer=file.layer, feature=file.feature, group=group.quantile_name, tokens=example.tokens,
                        activations=example.tokens_acts_list, peak_idx=example.train_token_ind,
                    )  # fmt: skip

    def _of_sources(self, sources: Iterable[SourceExport]) -> Iterator[Example]:
        for source in sources:
            layer = _layer_of(source)
            self.layers.add(layer)
            self.n_features += sum(1 for _ in source.features())
            self.n_labels += sum(1 for _ in source.explanations())
            for line in source.activations():
                yield Example(
                    layer=layer, feature=int(line.index), group=_group_of(line),
                    tokens=line.tokens, activations=line.values, peak_idx=line.qualifyingTokenIndex,
                )  # fmt: skip


def _group_of(line: ActivationLine) -> str:
    return TOP_GROUP if line.binMin == neuronpedia_lines.TOP_GROUP else f"{line.binMin:g} to {line.binMax:g}"


def _layer_of(source: SourceExport) -> int:
    number = source.folder.name.partition("-")[0]
    if not number.isdecimal():
        raise DataError(
            str(source.folder), found=f"source {source.folder.name}", expected="LAYER-SOURCE_SET",
            to_do="Check the folder's name.",
        )  # fmt: skip
    return int(number)


def write_examples(examples: Iterable[Example], path: Path) -> None:
    """Write examples as rows of a Parquet file, which appears whole or not at all.

    Args:
        examples: the rows; a part of them is held at a time.
        path: the file; folders above it are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    rows = iter(examples)
    try:
        with pq.ParquetWriter(temporary, SCHEMA) as writer:
            while part := [asdict(example) for example in islice(rows, ROWS_AT_ONCE)]:
                writer.write_table(pa.Table.from_pylist(part, schema=SCHEMA))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
