"""The expectation of a foretold activation under an answer's log-probabilities, where the endpoint gives them."""

import math
import re
from collections.abc import Sequence
from itertools import pairwise

from tracer.autointerp.client.calls import TokenLogprob

NUMBER = re.compile(r"\d+")
LARGEST = 10


def expected_activations(logprobs: Sequence[TokenLogprob], numbers: Sequence[int]) -> list[float] | None:
    """For each number of the lists `activations` in an answer of JSON, the mean over its token's alternatives that are
    whole numbers from 0 to 10 too, by their probability; None where tokens and numbers do not correspond.

    Args:
        logprobs: every token of the answer, in order.
        numbers: the numbers of all those lists, in order.
    """
    if not logprobs:
        return None
    text = "".join(token.token for token in logprobs)
    starts = [0]
    for token in logprobs:
        starts.append(starts[-1] + len(token.token))
    at = {start: token for token, (start, _) in zip(logprobs, pairwise(starts), strict=True)}
    means, found = [], []
    for span in re.finditer(r'"activations"\s*:\s*(\[[^\]]*\])', text):
        for match in NUMBER.finditer(text, span.start(1), span.end(1)):
            found.append(int(match[0]))
            means.append(_mean(_token_over(at, match.start(), match.end()), int(match[0])))
    return means if found == list(numbers) else None


def _token_over(at: dict[int, TokenLogprob], start: int, end: int) -> TokenLogprob | None:
    """The one token that is exactly this number, but for white space in front of it."""
    for first in range(start, max(-1, start - 3), -1):
        token = at.get(first)
        if token is not None:
            return token if first + len(token.token) == end and token.token.strip().isdigit() else None
    return None


def _mean(token: TokenLogprob | None, number: int) -> float:
    if token is None:
        return float(number)
    weights: dict[int, float] = {}
    for text, logprob in {(token.token, token.logprob), *token.top}:
        digits = text.strip()
        if digits.isdigit() and int(digits) <= LARGEST:
            weights[int(digits)] = max(weights.get(int(digits), 0.0), math.exp(logprob))
    total = sum(weights.values())
    return sum(value * weight for value, weight in weights.items()) / total if total else float(number)
