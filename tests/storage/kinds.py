"""The kinds of object stores, each with a server for tests."""

import pytest

from tests.storage import azure_server, gcs_server, s3_server

OBJECT_STORES = ["s3", "gs", pytest.param("abfss", marks=pytest.mark.slow)]
"""By the scheme of their URIs."""

STARTED = {"s3": s3_server.started_s3, "gs": gcs_server.started_gcs, "abfss": azure_server.started_azure}
BUCKETS = {
    "s3": f"s3://{s3_server.BUCKET}",
    "gs": f"gs://{gcs_server.BUCKET}",
    "abfss": f"abfss://{azure_server.CONTAINER}@{azure_server.ACCOUNT}.dfs.core.windows.net",
}
IMPATIENT = {
    "s3": ("tracer.storage.s3.MAX_ATTEMPTS", 1),
    "gs": ("tracer.storage.gcs.RETRY_S", 0.1),
    "abfss": ("tracer.storage.azure.MAX_ATTEMPTS", 1),
}
"""What makes a client give up at once."""
