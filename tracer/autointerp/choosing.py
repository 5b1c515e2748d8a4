"""Which features get a label from a language model, and whose labels are tested."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from tracer.autointerp.feature_evidence import FeatureKey
from tracer.autointerp.scoring.measures import hashed
from tracer.tables.database import Connection

N_BANDS = 4
"""Bands of activation frequency, of equal size, from which labels to test are drawn in each layer."""
N_NEAREST = 20
"""Features of the nearest frequencies, among which the null's other label is drawn."""

CIRCUIT_FEATURES = """
SELECT layer, feature FROM features WHERE support > 0
QUALIFY coalesce(sum(influence_sum) OVER (
    ORDER BY influence_sum DESC, layer, feature ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
), 0) < $share * sum(influence_sum) OVER ()
ORDER BY influence_sum DESC, layer, feature
"""
GIVEN = """
SELECT DISTINCT layer, feature FROM all_labels
WHERE target_kind = 'feature' AND (method = 'person' OR starts_with(method, 'neuronpedia:'))
"""


def circuit_features(
    connection: Connection, *, share: float, max_features: int | None, keep_given: bool
) -> list[FeatureKey]:
    """The fewest features that carry a share of all influence in the run's graphs, most influence first.

    Args:
        connection: to a results file.
        share: of the influence of all kept features over all graphs.
        max_features: at most so many.
        keep_given: leave out features that people or an import have labelled.
    """
    keys = connection.execute(CIRCUIT_FEATURES, {"share": share}).fetchall()
    given = set(connection.execute(GIVEN).fetchall()) if keep_given else set()
    return [key for key in keys if key not in given][:max_features]


def stratified(frequencies: Mapping[FeatureKey, float], n: int, seed: int) -> list[FeatureKey]:
    """Features drawn by hash, in equal parts from every layer and band of activation frequency.

    Args:
        frequencies: activation frequency of those that there are.
        n: so many at most.
        seed: what they are drawn by.
    """
    by_layer = defaultdict(list)
    for key in sorted(frequencies, key=lambda key: (frequencies[key], key)):
        by_layer[key[0]].append(key)
    strata = []
    for keys in by_layer.values():
        size = -(-len(keys) // N_BANDS)
        strata += [
            sorted(keys[start : start + size], key=lambda key: hashed(seed, *key))
            for start in range(0, len(keys), size)
        ]
    chosen: list[FeatureKey] = []
    for turn in range(max(map(len, strata), default=0)):
        chosen += [stratum[turn] for stratum in strata if turn < len(stratum)]
    return sorted(chosen[:n])


def other_feature(
    key: FeatureKey, frequencies: Mapping[FeatureKey, float], words: Mapping[FeatureKey, str], seed: int
) -> FeatureKey | None:
    """Another feature of the layer that fires about as often and has other words; None where there is none.

    Args:
        key: the feature that is tested.
        frequencies: activation frequency of every labelled feature.
        words: what is said of each.
        seed: what it is drawn by among the nearest.
    """
    others = [other for other in frequencies if other[0] == key[0] and other != key and words[other] != words[key]]
    nearest = sorted(others, key=lambda other: (abs(frequencies[other] - frequencies[key]), other))[:N_NEAREST]
    return min(nearest, key=lambda other: hashed(seed, *key, *other), default=None)


def parse_features(names: Sequence[str]) -> list[FeatureKey]:
    """(layer, feature) of names such as L0/12.

    Raises:
        ValueError: a name of another form.
    """
    return [(int(layer), int(feature)) for layer, feature in (name.removeprefix("L").split("/") for name in names)]
