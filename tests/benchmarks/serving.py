"""One side of a comparison as a process of its own: requests and replies are JSON lines over its standard streams."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def serve(load: Callable[[], Answer]) -> None:
    """Load, say so, and answer requests until there are no more. What libraries print goes to standard error."""
    replies = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    answer = load()
    replies.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        replies.write(json.dumps(answer(json.loads(line))) + "\n")


class Side:
    """A started side; use it in a `with`, which ends the process."""

    def __init__(self, python: Path, module: str, arguments: list[str], *, threads: int, log: Path) -> None:
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        environment = os.environ | dict.fromkeys(names, str(threads)) | {"HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen(
            [python, "-m", f"tests.benchmarks.{module}", *arguments, "--threads", str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log.open("w", encoding="utf-8"),
            env=environment | {"TOKENIZERS_PARALLELISM": "false"}, text=True,
        )  # fmt: skip
        self._read()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its reply."""
        _pipe(self._process.stdin).write(json.dumps(request) + "\n")
        _pipe(self._process.stdin).flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = _pipe(self._process.stdout).readline()
        if not line:
            end = "\n".join(self._log.read_text(encoding="utf-8").splitlines()[-15:])
            raise SystemExit(f"{self._process.args} ended; the end of {self._log}:\n{end}")
        return json.loads(line)

    def __enter__(self) -> "Side":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _pipe(self._process.stdin).close()
        self._process.wait()


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
