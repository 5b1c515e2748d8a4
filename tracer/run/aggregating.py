"""The aggregate stage: committed parts in, results.duckdb out; skipped where it was made from exactly these inputs."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from tracer import __version__
from tracer.errors import ArtifactError
from tracer.run.cached_tables import cached_table
from tracer.run.folder import AGGREGATES, DATABASE_NAME
from tracer.run.ledger import Ledger, Receipt
from tracer.run.record import RunRecord
from tracer.run.work import Workers
from tracer.storage.json_files import json_hash, read_json, write_json
from tracer.storage.store import Store
from tracer.tables.parts import Part, write_part
from tracer.tables.schema import SCHEMA_VERSION, TABLES

MARKER_NAME = "results.json"
MARKER = f"{AGGREGATES}/{MARKER_NAME}"
STATE_NAME = f"{AGGREGATES}/state.duckdb"
"""What the next aggregation goes on from."""
DRIVER_PART = "run"
"""Takes the place of a shard id in the name of the part that the driver writes: what failed outside of workers."""


def committed_parts(record: RunRecord, ledger: Ledger) -> dict[str, list[Part]]:
    """Every part that counts, by table: those of the receipts, and one with the failures of corpus and quarantine."""
    receipts = ledger.committed(record.shards).values()
    return parts_of(record, receipts, ledger.quarantined(), ledger.store)


def parts_of(
    record: RunRecord, receipts: Iterable[Receipt], given_up: Iterable[dict], place: Store
) -> dict[str, list[Part]]:
    """The parts of these receipts, and one with the failures of corpus and quarantine.

    Args:
        record: the run.
        receipts: what is committed, in the order of the plan.
        given_up: what is in quarantine, as the ledger tells it.
        place: what the one part is written into.
    """
    receipts = tuple(receipts)
    parts = {table.name: [receipt.parts[table.name] for receipt in receipts] for table in record.shard_tables}
    failures = _failures(record, given_up)
    if failures.num_rows:
        parts["failures"].append(write_part(place, TABLES["failures"], failures, shard_id=DRIVER_PART, attempt=0))
    return parts


def inputs_hash(record: RunRecord, parts: dict[str, list[Part]]) -> str:
    """Hash of all that results.duckdb is made from."""
    inputs = {
        "parts": sorted(part.sha256 for table in parts.values() for part in table),
        "aggregate": record.run_config.aggregate.model_dump(mode="json"),
        "versions": [SCHEMA_VERSION, __version__],
    }
    return json_hash(inputs)


def is_current(store: Store, hash_of_inputs: str) -> bool:
    """Whether results.duckdb was made and labelled from these inputs, and it and its page are there."""
    from tracer.views.summary import PAGE_NAME

    if not store.has([DATABASE_NAME, PAGE_NAME, MARKER]):
        return False
    try:
        return read_json(store, MARKER).get("inputs_hash") == hash_of_inputs
    except ArtifactError:  # a damaged marker marks nothing
        return False


@contextmanager
def unmarked(store: Store) -> Iterator[None]:
    """Take the marker away while labels and page are made anew, so that an interruption is not taken for an end."""
    marked = read_json(store, MARKER) if store.has([MARKER]) else None
    store.remove(MARKER)
    yield
    if marked is not None:
        write_json(store, MARKER, marked)


def mark_current(store: Store, hash_of_inputs: str) -> None:
    """Say that results.duckdb, labels included, stands for these inputs."""
    write_json(store, MARKER, {"inputs_hash": hash_of_inputs})


def build_results(
    record: RunRecord,
    store: Store,
    parts: dict[str, list[Part]],
    workers: Workers,
    *,
    seconds: float,
    folder: Path,
    say: Callable[[str], None],
) -> None:
    """Make results.duckdb, its `labels` still empty, and its state in a local folder, from those that lie there as far
    as they go; the one of the run folder is no longer marked as current.

    Args:
        record: the run.
        store: its folder.
        parts: what is committed.
        workers: compute promoted tokens, and count.
        seconds: time that the run took.
        folder: where the files are made.
        say: told what is being made.

    Raises:
        ArtifactError: a committed part is damaged.
        RunError: the promoted tokens could not be computed.
    """
    from tracer.aggregate.build import Site, aggregate, parts_to_read

    store.remove(MARKER)
    target, state = folder / DATABASE_NAME, folder / STATE_NAME
    site = Site(
        root=folder,
        target=target,
        state=state,
        earlier=(target, state),
        run=workers.do_blocks,
        n_at_once=workers.n_blocks_at_once,
        say=say,
    )
    told: dict[str, Any] = {
        "config": record.run_config.aggregate,
        "metadata_columns": record.corpus.metadata_columns,
        "run_row": run_row(record, seconds),
    }
    read = parts_to_read(site, parts, **told)
    with store.fetched([part.path for table in read.values() for part in table], keep=False) as root:
        aggregate(replace(site, root=root), parts, **told, feature_logits=_cached_logits(record, store, workers))


def run_row(record: RunRecord, seconds: float) -> dict[str, object]:
    """The row of `runs`, but for what is counted over the parts."""
    return {
        "run_id": record.run_id,
        "config_fingerprint": record.config.fingerprint(),
        "corpus_fingerprint": record.corpus.fingerprint,
        "config": record.config.model_dump_json(),
        "model": record.config.model.checkpoint,
        "model_hash": record.model["model_hash"],
        "transcoders": record.config.model.transcoders,
        "transcoders_hash": record.model["transcoders_hash"],
        "neuronpedia": record.config.model.neuronpedia,
        "corpus": record.corpus.source,
        "n_layers": record.model["n_layers"],
        "n_prompts": record.corpus.n_prompts,
        "tracer_version": record.versions["tracer"],
        "versions": json.dumps(record.versions),
        "started_at": datetime.fromisoformat(record.started_at),
        "seconds": seconds,
    }


def _cached_logits(record: RunRecord, store: Store, workers: Workers) -> Callable[[list[tuple[int, int]]], pa.Table]:
    """Promoted tokens from a worker."""
    n_tokens = record.run_config.aggregate.n_promoted_tokens

    def feature_logits(features: list[tuple[int, int]]) -> pa.Table:
        asked = [record.model, n_tokens, features]
        return cached_table(store, "feature_logits", asked, lambda: workers.feature_logits(features, n_tokens))

    return feature_logits


def _failures(record: RunRecord, quarantined: Iterable[dict]) -> pa.Table:
    rows = [
        {"stage": "corpus", "attempts": 1, "shard_id": None, **asdict(failure)} for failure in record.corpus.failures
    ]
    for given_up in quarantined:
        rows.append({
            "stage": "trace" if record.kind == "run" else record.kind,
            "item_id": given_up["shard_id"],
            "shard_id": given_up["shard_id"],
            "error_class": given_up["error_class"],
            "message": f"all {given_up['shard']['n_prompts']} {record.unit} of the shard: {given_up['message']}",
            "text": None,
            "attempts": given_up["n_attempts"],
        })
    return pa.Table.from_pylist(rows, schema=TABLES["failures"].arrow_schema())
