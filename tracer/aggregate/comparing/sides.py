"""Which graphs are compared with which, and how sides are dealt out anew under the null that they do not matter."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tracer.aggregate.incidence import Ints

Hashes = npt.NDArray[np.uint64]
Deals = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Two sides whose graphs are the rows of an incidence: the first side's rows, then the second's.

    Where pairs are compared (`is_paired`), row i belongs with row `n_first + i`. A *unit* is what the null deals out: a
    graph, or a pair. `unit_hash` [n_units] comes from its name; `stratum` [n_units] numbers the groups of units within
    which sides are dealt out, None where all are one group.
    """

    n_first: int
    n_second: int
    is_paired: bool
    unit_hash: Hashes
    stratum: Ints | None = None

    @classmethod
    def of(
        cls, first: Sequence[str], second: Sequence[str], *, is_paired: bool = False, stratum: Ints | None = None
    ) -> "Sides":
        """Sides of named graphs.

        Args:
            first: names of the graphs of the first side, in the order of the incidence's rows.
            second: those of the second side.
            is_paired: whether the i-th of each belong together.
            stratum: a number for each graph, first side first, [n_first + n_second]; for graphs that are not paired.
        """
        assert not is_paired or (len(first) == len(second) and stratum is None), "pairs have two sides and no strata"
        names = [f"{one}\n{other}" for one, other in zip(first, second, strict=True)] if is_paired else None
        return cls(
            n_first=len(first),
            n_second=len(second),
            is_paired=is_paired,
            unit_hash=hash_names([*first, *second] if names is None else names),
            stratum=stratum,
        )

    @property
    def n_units(self) -> int:
        """Graphs, or pairs."""
        return self.n_first if self.is_paired else self.n_first + self.n_second

    def deal(self, seed: int, start: int, stop: int) -> Deals:
        """The deals numbered `start` to `stop` of all that a seed gives, [n_units, stop - start].

        For pairs 1 or -1: as they are, or swapped. For graphs 1 on the first side and 0 on the second, of which each
        stratum keeps its numbers. What a unit gets hangs on its name, the seed and the deal's number, so that the order
        of units changes nothing.
        """
        deals = np.zeros((self.n_units, stop - start), np.float32)
        for number in range(start, stop):
            mixed = _mix(self.unit_hash ^ hash_names([f"{seed}:{number}"]))
            deals[:, number - start] = np.where(mixed >> np.uint64(63), 1, -1) if self.is_paired else self._draw(mixed)
        return deals

    def _draw(self, mixed: Hashes) -> Deals:
        """1 for the graphs of each stratum with the least numbers, as many as it has on the first side."""
        drawn = np.zeros(self.n_units, np.float32)
        for units, n_first in self.strata():
            if n_first:
                drawn[units[np.argpartition(mixed[units], n_first - 1)[:n_first]]] = 1
        return drawn

    def strata(self) -> list[tuple[Ints, int]]:
        """For each stratum its units and how many of them are on the first side."""
        if self.stratum is None:
            return [(np.arange(self.n_units), self.n_first)]
        groups = [np.flatnonzero(self.stratum == value) for value in np.unique(self.stratum)]
        return [(units, int((units < self.n_first).sum())) for units in groups]


def hash_names(names: Sequence[str]) -> Hashes:
    """64 bits of each name's BLAKE2b hash, [n_names]."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def _mix(values: Hashes) -> Hashes:
    """Bits stirred by the finaliser of SplitMix64 (Steele, Lea and Flood 2014), so that near values part."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
