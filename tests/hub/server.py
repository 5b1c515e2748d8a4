"""A hub on this machine: the part of the Hugging Face hub's protocol that `huggingface_hub` and `datasets` use.

Protocol: https://huggingface.co/docs/hub/api and what the clients send. A commit is a hash of the files, so the same
files give the same commit. Adding a repository again moves its branch; earlier commits can still be fetched.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

from tests.hub.answers import Handler
from tests.hub.repositories import Access, Fault, FaultKind, Kind, Repository, Request

_FORGOTTEN = ("HF_", "HUGGING", "TRANSFORMERS_", "XDG_CACHE_HOME")


class Hub:
    """Repositories behind a local address; `tokens` maps a token to the gated and private repositories it may read.

    Those in `narrow_tokens` are fine-grained ones whose settings leave gated repositories out.
    """

    def __init__(self) -> None:
        self.url = ""
        self.tokens: dict[str, set[str]] = {}
        self.narrow_tokens: set[str] = set()
        self.requests: list[Request] = []
        self.holding, self.stopped = threading.Event(), threading.Event()
        self._repositories: dict[tuple[Kind, str], Repository] = {}
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(
        self,
        name: str,
        folder: Path | str,
        kind: Kind = "model",
        revision: str = "main",
        *,
        gated: bool = False,
        private: bool = False,
    ) -> str:
        """Put the files of `folder` on a branch of a repository, new or there already; gives the commit."""
        made = Repository(name=name, kind=kind, gated=gated, private=private)
        repository = self._repositories.setdefault((kind, name), made)
        repository.gated, repository.private = gated, private
        return repository.commit(Path(folder), revision)

    def remove(self, name: str, kind: Kind = "model") -> None:
        """Forget a repository."""
        del self._repositories[kind, name]

    def spoil(self, path: str, kind: FaultKind, *, after: int = 0, n_times: int = 1) -> None:
        """Let the next `n_times` answers go wrong (see `Fault`); `path` is the end of the address."""
        self._faults.append(Fault(path=path, kind=kind, after=after, n_times=n_times))

    def environment(self, cache_dir: Path | str, token: str | None = None) -> dict[str, str]:
        """The environment of a process that has this hub for its own, an empty cache folder and perhaps a token."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FORGOTTEN)}
        return kept | {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache_dir),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            **({} if token is None else {"HF_TOKEN": token}),
        }

    def downloads(self) -> list[str]:
        """The addresses of the files whose bytes were asked for, in order."""
        return [request.path for request in self.requests if request.method == "GET" and "/resolve/" in request.path]

    def repository(self, kind: Kind, name: str, token: str | None) -> tuple[Repository | None, Access]:
        """A repository, None where this token must not know of it, and whether its files may be read."""
        found = self._repositories.get((kind, name))
        if found is None or not (found.private or found.gated):
            return found, "open"
        allowed = token is not None and name in self.tokens[token]
        if not allowed and found.private:
            return None, "open"
        if found.gated and token in self.narrow_tokens:
            return found, "narrow"
        return found, "open" if allowed else "anonymous" if token is None else "forbidden"

    def fault(self, path: str) -> Fault | None:
        """What is to go wrong with this answer."""
        with self._lock:
            for fault in self._faults:
                if fault.n_times > 0 and path.endswith(fault.path):
                    fault.n_times -= 1
                    return fault
        return None


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A running hub, on a free port of this machine alone."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, hub))
    server.daemon_threads, server.block_on_close = True, False
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
