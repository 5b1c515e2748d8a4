"""A process that has a hub of its own: `huggingface_hub` reads its settings on import, so this one cannot change hubs.

Run as a program it answers calls, one JSON line each way; `hub_client` starts it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tracer.config import CorpusConfig
from tracer.corpus.datasets_source import read_dataset
from tracer.errors import TracerError
from tracer.model.checks import check_repositories
from tracer.model.readers.registry import set_hash
from tracer.model.references import check_access, content_hash, pinned, resolve

REPOSITORY = Path(__file__).resolve().parent.parent.parent
CALLS: dict[str, Callable[..., Any]] = {
    "resolve": lambda reference: str(resolve(reference)),
    "content_hash": lambda reference: content_hash(resolve(reference)),
    "pinned": pinned,
    "use_token": lambda token: os.environ.update(HF_TOKEN=token),
    "check_access": lambda *references: check_access(references),
    "check_repositories": check_repositories,
    "set_hash": lambda reference: set_hash(resolve(reference)),
    "rows": lambda settings: list(read_dataset(CorpusConfig(**settings))),
}


class RefusedError(Exception):
    """What the process raised; its text is the whole message."""


class HubClient:
    """Calls into another process; `log` is what it wrote to its standard error."""

    def __init__(self, process: subprocess.Popen[str], log: IO[str]) -> None:
        self.process, self._log = process, log

    def start(self, name: str, *arguments: object) -> None:
        """Send a call and do not wait."""
        self.process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self.process.stdin.flush()

    def __call__(self, name: str, *arguments: object) -> Any:
        """The result of a function of `CALLS`.

        Raises:
            RefusedError: it raised a `TracerError`.
        """
        self.start(name, *arguments)
        line = self.process.stdout.readline()
        assert line, f"the process ended: {self.log()}"
        answer = json.loads(line)
        if "error" in answer:
            raise RefusedError(answer["error"])
        return answer["value"]

    def log(self) -> str:
        """What was written so far."""
        self._log.seek(0)
        return self._log.read()


@contextmanager
def hub_client(environment: Mapping[str, str]) -> Iterator[HubClient]:
    """A process with this environment (see `Hub.environment`)."""
    command = [sys.executable, "-m", "tests.hub.client"]
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, text=True, stdin=pipe, stdout=pipe, stderr=log
        ) as process,
    ):
        try:
            yield HubClient(process, log)
        finally:
            process.kill()


def _serve() -> None:
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer = {"value": CALLS[name](*arguments)}
        except TracerError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
