"""Asks calls of a server in a process of its own, which can be killed: URL, run folder, number of calls."""

import sys

from tests.autointerp.asked import named_calls
from tracer.autointerp.client.answerer import Answerer
from tracer.config.autointerp import ClientConfig
from tracer.storage.store import open_store

N_IN_FLIGHT = 8


def settings(url: str) -> ClientConfig:
    """Of a client that is in a hurry, with few requests in flight."""
    return ClientConfig(
        base_url=url, model="m", timeout_s=2.0, cooldown_s=0.5, start_concurrency=4, max_concurrency=N_IN_FLIGHT
    )


if __name__ == "__main__":
    url, run, n_calls = sys.argv[1:]
    with Answerer(settings(url), open_store(run)) as answerer:
        for _ in answerer.answer(named_calls(int(n_calls))):
            pass
