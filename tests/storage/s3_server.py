"""A real S3 server for tests: moto's, in a process of its own, which can be made to fail as S3 does.

    python -m tests.storage.s3_server --failures 0.05

prints the port and serves on 127.0.0.1 until it is ended. Of the requests that fail, one in three is turned away with
503 SlowDown, one ends with 500 before anything was done, and one is done, but its answer is lost behind a 500.
"""

import argparse
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

REPOSITORY = Path(__file__).resolve().parent.parent.parent
BUCKET = "bucket"
COUNT_PATH = "/failures-so-far"
_SLOW_DOWN = ("503 Slow Down", "SlowDown", "Please reduce your request rate.")
_INTERNAL = ("500 Internal Server Error", "InternalError", "We encountered an internal error. Please try again.")


class FailingAtTimes:
    """The server's application, of which a share of requests fails; `COUNT_PATH` tells how many did."""

    def __init__(self, application: Callable, share: float, seed: int) -> None:
        self._application, self._share = application, share
        self._chance, self._mutex = random.Random(seed), threading.Lock()
        self._n_failed = 0
        self._one_condition = threading.Lock()

    def __call__(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        """One request."""
        if environ["PATH_INFO"] == COUNT_PATH:
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [str(self._n_failed).encode()]
        with self._mutex:
            fails, kind = self._chance.random() < self._share, self._chance.choice(("slow", "internal", "lost"))
            self._n_failed += fails
        if not fails:
            return self._answered(environ, start_response)
        if kind == "lost":
            for _ in self._answered(environ, lambda *_: lambda _: None):
                pass
        else:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        return _refused(_SLOW_DOWN if kind == "slow" else _INTERNAL, start_response)

    def _answered(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        if not {"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"} & environ.keys():
            return self._application(environ, start_response)
        with self._one_condition:  # S3 looks at a condition and writes in one step, moto in two
            return self._application(environ, start_response)


def _refused(answer: tuple[str, str, str], start_response: Callable) -> Iterable[bytes]:
    status, code, message = answer
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # connections that stay open, as S3's do

    def log(self, *_: object) -> None:
        """Say nothing."""


def serve(failures: float, seed: int) -> None:
    """Serve until the process is ended; makes the bucket."""
    application = FailingAtTimes(DomainDispatcherApplication(create_backend_app), failures, seed)
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Quiet)
    print(server.port, flush=True)
    server.serve_forever()


@contextmanager
def started_s3(*, failures: float = 0.0, seed: int = 0) -> Iterator[dict[str, str]]:
    """A server with one bucket; gives what its clients need in their environment."""
    import boto3

    command = [sys.executable, "-m", "tests.storage.s3_server", "--failures", str(failures), "--seed", str(seed)]
    server = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test-secret", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=endpoint, **keys).create_bucket(Bucket=BUCKET)
        yield {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    finally:
        server.kill()
        server.wait()


@contextmanager
def in_environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--failures", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    serve(arguments.failures, arguments.seed)
