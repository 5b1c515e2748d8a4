"""A real S3 server for tests: moto's, in a process of its own, which can be made to fail as S3 does.

    python -m tests.storage.s3_server --failures 0.05

prints the port and serves on 127.0.0.1 until it is ended.
"""

import argparse
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from tests.storage.failing import FailingAtTimes, Quiet

REPOSITORY = Path(__file__).resolve().parent.parent.parent
BUCKET = "bucket"


def one_condition_at_a_time(application: Callable) -> Callable:
    """S3 looks at a condition and writes in one step, moto in two."""
    mutex = threading.Lock()

    def answered(environ: dict, start_response: Callable) -> Iterable[bytes]:
        if not {"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"} & environ.keys():
            return application(environ, start_response)
        with mutex:
            return application(environ, start_response)

    return answered


def serve(failures: float, seed: int) -> None:
    """Serve until the process is ended; makes the bucket."""
    application = FailingAtTimes(
        one_condition_at_a_time(DomainDispatcherApplication(create_backend_app)), failures, seed
    )
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
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
