"""Context rules on stored samples: does one of these tokens stand anywhere before the place where a feature fires?

Over all positions such a rule cannot be counted from a harvest, which counts neighbours alone. So tokens are chosen on
texts of the split `explain` and the rule's figures measured on those of the split `score`. The recall r is the share of
drawn firings at which it holds; with the share h of all positions of background texts at which it holds, and the
feature's activation frequency f, the precision is `r f / h`. The intervals are Wilson's, that of h with the number of
texts, not of positions, since those of one text hang together; the precision's has r and h at their worse and better
ends.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tracer.autointerp.rules import MIN_FIRED, Rule
from tracer.autointerp.scoring.measures import share_interval
from tracer.autointerp.splits import part
from tracer.autointerp.texts import FeatureText

MAX_TOKENS = 16
FEWEST = 5
"""Fewest firings, and background texts, that a rule is measured on."""
Places = npt.NDArray[np.int64]
Context = frozenset[str]


class Background:
    """Texts drawn whatever fires in them, by which the share of positions where a rule holds is estimated.

    Args:
        texts: their tokens, each text once.
    """

    def __init__(self, texts: Iterable[Sequence[str]]) -> None:
        kept = list(texts)
        self.n_texts = len(kept)
        self._lengths = np.array([len(tokens) for tokens in kept], dtype=np.int64)
        self._first: dict[str, Places] = {}
        for place, tokens in enumerate(kept):
            for pos in range(len(tokens) - 1, -1, -1):
                self._first.setdefault(tokens[pos], self._lengths.copy())[place] = pos

    def first(self, token: str) -> Places:
        """In each text the first place of a token; past the end where there is none."""
        return self._first.get(token, self._lengths)

    def share(self, first: Places) -> float:
        """The share of positions behind those places, over all texts and half a text more that is behind: none among
        few is not none at all.

        Args:
            first: the first place of any of a rule's tokens, in each text.
        """
        behind = np.maximum(self._lengths - 1 - first, 0).sum()
        length = self._lengths.mean()
        return float((behind + length / 2) / (self._lengths.sum() + length))


def sampled_context_rule(
    texts: Sequence[FeatureText], frequency: float, explaining: Background, scoring: Background
) -> Rule | None:
    """The best rule of this kind with its figures; None where there are too few texts, or no token tells them apart.

    Args:
        texts: the stored ones of a feature, of both splits.
        frequency: share of eligible positions at which it fires.
        explaining: background texts of the split `explain`.
        scoring: background texts of the split `score`.
    """
    firings = [text for text in texts if text.kind == "quantile"] or [text for text in texts if text.kind == "top"]
    to_explain, to_score = part(firings)
    chosen = _choose(_contexts(to_explain), explaining, frequency)
    held = _contexts(to_score)
    if not chosen or min(len(held), scoring.n_texts) < FEWEST:
        return None
    n_held = _n_holding(chosen, held)
    share = scoring.share(np.minimum.reduce([scoring.first(token) for token in chosen]))
    r_low, r_high = share_interval(n_held, len(held))
    h_low, h_high = share_interval(share * scoring.n_texts, scoring.n_texts)
    return Rule(
        kind="context",
        tokens=chosen,
        precision=_precision(n_held / len(held), share, frequency),
        recall=n_held / len(held),
        precision_interval=(_precision(r_low, h_high, frequency), _precision(r_high, h_low, frequency)),
        recall_interval=(r_low, r_high),
    )


def _contexts(texts: Sequence[FeatureText]) -> list[Context]:
    return [frozenset(text.tokens[: text.peak_idx]) for text in texts]


def _choose(firings: Sequence[Context], background: Background, frequency: float) -> tuple[str, ...]:
    """Tokens added one by one as long as the F1 of the rule grows; one that a single firing holds may be chance."""
    if not firings or background.n_texts < FEWEST:
        return ()
    counts = Counter(token for context in firings for token in context)
    useful = (token for token, n in counts.items() if n >= MIN_FIRED)
    candidates = sorted(useful, key=lambda token: (-counts[token], token))
    chosen: list[str] = []
    best, reached = 0.0, background.first("")
    while candidates and len(chosen) < MAX_TOKENS:
        shares = {token: background.share(np.minimum(reached, background.first(token))) for token in candidates}
        scores = {token: _f1([*chosen, token], firings, shares[token], frequency) for token in candidates}
        token = max(candidates, key=lambda name: scores[name])
        if scores[token] <= best + 1e-9:
            break
        best, reached = scores[token], np.minimum(reached, background.first(token))
        chosen.append(token)
        candidates.remove(token)
    return tuple(chosen)


def _f1(tokens: Sequence[str], firings: Sequence[Context], share: float, frequency: float) -> float:
    r = _n_holding(tokens, firings) / len(firings)
    precision = _precision(r, share, frequency)
    return 2 * precision * r / (precision + r) if r else 0.0


def _n_holding(tokens: Sequence[str], contexts: Sequence[Context]) -> int:
    return sum(not context.isdisjoint(tokens) for context in contexts)


def _precision(r: float, share: float, frequency: float) -> float:
    """Where no background text holds a token the rule holds as seldom as the firings themselves say."""
    return r * frequency / max(share, r * frequency) if r else 0.0
