"""Drivers that overlap: no receipt is ever replaced, no shard lost, no session number given twice."""

import pytest

from tests.storage.takeovers import Violation, run_schedule
from tracer.run import ledger as ledger_module
from tracer.run.ledger import Ledger
from tracer.storage import lease as lease_module


def test_five_hundred_schedules_keep_every_promise():
    n_sessions = [len(run_schedule(seed).sessions) for seed in range(500)]
    assert sum(n > 2 for n in n_sessions) > 100, "drivers do take over from one another"


@pytest.mark.slow
def test_twenty_thousand_schedules_keep_every_promise():
    run_schedules(range(500, 20_500))


def run_schedules(seeds):
    for seed in seeds:
        run_schedule(seed)


def overwrites(ledger, receipt):
    """A receipt that is written whatever is there."""
    ledger_module.write_json(ledger.store, ledger_module.receipt_name(receipt.shard_id), ledger_module.asdict(receipt))
    return receipt


def takes_whatever_is_there(client, name, content, version):
    """A lease that is replaced without looking at its version."""
    found = client.read(name)
    return client.replace(name, content, found[1] if found else version)


@pytest.mark.parametrize(
    ("place", "name", "bug"),
    [(Ledger, "_write", overwrites), (lease_module, "replace_settled", takes_whatever_is_there)],
)
def test_a_planted_bug_is_found_and_its_schedule_named(place, name, bug, monkeypatch):
    monkeypatch.setattr(place, name, bug)
    with pytest.raises(Violation, match="seed [0-9]+: "):
        run_schedules(range(1000))
