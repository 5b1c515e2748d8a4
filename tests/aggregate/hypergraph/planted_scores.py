"""What is discovered in corpora whose truth is known: false discoveries and power."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from tests.aggregate.hypergraph.planted_corpora import BANDS, Corpus, Planted
from tracer.aggregate.hypergraph.chances import support_in_strata
from tracer.aggregate.hypergraph.pairs import Pairs, count_pairs
from tracer.aggregate.hypergraph.set_chances import set_measures
from tracer.aggregate.hypergraph.sets import recurring_sets
from tracer.aggregate.hypergraph.significance import Measures, pair_measures
from tracer.aggregate.incidence import Incidence

LEVEL = 0.05
MIN_SUPPORT = 5
MIN_SUPPORT_OF_SETS = 20
MAX_SETS = 200_000


@dataclass(slots=True)
class Score:
    """Over corpora: false-discovery proportions and numbers of discoveries by name; what was found of the planted."""

    proportions: dict[str, list[float]] = field(default_factory=dict)
    discoveries: dict[str, list[int]] = field(default_factory=dict)
    found: dict[tuple[str, float, float], list[bool]] = field(default_factory=dict)

    def add(self, name: str, n_false: int, n_discovered: int) -> None:
        """Take in one corpus."""
        self.proportions.setdefault(name, []).append(n_false / max(n_discovered, 1))
        self.discoveries.setdefault(name, []).append(n_discovered)

    def mean(self, name: str) -> tuple[float, float]:
        """Mean proportion over corpora and its standard error."""
        proportions = np.array(self.proportions[name])
        return float(proportions.mean()), float(proportions.std(ddof=1) / np.sqrt(len(proportions)))

    def is_controlled(self, name: str) -> bool:
        """At most the level, within two standard errors."""
        mean, error = self.mean(name)
        return mean <= LEVEL + 2 * error

    def power(self, thing: Planted, *, is_found: bool) -> None:
        """Note whether something planted was found."""
        self.found.setdefault((thing.kind, thing.frequency, thing.strength), []).append(is_found)


def measures_of(incidence: Incidence, min_support: int = MIN_SUPPORT) -> tuple[Pairs, Measures]:
    """Pairs of an incidence and what is said of them, within strata too where there are any."""
    pairs = count_pairs(incidence, min_support)
    strata = None if incidence.stratum is None else support_in_strata(incidence)
    measures = pair_measures(
        pairs,
        support=incidence.support,
        length=incidence.length,
        min_support=min_support,
        stratum=incidence.stratum,
        stratum_support=strata,
    )
    return pairs, measures


def score_pairs(corpora: Iterable[Corpus], score: Score) -> None:
    """Pairs in both tails, by band of frequency and over all."""
    for corpus in corpora:
        pairs, measures = measures_of(corpus.incidence)
        truth = corpus.together()
        both = list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
        is_false = np.array([pair not in truth for pair in both])
        band = corpus.band(pairs.first, pairs.second)
        for tail in ("above", "below"):
            is_found = (measures[f"q_{tail}"] <= LEVEL).filled(False)
            for number, name in enumerate(BANDS):
                in_band = is_found & (band == number)
                score.add(f"pairs {tail}, {name}", int((in_band & is_false).sum()), int(in_band.sum()))
            score.add(f"pairs {tail}, all", int((is_found & is_false).sum()), int(is_found.sum()))
            found = {both[place] for place in np.flatnonzero(is_found)}
            for thing in corpus.planted if tail == "above" else corpus.avoiding:
                if len(thing.members) == 2:
                    score.power(thing, is_found=thing.members in found)
                elif thing.kind == "community":
                    for pair in combinations(thing.members, 2):
                        score.power(thing, is_found=pair in found)


def score_sets(corpora: Iterable[Corpus], score: Score, max_size: int = 5) -> None:
    """Sets of each size given their parts. A set is false unless one planted thing holds all of it."""
    for corpus in corpora:
        recurring = recurring_sets(
            corpus.incidence, min_support=MIN_SUPPORT_OF_SETS, max_size=max_size, max_sets=MAX_SETS
        )
        wholes = [set(thing.members) for thing in corpus.planted]
        for sets in recurring.by_size:
            is_found = (set_measures(corpus.incidence, sets)["q_above"] <= LEVEL).filled(False)
            found = {tuple(members) for members in sets.members[is_found].tolist()}
            n_false = sum(not any(whole.issuperset(members) for whole in wholes) for members in found)
            score.add(f"sets of {sets.size}", n_false, len(found))
            for thing in corpus.planted:
                if len(thing.members) == sets.size:
                    score.power(thing, is_found=thing.members in found)


def score_tasks(corpora: Iterable[Incidence], score: Score) -> None:
    """Pairs of corpora of tasks in which all features are independent within a task: every discovery is false."""
    for incidence in corpora:
        _, measures = measures_of(incidence)
        for suffix in ("", "_stratified"):
            for tail in ("above", "below"):
                n_found = int((measures[f"q_{tail}{suffix}"] <= LEVEL).sum())
                score.add(f"tasks {tail}{suffix}", n_found, n_found)
