"""What a harvest's tables must hold, counted by plain Python over plain documents."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import torch

from tests.harvest.random_windows import FRONT, PLAIN, WINDOW_TOKENS, PlainDocument
from tracer.harvest.hashing import hashed
from tracer.harvest.windows import document_key

N_TEXT_TOKENS = 8
Feature = tuple[int, int]


def firings_of(documents: Sequence[PlainDocument]) -> dict[Feature, list[tuple[str, int, float]]]:
    """(document, place, activation) of each feature that fires."""
    found = defaultdict(list)
    for document in documents:
        for (layer, place, feature), value in sorted(document.firings.items()):
            found[layer, feature].append((document.document_id, place, value))
    return found


def sums(documents: Sequence[PlainDocument]) -> dict[Feature, tuple]:
    """Firings, documents, sum, sum of squares, maximum."""
    return {
        feature: (
            len(rows),
            len({name for name, _, _ in rows}),
            math.fsum(value for _, _, value in rows),
            math.fsum(value**2 for _, _, value in rows),
            max(value for _, _, value in rows),
        )
        for feature, rows in firings_of(documents).items()
    }


def histogram(documents: Sequence[PlainDocument]) -> Counter:
    """(layer, feature, is_negative, bin)."""
    found: Counter = Counter()
    for (layer, feature), rows in firings_of(documents).items():
        for _, _, value in rows:
            found[layer, feature, value < 0, math.floor(4 * math.log2(abs(value)))] += 1
    return found


def positions(documents: Sequence[PlainDocument]) -> Counter:
    """(layer, feature, octave of the position in its window)."""
    found: Counter = Counter()
    for (layer, feature), rows in firings_of(documents).items():
        for _, place, _ in rows:
            found[layer, feature, math.floor(math.log2(in_window(place)[1]))] += 1
    return found


def in_window(place: int) -> tuple[int, int]:
    """Start of the window that holds a place in the document, and the position there."""
    size = WINDOW_TOKENS - 1
    return place // size * size, place % size + 1


def window_of(document: PlainDocument, start: int) -> list[int]:
    """Tokens of a window."""
    return [FRONT, *document.token_ids[start : start + WINDOW_TOKENS - 1]]


def tokens(documents: Sequence[PlainDocument]) -> tuple[dict, dict]:
    """Counts at, before, after by (layer, feature, token), and over all eligible positions by token."""
    of_features: dict = defaultdict(lambda: [0, 0, 0])
    of_all: dict = defaultdict(lambda: [0, 0, 0])
    for document in documents:
        for place, token in enumerate(document.token_ids):
            start, pos = in_window(place)
            window = window_of(document, start)
            for seen in window:
                of_all[seen]
            if token == FRONT:
                continue
            fires = [(layer, feature) for layer, there, feature in document.firings if there == place]
            for column, offset in enumerate((0, -1, 1)):
                if pos + offset < len(window):
                    of_all[window[pos + offset]][column] += 1
                    for feature in fires:
                        of_features[(*feature, window[pos + offset])][column] += 1
    return dict(of_features), dict(of_all)


def text_before(document: PlainDocument, place: int) -> tuple:
    """The last tokens of a place in plain words, with how far away they are; as they are where no words are left."""
    start, pos = in_window(place)
    window = window_of(document, start)
    last = range(min(N_TEXT_TOKENS, pos + 1))
    plain = tuple((back, PLAIN[window[pos - back]]) for back in last if PLAIN[window[pos - back]])
    return plain or tuple((back, window[pos - back]) for back in last)


def top(documents: Sequence[PlainDocument], n_top: int) -> dict[Feature, list[tuple[str, int, float]]]:
    """The strongest firings, one per document and of these one per text."""
    by_id = {document.document_id: document for document in documents}
    chosen = {}
    for feature, rows in firings_of(documents).items():
        best_of_document: dict[str, tuple[str, int, float]] = {}
        for row in sorted(rows, key=lambda row: (-row[2], row[1])):
            best_of_document.setdefault(row[0], row)
        best_of_text: dict[tuple, tuple[str, int, float]] = {}
        for row in sorted(best_of_document.values(), key=lambda row: (-row[2], row[0])):
            best_of_text.setdefault(text_before(by_id[row[0]], row[1]), row)
        chosen[feature] = sorted(best_of_text.values(), key=lambda row: (-row[2], row[0]))[:n_top]
    return chosen


def copies(documents: Sequence[PlainDocument]) -> Counter:
    """How often each text occurs in front of a position that could fire."""
    return Counter(
        text_before(document, place)
        for document in documents
        for place, token in enumerate(document.token_ids)
        if token != FRONT
    )


def quantiles(documents: Sequence[PlainDocument], n_groups: int, n_drawn: int, seed: int) -> dict[Feature, list]:
    """(document, place, activation, quantile) of firings drawn by hash, strongest first."""
    chosen = {}
    for (layer, feature), rows in firings_of(documents).items():
        drawn: dict[str, tuple] = {}
        for name, place, value in sorted(rows, key=lambda row: _draw(layer, feature, row, seed)):
            drawn.setdefault(name, (name, place, value))
        kept = sorted(list(drawn.values())[:n_drawn], key=lambda row: (-row[2], row[0]))
        n = len(kept)
        chosen[layer, feature] = [(*row, (n - 1 - rank) * n_groups // n) for rank, row in enumerate(kept)]
    return chosen


def _draw(layer: int, feature: int, row: tuple[str, int, float], seed: int) -> int:
    start, pos = in_window(row[1])
    name = torch.tensor([(layer << 32) + feature])
    return int(hashed(name, torch.tensor([document_key(row[0])]), start + pos, seed))
