"""Calls that tests and benchmarks ask, and the server as a process of its own."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tests.autointerp.replies import example_of
from tests.autointerp.server import asked_hash
from tracer.autointerp.client.calls import Call, Message, Parameters
from tracer.autointerp.client.ledger import LedgerRow

RULES = "You are shown what a feature of a language model fires on. Say what the feature stands for. " * 60
"""Static, and long enough to be cached."""


class Named(BaseModel):
    """An answer: the reasoning comes first."""

    reasoning: str
    name: str


def named_calls(n_calls: int, *, stage: str = "label", first: int = 0, rules: str = RULES) -> Iterator[Call[Named]]:
    """Calls about different features, alike but for a few hundred tokens."""
    for idx in range(first, first + n_calls):
        shown = " ".join(f"example {idx} {word}" for word in range(20 + idx % 60))
        yield Call(
            stage=stage, target=f"feature/0/{idx}", messages=(Message("system", rules), Message("user", shown)),
            form=Named, parameters=Parameters(max_tokens=200), prompt_version="test-1",
        )  # fmt: skip


def named_answer(messages: list[dict[str, str]], schema: dict[str, Any] | None) -> str:
    """The right answer to one of `named_calls`, repairs included; the name follows from what is shown."""
    if len(messages) < 2:
        return example_of(messages, schema)
    return json.dumps({"reasoning": "It is plain to see.", "name": right_name(messages[1]["content"])})


def right_name(shown: str) -> str:
    """The name that a feature has of which this is shown."""
    return hashlib.sha256(shown.encode()).hexdigest()[:12]


def asked_for(row: LedgerRow) -> str:
    """What the request of a row is called in the server's log."""
    assert row.request is not None
    return asked_hash([{"role": role, "content": text} for role, text in json.loads(row.request)["messages"]])


@contextmanager
def server_process(log: Path, *options: str) -> Iterator[str]:
    """The server in a process of its own; gives the base URL."""
    command = [sys.executable, "-m", "tests.autointerp.server", "--log", str(log), *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(30)
