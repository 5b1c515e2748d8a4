"""How close calls come to an endpoint's limit of requests a minute, and what the client takes meanwhile.

python -m tests.benchmarks.labelling_rate --n-calls 10000 --per-minute 500 --latency-s 1
"""

import re
import tempfile
import time
from collections import Counter
from pathlib import Path

import typer

from tests.autointerp.asked import named_calls, server_process
from tests.autointerp.server import read_log
from tracer.autointerp.client.answerer import Answerer
from tracer.config.autointerp import ClientConfig
from tracer.storage.store import open_store


def main(n_calls: int = 10_000, per_minute: float = 500.0, latency_s: float = 1.0, burst: float = 10.0) -> None:
    """Ask a token-bucket server in a process of its own; print time against the limit's, CPU, memory and refusals."""
    with tempfile.TemporaryDirectory() as folder:
        log, store = Path(folder) / "log.jsonl", open_store(Path(folder) / "run")
        options = ("--per-minute", str(per_minute), "--burst", str(burst), "--latency-s", str(latency_s))
        with server_process(log, *options) as url:
            before_mb, cpu_s, begun = _held_mb("VmRSS"), time.process_time(), time.monotonic()
            with Answerer(ClientConfig(base_url=url, model="test"), store) as answerer:
                statuses = Counter(outcome.status for _, outcome in answerer.answer(named_calls(n_calls)))
                spent = answerer.spent()
            seconds = time.monotonic() - begun
        own_s = n_calls / per_minute * 60
        results = Counter(entry["result"] for entry in read_log(log))
        ledger_mb = sum(size or 0 for size in store.list("autointerp").values()) / 2**20
    print(f"{n_calls} calls, {per_minute:g} a minute, {latency_s:g} s each: {dict(statuses)}")
    print(f"{seconds:.1f} s; the limit's own time {own_s:.1f} s; ratio {seconds / own_s:.3f}")
    print(f"the server's log: {dict(results)}; cached share of prompt tokens {spent.cached_share:.3f}")
    print(
        f"client: {time.process_time() - cpu_s:.1f} s of CPU, {(time.process_time() - cpu_s) / n_calls * 1e3:.1f} ms a"
    )
    print(f"call; peak memory {_held_mb('VmHWM'):.0f} MB, {before_mb:.0f} MB before; ledger {ledger_mb:.1f} MB")


def _held_mb(name: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found.group(1)) / 1024


if __name__ == "__main__":
    typer.run(main)
