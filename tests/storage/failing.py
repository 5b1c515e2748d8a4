"""A server that fails as stores do: of the requests that fail, one in three is turned away with 503, one ends with 500
before anything was done, and one is done, but its answer is lost behind a 500.
"""

import http.client
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from werkzeug.serving import WSGIRequestHandler, make_server

COUNT_PATH = "/failures-so-far"
_SLOW_DOWN = ("503 Slow Down", "SlowDown", "Please reduce your request rate.")
_INTERNAL = ("500 Internal Server Error", "InternalError", "We encountered an internal error. Please try again.")
_OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding"}


class FailingAtTimes:
    """An application, of which a share of requests fails; `COUNT_PATH` tells how many did."""

    def __init__(self, application: Callable, share: float, seed: int) -> None:
        self._application, self._share = application, share
        self._chance, self._mutex = random.Random(seed), threading.Lock()
        self._n_failed = 0

    def __call__(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        """One request."""
        if environ["PATH_INFO"] == COUNT_PATH:
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [str(self._n_failed).encode()]
        with self._mutex:
            fails, kind = self._chance.random() < self._share, self._chance.choice(("slow", "internal", "lost"))
            self._n_failed += fails
        if not fails:
            return self._application(environ, start_response)
        if kind == "lost":
            for _ in self._application(environ, lambda *_: lambda _: None):
                pass
        else:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        return _refused(_SLOW_DOWN if kind == "slow" else _INTERNAL, start_response)


def _refused(answer: tuple[str, str, str], start_response: Callable) -> Iterable[bytes]:
    status, code, message = answer
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


class Quiet(WSGIRequestHandler):
    """A handler of requests that says nothing."""

    protocol_version = "HTTP/1.1"  # connections that stay open, as stores keep them

    def log(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def failing_before(url: str, share: float) -> Iterator[str]:
    """The address of a server that passes requests on to another one, but for those that fail.

    Args:
        url: the other one's address.
        share: of requests that fail.
    """

    def passed_on(environ: dict, start_response: Callable) -> Iterable[bytes]:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        try:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            headers = {name[5:].replace("_", "-"): text for name, text in environ.items() if name.startswith("HTTP_")}
            if environ.get("CONTENT_TYPE"):
                headers["Content-Type"] = environ["CONTENT_TYPE"]
            if body or environ["REQUEST_METHOD"] in {"PUT", "POST"}:
                headers["Content-Length"] = str(len(body))
            connection.request(environ["REQUEST_METHOD"], environ["REQUEST_URI"], body, headers)
            answer = connection.getresponse()
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _OF_ONE_CONNECTION]
            content = answer.read()
            if answer.getheader("Content-Length") is None:
                kept.append(("Content-Length", str(len(content))))
            start_response(f"{answer.status} {answer.reason}", kept)
            return [content]
        finally:
            connection.close()

    application = FailingAtTimes(passed_on, share, 0)
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
