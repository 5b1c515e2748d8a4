"""Is everything that was committed still there, and as it was? What is not can be moved away and made anew."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tracer.corpus.prompts import hash_ids
from tracer.corpus.shards import Shard, plan_shards
from tracer.errors import ArtifactError, TracerError
from tracer.run.aggregating import MARKER, STATE_NAME, inputs_hash, parts_of
from tracer.run.folder import DAMAGED, DATABASE_NAME, RECEIPTS, claimed, existing, receipt_name
from tracer.run.ledger import Ledger, Receipt, ids_in, read_receipt
from tracer.run.record import RunRecord, load_record
from tracer.storage.json_files import read_json
from tracer.storage.local_store import LocalStore
from tracer.storage.store import Say, Store, in_parallel
from tracer.tables.database import query
from tracer.tables.parts import Part, check_content, read_part
from tracer.tables.schema import SHARD_TABLES

CORPUS, RECEIPT, RESULTS = "corpus", "receipt", "results"
"""What can be damaged besides a table."""
REDO = "`tracer verify --heal` moves the shard's receipt away; then `tracer run` makes the shard anew."
AGGREGATE = "`tracer aggregate` makes it anew from the shards."
REBUILD = "`tracer verify --heal`, then `tracer aggregate`, makes it anew from the shards."
ONE_ROW_PER_ROW = ("prompts", "graphs", "logits", "nodes", "edges", "head_loadings", "qk_edges", "failures")
"""Tables of results.duckdb that hold exactly the rows of their parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One thing that is not as it was committed: `table` is one of a shard, or `receipt`, `results` or `corpus`."""

    shard_id: str | None
    table: str
    found: str
    expected: str
    to_do: str

    def __str__(self) -> str:
        where = self.table if self.shard_id is None else f"shard {self.shard_id}, {self.table}"
        return f"{where}: found {self.found}; expected {self.expected}. {self.to_do}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was looked at and what is wrong; `results` says in words whether results.duckdb was looked at."""

    n_shards: int
    n_receipts: int
    n_parts: int
    results: str
    damages: tuple[Damage, ...]


def verify(root: str | Path) -> Verified:
    """Read every committed part of a run and compare it with its receipt, and the results with the receipts.

    Args:
        root: the run folder, a path or URI; nothing is written to it. While a driver works, its results are left out.

    Raises:
        ArtifactError: `root` is no run folder, or its run.json cannot be used.
    """
    store = existing(root)
    return _look(store, store.lock.holder())


def heal(root: str | Path, *, say: Say = lambda _: None) -> tuple[Verified, tuple[Damage, ...]]:
    """Move the receipts of damaged shards to `damaged/` and take the mark off damaged results, so that the next
    `tracer run` makes both anew; gives what was found, and what cannot be healed so: anything, without the corpus.

    Args:
        root: the run folder.
        say: told what is waited for.

    Raises:
        ArtifactError: as `verify`.
        RunError: a driver is at work.
    """
    with claimed(existing(root).reference, say=say) as (store, session):
        found = _look(store, None)
        if any(damage.table == CORPUS for damage in found.damages):
            return found, found.damages
        for shard_id in sorted({damage.shard_id for damage in found.damages if damage.shard_id is not None}):
            store.write(f"{DAMAGED}/{shard_id}-{session}.json", store.read(receipt_name(shard_id)))
            store.remove(receipt_name(shard_id))
        if any(damage.table == RESULTS for damage in found.damages):
            store.remove(MARKER)
            store.remove(STATE_NAME)  # else the next aggregation would go on from what is damaged
    return found, ()


def _look(store: Store, driver: str | None) -> Verified:
    record = load_record(store)
    record.run_config  # noqa: B018  a harvest is refused
    shards = {shard.shard_id: shard for shard in record.shards}
    damages, receipts = [*_corpus_damages(store, record)], {}
    ids = ids_in(store, RECEIPTS)

    def look_at(shard_id: str) -> tuple[Receipt | None, list[Damage]]:
        try:
            receipt = read_receipt(store, shard_id)
        except ArtifactError as error:
            return None, [_damage(shard_id, RECEIPT, error)]
        return receipt, [*_shard_damages(store, receipt, shard_id, shards.get(shard_id))]

    for shard_id, (receipt, found) in zip(ids, in_parallel(store, look_at, ids), strict=True):
        damages += found
        if receipt is not None:
            receipts[shard_id] = receipt
    if not store.has([DATABASE_NAME]):
        results = "not made yet"
    elif driver is not None:
        results = f"not looked at while a driver works ({driver})"
    elif any(damage.table == RECEIPT for damage in damages):
        results = "not looked at, since receipts are damaged"
    else:
        results = "looked at"
        damages += _results_damages(store, record, receipts)
    return Verified(
        n_shards=len(shards),
        n_receipts=len(ids),
        n_parts=sum(len(receipt.parts) for receipt in receipts.values()),
        results=results,
        damages=tuple(damages),
    )


def _corpus_damages(store: Store, record: RunRecord) -> Iterator[Damage]:
    try:
        with store.fetched(record.corpus.files) as root:
            shards = tuple(plan_shards(record.corpus, root, record.config.runner.shard_size))
    except ArtifactError as error:
        yield Damage(shard_id=None, table=CORPUS, found=f"{error.where}: {error.found}", expected=error.expected,
                     to_do="Start a new run folder: no shard can be made anew without its prompts.")  # fmt: skip
        return
    if shards != record.shards:
        yield Damage(shard_id=None, table=CORPUS, found="prompts that cut into other shards than run.json says",
                     expected="the plan of the run", to_do="Start a new run folder.")  # fmt: skip


def _shard_damages(store: Store, receipt: Receipt, name: str, shard: Shard | None) -> Iterator[Damage]:
    tables = {table.name for table in SHARD_TABLES}
    if shard is None or receipt.shard_id != name:
        found, expected = f"a receipt of shard {receipt.shard_id}", "that of a shard of the plan, by its name"
        yield Damage(shard_id=name, table=RECEIPT, found=found, expected=expected, to_do=REDO)
        return
    if set(receipt.parts) != tables:
        found = f"parts of {', '.join(sorted(receipt.parts))}"
        yield Damage(shard_id=name, table=RECEIPT, found=found, expected="a part of every table", to_do=REDO)
        return
    for table, part in receipt.parts.items():
        try:
            _check_part(store, part, shard)
        except ArtifactError as error:
            yield _damage(name, table, error)
    n_rows = {table: part.n_rows for table, part in receipt.parts.items()}
    found_rows = n_rows["prompts"], n_rows["graphs"] + n_rows["failures"], receipt.n_prompts, receipt.n_failures
    if found_rows != (shard.n_prompts, shard.n_prompts, shard.n_prompts, n_rows["failures"]):
        found = f"{n_rows['prompts']} prompts, {n_rows['graphs']} graphs and {n_rows['failures']} failures"
        expected = f"{shard.n_prompts} prompts, each with a graph or a failure"
        yield Damage(shard_id=name, table=RECEIPT, found=found, expected=expected, to_do=REDO)


def _check_part(store: Store, part: Part, shard: Shard) -> None:
    with store.fetched([part.path], keep=False) as root:
        if part.table != "prompts":
            check_content(root, part)
            return
        prompt_ids = read_part(root, part)["prompt_id"].to_pylist()
    if hash_ids(prompt_ids) != shard.shard_id:
        raise ArtifactError(part.path, found="other prompts", expected="those of the shard", to_do=REDO)


def _results_damages(store: Store, record: RunRecord, receipts: Mapping[str, Receipt]) -> Iterator[Damage]:
    in_order = [receipts[shard.shard_id] for shard in record.shards if shard.shard_id in receipts]
    with TemporaryDirectory() as place:  # the driver's own part is made to be hashed, not kept
        parts = parts_of(record, in_order, Ledger(store).quarantined(), LocalStore(Path(place)))
    try:
        made_from = read_json(store, MARKER).get("inputs_hash")
        with store.fetched([DATABASE_NAME]) as root:
            counts = query(root / DATABASE_NAME, " UNION ALL ".join(map(_count_of, ONE_ROW_PER_ROW)))
    except TracerError as error:
        yield _damage(None, RESULTS, error)
        return
    if made_from != inputs_hash(record, parts):
        found = "results.duckdb made from other shards, settings or versions"
        yield Damage(shard_id=None, table=RESULTS, found=found, expected="what is committed", to_do=AGGREGATE)
        return
    for table, n_found in counts.rows():
        n_rows = sum(part.n_rows for part in parts[table])
        if n_found != n_rows:
            found = f"{n_found} rows of `{table}` in results.duckdb"
            yield Damage(shard_id=None, table=RESULTS, found=found, expected=f"{n_rows} rows", to_do=REBUILD)


def _count_of(table: str) -> str:
    return f"SELECT '{table}' AS name, count(*) AS n FROM {table}"


def _damage(shard_id: str | None, table: str, error: TracerError) -> Damage:
    to_do = REBUILD if shard_id is None else REDO
    return Damage(
        shard_id=shard_id, table=table, found=f"{error.where}: {error.found}", expected=error.expected, to_do=to_do
    )
