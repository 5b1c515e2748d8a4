"""Corpora of graphs in which it is known what belongs together: independent features of mixed frequency, and others.

A graph has a room b, lognormal; a feature is in it with the chance 1 - exp(-a b), and so is each planted thing. A
planted set of strength s comes as a whole in that share of the graphs of each member and leaves the rest of them to its
members one by one, which so have the frequency that they would have alone.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from tracer.aggregate.incidence import Floats, Incidence, Ints

BANDS = ("rare", "middle", "one over half", "both over half")
RARE_SHARE = 0.05
"""A pair is rare where both its features are in fewer graphs than this share."""
ROOM_SPREAD = 0.6
"""Standard deviation of the logarithm of a graph's room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """Something planted: its features, the frequency of each and the share of their graphs that is common to all."""

    kind: str
    members: tuple[int, ...]
    frequency: float
    strength: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Graphs and the truth about them; `avoiding` are pairs of which the second stays away from the first."""

    incidence: Incidence
    planted: tuple[Planted, ...]
    avoiding: tuple[Planted, ...]

    def together(self) -> set[tuple[int, ...]]:
        """All pairs of features that something planted holds, or keeps apart."""
        pairs = {pair for thing in self.planted for pair in combinations(thing.members, 2)}
        return pairs | {thing.members for thing in self.avoiding}

    def band(self, first: Ints, second: Ints) -> Ints:
        """Which of `BANDS` pairs are in."""
        share = self.incidence.support / self.incidence.n_graphs
        lower, upper = np.minimum(share[first], share[second]), np.maximum(share[first], share[second])
        return np.where(lower > 0.5, 3, np.where(upper > 0.5, 2, np.where(upper < RARE_SHARE, 0, 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a corpus is made of. Frequencies are shares of graphs."""

    n_graphs: int
    alone: tuple[tuple[int, float, float], ...]
    """How many independent features have frequencies between two bounds, Zipf-like (even in the logarithm)."""
    sets: tuple[tuple[str, int, float, float], ...]
    """Kind, size, frequency and strength of each planted set."""
    communities: int = 0
    avoiding: tuple[tuple[float, float], ...] = ()
    """Frequency and strength of each avoiding pair."""


GRID = tuple((frequency, strength) for frequency in (0.01, 0.03, 0.1, 0.3, 0.6) for strength in (0.1, 0.2, 0.4, 0.8))
PAIRS = Recipe(
    n_graphs=3000,
    alone=((150, 0.005, 0.05), (50, 0.05, 0.5), (15, 0.5, 0.95)),
    sets=tuple(("pair", 2, *cell) for cell in GRID) + tuple(("triple", 3, *cell) for cell in GRID[::3]),
    communities=2,
    avoiding=tuple((frequency, strength) for frequency in (0.1, 0.3, 0.6) for strength in (0.3, 0.6, 1.0)),
)
SETS = Recipe(
    n_graphs=2000,
    alone=((40, 0.02, 0.05), (10, 0.05, 0.5), (4, 0.5, 0.8)),
    sets=(
        *(("pair", 2, frequency, 0.6) for frequency in (0.05, 0.1, 0.3)),
        *(("triple", 3, frequency, strength) for frequency in (0.05, 0.1, 0.3) for strength in (0.1, 0.2, 0.4, 0.8)),
        *(("five", 5, frequency, strength) for frequency in (0.05, 0.1) for strength in (0.2, 0.4, 0.8)),
    ),
)


def planted_corpus(recipe: Recipe, seed: int) -> Corpus:
    """Draw a corpus."""
    rng = np.random.default_rng(seed)
    room = rng.lognormal(-(ROOM_SPREAD**2) / 2, ROOM_SPREAD, recipe.n_graphs)
    held: list[npt.NDArray[np.bool_]] = []
    for n_features, low, high in recipe.alone:
        for frequency in np.geomspace(low, high, n_features):
            held.append(_draw(rng, room, _rate(room, frequency)))
    planted = []
    for kind, size, frequency, strength in recipe.sets:
        rate = _rate(room, frequency)
        whole = _draw(rng, room, strength * rate)
        planted.append(
            Planted(kind=kind, members=_next(held, size), frequency=frequency, strength=strength)
        )  # fmt: skip
        held += [whole | _draw(rng, room, (1 - strength) * rate) for _ in range(size)]
    for _ in range(recipe.communities):
        whole = _draw(rng, room, _rate(room, 0.05))
        planted.append(Planted(kind="community", members=_next(held, 12), frequency=0.05, strength=0.7))
        held += [(whole & (rng.random(len(room)) < 0.7)) | _draw(rng, room, _rate(room, 0.02)) for _ in range(12)]
    avoiding = []
    for frequency, strength in recipe.avoiding:
        avoiding.append(Planted(kind="avoiding", members=_next(held, 2), frequency=frequency, strength=strength))
        held += _draw_apart(rng, room, _rate(room, frequency), strength)
    graph, item = np.nonzero(np.column_stack(held))
    incidence = Incidence.of(graph, item, (len(room), len(held)))
    return Corpus(incidence=incidence, planted=tuple(planted), avoiding=tuple(avoiding))


def task_corpus(seed: int, n_tasks: int = 6, n_graphs: int = 3000, n_features: int = 200) -> Incidence:
    """Graphs of tasks, each with features and lengths of its own, independent within a task; strata are the tasks."""
    rng = np.random.default_rng(seed)
    stratum = rng.integers(0, n_tasks, n_graphs)
    room = rng.lognormal(0, ROOM_SPREAD / 2, n_graphs) * rng.uniform(0.5, 1.5, n_tasks)[stratum]
    rates = np.exp(rng.uniform(np.log(0.005), np.log(2), (n_tasks, n_features)))
    held = rng.random((n_graphs, n_features)) < -np.expm1(-rates[stratum] * room[:, None])
    graph, item = np.nonzero(held)
    return Incidence.of(graph, item, held.shape, stratum)


def _next(held: list[npt.NDArray[np.bool_]], size: int) -> tuple[int, ...]:
    return tuple(range(len(held), len(held) + size))


def _draw(rng: np.random.Generator, room: Floats, rate: float) -> npt.NDArray[np.bool_]:
    return rng.random(len(room)) < -np.expm1(-rate * room)


def _draw_apart(rng: np.random.Generator, room: Floats, rate: float, strength: float) -> list[npt.NDArray[np.bool_]]:
    """Two features of one rate; in a graph with the first the second is rarer by the strength, or by what is possible.

    Without the first it is more frequent, so that its chance in a graph of this room stays what it was.
    """
    chance = -np.expm1(-rate * room)
    one = rng.random(len(room)) < chance
    moved = np.minimum(strength * chance, (1 - chance) ** 2 / chance)
    return [one, rng.random(len(room)) < np.where(one, chance - moved, chance + moved * chance / (1 - chance))]


def _rate(room: Floats, frequency: float) -> float:
    """The rate at which a feature has this frequency over graphs of these rooms."""
    low, high = 0.0, 100.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if -np.expm1(-middle * room).mean() < frequency else (low, middle)
    return low
