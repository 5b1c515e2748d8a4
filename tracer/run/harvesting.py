"""The stages of a harvest: documents to committed parts, and parts to results.duckdb; each resumes and can be called
alone. Ledger, workers, record and session are those of a run.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console

from tracer import __version__
from tracer.aggregate.harvest.build import HarvestParts, build_harvest
from tracer.config.harvest import HarvestConfig
from tracer.config.run import result_settings
from tracer.errors import ArtifactError, RunError
from tracer.run.aggregating import MARKER, parts_of
from tracer.run.cached_tables import cached_table
from tracer.run.folder import DATABASE_NAME, existing, local_database, written
from tracer.run.harvest_plan import plan_harvest
from tracer.run.harvest_worker import make_harvest_worker
from tracer.run.progress import telling
from tracer.run.record import RunRecord, load_record
from tracer.run.session import Session, held
from tracer.run.work import FeatureWorker
from tracer.storage.json_files import json_hash, read_json, write_json
from tracer.storage.store import Store
from tracer.tables.parts import Part
from tracer.tables.schema import SCHEMA_VERSION

HarvestWorkerMaker = Callable[[float, Sequence[tuple[int, int]], HarvestConfig], FeatureWorker]
"""Takes the share of the windows that are reference windows, the features whose co-activation is counted, and the
configuration for a worker's machine.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HarvestResult:
    """What a harvest left in the folder `root`, a path or URI; `database` is None where there is none yet."""

    root: str
    database: Path | None
    n_documents: int
    n_harvested: int
    n_windows: int
    n_failures: int
    n_shards_given_up: int


class HarvestSession(Session):
    """One driver's hold on a harvest folder; `make_worker` is a `HarvestWorkerMaker`."""

    def __init__(self, store: Store, record: RunRecord, number: int, *, make_worker: Any, **others: Any) -> None:
        n_windows = sum(shard.n_windows for shard in record.shards)
        share = harvest_config(record).harvest.examples.n_reference_windows / max(n_windows, 1)
        paired = [tuple(pair) for pair in record.model["paired_features"]]
        super().__init__(store, record, number, make_worker=partial(make_worker, share, paired), **others)

    @property
    def config(self) -> HarvestConfig:
        """The settings.

        Raises:
            RunError: the folder holds a run.
        """
        return harvest_config(self.record)

    def aggregate(self) -> None:
        """Make results.duckdb, unless it stands for exactly these inputs already."""
        receipts = self.ledger.committed(self.record.shards).values()
        parts = parts_of(self.record, receipts, self.ledger.quarantined(), self.store)
        hash_of_inputs = _inputs_hash(self.record, parts)
        if _is_current(self.store, hash_of_inputs):
            return
        self.did_something = True
        self.console.print("merging shards", style="dim")
        self.store.remove(MARKER)
        row = _harvest_row(self.record, self.seconds()) | {"parts_hash": hash_of_inputs}
        paths = [part.path for listed in parts.values() for part in listed]
        with (
            written(self.store),
            self.store.working(DATABASE_NAME) as folder,
            telling(self.console, "merging shards") as say,
            self.store.fetched(paths, keep=False) as root,
        ):
            build_harvest(
                folder / DATABASE_NAME,
                HarvestParts(
                    root=root,
                    parts=parts,
                    n_features=dict(map(tuple, self.record.model["n_features"])),
                    token_separator=self.record.model["token_separator"],
                ),
                config=self.config.harvest,
                harvest_row=row,
                weights_table=self._weights_table,
                say=say,
            )
        write_json(self.store, MARKER, {"inputs_hash": hash_of_inputs})

    def result(self, *, with_database: bool = True) -> HarvestResult:
        """Counts over everything that is committed by now."""
        receipts = self.ledger.committed(self.record.shards)
        n_given_up = len(self.ledger.quarantined())
        n_failed = sum(receipt.n_failures for receipt in receipts.values())
        return HarvestResult(
            root=self.store.reference,
            database=local_database(self.store) if with_database else None,
            n_documents=self.record.corpus.n_prompts,
            n_harvested=sum(receipt.n_prompts for receipt in receipts.values()),
            n_windows=sum(shard.n_windows for shard in self.record.shards if shard.shard_id in receipts),
            n_failures=len(self.record.corpus.failures) + n_failed + n_given_up,
            n_shards_given_up=n_given_up,
        )

    def _weights_table(self, name: str) -> pa.Table:
        """A table of the weights from a worker."""
        asked = [self.record.model, self.config.harvest.weights.model_dump(mode="json"), __version__]
        return cached_table(self.store, name, asked, lambda: self.workers.weights_table(name))


def harvest(
    config: HarvestConfig,
    out: str | Path | None,
    *,
    inline: bool = False,
    console: Console,
    make_worker: HarvestWorkerMaker = make_harvest_worker,
) -> HarvestResult:
    """Everything from a reference corpus to tables; goes on where an earlier driver stopped, and does nothing twice.

    Args:
        config: the settings.
        out: the harvest folder, a path or URI; None takes `runner.out`.
        inline: work in this process, without Ray.
        console: where progress is shown.
        make_worker: makes what turns documents into rows, inside each worker process.

    Raises:
        TracerError: settings, corpus, model or folder cannot be used. What fails later is a row of `failures`.
    """
    with held_harvest(config, out, inline=inline, console=console, make_worker=make_worker) as session:
        session.trace()
        session.aggregate()
        return session.result()


def merge_harvest(
    root: str | Path,
    *,
    inline: bool = False,
    console: Console,
    make_worker: HarvestWorkerMaker = make_harvest_worker,
) -> HarvestResult:
    """The second stage alone: whatever shards are committed by now, to results.duckdb.

    Raises:
        ArtifactError: `root` is no harvest folder, or a committed part is damaged.
    """
    store = existing(root)
    config = harvest_config(load_record(store))
    with held_harvest(config, store.reference, inline=inline, console=console, make_worker=make_worker) as session:
        session.aggregate()
        return session.result()


def harvest_config(record: RunRecord) -> HarvestConfig:
    """The settings of a harvest.

    Raises:
        RunError: the folder holds a run.
    """
    if not isinstance(record.config, HarvestConfig):
        raise RunError(
            record.run_id, found="a run", expected="a harvest", to_do="Give the --out of a `tracer harvest`."
        )
    return record.config


def held_harvest(
    config: HarvestConfig,
    out: str | Path | None,
    *,
    inline: bool,
    console: Console,
    make_worker: HarvestWorkerMaker = make_harvest_worker,
) -> AbstractContextManager[HarvestSession]:
    """Hold a harvest folder for the time of a block. Arguments and errors as `harvest`."""
    return held(
        HarvestSession,
        config,
        out,
        planned=plan_harvest,
        inline=inline,
        console=console,
        make_worker=make_worker,
    )


def _harvest_row(record: RunRecord, seconds: float) -> dict[str, Any]:
    """The row of `harvests`, but for what is counted over the parts."""
    config = harvest_config(record)
    return {
        "harvest_id": record.run_id,
        "config_fingerprint": config.fingerprint(),
        "corpus_fingerprint": record.corpus.fingerprint,
        "config": config.model_dump_json(),
        "model": config.model.checkpoint,
        "model_hash": record.model["model_hash"],
        "transcoders": ", ".join(config.harvest.saes) or config.model.transcoders,
        "transcoders_hash": record.model["transcoders_hash"],
        "corpus": record.corpus.source,
        "n_layers": record.model["n_layers"],
        "window_tokens": config.harvest.windows.window_tokens,
        "n_duplicates": record.corpus.n_duplicates,
        "tracer_version": record.versions["tracer"],
        "versions": json.dumps(record.versions),
        "started_at": datetime.fromisoformat(record.started_at),
        "seconds": seconds,
    }


def _inputs_hash(record: RunRecord, parts: dict[str, list[Part]]) -> str:
    inputs = {
        "parts": sorted(part.sha256 for listed in parts.values() for part in listed),
        "harvest": result_settings(harvest_config(record).harvest),
        "versions": [SCHEMA_VERSION, __version__],
    }
    return json_hash(inputs)


def _is_current(store: Store, hash_of_inputs: str) -> bool:
    if not store.has([DATABASE_NAME, MARKER]):
        return False
    try:
        return read_json(store, MARKER).get("inputs_hash") == hash_of_inputs
    except ArtifactError:  # a damaged marker marks nothing
        return False
