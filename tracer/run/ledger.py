"""The ledger: which shards are done (receipts) and which were given up (quarantine).

Workers write part files under names of their own and hand back a receipt; only the driver commits, by putting the
receipt under its final name. A reader follows receipts and never lists parts, so what a dead worker left is harmless.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePosixPath
from typing import Protocol, runtime_checkable

from tracer.corpus.shards import Shard
from tracer.errors import ArtifactError, RunError
from tracer.run.folder import QUARANTINE, RECEIPTS, receipt_name
from tracer.storage.json_files import read_json, write_json
from tracer.storage.store import Store, in_parallel, place
from tracer.tables.declare import Table
from tracer.tables.parts import FOLDER, Part
from tracer.tables.schema import SHARD_TABLES


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One finished attempt at a shard: its parts by table, and what it cost; `run_seconds` is set by the commit.

    `pid` is the worker's process on `host`; `phases` holds seconds by phase where the run is profiled.
    """

    shard_id: str
    attempt: int
    parts: dict[str, Part]
    n_prompts: int
    n_failures: int
    seconds: float
    host: str
    device: str
    versions: dict[str, str]
    run_seconds: float = 0.0
    pid: int = 0
    phases: dict[str, float] = field(default_factory=dict)

    @property
    def n_graphs(self) -> int:
        """Graphs of the shard; a harvest makes none."""
        return self.parts["graphs"].n_rows if "graphs" in self.parts else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardError:
    """One failed attempt at a shard; `needs_fresh_process` where the worker's memory cannot be trusted any more,
    `prompt_id` where one prompt brought it to that.
    """

    shard_id: str
    attempt: int
    error_class: str
    message: str
    traceback: str = ""
    needs_fresh_process: bool = False
    prompt_id: str | None = None


@runtime_checkable
class Watcher(Protocol):
    """Is told of what becomes true in a ledger, after it is on disk."""

    def committed(self, receipt: Receipt) -> None:
        """A shard is done."""

    def gave_up(self, error: ShardError) -> None:
        """A shard went to quarantine with this error."""


class Ledger:
    """Receipts and quarantine of one run folder; only its one driver writes, and tells the `watchers`.

    A shard is whole where it has a part of each of the `tables`.
    """

    def __init__(self, store: Store, tables: Iterable[Table] = SHARD_TABLES) -> None:
        self.store = store
        self._tables = {table.name for table in tables}
        self.watchers: list[Watcher] = []

    def committed(self, shards: tuple[Shard, ...]) -> dict[str, Receipt]:
        """Receipts by shard id, in the order of the plan; one that is damaged or lost a part does not count."""
        made = self.store.list(RECEIPTS)
        named = [shard.shard_id for shard in shards if receipt_name(shard.shard_id) in made]
        receipts = [receipt for receipt in in_parallel(self.store, self._read, named) if receipt is not None]
        # Parts are there before their receipt, so they are looked at after it.
        parts = self.store.list(FOLDER)
        return {
            receipt.shard_id: receipt
            for receipt in receipts
            if self._tables == set(receipt.parts) and all(part.path in parts for part in receipt.parts.values())
        }

    def commit(self, receipt: Receipt, *, run_seconds: float) -> None:
        """Make a shard count; the run's time so far is kept with it, because a killed driver cannot tell it later.

        Raises:
            RunError: this machine does not see the worker's files.
        """
        if not self._has_parts(receipt):
            raise RunError(
                self.store.reference,
                found=f"the parts that {receipt.host} wrote for shard {receipt.shard_id} are not there",
                expected="one run folder that all machines share",
                to_do="Give --out on shared storage, or as a URI.",
            )
        receipt = self._write(replace(receipt, run_seconds=round(run_seconds, 3)))
        self.store.remove(_quarantine_name(receipt.shard_id))
        for watcher in self.watchers:
            watcher.committed(receipt)

    def latest(self) -> tuple[float, int]:
        """The run's time at its latest commit, and the highest attempt number of any receipt; 0 and -1 without one."""
        found = in_parallel(self.store, self._read, ids_in(self.store, RECEIPTS))
        receipts = [receipt for receipt in found if receipt is not None]
        seconds = max((receipt.run_seconds for receipt in receipts), default=0.0)
        return seconds, max((receipt.attempt for receipt in receipts), default=-1)

    def quarantine(self, shard: Shard, error: ShardError, *, n_attempts: int) -> None:
        """Give a shard up, with its last error; a later driver tries it again."""
        entry = {**asdict(error), "n_attempts": n_attempts, "shard": asdict(shard)}
        write_json(self.store, _quarantine_name(shard.shard_id), entry)
        for watcher in self.watchers:
            watcher.gave_up(error)

    def quarantined(self) -> list[dict]:
        """What was given up, by shard id, but for what a driver committed since and died before it could tell."""
        given_up = []
        for shard_id in ids_in(self.store, QUARANTINE):
            receipt = self._read(shard_id)
            if receipt is not None and self._has_parts(receipt):
                continue
            try:
                given_up.append(read_json(self.store, _quarantine_name(shard_id)))
            except ArtifactError:
                if self.store.has([_quarantine_name(shard_id)]):  # else its shard was committed since this look began
                    raise
        return given_up

    def _read(self, shard_id: str) -> Receipt | None:
        try:
            return read_receipt(self.store, shard_id)
        except ArtifactError:
            return None

    def _write(self, receipt: Receipt) -> Receipt:
        """Only ever a new file: a driver that was put aside without knowing it must not replace a receipt.

        Where one is there, which such a driver wrote in its last moment, that one counts and is returned.
        """
        name, content = receipt_name(receipt.shard_id), asdict(receipt)
        try:
            write_json(self.store, name, content, new=True)
        except FileExistsError:
            self.store.lock.confirm()
            found = self._read(receipt.shard_id)
            if found is not None and self._has_parts(found):
                return found
            self.store.remove(name)
            write_json(self.store, name, content, new=True)
        return receipt

    def _has_parts(self, receipt: Receipt) -> bool:
        names = [part.path for part in receipt.parts.values()]
        return self._tables == set(receipt.parts) and self.store.has(names)


def ids_in(store: Store, folder: str) -> list[str]:
    """Ids of the shards that have a JSON file in a folder, sorted; what is not whole yet is hidden."""
    names = (PurePosixPath(name) for name in store.list(folder))
    return [name.stem for name in names if name.suffix == ".json" and not name.name.startswith(".")]


def _quarantine_name(shard_id: str) -> str:
    return f"{QUARANTINE}/{shard_id}.json"


def read_receipt(store: Store, shard_id: str) -> Receipt:
    """Read one receipt; whether its parts are there is another question.

    Raises:
        ArtifactError: absent or damaged.
    """
    name = receipt_name(shard_id)
    data = read_json(store, name)
    try:
        return Receipt(**{**data, "parts": {name: Part(**part) for name, part in data["parts"].items()}})
    except (AttributeError, KeyError, TypeError) as error:
        raise ArtifactError(
            place(store, name), found=f"other fields ({error})", expected="a receipt",
            to_do="Move it away and run again.",
        ) from error  # fmt: skip
