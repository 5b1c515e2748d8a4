"""Parquet parts: what a worker writes for one table of one shard, and what every later stage reads back or refuses."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tracer.errors import ArtifactError
from tracer.storage.store import Store
from tracer.tables.declare import Table
from tracer.tables.schema import PART_TABLES, SCHEMA_VERSION

FOLDER = "parts"
VERSION_KEY = b"tracer.schema_version"
TO_DO = "Move the shard's receipt away and run again: the shard is redone."


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One committed file: its table, its place relative to the run folder, its rows and the hash of its bytes."""

    table: str
    path: str
    n_rows: int
    sha256: str


def write_part(store: Store, table: Table, rows: pa.Table, *, shard_id: str, attempt: int) -> Part:
    """Write `rows` to `parts/<table>-<shard>-<attempt>.parquet`; the name appears only when the file is whole.

    Raises:
        ArtifactError: the columns are not exactly the declared ones, in their order and types.
    """
    path = f"{FOLDER}/{table.name}-{shard_id}-{attempt}.parquet"
    expected = table.arrow_schema()
    if not rows.schema.equals(expected):
        raise ArtifactError(
            path, found=_columns(rows.schema), expected=_columns(expected), to_do="Mend what makes the rows."
        )
    sink = pa.BufferOutputStream()
    rows = rows.replace_schema_metadata({VERSION_KEY: str(SCHEMA_VERSION).encode()})
    # limits of a column leave NaN out, and DuckDB then drops `isnan` from a query as never true
    pq.write_table(rows, sink, compression="zstd", write_statistics=False)
    content = sink.getvalue().to_pybytes()
    store.write(path, content)
    return Part(table=table.name, path=path, n_rows=rows.num_rows, sha256=hashlib.sha256(content).hexdigest())


def check_part(root: Path, part: Part) -> None:
    """Compare a part's footer with its receipt and its declaration; reads no rows.

    Raises:
        ArtifactError: absent, cut short, of another schema version, or with other columns or another number of rows.
    """
    path = root / part.path
    if not path.is_file():
        raise ArtifactError(str(path), found="no such file", expected=f"a part of `{part.table}`", to_do=TO_DO)
    try:
        with pq.ParquetFile(path) as file:
            footer, schema = file.metadata, file.schema_arrow.remove_metadata()
    except (pa.ArrowException, OSError) as error:
        found = f"a damaged file ({' '.join(str(error).split())})"
        raise ArtifactError(str(path), found=found, expected="a whole Parquet file", to_do=TO_DO) from error
    version = (footer.metadata or {}).get(VERSION_KEY, b"none").decode()
    if version != str(SCHEMA_VERSION):
        to_do = "Use the version of tracer that made this run, or make a new run."
        raise ArtifactError(str(path), found=f"schema version {version}", expected=str(SCHEMA_VERSION), to_do=to_do)
    expected = PART_TABLES[part.table].arrow_schema()
    if not schema.equals(expected):
        raise ArtifactError(str(path), found=_columns(schema), expected=_columns(expected), to_do=TO_DO)
    if footer.num_rows != part.n_rows:
        raise ArtifactError(str(path), found=f"{footer.num_rows} rows", expected=f"{part.n_rows} rows", to_do=TO_DO)


def check_content(root: Path, part: Part) -> None:
    """As `check_part`, and compare the bytes with the hash in the receipt; reads the whole file.

    Raises:
        ArtifactError: as `check_part`, or the bytes are not those that were committed.
    """
    check_part(root, part)
    path = root / part.path
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != part.sha256:
        raise ArtifactError(str(path), found=f"sha256 {digest}", expected=f"sha256 {part.sha256}", to_do=TO_DO)


def read_part(root: Path, part: Part) -> pa.Table:
    """The rows of a part, in declared columns; `root` is a local folder in which it lies.

    Raises:
        ArtifactError: as `check_content`.
    """
    check_content(root, part)
    # as one file: by its name alone, pyarrow would take `KEY=VALUE` folders above it for columns
    with pq.ParquetFile(root / part.path) as file:
        return file.read().replace_schema_metadata(None)


def _columns(schema: pa.Schema) -> str:
    return "columns " + ", ".join(f"{field.name} {field.type}" for field in schema)
