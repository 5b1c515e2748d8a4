"""The mathematics of scores: plain numbers in, figures with bootstrap intervals out.

Balanced accuracy is the mean of the share of positives that are called positive and the share of negatives that are
called negative: 0.5 for every answer that pays no heed to the texts, whatever the mix. What a judge left unanswered is
counted beside the figure and never enters it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

N_RESAMPLES = 1_000
LEVEL = 0.95
"""Share of bootstrap resamples that an interval holds."""

FAINT = 1e-12
"""Share of a sum of squares below which a variance is rounding."""

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a judge said of one item: the truth, and the chance that the judge gave it, from 0 to 1."""

    is_positive: bool
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure with the interval of its bootstrap; all three are None where there was too little to measure."""

    value: float | None
    low: float | None
    high: float | None


NOTHING = Figure(value=None, low=None, high=None)


def balanced_accuracy(is_positive: Bools, is_called: Bools) -> float | None:
    """Mean of both classes' shares of right calls; None where a class is empty."""
    if not is_positive.any() or is_positive.all():
        return None
    return float((is_called[is_positive].mean() + (~is_called[~is_positive]).mean()) / 2)


def area_under_curve(is_positive: Bools, scores: Floats) -> float | None:
    """Chance that a positive has a higher score than a negative, ties counted half; None where a class is empty."""
    n_positive, n_negative = int(is_positive.sum()), int((~is_positive).sum())
    if not n_positive or not n_negative:
        return None
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return float((ranks[is_positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def correlation(foretold: Floats, measured: Floats) -> float | None:
    """Pearson's r; 0 where the same is foretold throughout; None where the measured does not vary."""
    if len(measured) < 2 or np.ptp(measured) == 0:
        return None
    if np.ptp(foretold) == 0:
        return 0.0
    return float(np.corrcoef(foretold, measured)[0, 1])


def classification(verdicts: Sequence[Verdict], *, name: str) -> tuple[Figure, Figure]:
    """Balanced accuracy and area under the curve of answered items; positives and negatives are resampled apart.

    Args:
        verdicts: what was answered.
        name: what the resamples are drawn by.
    """
    truth = np.array([verdict.is_positive for verdict in verdicts], dtype=bool)
    given = np.array([verdict.probability for verdict in verdicts], dtype=float)
    positives, negatives = given[truth], given[~truth]
    if not len(positives) or not len(negatives):
        return NOTHING, NOTHING
    rng = generator(name)
    drawn_positives = rng.integers(len(positives), size=(N_RESAMPLES, len(positives)))
    drawn_negatives = rng.integers(len(negatives), size=(N_RESAMPLES, len(negatives)))
    called, rejected = positives >= 0.5, negatives < 0.5
    accuracies = (called[drawn_positives].mean(axis=1) + rejected[drawn_negatives].mean(axis=1)) / 2
    wins = (positives[:, None] > negatives) + (positives[:, None] == negatives) / 2
    areas = wins[drawn_positives[:, :, None], drawn_negatives[:, None, :]].mean(axis=(1, 2))
    return (
        _figure(balanced_accuracy(truth, given >= 0.5), accuracies),
        _figure(area_under_curve(truth, given), areas),
    )


def mean(values: Sequence[float], *, name: str) -> Figure:
    """The mean with its interval, the values resampled as wholes; no interval for a single one."""
    if not values:
        return NOTHING
    array = np.asarray(values, dtype=float)
    if len(array) == 1:
        return Figure(value=float(array[0]), low=None, high=None)
    places = generator(name).integers(len(array), size=(N_RESAMPLES, len(array)))
    return _figure(float(array.mean()), array[places].mean(axis=1))


def mean_correlation(pairs: Sequence[tuple[Floats, Floats]], *, name: str) -> Figure:
    """Pearson's r over the tokens of all texts together; texts are resampled as wholes.

    Args:
        pairs: by text, what was foretold and what was measured at each token.
        name: what the resamples are drawn by.
    """
    if not pairs:
        return NOTHING
    sums = np.array([_sums(first, second) for first, second in pairs])
    drawn = generator(name).integers(len(pairs), size=(N_RESAMPLES, len(pairs)))
    whole = correlation(np.concatenate([first for first, _ in pairs]), np.concatenate([second for _, second in pairs]))
    return _figure(whole, _correlations(sums[drawn].sum(axis=1)))


def _sums(first: Floats, second: Floats) -> list[float]:
    return [float(len(first)), *(float(part.sum()) for part in (first, second, first**2, second**2, first * second))]


def _correlations(sums: Floats) -> list[float]:
    """Pearson's r from sums, one a row: as `correlation`, those of which it is None left out."""
    n, first, second, first_squares, second_squares, products = sums.T
    of_foretold, of_measured = first_squares - first**2 / n, second_squares - second**2 / n
    is_measured = of_measured > FAINT * second_squares
    varies = of_foretold > FAINT * first_squares
    variances = np.where(varies & is_measured, of_foretold * of_measured, 1.0)
    found = np.where(varies, (products - first * second / n) / np.sqrt(variances), 0.0)
    return found[is_measured].tolist()


def share_interval(n: float | int, n_all: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share.

    Args:
        n: how many of all; a fraction where it is itself a mean.
        n_all: all, at least one.
        z: quantile of the normal distribution that stands for the level.
    """
    share, room = n / n_all, z * z / n_all
    middle = (share + room / 2) / (1 + room)
    half = z / (1 + room) * float(np.sqrt(share * (1 - share) / n_all + room / n_all / 4))
    # rounding must not put the share itself outside
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def generator(name: str) -> np.random.Generator:
    """Random numbers that come from a name alone."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))


def hashed(*parts: object) -> str:
    """What a choice by hash is sorted by."""
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()


def _figure(value: float | None, drawn: Sequence[float | None] | Floats) -> Figure:
    known = [one for one in drawn if one is not None]
    if value is None or not known:
        return Figure(value=value, low=None, high=None)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Figure(value=value, low=float(low), high=float(high))
