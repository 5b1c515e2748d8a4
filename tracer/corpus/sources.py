"""Where rows come from: a file by its suffix, a datasets folder or hub name, or a task generator."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.config import CorpusConfig
from tracer.corpus import datasets_source, files
from tracer.corpus.tasks import generate
from tracer.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TASKS_PREFIX = "tasks:"


def read_rows(config: CorpusConfig, tokenizer: "PreTrainedTokenizerBase") -> Iterator[dict[str, object]]:
    """The rows of `config.source` in order, one at a time; each a mapping from column to value.

    Raises:
        DataError: the source is absent, unreadable or of no known kind.
        ConfigError: options that the source does not take.
    """
    source = config.source
    if source.startswith(TASKS_PREFIX):
        return generate(source.removeprefix(TASKS_PREFIX), tokenizer, config.options)
    if config.options:
        found, expected = f"options for {source!r}", f"none, unless the source is {TASKS_PREFIX}NAME"
        raise ConfigError("corpus.options", found=found, expected=expected, to_do="Remove them.")
    path = Path(source)
    read_file = files.READERS.get(path.suffix.lower())
    if read_file is not None:
        _refuse_absent(path)
        return read_file(path, config.text_column)
    if path.is_file():
        known = ", ".join(files.READERS)
        raise DataError(
            source, found=f"a file ending in {path.suffix!r}", expected=f"one of {known}", to_do="Convert it."
        )
    return datasets_source.read_dataset(config)


def _refuse_absent(path: Path) -> None:
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise DataError(str(path), found=found, expected="a file of prompts", to_do="Check corpus.source.")
