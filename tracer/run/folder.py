"""The run folder: where everything of a run lies, which path may become one, and who may write to it.

A folder is claimed by one driver at a time, by a file lock that dies with its process. The lock file also counts the
driver sessions, so that the attempts of a session can never share a file name with those of a session before it (whose
workers may still be writing when the next driver starts).
"""

import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tracer.errors import ArtifactError, RunError
from tracer.files.writing import write_file

RECORD_NAME, LOCK_NAME = "run.json", ".lock"
CORPUS_NAMES = ("corpus", "corpus.partial")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of one run; `root` is absolute."""

    root: Path

    @property
    def record(self) -> Path:
        """run.json: what the run is."""
        return self.root / RECORD_NAME

    @property
    def receipts(self) -> Path:
        """One file per committed shard."""
        return self.root / "shards"

    @property
    def quarantine(self) -> Path:
        """One file per shard that was given up."""
        return self.root / "quarantine"

    @property
    def damaged(self) -> Path:
        """Receipts that `tracer verify --heal` moved away."""
        return self.root / "damaged"

    @property
    def aggregates(self) -> Path:
        """What later stages keep for a resume."""
        return self.root / "aggregates"

    @property
    def database(self) -> Path:
        """All tables in one DuckDB file."""
        return self.root / "results.duckdb"

    def unfinished(self) -> list[Path]:
        """What a driver that died before it wrote run.json leaves behind; the lock, which guards the rest, is last."""
        names = (*CORPUS_NAMES, LOCK_NAME)
        return [*self.root.glob(f".{RECORD_NAME}.*.tmp"), *(self.root / name for name in names)]


def check_out(out: str | Path | None) -> Path:
    """The absolute path of a run folder that can be made, or is there.

    Raises:
        RunError: no path given, a URI, a relative path inside a Ray job (its working folder is temporary and would be
            lost with everything in it), or a place that cannot be written.
    """
    if out is None:
        raise RunError("run folder", found="none given", expected="--out or `runner.out`", to_do="Name a folder.")
    if "://" in str(out):
        raise RunError(
            str(out), found="a URI", expected="a folder of this machine", to_do="Give a local or mounted path."
        )
    path, in_job = Path(out).expanduser(), inside_ray_job()
    if in_job and not path.is_absolute():
        raise RunError(
            str(out),
            found="a relative path inside a Ray job, whose working folder is deleted with it",
            expected="an absolute path",
            to_do="Give --out as an absolute path on storage that every machine shares.",
        )
    path = path.absolute()
    nearest = next(parent for parent in (path, *path.parents) if parent.exists())
    if not nearest.is_dir():
        raise RunError(str(path), found=f"{nearest} is a file", expected="a folder", to_do="Choose another --out.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise RunError(
            str(path), found=f"{nearest} cannot be written", expected="a writable place", to_do="Choose another --out."
        )
    return path


def inside_ray_job() -> bool:
    """Whether this process was started by `ray job submit` or by a Ray worker."""
    in_environment = any(name in os.environ for name in ("RAY_JOB_ID", "RAY_JOB_CONFIG_JSON_ENV_VAR"))
    return in_environment or "_ray_pkg_" in str(Path.cwd())


def existing(root: str | Path) -> RunFolder:
    """The folder of a run that was started before.

    Raises:
        ArtifactError: there is no run.json in it.
    """
    folder = RunFolder(Path(root).expanduser().absolute())
    if not folder.record.is_file():
        raise ArtifactError(
            str(root), found="no run.json", expected="a run folder", to_do="Give the --out of a `tracer run`."
        )
    return folder


@contextmanager
def claimed(root: Path) -> Iterator[tuple[RunFolder, int]]:
    """Make the folder if need be and hold its lock; gives the folder and the number of this driver session, from 0.

    What was made is removed when the block ends without a run.json.

    Raises:
        RunError: another driver holds the lock, or the folder holds other things, or it cannot be made.
    """
    folder = RunFolder(root)
    missing = [parent for parent in (root, *root.parents) if not parent.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            str(root), found=str(error), expected="a writable place", to_do="Choose another --out."
        ) from error
    _refuse_foreign(folder)
    with _locked(root / LOCK_NAME) as session:
        try:
            yield folder, session
        finally:
            if not folder.record.exists():
                _remove(folder, missing)


def _refuse_foreign(folder: RunFolder) -> None:
    others = set(folder.root.iterdir()) - set(folder.unfinished())
    if others and not folder.record.exists():
        raise RunError(
            str(folder.root),
            found=f"a folder with other things in it ({', '.join(sorted(path.name for path in others)[:3])})",
            expected="a new or empty folder, or a run",
            to_do="Choose another --out.",
        )


def _remove(folder: RunFolder, made: list[Path]) -> None:
    for path in folder.unfinished():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for path in made:
        try:
            path.rmdir()
        except OSError:  # someone else's things are in it by now
            return


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    with _lock_file(path) as file:
        session = _next_session(file.readline())
        file.seek(0)
        file.write(json.dumps({"session": session, "pid": os.getpid(), "host": socket.gethostname()}) + "\n")
        file.flush()
        os.fsync(file.fileno())
        yield session


def _lock_file(path: Path) -> TextIO:
    """The open lock file, held: a lock on a file that its last holder removed would keep nobody out, so try again."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+", encoding="utf-8")
        except OSError as error:
            raise RunError(
                str(path), found=str(error), expected="a writable place", to_do="Choose another --out."
            ) from error
        if not _take(file):
            with file:
                holder = _holder(file.readline())
            raise RunError(
                str(path),
                found=f"another driver of this run: {holder}",
                expected="one driver per run",
                to_do="Wait for it, or end it; then run the same command again.",
            )
        if _lies_at(path, file):
            return file
        file.close()


def _take(file: TextIO) -> bool:
    """Lock; a second look tells a driver from `driver_of`, which holds the lock for no longer than it takes to ask."""
    for pause_s in (0.05, 0.0):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause_s)
        else:
            return True
    return False


def driver_of(folder: RunFolder) -> str | None:
    """The process that drives the run at this moment, in words; None where there is none."""
    try:
        file = (folder.root / LOCK_NAME).open(encoding="utf-8")
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(file.readline())
    return None


def _lies_at(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder(line: str) -> str:
    try:
        holder = json.loads(line)
        return f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError):
        return "a process that is just starting"


def _next_session(line: str) -> int:
    return json.loads(line)["session"] + 1 if line else 0


def write_json(path: Path, data: object) -> None:
    """Write JSON so that `path` holds either all of it or what it held before."""
    write_file(path, json.dumps(data, indent=1, ensure_ascii=False).encode())


def read_json(path: Path) -> dict:
    """Read a JSON object that `write_json` wrote.

    Raises:
        ArtifactError: it is absent or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            str(path), found=str(error), expected="JSON written by tracer", to_do="Start a new run folder."
        ) from error
