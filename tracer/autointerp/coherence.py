"""How alike the texts are that a feature fires in: a signal that needs no label and no language model.

The example-embedding score of Paulo and Belrose (arXiv 2507.08473), as a chance: two texts of a feature are compared
with one of them and a text in which it does not fire, by the cosine of their embeddings. Texts are embedded without
marks, which only the former would have.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from tracer.autointerp.explaining import choose_texts
from tracer.autointerp.feature_evidence import FeatureKey, Source, read_texts
from tracer.autointerp.scoring.measures import hashed
from tracer.autointerp.texts import FeatureText, write
from tracer.errors import ConfigError
from tracer.tables.database import Connection

N_TEXTS = 10
"""Texts of each sort by feature."""
FEWEST = 3
"""Fewest texts of a sort that the signal is told from."""
FEATURES_AT_ONCE = 128
CIRCUIT_FEATURES = "SELECT layer, feature FROM features WHERE support > 0 ORDER BY layer, feature"


@runtime_checkable
class Embedder(Protocol):
    """What embeds texts: `load_embedder` gives the one of the product."""

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "text width"]:
        """A vector of length 1 for each text."""


def load_embedder(folder: Path) -> Embedder:
    """A sentence-transformers model of this machine, on the CPU.

    Args:
        folder: its files; weights in safetensors.

    Raises:
        ConfigError: sentence-transformers is not installed, or the folder holds no such model.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ConfigError(
            "--embedding-model", found="sentence-transformers is not installed", expected="the extra `embedding`",
            to_do="pip install 'tracer[embedding]', or leave the option out: the signal is null then.",
        ) from error  # fmt: skip
    try:
        model = SentenceTransformer(
            str(folder), device="cpu", local_files_only=True, model_kwargs={"use_safetensors": True}
        )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            "--embedding-model", found=f"{folder}: {' '.join(str(error).split())[:300]}",
            expected="a folder with a sentence-transformers model, its weights in safetensors",
            to_do="Download one, such as sentence-transformers/all-MiniLM-L6-v2, with `hf download`.",
        ) from error  # fmt: skip

    def embed(texts: Sequence[str]) -> Tensor:
        found = model.encode(list(texts), convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False)
        return found.float()

    return embed


def example_coherence(active: Float[Tensor, "active width"], inactive: Float[Tensor, "inactive width"]) -> float | None:
    """Chance that two texts a feature fires in are more alike than one of them and a text it does not fire in; ties
    count half, 0.5 is chance. None with fewer than three texts of a sort.

    Args:
        active: unit vectors of texts in which the feature fires.
        inactive: of texts in which it does not.
    """
    if min(len(active), len(inactive)) < FEWEST:
        return None
    alike, unlike = active @ active.T, active @ inactive.T
    above = (alike[:, :, None] > unlike[:, None, :]).float() + 0.5 * (alike[:, :, None] == unlike[:, None, :]).float()
    others = ~torch.eye(len(active), dtype=torch.bool)
    return float(above.mean(2)[others].mean())


def read_coherence(
    connection: Connection, source: Source, embed: Embedder, report: Callable[[int, int], None] | None = None
) -> Mapping[FeatureKey, float]:
    """The signal for the features of the run's circuits; those with too few texts are absent.

    Args:
        connection: to a results file, a harvest attached where `source` says so.
        source: where texts are stored.
        embed: gives vectors.
        report: called with features done and features there are.
    """
    keys = connection.execute(CIRCUIT_FEATURES).fetchall()
    found: dict[FeatureKey, float] = {}
    n_done, coming = 0, iter(keys)
    while batch := list(islice(coming, FEATURES_AT_ONCE)):
        found |= dict(_of_batch(connection, source, embed, batch))
        n_done += len(batch)
        if report is not None:
            report(n_done, len(keys))
    return found


def _of_batch(
    connection: Connection, source: Source, embed: Embedder, keys: Sequence[FeatureKey]
) -> Iterator[tuple[FeatureKey, float]]:
    texts = read_texts(connection, source, keys)
    chosen = {key: (choose_texts(texts[key], N_TEXTS), _inactive(texts[key])) for key in keys}
    lines = {key: [[write(text.tokens, source.between) for text in sort] for sort in chosen[key]] for key in keys}
    distinct = list(dict.fromkeys(line for sorts in lines.values() for sort in sorts for line in sort))
    if not distinct:
        return
    vectors, place = embed(distinct), {line: idx for idx, line in enumerate(distinct)}
    for key, sorts in lines.items():
        active, inactive = (vectors[[place[line] for line in dict.fromkeys(sort)]] for sort in sorts)
        coherence = example_coherence(active, inactive)
        if coherence is not None:
            yield key, coherence


def _inactive(texts: Sequence[FeatureText]) -> list[FeatureText]:
    """Texts in which the feature does not fire, drawn by hash."""
    inactive = [text for text in texts if not text.is_active]
    return sorted(inactive, key=lambda text: hashed(text.document_id, text.kind, text.peak_idx))[:N_TEXTS]
