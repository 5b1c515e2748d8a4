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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from io import BytesIO
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
    return _read(store, folder, segment_names(store, folder), FIELDS)


def read_brief(store: Store, folder: str) -> list[LedgerRow]:
    """As `read_rows`, without `request`, which takes most of the room.

    Raises:
        ArtifactError: as `read_rows`.
    """
    names = tuple(name for name in FIELDS if name != "request")
    return _read(store, folder, segment_names(store, folder), names)


def read_calls(store: Store, folder: str) -> pa.Table:
    """The ledger as `llm_calls`.

    Raises:
        ArtifactError: as `read_rows`.
    """
    return _as_table(read_rows(store, folder))


def compact(store: Store, folder: str) -> int:
    """Put all rows into `llm_calls.parquet` and remove the segments; the number of rows. For the only user of a ledger.

    Killed in between it leaves rows in both, which count once.

    Raises:
        ArtifactError: as `read_rows`.
    """
    names = segment_names(store, folder)
    rows = _read(store, folder, names, FIELDS)
    sink = pa.BufferOutputStream()
    pq.write_table(_as_table(rows), sink, compression="zstd")
    store.write(f"{folder}/{COMPACTED_NAME}", sink.getvalue().to_pybytes())
    for name in names:
        store.remove(name)
    return len(rows)


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


def _read(store: Store, folder: str, segments: list[str], names: tuple[str, ...]) -> list[LedgerRow]:
    found: dict[tuple[str, int], LedgerRow] = {}
    blank: dict[str, Any] = dict.fromkeys(FIELDS)
    for record in _compacted(store, folder, names):
        found[record["request_hash"], record["attempt"]] = LedgerRow(**(blank | record))
    for name, content in zip(segments, in_parallel(store, store.read, segments), strict=True):
        for record in parse_segment(content, place(store, name)):
            kept = {field: record[field] for field in names}
            found[record["request_hash"], record["attempt"]] = LedgerRow(**(blank | kept))
    return [found[key] for key in sorted(found)]


def _compacted(store: Store, folder: str, names: tuple[str, ...]) -> list[dict[str, Any]]:
    try:
        content = store.read(f"{folder}/{COMPACTED_NAME}")
    except FileNotFoundError:
        return []
    try:
        table = pq.read_table(BytesIO(content), columns=list(names))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(place(store, f"{folder}/{COMPACTED_NAME}"), " ".join(str(error).split())) from error
    records = table.to_pylist()
    for record in records:
        record["created_at"] = record["created_at"].isoformat()
    return records


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and row.keys() == set(FIELDS) else None


def _as_table(rows: list[LedgerRow]) -> pa.Table:
    records = [asdict(row) | {"created_at": datetime.fromisoformat(row.created_at)} for row in rows]
    return from_records(LLM_CALLS, records)


def _damaged(where: str, found: str) -> ArtifactError:
    return ArtifactError(
        where, found=found, expected="a ledger of tracer", to_do="Move the file away; what it held is asked again."
    )
