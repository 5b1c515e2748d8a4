"""Random small corpora of documents with activations, as plain data, and as the batches that accumulators take."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from hypothesis import strategies as st

from tracer.corpus.tokens import SpecialTokenRule
from tracer.corpus.windows import Window, batches_of, windows_of
from tracer.harvest.windows import PADDING, LayerFirings, WindowBatch, document_key

TEXTS = ("<bos>", "a", "A", "b", "!", "7", "9")
PLAIN = ("bos", "a", "a", "b", "", "0", "0")
FRONT = 0
N_FEATURES = {0: 3, 2: 2}
WINDOW_TOKENS = 5
RULE = SpecialTokenRule(special_ids=frozenset({FRONT}), prepend_id=FRONT)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainDocument:
    """A document with its activations by (layer, place in the document, feature)."""

    document_id: str
    token_ids: tuple[int, ...]
    firings: dict[tuple[int, int, int], float]

    def windows(self) -> list[Window]:
        """Its windows."""
        return list(
            windows_of(self.document_id, (FRONT, *self.token_ids), RULE, window_tokens=WINDOW_TOKENS)
        )  # fmt: skip


_VALUES = st.sampled_from([-2.0, -0.5, 0.25, 0.5, 1.0, 1.0, 3.0]) | st.floats(0.015625, 8.0, width=32)


@st.composite
def _documents(draw: st.DrawFn, document_id: str) -> PlainDocument:
    token_ids = draw(st.lists(st.sampled_from([1, 1, 2, 3, 4, 5, 6, FRONT]), min_size=1, max_size=11))
    places = st.tuples(
        st.just(0) | st.just(2), st.integers(0, len(token_ids) - 1), st.integers(0, 2)
    ).filter(lambda place: place[2] < N_FEATURES[place[0]] and token_ids[place[1]] != FRONT)  # fmt: skip
    is_all_special = set(token_ids) == {FRONT}
    firings = {} if is_all_special else draw(st.dictionaries(places, _VALUES, max_size=10))
    return PlainDocument(document_id=document_id, token_ids=tuple(token_ids), firings=firings)


@st.composite
def corpora(draw: st.DrawFn) -> list[PlainDocument]:
    """Up to eight documents, whose ids are in no order."""
    numbers = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8, unique=True))
    return [draw(_documents(f"{number:016x}")) for number in numbers]


def batches(documents: Sequence[PlainDocument], batch_tokens: int) -> list[WindowBatch]:
    """The same as batches of windows."""
    by_id = {document.document_id: document for document in documents}
    windows = [window for document in documents for window in document.windows()]
    return [_batch(group, by_id) for group in batches_of(windows, batch_tokens)]


def _batch(windows: Sequence[Window], by_id: dict[str, PlainDocument]) -> WindowBatch:
    longest = max(len(window.token_ids) for window in windows)
    token_ids = torch.full((len(windows), longest), PADDING)
    for row, window in enumerate(windows):
        token_ids[row, : len(window.token_ids)] = torch.tensor(window.token_ids)
    layers = []
    for layer in N_FEATURES:
        found = []
        for row, window in enumerate(windows):
            for (of_layer, place, feature), value in by_id[window.document_id].firings.items():
                if of_layer == layer and window.start <= place < window.start + len(window.token_ids) - 1:
                    found.append((feature, row, place - window.start + 1, value))
        found.sort()
        columns = [torch.tensor([row[column] for row in found], dtype=torch.long) for column in range(3)]
        value = torch.tensor([row[3] for row in found], dtype=torch.float32)
        layers.append(LayerFirings(layer=layer, feature=columns[0], row=columns[1], pos=columns[2], value=value))
    return WindowBatch(
        token_ids=token_ids,
        eligible=(token_ids != PADDING) & (token_ids != FRONT),
        document=torch.tensor([document_key(window.document_id) for window in windows]),
        start=torch.tensor([window.start for window in windows]),
        layers=tuple(layers),
    )
