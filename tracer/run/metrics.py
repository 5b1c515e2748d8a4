"""Prometheus metrics of a run, through Ray's endpoints; made by the driver from what its ledger holds."""

from collections.abc import Iterable

from ray.util.metrics import Counter, Gauge

from tracer.run.ledger import Receipt, ShardError

COUNTERS = {
    "prompts": "prompts of committed shards",
    "graphs": "attribution graphs of committed shards",
    "rows": "rows of all tables of committed shards",
    "failures": "prompts of committed shards that failed",
    "shards": "committed shards",
}
"""What is counted, by the last word of its name; Prometheus sees `ray_tracer_prompts_total`."""
GAUGES = {"shards_left": "shards without a receipt", "shards_given_up": "shards in quarantine"}


class RunMetrics:
    """Counts what becomes true in a ledger. A driver's series carry the tags `run` and `session`; a counter that is
    still zero has none.

    Args:
        run_id: the run.
        session: number of the driver, since two of one process must not add up.
        n_shards: shards of the plan.
        receipts: what earlier drivers committed: the counters start there, so that they equal the ledger.
        given_up: ids of the shards in quarantine.
    """

    def __init__(
        self, run_id: str, session: int, *, n_shards: int, receipts: Iterable[Receipt], given_up: Iterable[str]
    ) -> None:
        tags = {"run": run_id, "session": str(session)}
        self._counters = {
            name: Counter(f"tracer_{name}", meaning, tag_keys=tuple(tags)).set_default_tags(tags)
            for name, meaning in COUNTERS.items()
        }
        self._gauges = {
            name: Gauge(f"tracer_{name}", meaning, tag_keys=tuple(tags)).set_default_tags(tags)
            for name, meaning in GAUGES.items()
        }
        self._n_left, self._given_up = n_shards, set(given_up)
        self._show()
        for receipt in receipts:
            self.committed(receipt)

    def committed(self, receipt: Receipt) -> None:
        """One more shard is done."""
        for name, number in counts_of(receipt).items():
            if number:
                self._counters[name].inc(number)
        self._n_left -= 1
        self._given_up.discard(receipt.shard_id)
        self._show()

    def gave_up(self, error: ShardError) -> None:
        """A shard went to quarantine."""
        self._given_up.add(error.shard_id)
        self._show()

    def _show(self) -> None:
        self._gauges["shards_left"].set(self._n_left)
        self._gauges["shards_given_up"].set(len(self._given_up))


def counts_of(receipt: Receipt) -> dict[str, int]:
    """What a receipt adds to each of `COUNTERS`.

    Args:
        receipt: of one committed shard.
    """
    return {
        "prompts": receipt.n_prompts,
        "graphs": receipt.n_graphs,
        "rows": sum(part.n_rows for part in receipt.parts.values()),
        "failures": receipt.n_failures,
        "shards": 1,
    }
