"""A server that speaks OpenAI's protocol over real HTTP, with faults at seeded rates and a log of its own.

    python -m tests.autointerp.server --log FILE [--answer MODULE:FUNCTION] [--port N] ...

prints its base URL. Chat completions (json_schema, json_object, plain; log-probabilities; usage with cached tokens),
files and batches; paths of Azure OpenAI too. Which request fails, and how, follows from the seed, what is asked and how
often it was asked, so that it fails again in every run and not for ever.
"""

import argparse
import asyncio
import hashlib
import importlib
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.autointerp.batch_files import BatchFiles
from tests.autointerp.faults import Bucket, Faults
from tests.autointerp.replies import Cache, completion, example_of

Answer = Callable[[list[dict[str, str]], dict[str, Any] | None], str]
"""Messages and the JSON schema asked for (None without one) in, the text of the answer out."""


@dataclass(kw_only=True)
class Server:
    """What the server does; `modes` are the forms that it can be asked for, `n_batch_polls` those until one is done."""

    answer: Answer = example_of
    log: Path
    faults: Faults = Faults()
    latency_s: float = 0.0
    hang_s: float = 3600.0
    bucket: Bucket | None = None
    modes: tuple[str, ...] = ("json_schema", "json_object")
    limit_name: str = "max_tokens"
    key: str | None = None
    n_batch_polls: int = 2
    cache: Cache = field(default_factory=Cache)
    n_asked: Counter[str] = field(default_factory=Counter)

    def app(self) -> web.Application:
        """The routes, with and without Azure's prefixes."""
        app = web.Application(client_max_size=2**30)
        batches = BatchFiles(self._batched, self._write, self.n_batch_polls)
        for root in ("/v1", "/openai", "/openai/deployments/{deployment}"):
            app.router.add_post(f"{root}/chat/completions", self.complete)
            batches.add_routes(app, root)
        return app

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """One chat completion, or one fault."""
        body = await request.json()
        body.setdefault("model", request.match_info.get("deployment"))
        given = request.headers.get("api-key") or request.headers.get("authorization", "")
        if self.key is not None and given.removeprefix("Bearer ") != self.key:
            return self._error(body, 401, "invalid_api_key", f"Incorrect API key provided: {given}")
        wait_s = self.bucket.wait_s() if self.bucket else 0.0
        if wait_s:
            return self._error(body, 429, "rate_limit_exceeded", "too many requests", retry_after_s=wait_s)
        await asyncio.sleep(self.latency_s)
        fault = self._fault(body)
        if fault == "rate_limited":
            return self._error(body, 429, "rate_limit_exceeded", "too many requests", retry_after_s=0.2)
        if fault == "server_error":
            return self._error(body, 503, "server_error", "the server is overloaded")
        if fault in ("hung", "dropped"):
            self._note(body, fault)
            await asyncio.sleep(self.hang_s if fault == "hung" else 0.0)
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        refusal = self._unsupported(body)
        if refusal is not None:
            return self._error(body, 400, "invalid_request_error", refusal[1], param=refusal[0])
        content = json.dumps(self._completion(body, fault)).encode()
        if fault == "malformed":
            self._note(body, "malformed")
            return web.Response(body=content[: len(content) // 2], content_type="application/json")
        self._note(body, "answer")
        return web.Response(body=content, content_type="application/json")

    def _batched(self, body: dict[str, Any], custom_id: str) -> dict[str, Any] | None:
        """The answer in a batch; what comes to no answer by itself is an error there."""
        fault = self._fault(body)
        is_answer = fault in (None, "wrong_form", "refused", "truncated")
        self._note(body, "answer" if is_answer else "batch_error", custom_id=custom_id)
        return self._completion(body, fault) if is_answer else None

    def _completion(self, body: dict[str, Any], fault: str | None) -> dict[str, Any]:
        wanted = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
        text = self.answer(body["messages"], wanted)
        return completion(body, text, fault, self.cache)

    def _unsupported(self, body: dict[str, Any]) -> tuple[str, str] | None:
        mode = (body.get("response_format") or {}).get("type")
        if mode is not None and mode not in self.modes:
            return "response_format", f"response_format of type {mode} is not supported"
        if self.limit_name not in body:
            return "max_tokens", f"Unsupported parameter: use '{self.limit_name}' instead."
        return None

    def _fault(self, body: dict[str, Any]) -> str | None:
        asked = asked_hash(body["messages"])
        self.n_asked[asked] += 1
        return self.faults.choose(asked, self.n_asked[asked])

    def _error(
        self, body: dict[str, Any], status: int, code: str, message: str, *, retry_after_s: float | None = None,
        param: str | None = None,
    ) -> web.Response:  # fmt: skip
        self._note(body, str(status))
        error = {"error": {"message": message, "type": code, "code": code, "param": param}}
        headers = {} if retry_after_s is None else {"retry-after": f"{retry_after_s:.3f}"}
        return web.json_response(error, status=status, headers=headers)

    def _note(self, body: dict[str, Any], result: str, **more: str) -> None:
        self._write({"asked": asked_hash(body["messages"]), "result": result} | more)

    def _write(self, entry: dict[str, Any]) -> None:
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": time.time()} | entry) + "\n")


def asked_hash(messages: list[dict[str, str]]) -> str:
    """What was asked, in the server's log: a hash over roles and contents."""
    pairs = [[message["role"], message["content"]] for message in messages]
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


def read_log(log: Path) -> list[dict[str, Any]]:
    """The entries of a server's log, oldest first."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


@contextmanager
def serving(server: Server, port: int = 0) -> Iterator[str]:
    """Serve in a thread of this process; gives the base URL, without /v1."""
    loop, ready, found = asyncio.new_event_loop(), threading.Event(), []

    async def start() -> web.AppRunner:
        runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        found.append(runner.addresses[0][1])
        ready.set()
        return runner

    def work() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield f"http://127.0.0.1:{found[0]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def main() -> None:
    """Serve until stdin is closed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--answer", default="tests.autointerp.replies:example_of", help="MODULE:FUNCTION")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--faults", type=float, default=0.0, help="share of requests that fail, in every way")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency-s", type=float, default=0.0)
    parser.add_argument("--hang-s", type=float, default=3600.0)
    parser.add_argument("--per-minute", type=float, default=None, help="requests a minute")
    parser.add_argument("--burst", type=float, default=10.0, help="requests at once beyond those")
    options = parser.parse_args()
    module, _, function = options.answer.partition(":")
    server = Server(
        answer=getattr(importlib.import_module(module), function),
        log=options.log,
        faults=Faults.of_every_kind(options.faults, options.seed),
        latency_s=options.latency_s,
        hang_s=options.hang_s,
        bucket=Bucket(per_minute=options.per_minute, size=options.burst) if options.per_minute else None,
    )
    with serving(server, options.port) as url:
        print(f"{url}/v1", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
