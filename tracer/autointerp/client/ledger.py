"""The ledger: every answer of an endpoint, and every final failure, is on disk before anything uses it.

A folder holds segments `ledger-<writer>-<n>.jsonl`, a header line and then a row a line. A writer only ever appends to
segments of its own (a folder) or makes new ones (an object store), so that what a killed one left, a torn last line
included, stays as it is and is read as far as it goes. `llm_calls.parquet` holds the rows that were compacted.
"""

import asyncio
import json
import os
import re
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from tracer.errors import ArtifactError
from tracer.storage.local_store import LocalStore
from tracer.storage.store import Store, file_name, in_parallel, place
from tracer.tables.label_tables import LLM_CALLS
from tracer.tables.rows import from_records

COMPACTED_NAME = "llm_calls.parquet"
HEADER = b'{"format": "tracer ledger 1"}\n'
SEGMENT_NAME = re.compile(r"ledger-[0-9a-f]+-\d+\.jsonl")
SEGMENT_BYTES = 64 * 2**20
"""A writer to a folder goes on to its next segment beyond this."""
SEGMENTS_AT_ONCE = 64
"""Objects that are held in memory while they are read."""
ROWS_AT_ONCE = 1_000
"""Whole rows that are held in memory on their way into a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """A row of `llm_calls`, see there; `created_at` is in ISO format. In memory `request` may be left out."""

    request_hash: str
    attempt: int
    stage: str
    target: str
    repairs: str | None
    prompt_version: str
    endpoint: str
    model: str
    model_returned: str | None
    system_fingerprint: str | None
    request: str | None
    status: str
    error_class: str | None
    message: str | None
    text: str | None
    logprobs: str | None
    answer_mode: str | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_usd: float | None
    lane: str
    n_tries: int
    latency_s: float
    created_at: str

    @property
    def is_first(self) -> bool:
        """Whether it is the first of its call: no repair and no later attempt."""
        return self.attempt == 0 and self.repairs is None


FIELDS = tuple(field.name for field in fields(LedgerRow))


class LedgerWriter:
    """Appends rows durably, as many at once as came while the last ones were written; used in one event loop.

    Args:
        store: where.
        folder: the ledger's folder in it.
    """

    def __init__(self, store: Store, folder: str) -> None:
        self._store, self._folder = store, folder
        self._writer, self._n_segments = uuid.uuid4().hex[:12], 0
        self._file: BinaryIO | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._queue: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writing: asyncio.Future[None] | None = None

    async def append(self, row: LedgerRow) -> None:
        """Return when the row is durable.

        Raises:
            OSError: the disk refuses it.
            StorageError: the object store does.
        """
        done = asyncio.get_running_loop().create_future()
        self._queue.append((json.dumps(asdict(row), ensure_ascii=True).encode() + b"\n", done))
        if self._writing is None:
            # a task of its own: who waits for a row may be cancelled, the rows of others are written all the same
            self._writing = asyncio.ensure_future(self._write_queue())
        await done

    def close(self) -> None:
        """Close the segment; what `append` returned from is in it."""
        self._thread.shutdown()
        if self._file is not None:
            self._file.close()
            self._file = None

    async def _write_queue(self) -> None:
        while self._queue:
            queue, self._queue = self._queue, []
            error: Exception | None = None
            try:
                lines = b"".join(line for line, _ in queue)
                await asyncio.get_running_loop().run_in_executor(self._thread, self._write, lines)
            except Exception as caught:  # noqa: BLE001  everybody whose row it was gets it
                error = caught
            for _, done in queue:
                if not done.cancelled():
                    done.set_result(None) if error is None else done.set_exception(error)
        self._writing = None

    def _write(self, lines: bytes) -> None:
        if not isinstance(self._store, LocalStore):
            self._store.write(self._next_name(), HEADER + lines, new=True)
            return
        if self._file is None or self._file.tell() > SEGMENT_BYTES:
            self._file = self._opened(self._store.root / self._next_name())
        try:
            self._file.write(lines)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError:
            # what was half written must stay the end of its segment
            self._file = None
            raise

    def _next_name(self) -> str:
        self._n_segments += 1
        return f"{self._folder}/ledger-{self._writer}-{self._n_segments - 1:06d}.jsonl"

    def _opened(self, path: Path) -> BinaryIO:
        if self._file is not None:
            self._file.close()
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("xb")
        file.write(HEADER)
        parent = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
        return file


def segment_names(store: Store, folder: str) -> list[str]:
    """The segments of a ledger, in order of their names."""
    names = (name for name, size in store.list(folder).items() if size is not None)
    return sorted(name for name in names if SEGMENT_NAME.fullmatch(file_name(name)))


def read_rows(store: Store, folder: str) -> list[LedgerRow]:
    """All rows of a ledger, each once, in order of request and attempt, whole.

    Raises:
        ArtifactError: a segment is damaged elsewhere than at its end, or is none.
    """
    return _read(store, folder, FIELDS)


def read_brief(store: Store, folder: str) -> list[LedgerRow]:
    """As `read_rows`, without `request`, which takes most of the room.

    Raises:
        ArtifactError: as `read_rows`.
    """
    return _read(store, folder, tuple(name for name in FIELDS if name != "request"))


def read_calls(store: Store, folder: str) -> Iterator[pa.Table]:
    """The ledger as `llm_calls`, each row once, at most `ROWS_AT_ONCE` of them at a time, in no order.

    Raises:
        ArtifactError: as `read_rows`.
    """
    records = _records(store, folder, FIELDS)
    while some := list(islice(records, ROWS_AT_ONCE)):
        dated = [record | {"created_at": datetime.fromisoformat(record["created_at"])} for record in some]
        yield from_records(LLM_CALLS, dated)


def compact(store: Store, folder: str) -> int:
    """Put all rows into `llm_calls.parquet` and remove the segments; how many rows, or 0 where there was no segment.

    For the only user of a ledger, which the claim of its run sees to: a writer to a folder may add to a segment after
    it was read. Killed in between it leaves rows in both, which count once. In memory are one segment, the keys of all
    rows and the compressed file.

    Raises:
        ArtifactError: as `read_rows`.
        RunError: another process has taken the run over.
    """
    names, n_rows = segment_names(store, folder), 0
    if not names:
        return n_rows
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, LLM_CALLS.arrow_schema(), compression="zstd") as writer:
        for table in read_calls(store, folder):
            writer.write_table(table)
            n_rows += table.num_rows
    store.write(f"{folder}/{COMPACTED_NAME}", sink.getvalue().to_pybytes())
    list(in_parallel(store, store.remove, names))
    return n_rows


def parse_segment(content: bytes, where: str) -> list[dict[str, Any]]:
    """The rows of a segment, but for a torn end.

    Raises:
        ArtifactError: it is of another format, or damaged before its end.
    """
    if not content.startswith(HEADER):
        if HEADER.startswith(content):
            return []
        raise _damaged(where, "no header of a ledger")
    lines = content[len(HEADER) :].split(b"\n")
    rows: list[dict[str, Any]] = []
    n_torn = 0
    for line in filter(None, lines):
        row = _parsed(line)
        if row is None:
            n_torn += 1
        elif n_torn:
            raise _damaged(where, f"a line that cannot be read after {len(rows)} rows, and rows after it")
        else:
            rows.append(row)
    return rows


def _read(store: Store, folder: str, names: tuple[str, ...]) -> list[LedgerRow]:
    blank: dict[str, Any] = dict.fromkeys(FIELDS)
    rows = [LedgerRow(**(blank | {name: record[name] for name in names})) for record in _records(store, folder, names)]
    return sorted(rows, key=lambda row: (row.request_hash, row.attempt))


def _records(store: Store, folder: str, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Each row once: of several of one request and attempt that of the last segment; a compacted one gives way."""
    seen: set[tuple[str, int]] = set()
    for record in chain(_in_segments(store, folder), _compacted(store, folder, names)):
        key = (record["request_hash"], record["attempt"])
        if key not in seen:
            seen.add(key)
            yield record


def _in_segments(store: Store, folder: str) -> Iterator[dict[str, Any]]:
    """All rows, the last first."""
    segments = segment_names(store, folder)[::-1]
    for start in range(0, len(segments), SEGMENTS_AT_ONCE):
        some = segments[start : start + SEGMENTS_AT_ONCE]
        for name, content in zip(some, in_parallel(store, store.read, some), strict=True):
            yield from reversed(parse_segment(content, place(store, name)))


def _compacted(store: Store, folder: str, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    try:
        content = store.read(f"{folder}/{COMPACTED_NAME}")
    except FileNotFoundError:
        return
    try:
        for batch in pq.ParquetFile(BytesIO(content)).iter_batches(ROWS_AT_ONCE, columns=list(names)):
            for record in batch.to_pylist():
                record["created_at"] = record["created_at"].isoformat()
                yield {name: record[name] for name in names}
    except (pa.ArrowException, OSError, KeyError) as error:
        raise _damaged(place(store, f"{folder}/{COMPACTED_NAME}"), " ".join(str(error).split())) from error


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and row.keys() == set(FIELDS) else None


def _damaged(where: str, found: str) -> ArtifactError:
    return ArtifactError(
        where, found=found, expected="a ledger of tracer", to_do="Move the file away; what it held is asked again."
    )
