"""An answerer of a server that behaves as a test wants."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.autointerp.server import Server, read_log, serving
from tracer.autointerp.client.answerer import FOLDER, Answerer
from tracer.autointerp.client.calls import Call, Outcome
from tracer.autointerp.client.ledger import LedgerRow, read_rows
from tracer.config.autointerp import ClientConfig
from tracer.storage.store import open_store


class Asked(NamedTuple):
    """A server's address, its log, and a run folder with a ledger."""

    url: str
    log: Path
    run: Path
    server: Server

    def settings(self, **more: Any) -> ClientConfig:
        """Of a client of this server, in a hurry."""
        usual = {"base_url": f"{self.url}/v1", "model": "m", "cooldown_s": 0.5, "timeout_s": 5.0, "deadline_s": 60.0}
        return ClientConfig.model_validate(usual | more)

    def answerer(self, **more: Any) -> Answerer:
        """A new one over the same ledger."""
        return Answerer(self.settings(**more), open_store(self.run))

    def answers(
        self, calls: Iterator[Call[Any]] | list[Call[Any]], **more: Any
    ) -> list[tuple[Call[Any], Outcome[Any]]]:
        """All answers of a new answerer."""
        with self.answerer(**more) as answerer:
            return list(answerer.answer(calls))

    def rows(self) -> list[LedgerRow]:
        """The ledger."""
        return read_rows(open_store(self.run), FOLDER)

    def results(self) -> list[str]:
        """What the server did, request by request."""
        return [entry["result"] for entry in read_log(self.log)]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Asked]]:
    """Starts a server with given behaviour."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as stack:

        def start(**behaviour: Any) -> Asked:
            server = Server(log=tmp_path / "log.jsonl", **behaviour)
            return Asked(stack.enter_context(serving(server)), server.log, tmp_path / "run", server)

        yield start
