"""What a language model is told of random directions: in the words, and from the sorts of texts, that tell of features.

They are read on documents of the harvest, of each a window drawn by hash, at the positions that count there. That they
have no part in circuits is said as it is of any feature that no graph keeps.
"""

import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tracer.autointerp.feature_evidence import N_TOKENS, RANDOM_DIRECTION, FeatureEvidence, FeatureKey
from tracer.autointerp.random_directions import activations_of, pre_activations, read_vectors, write_vectors
from tracer.autointerp.scoring.ablation import load_model
from tracer.autointerp.scoring.measures import hashed
from tracer.autointerp.stage import Stage
from tracer.autointerp.texts import FeatureText
from tracer.config import ModelConfig
from tracer.config.harvest import HarvestConfig, HarvestSettings
from tracer.config.run import checked_config
from tracer.corpus.prompt_files import read_token_ids
from tracer.corpus.windows import Window, windows_of
from tracer.harvest.examples import example_split
from tracer.harvest.promoted import VocabularyTexts, promoted_logits, token_columns
from tracer.harvest.window_texts import N_TEXT_TOKENS
from tracer.model.replacement import ReplacementModel
from tracer.model.tokenizer import token_text

N_DOCUMENTS = 2_048
"""Documents that directions are read on, at most."""
N_NEAR_TOKENS = 3
"""Tokens on which a direction is active most: a text with one of them in which it is not active is a near miss."""
NOTHING = -1
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectionTask:
    """What directions are made from: `frequencies` of the features that they are matched to, texts with their id, the
    fewest texts in which a direction is active, and what stands `between` two tokens.
    """

    frequencies: Mapping[FeatureKey, float]
    documents: tuple[tuple[str, list[int]], ...]
    harvest: HarvestSettings
    n_fewest: int
    seed: int
    between: str


def direction_task(stage: Stage, folder: Path, frequencies: Mapping[FeatureKey, float]) -> DirectionTask:
    """What has to be measured for some features.

    Args:
        stage: the run, its harvest attached.
        folder: that of the harvest, with its documents.
        frequencies: share of positions at which each feature is active.

    Raises:
        ArtifactError: the folder holds no documents, or a file of them is damaged.
        ConfigError: the harvest was made with other settings than this version has.
    """
    settings = stage.settings
    ((config,),) = stage.connection.execute("SELECT config FROM harvest.harvests").fetchall()
    return DirectionTask(
        frequencies=dict(frequencies),
        documents=tuple(
            heapq.nsmallest(N_DOCUMENTS, read_token_ids(folder), key=lambda item: hashed(settings.seed, item[0]))
        ),
        harvest=checked_config(json.loads(config), str(folder), HarvestConfig).harvest,
        # about half of all documents are of each split
        n_fewest=2 * max(settings.n_examples, settings.n_positives),
        seed=settings.seed,
        between=stage.source.between,
    )


def measure_directions(settings: ModelConfig, task: DirectionTask) -> list[FeatureEvidence]:
    """Load the model and measure a random direction for each feature.

    Args:
        settings: the run's model and transcoders.
        task: the features and the documents.
    """
    return read_directions(load_model(settings), task)


@torch.no_grad()
def read_directions(model: ReplacementModel, task: DirectionTask) -> list[FeatureEvidence]:
    """Evidence about a random direction for each feature, in the order of the features' keys.

    Args:
        model: the replacement model.
        task: the features and the documents.
    """
    keys = sorted(task.frequencies)
    windows = [*_drawn_windows(model, task)]
    place, scores = pre_activations(model, read_vectors(model, keys, task.seed), windows, task.harvest)
    texts = DirectionTexts(windows, place.numpy(), cache(partial(token_text, model.tokenizer)), task)
    vocabulary, written, found = VocabularyTexts(model), write_vectors(model, keys, task.seed), []
    for key, of_direction in zip(keys, scores, strict=True):
        activations = activations_of(
            of_direction, place[:, 0], frequency=task.frequencies[key], n_windows=task.n_fewest
        )
        logits = promoted_logits(model, written[key][None])
        columns = token_columns(logits, task.harvest.weights.n_promoted_tokens, vocabulary)
        found.append(texts.evidence(key, activations.numpy(), columns))
    return found


def _drawn_windows(model: ReplacementModel, task: DirectionTask) -> Iterator[Window]:
    """Of each document one window; one that is nothing but a special token has none."""
    n_tokens = task.harvest.windows.window_tokens
    for document_id, token_ids in task.documents:
        windows = [*windows_of(document_id, token_ids, model.special_token_rule, window_tokens=n_tokens)]
        if windows:
            yield min(windows, key=lambda window: hashed(task.seed, window.document_id, window.start))


class DirectionTexts:
    """Windows of a document each, and evidence about a direction by where it is active in them.

    Args:
        windows: the windows.
        place: [position, 2], window and position of everything that a direction is read at.
        token_text: the raw text of a token.
        task: how many texts of each kind are told of, how long they are, and what they are drawn by.
    """

    def __init__(
        self, windows: Sequence[Window], place: Ints, token_text: Callable[[int], str], task: DirectionTask
    ) -> None:
        self._windows, self._token_text, self._task = windows, token_text, task
        self._window, self._pos = place[:, 0], place[:, 1]
        self._token_ids = np.full((len(windows), max(len(window.token_ids) for window in windows)), NOTHING)
        for row, window in zip(self._token_ids, windows, strict=True):
            row[: len(window.token_ids)] = window.token_ids
        self._may = np.zeros(self._token_ids.shape, dtype=bool)
        self._may[self._window, self._pos] = True

    def evidence(self, key: FeatureKey, activations: Floats, effects: Mapping[str, Any]) -> FeatureEvidence:
        """What is told of a direction.

        Args:
            key: the feature in whose place it stands.
            activations: at every position of `place`.
            effects: what it promotes, as `token_columns` gives it for one row.
        """
        is_active = activations > 0
        dense = np.zeros(self._token_ids.shape, dtype=activations.dtype)
        dense[self._window, self._pos] = activations
        names = (("top_tokens", "top_token_logits"), ("bottom_tokens", "bottom_token_logits"))
        promoted, suppressed = (tuple(zip(*(effects[name][0] for name in pair), strict=True)) for pair in names)
        return FeatureEvidence(
            target_kind=RANDOM_DIRECTION, layer=key[0], feature=key[1], n_firings=int(is_active.sum()),
            activation_frequency=float(is_active.mean()), activation_max=float(activations.max()),
            fires_on=self._counts(self._pos, is_active), fires_after=self._counts(self._pos - 1, is_active),
            promoted=promoted, suppressed=suppressed,
            texts=tuple(self._text(dense, *example) for example in self._examples(key, dense)),
            role=None, between=self._task.between,
        )  # fmt: skip

    def _counts(self, pos: Ints, is_active: Bools) -> tuple[tuple[str, int, int], ...]:
        """The tokens that stand most often at some positions where it is active, and how often they stand at any."""
        exists = pos >= 0
        token_ids = self._token_ids[self._window[exists], pos[exists]]
        n_all = np.bincount(token_ids)
        n = np.bincount(token_ids[is_active[exists]])
        found = n.nonzero()[0].tolist()
        rows = [(self._token_text(token_id), int(n[token_id]), int(n_all[token_id])) for token_id in found]
        return tuple(sorted(rows, key=lambda row: (-row[1], row[0]))[:N_TOKENS])

    def _examples(self, key: FeatureKey, dense: Floats) -> Iterator[tuple[str, int, int]]:
        """Kind, window and position of texts, as a harvest has them of a feature: strongest ones, of each repeated text
        one; ones drawn; and without activity, ones drawn and near misses.
        """
        settings, peaks, places = self._task.harvest.examples, dense.max(axis=1), dense.argmax(axis=1)

        def draw(window: int, *parts: object) -> str:
            return hashed(self._task.seed, *key, self._windows[window].document_id, *parts)

        def drawn_pos(window: int, may: Bools) -> int:
            return min(np.flatnonzero(may).tolist(), key=lambda pos: draw(window, pos))

        active = np.flatnonzero(peaks > 0).tolist()
        absent = np.flatnonzero((peaks == 0) & self._may.any(axis=1)).tolist()
        strongest = sorted(active, key=lambda window: (-peaks[window], self._windows[window].document_id))
        by_text: dict[tuple[int, ...], int] = {}
        for window in strongest:
            by_text.setdefault(self._text_before(window, int(places[window])), window)
        for window in [*by_text.values()][: settings.n_top]:
            yield "top", window, int(places[window])
        for window in sorted(active, key=draw)[: settings.n_quantiles * settings.n_per_quantile]:
            yield "quantile", window, drawn_pos(window, dense[window] > 0)
        drawn = sorted(absent, key=draw)
        for window in drawn[: settings.n_random]:
            yield "random", window, drawn_pos(window, self._may[window])
        often = Counter(self._token_ids[dense > 0].tolist()).most_common(N_NEAR_TOKENS)
        holds = self._may & np.isin(self._token_ids, [token_id for token_id, _ in often])
        near = [window for window in drawn if holds[window].any()]
        for window in near[: settings.n_near_miss]:
            yield "near_miss", window, int(holds[window].argmax())

    def _text_before(self, window: int, pos: int) -> tuple[int, ...]:
        return self._windows[window].token_ids[max(0, pos + 1 - N_TEXT_TOKENS) : pos + 1]

    def _text(self, dense: Floats, kind: str, window: int, pos: int) -> FeatureText:
        settings, whole = self._task.harvest.examples, self._windows[window]
        start, stop = max(0, pos - settings.n_before), min(pos + settings.n_after + 1, len(whole.token_ids))
        return FeatureText(
            document_id=whole.document_id, split=example_split(whole.document_id), kind=kind,
            tokens=tuple(map(self._token_text, whole.token_ids[start:stop])),
            activations=tuple(dense[window, start:stop].tolist()), peak_idx=pos - start,
        )  # fmt: skip
