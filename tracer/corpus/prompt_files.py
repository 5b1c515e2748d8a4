"""Prompts as Parquet: the corpus folder of a run, written once and whole, read back by ranges."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tracer.corpus.prompts import Prompt
from tracer.errors import ArtifactError
from tracer.storage.store import is_uri, open_store

FOLDER = "corpus"
VERSION_KEY, VERSION = b"tracer.corpus_version", b"1"
N_PROMPTS_PER_FILE = 50_000
N_PROMPTS_PER_ROW_GROUP = 1_000

SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("text", pa.string()),
        ("token_ids", pa.list_(pa.int64())),
        ("targets", pa.list_(pa.int64())),
        ("task", pa.string()),
        ("split", pa.string()),
        ("pair_id", pa.string()),
        ("answer", pa.string()),
        ("counterfactual_answer", pa.string()),
        ("answer_token_id", pa.int64()),
        ("metadata", pa.string()),
    ],
    metadata={VERSION_KEY: VERSION},
)
"""One row per prompt, the fields of `Prompt`; `metadata` is a JSON object."""


class PromptWriter:
    """Writes prompts in order, a row group at a time, into numbered files of one folder; see `writing`."""

    def __init__(self, folder: Path) -> None:
        self.names: list[str] = []
        self._folder = folder
        self._rows: list[dict[str, object]] = []
        self._file: pq.ParquetWriter | None = None
        self._n_in_file = 0

    def add(self, prompt: Prompt) -> None:
        """Take one more prompt."""
        row = {name: getattr(prompt, name) for name in SCHEMA.names}
        self._rows.append(row | {"metadata": json.dumps(prompt.metadata, ensure_ascii=False)})
        if len(self._rows) == N_PROMPTS_PER_ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Write what is left and bring every file to disk."""
        if self._rows:
            self._flush()
        self._close_file()

    def _flush(self) -> None:
        if self._file is None:
            self.names.append(f"prompts-{len(self.names):05d}.parquet")
            self._file = pq.ParquetWriter(self._folder / self.names[-1], SCHEMA)
        self._file.write_table(pa.Table.from_pylist(self._rows, schema=SCHEMA))
        self._n_in_file += len(self._rows)
        self._rows = []
        if self._n_in_file >= N_PROMPTS_PER_FILE:
            self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            _to_disk(self._folder / self.names[-1])
        self._file, self._n_in_file = None, 0


@contextmanager
def writing(root: Path) -> Iterator[PromptWriter]:
    """A writer whose files appear in `root/corpus`, together, when the block ends well; else nothing is left of them.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    folder, partial = root / FOLDER, root / f"{FOLDER}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        writer = PromptWriter(partial)
        yield writer
        writer.close()
        _to_disk(partial)
        if folder.exists():
            shutil.rmtree(folder)
        partial.replace(folder)
        _to_disk(root)
    except OSError as error:
        found = f"that it cannot be written ({error})"
        raise ArtifactError(
            str(folder), found=found, expected="a writable folder", to_do="Choose another run folder."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_ids(root: Path, file: str) -> list[str]:
    """The prompt ids of one file, in order.

    Raises:
        ArtifactError: the file is absent, damaged or of another version.
    """
    with _opened(root / file) as parquet:
        return parquet.read(columns=["prompt_id"])["prompt_id"].to_pylist()


def read_lengths(root: Path, file: str) -> Iterator[tuple[str, int, int]]:
    """Of each prompt of one file, in order: its id, its length in tokens, and its first token.

    Raises:
        ArtifactError: the file is absent, damaged or of another version.
    """
    with _opened(root / file) as parquet:
        for group in range(parquet.num_row_groups):
            rows = parquet.read_row_group(group, columns=["prompt_id", "token_ids"])
            token_ids = rows["token_ids"]
            lengths, firsts = pc.list_value_length(token_ids), pc.list_element(token_ids, 0)
            yield from zip(rows["prompt_id"].to_pylist(), lengths.to_pylist(), firsts.to_pylist(), strict=True)


def local_corpus(root: str | Path) -> Path:
    """A local folder with the stored prompts of a run or harvest.

    Args:
        root: its folder, its results file, or the URI of a folder in an object store, from which they are fetched.

    Raises:
        ArtifactError: there are none.
    """
    if is_uri(root):
        store = open_store(root)
        with store.fetched(store.list(FOLDER)) as folder:
            found = folder
    else:
        path = Path(root).expanduser()
        found = path.parent if path.suffix == ".duckdb" else path
    _prompt_files(found)
    return found


def read_token_ids(root: Path) -> Iterator[tuple[str, list[int]]]:
    """Of each prompt of all files, in order: its id and its tokens.

    Raises:
        ArtifactError: there are none, or one is damaged.
    """
    for path in _prompt_files(root):
        with _opened(path) as file:
            for batch in file.iter_batches(N_PROMPTS_PER_ROW_GROUP, columns=["prompt_id", "token_ids"]):
                yield from zip(batch["prompt_id"].to_pylist(), batch["token_ids"].to_pylist(), strict=True)


def _prompt_files(root: Path) -> list[Path]:
    files = sorted((root / FOLDER).glob("*.parquet"))
    if not files:
        to_do = "Name the folder of a run or harvest."
        raise ArtifactError(str(root / FOLDER), found="no files", expected="stored prompts", to_do=to_do)
    return files


def read_prompts(root: Path, file: str, start: int, n_prompts: int) -> list[Prompt]:
    """`n_prompts` prompts of one file from row `start`; only the row groups that hold them are read.

    Raises:
        ArtifactError: the file is absent, damaged or of another version.
    """
    rows: list[dict[str, object]] = []
    with _opened(root / file) as parquet:
        first = 0
        for group in range(parquet.num_row_groups):
            n_in_group = parquet.metadata.row_group(group).num_rows
            begin, end = max(start - first, 0), min(start + n_prompts - first, n_in_group)
            if begin < end:
                rows += parquet.read_row_group(group).slice(begin, end - begin).to_pylist()
            first += n_in_group
    return [_to_prompt(row) for row in rows]


def _to_prompt(row: dict) -> Prompt:
    lists = {name: tuple(row[name]) for name in ("token_ids", "targets")}
    return Prompt(**(row | lists | {"metadata": json.loads(row["metadata"])}))


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    to_do = "Start the run again in a new folder."
    try:
        with pq.ParquetFile(path) as parquet:
            found = (parquet.schema_arrow.metadata or {}).get(VERSION_KEY, b"none").decode()
            if found != VERSION.decode():
                expected = f"version {VERSION.decode()}"
                raise ArtifactError(str(path), found=f"prompts of version {found}", expected=expected, to_do=to_do)
            yield parquet
    except (OSError, pa.ArrowException) as error:
        found = f"no readable file ({' '.join(str(error).split())})"
        raise ArtifactError(str(path), found=found, expected="prompts written by tracer", to_do=to_do) from error
