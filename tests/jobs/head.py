"""A Ray cluster of one machine as its user starts it: `ray start --head`, with tokens, ports and folders of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
RAY = str(Path(sys.executable).parent / "ray")
DEADLINE_S = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A running head; `environment` is that of another shell on its machine, without the mode of authentication."""

    address: str
    environment: dict[str, str]

    def job(self, command: str, *arguments: str, mode: str = "token") -> subprocess.CompletedProcess:
        """`ray job COMMAND`, from a shell in which RAY_AUTH_MODE is `mode`."""
        return subprocess.run(
            [RAY, "job", command, "--address", self.address, *arguments],
            cwd=REPOSITORY,
            env=self.environment | ({"RAY_AUTH_MODE": mode} if mode else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def submit(self, *entry_point: str, options: tuple[str, ...] = (), mode: str = "token") -> tuple[int, str]:
        """Submit `python ENTRY_POINT` with the repository as its working folder; gives exit code and what was shown."""
        shown = self.job("submit", "--working-dir", ".", *options, "--", sys.executable, *entry_point, mode=mode)
        return shown.returncode, shown.stdout


@contextmanager
def started_head(n_cpus: int) -> Iterator[Head]:
    """Start a head and end it with SIGTERM to `ray start --block`, which ends all of its processes."""
    gcs, dashboard, agent, client = _free_ports(4)
    # A folder of few letters: the names of sockets below it may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="tr", dir="/tmp"))
    known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = known | {"HOME": str(folder), "OMP_NUM_THREADS": "1"}
    subprocess.run([RAY, "get-auth-token", "--generate"], env=environment, capture_output=True, check=True)
    command = [
        RAY, "start", "--head", "--block", f"--num-cpus={n_cpus}", "--node-ip-address=127.0.0.1", f"--port={gcs}",
        f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}",
        "--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats", f"--temp-dir={folder / 'ray'}",
        f"--object-store-memory={100 * 2**20}",
    ]  # fmt: skip
    log = folder / "head.log"
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        _wait_for(log, process)
        yield Head(address=f"http://127.0.0.1:{dashboard}", environment=environment)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(log: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while "Ray runtime started" not in (text := log.read_text()):
        assert process.poll() is None, text
        assert time.monotonic() < deadline, text
        time.sleep(0.2)


def _free_ports(n: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
