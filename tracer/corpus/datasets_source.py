"""Rows of a Hugging Face `datasets` source: a folder of `save_to_disk`, a folder of data files, or a hub name."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tracer.config import CorpusConfig
from tracer.corpus.files import READERS
from tracer.errors import DataError

Row = dict[str, object]

_HUB_NAME = re.compile(r"(?P<name>[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*)(?:@(?P<revision>\S+))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def read_dataset(config: CorpusConfig) -> Iterator[Row]:
    """The rows of the split, streamed where `config.streaming` says so; code in the repository is never run.

    Raises:
        DataError: no such folder, dataset, configuration or split, or data that `datasets` cannot read.
    """
    try:
        yield from _open(config)
    except DataError:
        raise
    # `datasets` and what it calls (hub client, file readers) raise dozens of unrelated classes for one wrong name.
    except Exception as error:
        found = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
        expected = "a file, a datasets folder or the name of a dataset on the hub, with this split"
        to_do = "Check corpus.source, corpus.dataset_config and corpus.dataset_split."
        raise DataError(config.source, found=found, expected=expected, to_do=to_do) from error


def hub_dataset(source: str) -> tuple[str, str | None] | None:
    """Name and revision of a dataset on the hub, from `org/name[@revision]`; None for any other source.

    Args:
        source: `corpus.source`.
    """
    named = _HUB_NAME.fullmatch(source)
    is_elsewhere = Path(source).exists() or Path(source).suffix.lower() in READERS
    return None if named is None or is_elsewhere else (named["name"], named["revision"])


def _open(config: CorpusConfig) -> Iterable[Row]:
    from datasets import load_dataset_builder, load_from_disk

    path = Path(config.source)
    if any((path / name).is_file() for name in ("state.json", "dataset_dict.json")):
        saved = load_from_disk(config.source)
        split = _split_of(saved, config) if isinstance(saved, dict) else saved
        return split.to_iterable_dataset() if config.streaming else split
    name, revision = hub_dataset(config.source) or (config.source, None)
    builder = load_dataset_builder(name, name=config.dataset_config, revision=revision)
    _check_commit(config.source, revision, builder.hash)
    if config.streaming:
        return builder.as_streaming_dataset(split=config.dataset_split)
    builder.download_and_prepare()
    return builder.as_dataset(split=config.dataset_split)


def _split_of(splits: dict, config: CorpusConfig) -> Any:
    if config.dataset_split not in splits:
        found, expected = f"the splits {', '.join(splits)}", f"a split {config.dataset_split!r}"
        raise DataError(config.source, found=found, expected=expected, to_do="Set corpus.dataset_split.")
    return splits[config.dataset_split]


def _check_commit(source: str, revision: str | None, found: str | None) -> None:
    # Without the hub, `datasets` takes whatever copy it prepared last.
    if revision is not None and _COMMIT.fullmatch(revision) and found != revision:
        raise DataError(
            source,
            found=f"a prepared copy of another commit, {found}",
            expected=f"commit {revision}",
            to_do="Read it with a connection to the hub.",
        )
