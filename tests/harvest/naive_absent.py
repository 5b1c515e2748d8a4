"""Which windows a harvest must show without a feature, chosen by plain Python over plain documents."""

from collections.abc import Sequence

import torch

from tests.harvest import naive
from tests.harvest.random_windows import PlainDocument
from tracer.harvest.hashing import hashed
from tracer.harvest.windows import document_key

N_TOKENS = 3
NEIGHBOUR = (2, 1)
"""The one neighbour that is known, of feature 0 of layer 0."""
Row = tuple[str, int, int, str | None]
Place = tuple[PlainDocument, int]


def absent(
    documents: Sequence[PlainDocument], *, reference: tuple[float, int], n_random: int, n_near_miss: int, seed: int
) -> dict[tuple[str, int, int], list[Row]]:
    """(document, start, position, reason) by kind, layer and feature.

    Args:
        documents: the corpus.
        reference: share of the windows that are reference windows, and the seed by which they are drawn.
        n_random: windows drawn of each feature.
        n_near_miss: near misses of each feature.
        seed: of both draws.
    """
    share, reference_seed = reference
    windows = [
        (document, window.start)
        for document in documents
        for window in document.windows()
        if _draw([document_key(document.document_id), window.start], reference_seed) < (2 * share - 1) * 2**63
    ]
    found: dict[tuple[str, int, int], list[Row]] = {}
    for layer, feature in naive.firings_of(documents):
        silent = [window for window in windows if not _values(window, layer, feature)]
        silent.sort(key=lambda window: _of_feature(layer, feature, window, seed))
        near = [(*window, why) for window in silent if (why := _nearness(documents, window, layer, feature))]
        drawn = [
            (document.document_id, start, _any_position(layer, feature, (document, start), seed + 1), None)
            for document, start in silent[:n_random]
        ]
        missed = [(document.document_id, start, *why) for document, start, why in near[:n_near_miss]]
        found |= {(kind, layer, feature): rows for kind, rows in (("random", drawn), ("near_miss", missed)) if rows}
    return found


def _nearness(documents: Sequence[PlainDocument], window: Place, layer: int, feature: int) -> tuple[int, str] | None:
    """Position and reason: the commonest of the feature's tokens that is there, or else where its neighbour peaks."""
    of_features, of_all = naive.tokens(documents)
    token_ids = naive.window_of(*window)
    n_at = {
        token: n for (of_layer, of_feature, token), (n, *_) in of_features.items()
        if (of_layer, of_feature) == (layer, feature) and n and of_all[token][0]
    }  # fmt: skip
    for token in sorted(n_at, key=lambda token: (-n_at[token], token))[:N_TOKENS]:
        if token in token_ids[1:]:
            return token_ids.index(token, 1), "token"
    peaks = _values(window, *NEIGHBOUR) if (layer, feature) == (0, 0) else {}
    if peaks:
        return max(peaks, key=lambda pos: (peaks[pos], -pos)), f"neighbour {NEIGHBOUR[0]}/{NEIGHBOUR[1]}"
    return None


def _values(window: Place, layer: int, feature: int) -> dict[int, float]:
    """Activations of a feature in a window by position."""
    document, start = window
    places = range(start, start + len(naive.window_of(document, start)) - 1)
    return {
        place - start + 1: value for (of_layer, place, of_feature), value in document.firings.items()
        if (of_layer, of_feature) == (layer, feature) and place in places
    }  # fmt: skip


def _any_position(layer: int, feature: int, window: Place, seed: int) -> int:
    n_own = len(naive.window_of(*window)) - 1
    return 1 + _of_feature(layer, feature, window, seed) % n_own


def _of_feature(layer: int, feature: int, window: Place, seed: int) -> int:
    return _draw([(layer << 32) + feature, document_key(window[0].document_id), window[1]], seed)


def _draw(names: Sequence[int], seed: int) -> int:
    first, *others = (torch.tensor([name]) for name in names)
    return int(hashed(first, *others, seed))
