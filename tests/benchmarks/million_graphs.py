"""Aggregation of up to a million graphs: time and memory of each step, growth with the number of graphs, what adding
one per cent costs beside building everything, and how long queries take.
"""

import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from tests.benchmarks.synthetic_run import GRAPHS_PER_SHARD, no_logits, run_row, write_shards
from tracer.aggregate.build import Site, aggregate
from tracer.aggregate.tasks import TaskMap, in_process
from tracer.config import AggregateConfig, RunnerConfig
from tracer.tables.database import query
from tracer.tables.equality import compare_tables
from tracer.tables.parts import Part

app = typer.Typer(add_completion=False, help=__doc__)
COOKBOOK = Path(__file__).parents[2] / "tracer" / "tables" / "README.md"


@dataclass
class Meter:
    """Seconds by step, and the most memory that this process and its children held, in bytes."""

    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    _step: tuple[str, float] | None = None
    _is_over: threading.Event = field(default_factory=threading.Event)

    def say(self, step: str) -> None:
        """A step begins, and the one before it ends."""
        now = time.monotonic()
        if self._step is not None:
            name, started = self._step
            self.seconds[name] = self.seconds.get(name, 0.0) + now - started
        self._step = step.split(":")[0], now
        if step != "end":
            print(f"  {sum(self.seconds.values()):6.0f} s, {self.peak_bytes / 1e9:.2f} GB: {step}", flush=True)

    def watch(self) -> None:
        """Sample memory until it is over: resident pages, those shared with Ray's store counted once."""
        while not self._is_over.wait(0.25):
            own = psutil.Process()
            held = sum(_private_bytes(process) for process in [own, *own.children(recursive=True)])
            self.peak_bytes = max(self.peak_bytes, held)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure a block."""
        watcher = threading.Thread(target=self.watch, daemon=True)
        watcher.start()
        self.say("reading")
        try:
            yield
        finally:
            self.say("end")
            self._is_over.set()
            watcher.join()


def _private_bytes(process: psutil.Process) -> int:
    try:
        found = process.memory_full_info()
    except psutil.Error:  # it has ended
        return 0
    return found.pss


@contextmanager
def spread(with_ray: bool) -> Iterator[TaskMap]:
    """Ray tasks on this machine, or one block after another."""
    if not with_ray:
        yield in_process
        return
    from tracer.run.pool import ActorPool

    pool = ActorPool(lambda: None, RunnerConfig(), on_start=lambda facts: None)  # type: ignore[arg-type,return-value]
    try:
        yield pool.do_blocks
    finally:
        pool.close()


def build(root: Path, place: Path, shards: list[dict[str, Part]], config: AggregateConfig, run: TaskMap) -> Meter:
    """Aggregate shards into `place`, going on from what is there."""
    place.mkdir(parents=True, exist_ok=True)
    target, state = place / "results.duckdb", place / "state.duckdb"
    meter = Meter()
    site = Site(root=root, target=target, state=state, earlier=(target, state), run=run, n_at_once=2, say=meter.say)
    parts: dict[str, list[Part]] = {}
    for shard in shards:
        for name, part in shard.items():
            parts.setdefault(name, []).append(part)
    with meter.running():
        aggregate(
            site,
            parts,
            config=config,
            metadata_columns={},
            run_row=run_row(len(shards) * GRAPHS_PER_SHARD),
            feature_logits=no_logits,
        )
    return meter


def report(name: str, meter: Meter) -> None:
    """Print what a build took."""
    steps = ", ".join(f"{step} {seconds:.0f}" for step, seconds in meter.seconds.items() if seconds >= 0.5)
    total = sum(meter.seconds.values())
    print(f"{name}: {total:.0f} s, peak {meter.peak_bytes / 1e9:.2f} GB; by step, s: {steps}", flush=True)


def settings(n_graphs: int, memory_gb: float) -> AggregateConfig:
    """Pairs from one in 10,000 graphs on, sets of three from one in 1,000 on, as asked of a million graphs."""
    return AggregateConfig(
        by=["task"],
        min_support=max(5, n_graphs // 10_000),
        set_min_support=max(5, n_graphs // 1_000),
        max_set_size=3,
        sets_of=["feature", "component"],
        memory_limit_bytes=int(memory_gb * 1024**3),
    )


def drawn(root: Path, n_graphs: int) -> list[dict[str, Part]]:
    """The parts of a run of this many graphs; those that an earlier call drew in `root` are taken as they are."""
    listing, n_shards = root / "parts.json", n_graphs // GRAPHS_PER_SHARD
    listed = json.loads(listing.read_text()) if listing.is_file() else []
    shards = [{name: Part(**part) for name, part in shard.items()} for shard in listed]
    if len(shards) < n_shards:
        started = time.monotonic()
        shards += write_shards(root, n_shards - len(shards), first=len(shards))
        listing.write_text(json.dumps([{name: asdict(part) for name, part in shard.items()} for shard in shards]))
        print(f"{n_graphs:,} graphs drawn in {time.monotonic() - started:.0f} s", flush=True)
    return shards[:n_shards]


@app.command()
def scale(
    n_graphs: int = 1_000_000,
    place: Annotated[Path, typer.Option(help="folder with 20 GB of room")] = Path("runs/benchmarks/million"),
    memory_gb: Annotated[float, typer.Option(help="memory limit of the database")] = 3.0,
    with_ray: Annotated[bool, typer.Option(help="blocks as Ray tasks")] = True,
    compare: Annotated[bool, typer.Option(help="build everything anew at the end, and compare")] = False,
) -> None:
    """Aggregate the graphs; then go on with 1 per cent more."""
    config = settings(n_graphs, memory_gb)
    n_shards = n_graphs // GRAPHS_PER_SHARD
    n_more = max(1, n_shards // 100)
    shards = drawn(place, n_graphs + n_more * GRAPHS_PER_SHARD)
    for built in ("grown", "whole"):
        shutil.rmtree(place / built, ignore_errors=True)
    with spread(with_ray) as run:
        first = build(place, place / "grown", shards[:n_shards], config, run)
        report(f"{n_graphs:,} graphs", first)
        _sizes(place / "grown")
        added = build(place, place / "grown", shards, config, run)
        report(f"{n_more / n_shards:.0%} added", added)
        print(f"adding costs {sum(added.seconds.values()) / sum(first.seconds.values()):.3f} of building")
        if compare:
            report("all at once", build(place, place / "whole", shards, config, run))
            results = [place / built / "results.duckdb" for built in ("whole", "grown")]
            print(f"differences: {compare_tables(*results)}")


@app.command()
def draw(n_graphs: int = 1_000_000, place: Path = Path("runs/benchmarks/million")) -> None:
    """Only draw the parts, which the others then find."""
    drawn(place, n_graphs)


@app.command()
def growth(
    place: Annotated[Path, typer.Option(help="folder with room")] = Path("runs/benchmarks/growth"),
    sizes: Annotated[str, typer.Option(help="numbers of graphs")] = "10000,30000,100000,300000",
    memory_gb: float = 3.0,
    with_ray: bool = True,
) -> None:
    """A table of time and memory by number of graphs."""
    for n_graphs in map(int, sizes.split(",")):
        shards = drawn(place, n_graphs)
        shutil.rmtree(place / "whole", ignore_errors=True)
        with spread(with_ray) as run:
            report(f"{n_graphs:,} graphs", build(place, place / "whole", shards, settings(n_graphs, memory_gb), run))
        _sizes(place / "whole")


@app.command()
def queries(
    database: Annotated[Path, typer.Argument(help="results.duckdb of a built run")] = Path(
        "runs/benchmarks/million/grown/results.duckdb"
    ),
) -> None:
    """Time the queries of the cookbook, the slower of two runs each, but for those of a harvest beside the run."""
    text = COOKBOOK.read_text(encoding="utf-8")
    for heading, sql in _queries(text):
        if "harvest." in sql:
            continue
        seconds = max(_timed(lambda sql=sql: query(database, sql)) for _ in range(2))  # type: ignore[misc]
        print(f"{seconds:7.3f} s  {heading}", flush=True)


def _queries(text: str) -> Iterator[tuple[str, str]]:
    heading = ""
    for block in re.split(r"(```sql\n.*?```)", text, flags=re.DOTALL):
        if block.startswith("```sql"):
            yield heading, block.removeprefix("```sql\n").removesuffix("```")
        else:
            words = [line for line in block.splitlines() if line.strip() and not line.startswith("```")]
            heading = words[-1] if words else heading


def _timed(work: Callable[[], Any]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _sizes(place: Path) -> None:
    tables = ("nodes", "edges", "features", "edge_stats", "cooccurrence", "hyperedges")
    counts = " UNION ALL ".join(f"SELECT '{name}' AS name, count(*) AS n FROM {name}" for name in tables)
    rows = {name: n for name, n in query(place / "results.duckdb", counts).rows()}
    print(", ".join(f"{name} {n:,}" for name, n in rows.items()))
    print(query(place / "results.duckdb", "SELECT * FROM hyperedge_limits WHERE granularity = 'feature'"))
    print(", ".join(f"{path.name} {path.stat().st_size / 1e9:.2f} GB" for path in sorted(place.glob("*.duckdb"))))


if __name__ == "__main__":
    app()
