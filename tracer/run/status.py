"""How far a run is, what it costs and what went wrong, from what lies in its folder: while it works, or after."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from tracer.config import RunnerConfig
from tracer.run.aggregating import MARKER
from tracer.run.backlog import ATTEMPTS_PER_SESSION
from tracer.run.folder import existing
from tracer.run.ledger import Ledger, Receipt
from tracer.run.profiling import sum_of_phases
from tracer.run.record import RunRecord, load_record
from tracer.storage.store import Store
from tracer.tables.parts import read_part

RATE_WINDOW_S, RATE_WINDOW_SHARE = 60.0, 0.1
"""The rate is that of the last minute of the run's time, or the last tenth of it where that is longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """One worker process as its receipts tell: busy with shards, held from its first shard to its latest commit."""

    host: str
    pid: int
    device: str
    n_shards: int
    n_prompts: int
    busy_seconds: float
    held_seconds: float
    utilisation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the actors reserve, in hours of a GPU (or, without any, of a CPU core) while they are held.

    `hours_expected` and `usd_expected` are for the whole run at today's cost of a prompt; dollars are absent without a
    price, and everything expected is absent before the first commit.
    """

    unit: Literal["GPU", "CPU"]
    hours: float
    hours_expected: float | None
    usd: float | None
    usd_expected: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of a run. `state`: `running`, `stopped` (run it again), `traced` (no table yet) or `done`.

    Shards left are those neither committed nor in quarantine. `failures` counts by error class: prompts, rows of the
    corpus and, as one each, shards in quarantine. `n_retried`: committed shards that needed a second attempt.
    """

    run_id: str
    state: Literal["running", "stopped", "traced", "done"]
    driver: str | None
    n_shards: int
    n_shards_done: int
    n_shards_given_up: int
    n_shards_left: int
    n_retried: int
    n_prompts: int
    n_prompts_done: int
    n_graphs: int
    n_rows: int
    n_failures: int
    failures: dict[str, int]
    seconds: float
    prompts_per_second: float | None
    seconds_left: float | None
    actors: tuple[Actor, ...]
    cost: Cost
    phases: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"actors": [asdict(actor) for actor in self.actors]}


def read_status(root: Path | str, *, usd_per_hour: float | None = None) -> Status:
    """Look at a run; writes nothing, so that any process may ask at any time.

    Args:
        root: the run folder.
        usd_per_hour: price of one GPU, or of one CPU core where the actors reserve no GPU.

    Raises:
        ArtifactError: `root` is no run folder, its run.json cannot be used, or a part with failures is damaged.
    """
    store = existing(root)
    driver, record = store.lock.holder(), load_record(store)
    ledger = Ledger(store, record.shard_tables)
    # Quarantine first: a shard that is committed between the two looks is then in both rather than in none.
    given_up = {entry["shard_id"]: entry for entry in ledger.quarantined()}
    committed = ledger.committed(record.shards)
    for shard_id in committed:
        given_up.pop(shard_id, None)
    receipts = list(committed.values())
    failures = _failures(store, record, receipts, given_up)
    n_prompts_done = sum(receipt.n_prompts for receipt in receipts)
    n_prompts_left = sum(
        shard.n_prompts for shard in record.shards if shard.shard_id not in committed and shard.shard_id not in given_up
    )
    rate, actors = _rate(receipts), _actors(receipts)
    n_left = len(record.shards) - len(committed) - len(given_up)
    return Status(
        run_id=record.run_id,
        state=_state(store, driver, n_left),
        driver=driver,
        n_shards=len(record.shards),
        n_shards_done=len(committed),
        n_shards_given_up=len(given_up),
        n_shards_left=n_left,
        n_retried=sum(_is_retried(receipt) for receipt in receipts),
        n_prompts=record.corpus.n_prompts,
        n_prompts_done=n_prompts_done,
        n_graphs=sum(receipt.n_graphs for receipt in receipts),
        n_rows=sum(part.n_rows for receipt in receipts for part in receipt.parts.values()),
        n_failures=failures.total(),
        failures=dict(failures.most_common()),
        seconds=round(max([record.seconds, *(receipt.run_seconds for receipt in receipts)]), 3),
        prompts_per_second=None if rate is None else round(rate, 3),
        seconds_left=round(n_prompts_left / rate, 1) if rate else None,
        actors=actors,
        cost=_cost(actors, record.config.runner, n_prompts_done, n_prompts_left, usd_per_hour),
        phases=sum_of_phases(receipts),
    )


def _state(store: Store, driver: str | None, n_left: int) -> Literal["running", "stopped", "traced", "done"]:
    if driver is not None:
        return "running"
    if n_left:
        return "stopped"
    return "done" if store.has([MARKER]) else "traced"


def _is_retried(receipt: Receipt) -> bool:
    return receipt.attempt % ATTEMPTS_PER_SESSION > 0


def _failures(
    store: Store, record: RunRecord, receipts: Sequence[Receipt], given_up: Mapping[str, dict]
) -> Counter[str]:
    parts = [receipt.parts["failures"] for receipt in receipts if receipt.n_failures]
    with store.fetched([part.path for part in parts], keep=False) as root:
        of_prompts = [read_part(root, part)["error_class"].to_pylist() for part in parts]
    of_rows = (failure.error_class for failure in record.corpus.failures)
    return Counter(chain(*of_prompts, of_rows, (entry["error_class"] for entry in given_up.values())))


def _rate(receipts: Sequence[Receipt]) -> float | None:
    """Prompts per second of the run's time of late; None before the first commit."""
    if not receipts:
        return None
    first, last = min(map(_begun, receipts)), max(receipt.run_seconds for receipt in receipts)
    since = max(first, last - max(RATE_WINDOW_S, RATE_WINDOW_SHARE * last))
    n_prompts = sum(receipt.n_prompts for receipt in receipts if receipt.run_seconds > since)
    return n_prompts / max(last - since, 1e-3)


def _begun(receipt: Receipt) -> float:
    return max(0.0, receipt.run_seconds - receipt.seconds)


def _actors(receipts: Sequence[Receipt]) -> tuple[Actor, ...]:
    by_process: defaultdict[tuple[str, int, str], list[Receipt]] = defaultdict(list)
    for receipt in receipts:
        by_process[receipt.host, receipt.pid, receipt.device].append(receipt)
    actors = []
    for (host, pid, device), own in sorted(by_process.items()):
        busy = sum(receipt.seconds for receipt in own)
        held = max(receipt.run_seconds for receipt in own) - min(map(_begun, own))
        actors.append(
            Actor(
                host=host,
                pid=pid,
                device=device,
                n_shards=len(own),
                n_prompts=sum(receipt.n_prompts for receipt in own),
                busy_seconds=round(busy, 3),
                held_seconds=round(held, 3),
                utilisation=round(min(1.0, busy / max(held, 1e-9)), 3),
            )
        )
    return tuple(actors)


def _cost(actors: Sequence[Actor], runner: RunnerConfig, n_done: int, n_left: int, usd_per_hour: float | None) -> Cost:
    n_units = runner.gpus_per_actor or runner.cpus_per_actor
    hours = sum(actor.held_seconds for actor in actors) * n_units / 3600
    expected = hours * (n_done + n_left) / n_done if n_done else None
    return Cost(
        unit="GPU" if runner.gpus_per_actor else "CPU",
        hours=round(hours, 6),
        hours_expected=None if expected is None else round(expected, 6),
        usd=None if usd_per_hour is None else round(hours * usd_per_hour, 4),
        usd_expected=None if usd_per_hour is None or expected is None else round(expected * usd_per_hour, 4),
    )
