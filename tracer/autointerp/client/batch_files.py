"""Batches as the endpoint keeps them: uploaded files of requests, found again by a key; and our notes about them."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from tracer.autointerp.client.endpoint import TRANSIENT, Endpoint, RequestError
from tracer.storage.store import Store, in_parallel

KEY_NAME = "tracer_batch"
"""Under which a batch's metadata holds the key of its note."""
FIRST_PAUSE_S = 1.0
MAX_TRIES = 6
MAX_LISTED = 1_000
"""Batches of the endpoint, the newest first, among which one is looked for."""

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch at the endpoint, for one model, and the hashes of its requests with the most (prompt, completion) tokens
    that each can come to; `batch_id` is None until it is known.
    """

    key: str
    hashes: tuple[str, ...]
    batch_id: str | None = None
    model: str = ""
    worst: tuple[tuple[int, int], ...] = ()


class Notes:
    """Notes about batches that are not in the ledger yet, one file each.

    Args:
        store: where they lie.
        folder: their folder in it.
    """

    def __init__(self, store: Store, folder: str) -> None:
        self._store, self._folder = store, folder

    def read(self) -> list[Batch]:
        """All of them."""
        # beside them a killed process may have left one that is not whole, under another name
        names = [name for name in self._store.list(self._folder) if name.endswith(".json")]
        notes = map(json.loads, in_parallel(self._store, self._store.read, names))
        return [
            Batch(
                key=note["key"], hashes=tuple(note["hashes"]), batch_id=note["batch_id"], model=note["model"],
                worst=tuple((prompt, completion) for prompt, completion in note["worst"]),
            )
            for note in notes
        ]  # fmt: skip

    def write(self, batch: Batch) -> None:
        """Make or replace one."""
        self._store.write(f"{self._folder}/{batch.key}.json", json.dumps(asdict(batch)).encode())

    def remove(self, key: str) -> None:
        """Remove one."""
        self._store.remove(f"{self._folder}/{key}.json")


class BatchFiles:
    """Files and batches over HTTP, every request tried again while that may help.

    All methods raise RunError where the endpoint refuses or does not answer.

    Args:
        endpoint: who is asked.
        is_azure: whether paths are Azure's.
        timeout_s: longest wait for one request, seconds.
    """

    def __init__(self, endpoint: Endpoint, *, is_azure: bool, timeout_s: float) -> None:
        self._endpoint, self._timeout_s = endpoint, timeout_s
        self._url: Any = "/chat/completions" if is_azure else "/v1/chat/completions"

    async def make(self, key: str, bodies: dict[str, dict[str, Any]]) -> str:
        """Upload requests, by `custom_id`, and make a batch of them that carries `key`; its identity."""
        lines = (
            json.dumps({"custom_id": custom_id, "method": "POST", "url": self._url, "body": body})
            for custom_id, body in bodies.items()
        )
        content, client = "\n".join(lines).encode(), self._endpoint.client
        uploaded = await self._tried(lambda: client.files.create(file=(f"{key}.jsonl", content), purpose="batch"))

        async def create() -> str:
            found = await self._found(key)  # an answer that was lost may have made it
            if found is not None:
                return found
            made = await client.batches.create(
                input_file_id=uploaded.id, endpoint=self._url, completion_window="24h", metadata={KEY_NAME: key}
            )
            return made.id

        return await self._tried(create)

    async def find(self, key: str) -> str | None:
        """The identity of the batch that carries `key`, if there is one."""
        return await self._tried(lambda: self._found(key))

    async def state(self, batch_id: str) -> dict[str, Any]:
        """What the endpoint says of a batch."""
        return (await self._tried(lambda: self._endpoint.client.batches.retrieve(batch_id))).model_dump()

    async def results(self, file_id: str) -> list[dict[str, Any]]:
        """The lines of a file of results."""
        answer = await self._tried(lambda: self._endpoint.client.files.content(file_id))
        return [json.loads(line) for line in self._endpoint.without_keys(answer.content).splitlines() if line]

    async def _found(self, key: str) -> str | None:
        n_seen = 0
        async for batch in self._endpoint.client.batches.list(limit=100):
            n_seen += 1
            if (batch.metadata or {}).get(KEY_NAME) == key:
                return batch.id
            if n_seen >= MAX_LISTED:
                break
        return None

    async def _tried(self, ask: Callable[[], Awaitable[Made]]) -> Made:
        pause_s = FIRST_PAUSE_S
        for n_left in reversed(range(MAX_TRIES)):
            try:
                return await self._endpoint.tried(ask(), self._timeout_s)
            except RequestError as error:
                if error.error_class not in TRANSIENT or not n_left:
                    raise self._endpoint.fatal(error) from None
                await asyncio.sleep(error.retry_after_s or pause_s)
                pause_s *= 2
        raise AssertionError
