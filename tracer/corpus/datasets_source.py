"""Rows of a Hugging Face `datasets` source: a folder of `save_to_disk`, a folder of data files, or a hub name."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tracer.config import CorpusConfig
from tracer.errors import DataError

Row = dict[str, object]


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


def _open(config: CorpusConfig) -> Iterable[Row]:
    from datasets import load_dataset, load_from_disk

    path = Path(config.source)
    if not any((path / name).is_file() for name in ("state.json", "dataset_dict.json")):
        name, split = config.dataset_config, config.dataset_split
        return load_dataset(config.source, name=name, split=split, streaming=config.streaming)
    saved = load_from_disk(config.source)
    if isinstance(saved, dict):
        if config.dataset_split not in saved:
            found, expected = f"the splits {', '.join(saved)}", f"a split {config.dataset_split!r}"
            raise DataError(config.source, found=found, expected=expected, to_do="Set corpus.dataset_split.")
        saved = saved[config.dataset_split]
    return saved.to_iterable_dataset() if config.streaming else saved
