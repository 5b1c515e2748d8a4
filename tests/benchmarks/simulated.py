"""Workers without a model: those of a cluster that is not there, in simulated time, and real ones that only wait."""

import heapq
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.run.tiny_worker import MODEL, tiny_config, tiny_tokenizer
from tests.tables.tiny_prompts import WORDS
from tracer.config import RunConfig
from tracer.corpus.corpus import normalise
from tracer.corpus.prompts import Prompt
from tracer.corpus.shards import plan_shards
from tracer.corpus.tokens import special_token_rule
from tracer.run.backlog import Assignment
from tracer.run.ledger import Receipt, ShardError
from tracer.run.plan import Plan
from tracer.run.protocol.messages import (
    Assign,
    Event,
    Fence,
    ShardTraced,
    Spawn,
    Tick,
    WorkerAction,
    WorkerLost,
    WorkerUp,
)
from tracer.run.record import new_record
from tracer.run.versions import package_versions
from tracer.storage.store import open_store
from tracer.tables.parts import Part
from tracer.tables.schema import SHARD_TABLES

LOAD_S = 60.0
"""Simulated time until an actor has its model."""

SPREAD = 0.3
"""Standard deviation of the logarithm of a shard's time."""


def begin_run(root: Path, *, n_prompts: int, n_shards: int, n_actors: int) -> RunConfig:
    """What a driver does before it traces, over made-up prompts of twelve words: corpus, shard plan, run.json."""
    root.mkdir(parents=True)
    source = root.with_suffix(".jsonl")
    with source.open("w") as file:
        file.writelines(json.dumps({"text": _words(number)}) + "\n" for number in range(n_prompts))
    config = tiny_config(source, shard_size=-(-n_prompts // n_shards), n_actors=n_actors)
    tokenizer, folder = tiny_tokenizer(), open_store(root)
    corpus = normalise(config.corpus, tokenizer, special_token_rule(tokenizer), n_ctx=64, root=root)
    assert corpus.n_prompts == n_prompts
    shards = tuple(plan_shards(corpus, root, config.runner.shard_size))
    new_record(folder, config, Plan(corpus=corpus, shards=shards, model=MODEL)).save(folder)
    return config


def _words(number: int) -> str:
    words = []
    for _ in range(12):
        number, idx = divmod(number, len(WORDS))
        words.append(WORDS[idx])
    return " ".join(words)


class SimulatedWorkers:
    """The `Workers` of as many actors as are asked for; a shard takes about `shard_s` of simulated time and leaves
    empty files under the names of its parts. One attempt in a hundred costs its actor's life.

    `now` is the simulated time; `cpu_seconds` and `seconds` are what the simulation itself took, which is not the
    driver's.
    """

    n_blocks_at_once = 1

    def __init__(self, root: Path, n_room: int, *, shard_s: float, lost_share: float = 0.01, seed: int = 0) -> None:
        self._parts, self._n_room, self._shard_s, self._lost_share = root / "parts", n_room, shard_s, lost_share
        self._parts.mkdir(exist_ok=True)
        self._random, self.now, self._n_sent = random.Random(seed), 0.0, 0
        self._due: list[tuple[float, int, int, Assignment | None]] = []
        self._fenced: set[int] = set()
        self._versions = package_versions()
        self.cpu_seconds = self.seconds = 0.0
        self.n_lost = 0

    def events(self) -> list[Event]:
        """A tick, and the next thing that happens."""
        cpu, wall = time.process_time(), time.perf_counter()
        happened = self._next()
        self.cpu_seconds += time.process_time() - cpu
        self.seconds += time.perf_counter() - wall
        return [Tick(n_room=self._n_room, now=self.now, can_grow=False), *happened]

    def perform(self, action: WorkerAction) -> None:
        """Start, end or employ an actor."""
        if isinstance(action, Spawn):
            self._schedule(LOAD_S, action.worker, None)
        elif isinstance(action, Assign):
            seconds = self._shard_s * self._random.lognormvariate(0.0, SPREAD)
            self._schedule(seconds, action.worker, action.assignment)
        elif isinstance(action, Fence):
            self._fenced.add(action.worker)
        else:
            raise AssertionError(f"there is room for all, but {action}")  # noqa: TRY004

    def feature_logits(self, features: list[tuple[int, int]], n_tokens: int) -> pa.Table:
        """Nothing here is aggregated."""
        raise AssertionError("only traced")

    def do_blocks(self, function: Callable[[Any, Any], Any], shared: Any, blocks: Iterable[Any]) -> Iterator[Any]:
        """Nothing here is aggregated."""
        raise AssertionError("only traced")

    def close(self) -> None:
        """Nothing is held."""

    def _schedule(self, seconds: float, worker: int, assignment: Assignment | None) -> None:
        self._n_sent += 1
        heapq.heappush(self._due, (self.now + seconds, self._n_sent, worker, assignment))

    def _next(self) -> list[Event]:
        while self._due:
            self.now, _, worker, assignment = heapq.heappop(self._due)
            if worker in self._fenced:
                continue
            if assignment is None:
                return [WorkerUp(worker, self.now)]
            if self._random.random() < self._lost_share:
                self.n_lost += 1
                return [WorkerLost(worker, "ActorDiedError", "simulated", self.now)]
            return [ShardTraced(worker, self._receipt(assignment), self.now)]
        return []

    def _receipt(self, assignment: Assignment) -> Receipt:
        shard, parts = assignment.shard, {}
        for table in SHARD_TABLES:
            name = f"{table.name}-{shard.shard_id}-{assignment.attempt}.parquet"
            (self._parts / name).touch()
            parts[table.name] = Part(table=table.name, path=f"parts/{name}", n_rows=shard.n_prompts, sha256="0" * 64)
        return Receipt(
            shard_id=shard.shard_id,
            attempt=assignment.attempt,
            parts=parts,
            n_prompts=shard.n_prompts,
            n_failures=0,
            seconds=self._shard_s,
            host="simulated",
            device="cpu",
            versions=self._versions,
        )


class WaitingWorker:
    """Waits as long as a shard shall take; its tables are empty."""

    def __init__(self, config: RunConfig, *, shard_s: float) -> None:
        self._shard_s = shard_s

    def trace(
        self,
        prompts: list[Prompt],
        shard_id: str,
        attempt: int,
        *,
        skipped: Sequence[ShardError] = (),
        n_halved: int = 0,
    ) -> dict[str, pa.Table]:
        """As `TraceWorker.trace`."""
        time.sleep(self._shard_s)
        return {table.name: table.arrow_schema().empty_table() for table in SHARD_TABLES}

    def feature_logits(self, features: list[tuple[int, int]], n_tokens: int) -> pa.Table:
        """Nothing here is aggregated."""
        raise AssertionError("only traced")

    def facts(self) -> dict:
        """As `TraceWorker.facts`."""
        return {**MODEL, "device": "cpu"}
