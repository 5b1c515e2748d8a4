"""The ledger: which shards are done (receipts) and which were given up (quarantine).

Workers write part files under names of their own and hand back a receipt; only the driver commits, by putting the
receipt under its final name. A reader follows receipts and never lists parts, so what a dead worker left is harmless.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from tracer.corpus.shards import Shard
from tracer.errors import ArtifactError, RunError
from tracer.run.folder import RunFolder, read_json, write_json
from tracer.tables.parts import Part
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
    """Receipts and quarantine of one run folder; only its one driver writes, and tells the `watchers`."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.watchers: list[Watcher] = []

    def committed(self, shards: tuple[Shard, ...]) -> dict[str, Receipt]:
        """Receipts by shard id, in the order of the plan; one that is damaged or lost a part does not count."""
        receipts = {}
        for shard in shards:
            receipt = self._read(shard.shard_id)
            if receipt is not None and self._has_parts(receipt):
                receipts[shard.shard_id] = receipt
        return receipts

    def commit(self, receipt: Receipt, *, run_seconds: float) -> None:
        """Make a shard count; the run's time so far is kept with it, because a killed driver cannot tell it later.

        Raises:
            RunError: this machine does not see the worker's files.
        """
        if not self._has_parts(receipt):
            raise RunError(
                str(self.folder.root),
                found=f"the parts that {receipt.host} wrote for shard {receipt.shard_id} are not there",
                expected="one run folder that all machines share",
                to_do="Give --out on shared storage.",
            )
        receipt = replace(receipt, run_seconds=round(run_seconds, 3))
        write_json(self._receipt(receipt.shard_id), asdict(receipt))
        self._quarantined(receipt.shard_id).unlink(missing_ok=True)
        for watcher in self.watchers:
            watcher.committed(receipt)

    def run_seconds(self) -> float:
        """The run's time at its latest commit."""
        receipts = (self._read(path.stem) for path in self.folder.receipts.glob("*.json"))
        return max((receipt.run_seconds for receipt in receipts if receipt is not None), default=0.0)

    def quarantine(self, shard: Shard, error: ShardError, *, n_attempts: int) -> None:
        """Give a shard up, with its last error; a later driver tries it again."""
        write_json(
            self._quarantined(shard.shard_id), {**asdict(error), "n_attempts": n_attempts, "shard": asdict(shard)}
        )
        for watcher in self.watchers:
            watcher.gave_up(error)

    def quarantined(self) -> list[dict]:
        """What was given up, by shard id, but for what a driver committed since and died before it could tell."""
        given_up = []
        for path in sorted(self.folder.quarantine.glob("*.json")):
            receipt = self._read(path.stem)
            if receipt is not None and self._has_parts(receipt):
                continue
            try:
                given_up.append(read_json(path))
            except ArtifactError:
                if path.exists():  # else its shard was committed since this look began
                    raise
        return given_up

    def _read(self, shard_id: str) -> Receipt | None:
        try:
            return read_receipt(self._receipt(shard_id))
        except ArtifactError:
            return None

    def _has_parts(self, receipt: Receipt) -> bool:
        tables = {table.name for table in SHARD_TABLES}
        return tables == set(receipt.parts) and all(
            (self.folder.root / part.path).is_file() for part in receipt.parts.values()
        )

    def _receipt(self, shard_id: str) -> Path:
        return self.folder.receipts / f"{shard_id}.json"

    def _quarantined(self, shard_id: str) -> Path:
        return self.folder.quarantine / f"{shard_id}.json"


def read_receipt(path: Path) -> Receipt:
    """Read one receipt; whether its parts are there is another question.

    Raises:
        ArtifactError: absent or damaged.
    """
    data = read_json(path)
    try:
        return Receipt(**{**data, "parts": {name: Part(**part) for name, part in data["parts"].items()}})
    except (AttributeError, KeyError, TypeError) as error:
        raise ArtifactError(
            str(path), found=f"other fields ({error})", expected="a receipt", to_do="Move it away and run again."
        ) from error
