"""Files and batches of the server: uploaded requests, worked off after a number of looks at their state."""

import json
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web


class BatchFiles:
    """Routes under one root.

    Args:
        answer: a completion for a body and its custom_id; None where it fails.
        note: writes to the server's log.
        n_polls: looks at a batch until it is done.
    """

    def __init__(
        self,
        answer: Callable[[dict[str, Any], str], dict[str, Any] | None],
        note: Callable[[dict[str, Any]], None],
        n_polls: int,
    ) -> None:
        self._answer, self._note, self._n_polls = answer, note, n_polls
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}

    def add_routes(self, app: web.Application, root: str) -> None:
        """Serve below `root`."""
        app.router.add_post(f"{root}/files", self.take_file)
        app.router.add_get(f"{root}/files/{{file}}/content", self.give_file)
        app.router.add_post(f"{root}/batches", self.take_batch)
        app.router.add_get(f"{root}/batches", self.list_batches)
        app.router.add_get(f"{root}/batches/{{batch}}", self.give_batch)

    async def take_file(self, request: web.Request) -> web.Response:
        """Upload a file of requests."""
        form = await request.post()
        uploaded = form["file"]
        name = f"file-{len(self.files)}"
        self.files[name] = uploaded.file.read()
        return web.json_response(_file(name, self.files[name]))

    async def give_file(self, request: web.Request) -> web.Response:
        """The content of a file."""
        return web.Response(body=self.files[request.match_info["file"]])

    async def take_batch(self, request: web.Request) -> web.Response:
        """Begin a batch over an uploaded file."""
        asked = await request.json()
        batch_id = f"batch-{len(self.batches)}"
        self.batches[batch_id] = {
            "id": batch_id, "object": "batch", "endpoint": asked["endpoint"], "completion_window": "24h",
            "input_file_id": asked["input_file_id"], "status": "in_progress", "created_at": int(time.time()),
            "metadata": asked.get("metadata"), "n_polls": 0,
        }  # fmt: skip
        self._note({"result": "batch", "batch": batch_id})
        return web.json_response(self.batches[batch_id])

    async def list_batches(self, request: web.Request) -> web.Response:
        """All batches, the newest first."""
        items = list(self.batches.values())[::-1]
        return web.json_response({"object": "list", "data": items, "has_more": False})

    async def give_batch(self, request: web.Request) -> web.Response:
        """The state of a batch, which is worked off after `n_polls` of these."""
        batch = self.batches[request.match_info["batch"]]
        batch["n_polls"] += 1
        if batch["status"] == "in_progress" and batch["n_polls"] >= self._n_polls:
            self._work_off(batch)
        return web.json_response(batch)

    def _work_off(self, batch: dict[str, Any]) -> None:
        """Answer every line; an answer that is None is an error."""
        lines: dict[str, list[str]] = {"output": [], "error": []}
        for line in self.files[batch["input_file_id"]].splitlines():
            item = json.loads(line)
            reply = self._answer(item["body"], item["custom_id"])
            response = reply and {"status_code": 200, "body": reply}
            error = None if reply else {"code": "server_error", "message": "the server is overloaded"}
            result = {"custom_id": item["custom_id"], "response": response, "error": error}
            lines["output" if reply else "error"].append(json.dumps(result))
        for kind, found in lines.items():
            if found:
                batch[f"{kind}_file_id"] = f"file-{len(self.files)}"
                self.files[batch[f"{kind}_file_id"]] = "\n".join(found).encode()
        batch["status"] = "completed"


def _file(name: str, content: bytes) -> dict[str, Any]:
    return {
        "id": name, "object": "file", "bytes": len(content), "created_at": int(time.time()), "filename": name,
        "purpose": "batch", "status": "processed",
    }  # fmt: skip
