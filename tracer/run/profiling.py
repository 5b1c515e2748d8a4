"""Where the time of a shard goes: seconds by phase, counted only where a run asks for it."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import torch

from tracer.run.ledger import Receipt

Phase = Literal["forward", "encode", "rows", "prune", "harvest", "write"]
PHASES: tuple[Phase, ...] = ("forward", "encode", "rows", "prune", "write")
"""The model's pass; features, errors and targets; rows of the adjacency; pruning and the rows of graphs; counts over
the shard and its parts.
"""
HARVEST_PHASES: tuple[Phase, ...] = ("harvest", "write")
"""A harvest's pass; its parts."""
_seconds: ContextVar[dict[str, float] | None] = ContextVar("seconds by phase", default=None)


@contextmanager
def profiled(is_on: bool) -> Iterator[dict[str, float]]:
    """Seconds by phase of what runs inside the `with`; nothing is counted where it is not on.

    Args:
        is_on: whether the run is profiled. A phase then waits for the accelerator at both of its ends.
    """
    seconds: dict[str, float] = {}
    token = _seconds.set(seconds if is_on else None)
    try:
        yield seconds
    finally:
        _seconds.reset(token)


@contextmanager
def phase(name: Phase) -> Iterator[None]:
    """Count what runs inside the `with` as one phase; what raises is not counted.

    Args:
        name: the phase.
    """
    seconds = _seconds.get()
    if seconds is None:
        yield
        return
    started = _now()
    yield
    seconds[name] = seconds.get(name, 0.0) + _now() - started


def sum_of_phases(receipts: Iterable[Receipt]) -> dict[str, float]:
    """Seconds by phase over all workers, with `other` for what lies between phases; empty where nothing was profiled.

    Args:
        receipts: those of the run; the ones without a profile are left out.
    """
    profiles = [receipt for receipt in receipts if receipt.phases]
    if not profiles:
        return {}
    names = HARVEST_PHASES if any("harvest" in receipt.phases for receipt in profiles) else PHASES
    seconds: dict[str, float] = {name: sum(receipt.phases.get(name, 0.0) for receipt in profiles) for name in names}
    seconds["other"] = max(0.0, sum(receipt.seconds for receipt in profiles) - sum(seconds.values()))
    return {name: round(value, 3) for name, value in seconds.items()}


def phases_line(seconds: dict[str, float]) -> str:
    """One line for people.

    Args:
        seconds: what `sum_of_phases` gives.
    """
    total = sum(seconds.values())
    shares = ", ".join(f"{name} {value:.1f} ({value / max(total, 1e-9):.0%})" for name, value in seconds.items())
    return f"profile, seconds of all workers: {shares}"


def _now() -> float:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()  # else the phase that waits for a result is charged for those that asked for it
    return time.perf_counter()
