"""run.json: what a run is (settings, corpus, shard plan, versions), and whether a later driver may go on with it."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tracer import __version__
from tracer.config.aggregate import SET_BEFORE_TRACING
from tracer.config.harvest import HarvestConfig
from tracer.config.run import RunConfig, checked_config
from tracer.corpus.corpus import Corpus
from tracer.corpus.shards import Shard
from tracer.errors import ArtifactError, RunError
from tracer.run.folder import RECORD_NAME, run_id_of
from tracer.run.origins import Origin
from tracer.run.plan import Plan
from tracer.run.versions import package_versions
from tracer.storage.json_files import read_json, write_json
from tracer.storage.store import Store, place
from tracer.tables.declare import Table
from tracer.tables.harvest_tables import HARVEST_SHARD_TABLES
from tracer.tables.schema import SCHEMA_VERSION, SHARD_TABLES

FORMAT_VERSION = 1
CONFIG_TYPES: dict[str, type[RunConfig | HarvestConfig]] = {"run": RunConfig, "harvest": HarvestConfig}
"""Configuration of each kind of folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What run.json holds; `seconds` sums the driver sessions that ended."""

    run_id: str
    config: RunConfig | HarvestConfig
    model: dict[str, Any]
    corpus: Corpus
    source_hash: str | None
    shards: tuple[Shard, ...]
    versions: dict[str, str]
    started_at: str
    seconds: float = 0.0
    model_names: dict[str, str | None] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What the folder holds: run or harvest."""
        return next(kind for kind, config_type in CONFIG_TYPES.items() if isinstance(self.config, config_type))

    @property
    def unit(self) -> str:
        """What a row of the corpus is."""
        return "prompts" if self.kind == "run" else "documents"

    @property
    def run_config(self) -> RunConfig:
        """The configuration of a run.

        Raises:
            RunError: it is a harvest.
        """
        if not isinstance(self.config, RunConfig):
            raise RunError(
                self.run_id, found=f"a {self.kind}", expected="a run", to_do="Give the --out of a `tracer run`."
            )
        return self.config

    @property
    def shard_tables(self) -> tuple[Table, ...]:
        """The tables of which each shard has a part."""
        return SHARD_TABLES if self.kind == "run" else HARVEST_SHARD_TABLES

    def to_json(self) -> dict:
        """Plain data for run.json."""
        return {
            "format_version": FORMAT_VERSION,
            "schema_version": SCHEMA_VERSION,
            "kind": self.kind,
            "run_id": self.run_id,
            "config_fingerprint": self.config.fingerprint(),
            "config": self.config.model_dump(mode="json"),
            "model": self.model,
            "model_names": self.model_names,
            "origins": {name: asdict(origin) for name, origin in self.origins.items()},
            "corpus": self.corpus.to_json(),
            "source_hash": self.source_hash,
            "shards": [asdict(shard) for shard in self.shards],
            "versions": self.versions,
            "started_at": self.started_at,
            "seconds": round(self.seconds, 3),
        }

    def save(self, store: Store) -> None:
        """Write run.json."""
        write_json(store, RECORD_NAME, self.to_json())


def new_record(store: Store, config: RunConfig | HarvestConfig, plan: Plan) -> RunRecord:
    """The record of a run that starts now."""
    return RunRecord(
        run_id=run_id_of(store),
        config=config,
        model=plan.model,
        corpus=plan.corpus,
        source_hash=source_hash(config),
        shards=plan.shards,
        versions=package_versions(),
        model_names=plan.model_names,
        origins=plan.origins,
        started_at=datetime.now(UTC).isoformat(),
    )


def load_record(store: Store) -> RunRecord:
    """Read run.json.

    Raises:
        ArtifactError: it is damaged or was written by an incompatible version of tracer.
    """
    data = read_json(store, RECORD_NAME)
    found = {name: data.get(name) for name in ("format_version", "schema_version")}
    found["tracer"] = _series(data.get("versions", {}).get("tracer", "?"))
    expected = {
        "format_version": FORMAT_VERSION,
        "schema_version": SCHEMA_VERSION,
        "tracer": _series(__version__),
    }
    if found != expected:
        raise ArtifactError(
            place(store, RECORD_NAME),
            found=f"a run of another version: {_pairs(found, expected)}",
            expected=_pairs(expected, found),
            to_do="Use the version of tracer that began the run, or start a new run folder.",
        )
    return RunRecord(
        run_id=data["run_id"],
        config=checked_config(data["config"], place(store, RECORD_NAME), CONFIG_TYPES[data.get("kind", "run")]),
        model=data["model"],
        corpus=Corpus.from_json(data["corpus"]),
        source_hash=data["source_hash"],
        shards=tuple(Shard(**shard) for shard in data["shards"]),
        versions=data["versions"],
        started_at=data["started_at"],
        seconds=data["seconds"],
        model_names=data.get("model_names", {}),
        origins={name: Origin(**origin) for name, origin in data.get("origins", {}).items()},
    )


def check_resumable(record: RunRecord, config: RunConfig | HarvestConfig, store: Store) -> None:
    """Refuse to mix two pieces of work in one folder.

    Raises:
        RunError: the configuration differs in a setting that affects results, or the source file has other content now.
    """
    if not isinstance(config, type(record.config)):
        raise RunError(
            store.reference, found=f"a {record.kind}", expected="an empty folder", to_do="Give another --out."
        )
    differing = _differing(record.config, config)
    if differing:
        to_do = "Give another --out, or the configuration that the run began with."
        if all(_can_change(name) for name in differing):
            to_do = f"`tracer aggregate {store.reference} --config FILE` aggregates it anew. Or give another --out."
        raise _another_configuration(store, differing, to_do)
    now = source_hash(config)
    if record.source_hash is not None and now is not None and now != record.source_hash:
        raise RunError(
            config.corpus.source,
            found="another content than when the run began",
            expected=f"the file with sha256 {record.source_hash[:16]}...",
            to_do="Give another --out, or restore the file.",
        )


def aggregated_as(record: RunRecord, config: RunConfig, store: Store) -> RunRecord:
    """The record of the same run, its graphs to be aggregated with the `aggregate` settings of another configuration.

    Raises:
        RunError: the configuration differs in a setting that the graphs, or what was counted with them, depend on.
    """
    differing = {name: pair for name, pair in _differing(record.run_config, config).items() if not _can_change(name)}
    if differing:
        fixed = ", ".join(f"aggregate.{name}" for name in SET_BEFORE_TRACING)
        to_do = f"Change nothing but `aggregate`, and there not {fixed}; or trace anew with another --out."
        raise _another_configuration(store, differing, to_do)
    return replace(record, config=record.run_config.model_copy(update={"aggregate": config.aggregate}))


def check_facts(record: RunRecord, facts: dict) -> None:
    """Refuse a worker that holds another model, on a machine with other files or after they changed.

    Raises:
        RunError: naming the hashes that differ.
    """
    found = {name: facts[name] for name in record.model}
    if found != record.model:
        raise RunError(
            f"{record.config.model.checkpoint}, {record.config.model.transcoders}",
            found=f"other files than the run began with: {_pairs(found, record.model)}",
            expected=_pairs(record.model, found),
            to_do="Restore the model's files, or start a new run folder.",
        )


def source_hash(config: RunConfig | HarvestConfig) -> str | None:
    """sha256 of the corpus file; None where the source is not a single file."""
    path = Path(config.corpus.source)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _series(tracer_version: str) -> str:
    """Within one minor version, tables of equal work are equal."""
    return ".".join(tracer_version.split(".")[:2])


def _pairs(values: dict, others: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value != others.get(name))


def _differing(began: RunConfig | HarvestConfig, asked: RunConfig | HarvestConfig) -> dict[str, tuple[object, object]]:
    """The settings that affect results and differ, by dotted name."""
    one, other = dict(_flat(began.result_settings())), dict(_flat(asked.result_settings()))
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return {name: (one.get(name), other.get(name)) for name in names}


def _can_change(name: str) -> bool:
    section, _, setting = name.partition(".")
    return section == "aggregate" and setting not in SET_BEFORE_TRACING


def _another_configuration(store: Store, differing: dict[str, tuple[object, object]], to_do: str) -> RunError:
    return RunError(
        store.reference,
        found="a run of another configuration: " + ", ".join(f"{name} {one!r}" for name, (one, _) in differing.items()),
        expected=", ".join(f"{name} {other!r}" for name, (_, other) in differing.items()),
        to_do=to_do,
    )


def _flat(settings: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.loads(json.dumps(value))
