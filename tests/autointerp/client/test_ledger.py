"""The ledger: whole rows only, whatever its files were cut to; compaction keeps every row; an object store holds it."""

import asyncio
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.kinds import BUCKETS, STARTED
from tests.storage.s3_server import in_environment
from tracer.autointerp.client import ledger
from tracer.autointerp.client.ledger import (
    COMPACTED_NAME,
    HEADER,
    LedgerRow,
    LedgerWriter,
    compact,
    parse_segment,
    read_brief,
    read_calls,
    read_rows,
    segment_names,
)
from tracer.errors import ArtifactError
from tracer.storage.store import open_store
from tracer.tables.label_tables import LLM_CALLS

ROW = LedgerRow(
    request_hash="0" * 64, attempt=0, stage="label", target="feature/0/1", repairs=None, prompt_version="1",
    endpoint="http://127.0.0.1/v1", model="m", model_returned="m-1", system_fingerprint=None, request='{"é": 1}',
    status="ok", error_class=None, message=None, text="näher\n{}", logprobs=None, answer_mode="json_schema",
    prompt_tokens=10, cached_tokens=2, completion_tokens=3, cost_usd=0.25, lane="now", n_tries=1, latency_s=0.5,
    created_at="2026-01-01T00:00:00+00:00",
)  # fmt: skip
ROWS = [replace(ROW, request_hash=f"{idx:064x}", target=f"feature/0/{idx}") for idx in range(4)]


def write(store, rows, folder="ledger"):
    async def append():
        await asyncio.gather(*(writer.append(row) for row in rows))

    writer = LedgerWriter(store, folder)
    asyncio.run(append())
    writer.close()


@pytest.fixture(scope="module")
def segment(tmp_path_factory) -> bytes:
    store = open_store(tmp_path_factory.mktemp("whole"))
    write(store, ROWS)
    (name,) = segment_names(store, "ledger")
    return store.read(name)


@given(data=st.data())
def test_a_segment_cut_at_any_byte_gives_the_rows_before_it_and_no_other(segment: bytes, data: st.DataObject) -> None:
    n_bytes = data.draw(st.integers(0, len(segment)))
    lines = segment[len(HEADER) :].splitlines(keepends=True)
    n_whole, end = 0, len(HEADER)
    for line in lines:
        end += len(line)
        # a row without its line feed is a whole one
        n_whole += n_bytes >= end - 1
    found = parse_segment(segment[:n_bytes], "segment")
    assert [row["request_hash"] for row in found] == [row.request_hash for row in ROWS[:n_whole]]


def test_what_a_killed_writer_left_is_read_beside_what_the_next_one_wrote(segment: bytes, tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.write("ledger/ledger-abc-000000.jsonl", segment[:-40])
    later = [replace(ROWS[3], attempt=0, text="asked again"), replace(ROWS[0], attempt=1, text="second attempt")]
    write(store, later)
    found = {(row.request_hash, row.attempt): row.text for row in read_rows(store, "ledger")}
    assert len(found) == 5
    assert found[ROWS[3].request_hash, 0] == "asked again"
    assert {row.request_hash: row.text for row in read_brief(store, "ledger")}[ROWS[0].request_hash] == "second attempt"


def test_damage_before_the_end_is_refused(segment: bytes, tmp_path: Path) -> None:
    store = open_store(tmp_path)
    middle = len(HEADER) + 30
    store.write("ledger/ledger-abc-000000.jsonl", segment[:middle] + b"\0\0\0" + segment[middle + 3 :])
    with pytest.raises(ArtifactError, match="a line that cannot be read after 0 rows"):
        read_rows(store, "ledger")
    store.write("ledger/ledger-abc-000000.jsonl", b'{"format": "another"}\n')
    with pytest.raises(ArtifactError, match="no header of a ledger"):
        read_rows(store, "ledger")


def test_compaction_keeps_every_row_and_a_kill_in_between_doubles_none(segment: bytes, tmp_path: Path) -> None:
    store = open_store(tmp_path)
    write(store, ROWS)
    before, (name,) = read_rows(store, "ledger"), segment_names(store, "ledger")
    content = store.read(name)
    assert compact(store, "ledger") == len(ROWS)
    assert list(store.list("ledger")) == [f"ledger/{COMPACTED_NAME}"]
    assert read_rows(store, "ledger") == before
    store.write(name, content)
    assert read_rows(store, "ledger") == before
    write(store, [replace(ROW, request_hash="f" * 64)])
    assert compact(store, "ledger") == len(ROWS) + 1
    content = store.read(f"ledger/{COMPACTED_NAME}")
    assert compact(store, "ledger") == 0
    assert store.read(f"ledger/{COMPACTED_NAME}") == content
    (calls,) = read_calls(store, "ledger")
    assert calls.schema == LLM_CALLS.arrow_schema()
    assert calls.column("request").to_pylist() == [ROW.request] * (len(ROWS) + 1)


def test_rows_are_read_a_part_at_a_time_each_once(segment: bytes, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(ledger, "ROWS_AT_ONCE", 3)
    monkeypatch.setattr(ledger, "SEGMENTS_AT_ONCE", 1)
    store = open_store(tmp_path)
    for _ in range(2):
        write(store, ROWS)
        compact(store, "ledger")
    store.write("ledger/ledger-abc-000000.jsonl", segment)
    write(store, [replace(ROW, request_hash="f" * 64)])
    assert [table.num_rows for table in read_calls(store, "ledger")] == [3, 2]
    assert len(read_rows(store, "ledger")) == 5


def test_an_object_store_holds_a_ledger_of_objects_that_are_never_written_twice(tmp_path: Path) -> None:
    with in_environment({"TRACER_CACHE": str(tmp_path)}), STARTED["s3"]() as variables, in_environment(variables):
        store = open_store(f"{BUCKETS['s3']}/runs/{uuid.uuid4().hex}")
        write(store, ROWS[:2])
        write(store, ROWS[2:])
        n_segments = len(segment_names(store, "ledger"))
        assert n_segments >= 2
        assert read_rows(store, "ledger") == ROWS
        assert compact(store, "ledger") == len(ROWS)
        assert read_rows(store, "ledger") == ROWS
