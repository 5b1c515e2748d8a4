"""Rows of one file: JSONL, Parquet, CSV or text, read as a stream; what the file gets wrong becomes a `DataError`.

Bytes that are no UTF-8 make their row unusable, not the file: they come as halves of surrogate pairs, which
`tracer.corpus.records` refuses.
"""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tracer.errors import DataError

Row = dict[str, object]
N_ROWS_PER_BATCH = 1024
UNUSABLE = "surrogateescape"
"""How bytes that are no UTF-8 are read."""


def read_jsonl(path: Path, _text_column: str) -> Iterator[Row]:
    """One JSON object per line; blank lines are passed over."""
    with _reading(path, "JSON objects, one per line"), path.open(encoding="utf-8-sig", errors=UNUSABLE) as lines:
        for line_number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            row = _parse_json(line, path, line_number)
            if not isinstance(row, dict):
                raise _wrong_line(path, line_number, f"JSON {type(row).__name__}", "a JSON object")
            yield row


def _parse_json(line: str, path: Path, line_number: int) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _wrong_line(path, line_number, f"no JSON ({error})", "a JSON object") from error


def read_parquet(path: Path, _text_column: str) -> Iterator[Row]:
    """The rows of a Parquet file, batch by batch."""
    with _reading(path, "a Parquet file"), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=N_ROWS_PER_BATCH):
            yield from batch.to_pylist()


def read_csv(path: Path, text_column: str) -> Iterator[Row]:
    """Comma-separated values under a header line; every value is text, an empty one null (but an empty prompt)."""
    with (
        _reading(path, "comma-separated values"),
        path.open(encoding="utf-8-sig", errors=UNUSABLE, newline="") as lines,
    ):
        reader = csv.reader(lines, strict=True)
        header = next(reader, None) or []
        if len(set(header)) < len(header):
            raise _wrong_line(path, 1, f"the columns {', '.join(header)}", "every column once")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise _wrong_line(path, reader.line_num, f"{len(cells)} values", f"{len(header)}, as the header has")
            yield {
                name: cell if cell or name == text_column else None for name, cell in zip(header, cells, strict=True)
            }


def read_text(path: Path, text_column: str) -> Iterator[Row]:
    """One prompt per line; blank lines are passed over."""
    with _reading(path, "UTF-8 text, one prompt per line"), path.open(encoding="utf-8-sig", errors=UNUSABLE) as lines:
        for line in lines:
            if line.strip():
                yield {text_column: line.rstrip("\n")}


READERS: dict[str, Callable[[Path, str], Iterator[Row]]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".parquet": read_parquet,
    ".csv": read_csv,
    ".txt": read_text,
}
"""Reader by suffix; each takes the file and the name of the text column."""


@contextmanager
def _reading(path: Path, expected: str) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        found = f"an unreadable file ({' '.join(str(error).split())})"
        raise DataError(str(path), found=found, expected=expected, to_do="Check or convert the file.") from error


def _wrong_line(path: Path, line_number: int, found: str, expected: str) -> DataError:
    return DataError(f"{path}, line {line_number}", found=found, expected=expected, to_do="Mend the line.")
