"""One pass over the windows of a shard, and everything that is collected on it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
import torch
from jaxtyping import Int
from torch import Tensor

from tracer.config.harvest import ExampleConfig
from tracer.corpus.windows import Window, batches_of
from tracer.harvest.candidates import Candidates
from tracer.harvest.example_candidates import ExampleCandidates, ExampleRule
from tracer.harvest.feature_sums import FeatureSums, Histograms
from tracer.harvest.reading import ReadWindows, WindowReader
from tracer.harvest.token_sums import TokenSums
from tracer.harvest.window_texts import ReferenceFirings, WindowTexts, token_hashes
from tracer.harvest.windows import Accumulator, document_id


@dataclass(slots=True)
class DocumentCounts:
    """Windows of one document, and how many of their positions count, or do not and why."""

    n_windows: int = 0
    n_eligible: int = 0
    n_special: int = 0
    n_high_norm: int = 0
    n_not_finite: int = 0


@dataclass(slots=True)
class HarvestedShard:
    """What one pass over a shard gave: partial tables by name, and counts by document id."""

    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    documents: dict[str, DocumentCounts] = field(default_factory=dict)


class Harvester:
    """Collects shard after shard; remembers the best examples so far, so that later shards give fewer.

    `more` makes further accumulators for each shard.
    """

    def __init__(
        self,
        reader: WindowReader,
        examples: ExampleConfig,
        token_text: Callable[[int], str],
        *,
        d_vocab: int,
        reference_share: float,
        more: Callable[[], Iterable[Accumulator]] = lambda: (),
    ) -> None:
        self._reader, self._examples, self._token_text = reader, examples, token_text
        self._d_vocab, self._reference_share, self._more = d_vocab, reference_share, more
        self._n_features = {encoder.layer: len(encoder.transcoder.b_enc) for encoder in reader.encoders}
        self._hashes = token_hashes(d_vocab, token_text)
        self._known: dict[str, Candidates] = {}
        self._known_before = self._known

    def harvest(self, windows: Sequence[Window], batch_tokens: int) -> HarvestedShard:
        """One pass over the windows of whole documents, those of a document one after another.

        Args:
            windows: the windows; none gives no tables.
            batch_tokens: positions that are run at once.
        """
        shard, self._known_before = HarvestedShard(), self._known
        examples = ExampleCandidates(self._n_features, self._hashes, rule_of(self._examples), self._known)
        accumulators: list[Accumulator] = [examples, *self._accumulators()]
        for batch in batches_of(windows, batch_tokens):
            read = self._reader.read(batch)
            for accumulator in accumulators:
                accumulator.add(read.batch)
            _count(shard.documents, read)
        if windows:
            for accumulator in accumulators:
                shard.tables |= accumulator.tables()
            self._known = examples.known
        return shard

    def forget(self) -> None:
        """Forget the examples of the last shard: it came to nothing, so they must not stand in the way of others."""
        self._known = self._known_before

    def _accumulators(self) -> list[Accumulator]:
        return [
            *accumulators_of(
                self._n_features,
                self._hashes,
                self._token_text,
                reference_share=self._reference_share,
                seed=self._examples.seed,
                device=self._reader.model.device,
            ),
            *self._more(),
        ]


def accumulators_of(
    n_features: Mapping[int, int],
    hashes: Int[Tensor, " vocab"],
    token_text: Callable[[int], str],
    *,
    reference_share: float,
    seed: int,
    device: torch.device,
) -> list[Accumulator]:
    """What is counted beside examples.

    Args:
        n_features: features of each layer.
        hashes: as `token_hashes` gives them.
        token_text: the text of a token.
        reference_share: share of the windows that are reference windows.
        seed: of the draw of these.
        device: where counts are held.
    """
    return [
        FeatureSums(n_features, device),
        Histograms(n_features),
        TokenSums(n_features, len(hashes), token_text, device),
        WindowTexts(hashes, reference_share=reference_share, seed=seed),
        ReferenceFirings(reference_share=reference_share, seed=seed),
    ]


def rule_of(settings: ExampleConfig) -> ExampleRule:
    """The rule by which examples are chosen."""
    return ExampleRule(
        n_top=settings.n_top,
        n_drawn=settings.n_quantiles * settings.n_per_quantile,
        n_before=settings.n_before,
        n_after=settings.n_after,
        seed=settings.seed,
    )


def _count(documents: dict[str, DocumentCounts], read: ReadWindows) -> None:
    columns = [
        read.batch.document, read.batch.eligible.sum(1), read.n_special, read.n_high_norm, read.n_not_finite
    ]  # fmt: skip
    for key, n_eligible, n_special, n_high_norm, n_not_finite in torch.stack(columns, 1).tolist():
        counts = documents.setdefault(document_id(key), DocumentCounts())
        counts.n_windows += 1
        counts.n_eligible += n_eligible
        counts.n_special += n_special
        counts.n_high_norm += n_high_norm
        counts.n_not_finite += n_not_finite
