"""The log of a run for programs: one JSON object a line, by the driver."""

import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from tracer.errors import ArtifactError, RunError
from tracer.run.folder import inside_ray_job
from tracer.run.ledger import Receipt, ShardError
from tracer.storage.store import Store
from tracer.tables.parts import read_part

LOGGER_NAME = "tracer.run"
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|CREDENTIAL|API_?KEY|ACCESS_KEY", re.IGNORECASE)
FEWEST_SECRET_CHARACTERS = 8
"""Shorter values of such variables (`true`, `token`) are modes rather than secrets."""

Level = Literal["info", "warning", "error"]


def log_event(level: Level, event: str, **fields: Any) -> None:
    """Log one event of the run.

    Args:
        level: how bad it is.
        event: what happened, in the same words every time.
        fields: what it happened to: shard, attempt, prompts and the like, as plain data.
    """
    logging.getLogger(LOGGER_NAME).log(logging.getLevelNamesMapping()[level.upper()], event, extra={"fields": fields})


@contextmanager
def logged(path: str | None, run_id: str) -> Iterator[None]:
    """Append what the package logs inside the `with` to a file; without one, it goes nowhere.

    Args:
        path: the file, made where it is absent.
        run_id: the run that every line names.

    Raises:
        RunError: it cannot be written, or would be lost with the working folder of a Ray job.
    """
    handler = logging.NullHandler() if path is None else _file_handler(path, run_id)
    logger = logging.getLogger("tracer")
    level_before = logger.level
    logger.addHandler(handler)
    if path is not None:
        logger.setLevel(logging.INFO)
    try:
        log_event("info", "driver started")
        yield
        log_event("info", "driver ended")
    except BaseException as error:
        log_event("error", "driver stopped", error_class=type(error).__name__, message=str(error))
        raise
    finally:
        logger.setLevel(level_before)
        logger.removeHandler(handler)
        handler.close()


class LogWatcher:
    """Logs what becomes true in a ledger; `store` is the run folder."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def committed(self, receipt: Receipt) -> None:
        """One event for the shard, and one for each prompt of it that failed."""
        if not logging.getLogger(LOGGER_NAME).isEnabledFor(logging.INFO):
            return
        place = {"shard": receipt.shard_id, "attempt": receipt.attempt}
        log_event(
            "info", "shard committed", **place, n_prompts=receipt.n_prompts, n_failures=receipt.n_failures,
            seconds=receipt.seconds, host=receipt.host, pid=receipt.pid, device=receipt.device,
        )  # fmt: skip
        for failure in _failures(self._store, receipt):
            words = {"error_class": failure["error_class"], "message": failure["message"]}
            log_event("warning", "prompt failed", **place, prompts=[failure["item_id"]], **words)

    def gave_up(self, error: ShardError) -> None:
        """One event for the shard."""
        log_event("error", "shard given up", **error_fields(error))


def error_fields(error: ShardError) -> dict[str, Any]:
    """What a log says of a failed attempt.

    Args:
        error: the attempt's error.
    """
    prompts = {} if error.prompt_id is None else {"prompts": [error.prompt_id]}
    place = {"shard": error.shard_id, "attempt": error.attempt, **prompts}
    return {**place, "error_class": error.error_class, "message": error.message}


def _failures(store: Store, receipt: Receipt) -> list[dict[str, Any]]:
    if receipt.n_failures == 0:
        return []
    part = receipt.parts["failures"]
    try:
        with store.fetched([part.path], keep=False) as root:
            return read_part(root, part).to_pylist()
    except ArtifactError as error:  # to be found by whoever needs the rows: a log must not end a run
        log_event("warning", "failures not readable", shard=receipt.shard_id, message=str(error))
        return []


def _file_handler(path: str, run_id: str) -> logging.Handler:
    place = Path(path).expanduser()
    if inside_ray_job() and not place.is_absolute():
        raise RunError(
            path, found="a relative path inside a Ray job, whose working folder is deleted with it",
            expected="an absolute path", to_do="Give --log-file as an absolute path.",
        )  # fmt: skip
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(place, mode="a", encoding="utf-8")
    except OSError as error:
        raise RunError(
            path, found=str(error), expected="a file that can be written", to_do="Choose another --log-file."
        ) from error
    handler.setFormatter(_JsonLine(run_id))
    return handler


class _JsonLine(logging.Formatter):
    """A record as one line of JSON; what the environment calls a secret is starred out."""

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._run_id = run_id
        self._secrets = [
            value
            for name, value in os.environ.items()
            if SECRET_NAME.search(name) and len(value) >= FEWEST_SECRET_CHARACTERS
        ]

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fixed = {"time": time, "level": record.levelname.lower(), "run": self._run_id, "event": record.getMessage()}
        fields = {**fixed, **getattr(record, "fields", {})}
        return json.dumps({name: self._clean(value) for name, value in fields.items()}, ensure_ascii=False)

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, "***")
        return value
