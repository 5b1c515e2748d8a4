"""Labels and scores outlive the tables: what cost money or a person's time lies beside the ledger too.

`tracer aggregate` makes all tables anew, so the rows that it cannot make again are kept as Parquet in the run's folder
`autointerp`, and put back by every labelling.
"""

import pyarrow as pa
import pyarrow.parquet as pq

from tracer.autointerp.client.ledger import read_calls
from tracer.storage.store import Store
from tracer.tables.building import insert_rows
from tracer.tables.database import Connection, ask
from tracer.tables.label_writing import put_rows
from tracer.tables.schema import TABLES

FOLDER = "autointerp"
KEPT = {
    "all_labels": "SELECT * FROM all_labels WHERE NOT starts_with(method, 'rule') ORDER BY label_id",
    "label_scores": "SELECT * FROM label_scores ORDER BY label_id, scorer, measure, tested",
    "label_score_means": "SELECT * FROM label_score_means ORDER BY method, scorer, measure, tested, layer",
    "label_splits": "SELECT * FROM label_splits ORDER BY label_id, document_id, split",
}
ANSWERED_AT = """
UPDATE all_labels SET created_at = answered.created_at FROM (
    SELECT request_hash, min(created_at) AS created_at FROM llm_calls GROUP BY request_hash
) AS answered WHERE all_labels.request_hash = answered.request_hash
"""
"""A label is as old as the answer that it is from, however often the stage is run."""


def keep(connection: Connection, store: Store) -> None:
    """Copy the rows that aggregation could not make again into the run's folder.

    Args:
        connection: to the results file.
        store: the run folder.
    """
    for name, sql in KEPT.items():
        rows = ask(connection, sql).to_arrow().cast(TABLES[name].arrow_schema())
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, compression="zstd")
        store.write(_file(name), sink.getvalue().to_pybytes())


def put_back(connection: Connection, store: Store) -> None:
    """Put kept rows, and the ledger's, into the results file.

    Args:
        connection: to the results file, in a transaction.
        store: the run folder.

    Raises:
        ArtifactError: the ledger is damaged, or kept rows are of other columns.
    """
    for name in KEPT:
        if store.has([_file(name)]):
            put_rows(connection, name, pq.read_table(pa.BufferReader(store.read(_file(name)))))
    put_calls(connection, store)


def put_calls(connection: Connection, store: Store) -> None:
    """Make `llm_calls` what the ledger says, and labels as old as their answers.

    Args:
        connection: to the results file, in a transaction.
        store: the run folder.

    Raises:
        ArtifactError: the ledger is damaged.
    """
    connection.execute("DELETE FROM llm_calls")
    for calls in read_calls(store, FOLDER):
        insert_rows(connection, TABLES["llm_calls"], calls)
    connection.execute(ANSWERED_AT)


def _file(name: str) -> str:
    return f"{FOLDER}/{name}.parquet"
