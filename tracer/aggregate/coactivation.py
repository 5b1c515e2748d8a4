"""Question: which chosen features are active at the same positions, or in the same documents, beyond chance?

Grain: pair of features x token or document. The null is that of circuits (`hypergraph.chances`), a place standing for
a graph: it is fitted to how often every feature is active and to how many are active at every place, over all features
and not only the chosen ones. Tested are all pairs of chosen features that are active at `min_support` places each.
"""

import numpy as np
import polars as pl

from tracer.aggregate.hypergraph.chances import fit_null
from tracer.aggregate.hypergraph.significance import against, quotient
from tracer.aggregate.incidence import Ints

MEASURES = ("expected", "lift", "npmi", "p_above", "p_below", "q_above", "q_below")
_PAIR = ["layer_a", "feature_a", "layer_b", "feature_b"]


def coactivation_rows(
    pairs: pl.DataFrame, lengths: pl.DataFrame, features: pl.DataFrame, min_support: int
) -> pl.DataFrame:
    """Rows of the `feature_coactivation` table, by grain and pair.

    Args:
        pairs: merged rows of `coactivation_pairs`.
        lengths: merged rows of `coactivation_lengths`.
        features: (layer, feature, n_firings, n_documents, is_dense) of every feature.
        min_support: fewest places of a listed pair, and of features whose pairs are tested.
    """
    dense = features.filter(pl.col("is_dense")).select("layer", "feature")
    found = []
    for grain, counted in (("document", "n_documents"), ("token", "n_firings")):
        of_grain = pairs.filter(pl.col("grain") == grain)
        itself = (pl.col("layer_a") == pl.col("layer_b")) & (pl.col("feature_a") == pl.col("feature_b"))
        alone = of_grain.filter(itself).select(
            pl.col("layer_a").alias("layer"), pl.col("feature_a").alias("feature"), "support"
        )
        listed = of_grain.filter(~itself, pl.col("support") >= min_support).sort(_PAIR)
        for end in ("a", "b"):
            names = {"layer": f"layer_{end}", "feature": f"feature_{end}", "support": f"n_{end}"}
            listed = listed.join(alone.rename(names), on=[f"layer_{end}", f"feature_{end}"], maintain_order="left")
        places = lengths.filter(pl.col("grain") == grain)
        n_frequent = alone.filter(pl.col("support") >= min_support).height
        found.append(_measured(listed, features[counted].to_numpy(), places, n_frequent * (n_frequent - 1) // 2))
    rows = pl.concat(found)
    for end in ("a", "b"):
        names = {"layer": f"layer_{end}", "feature": f"feature_{end}"}
        marked = dense.rename(names).with_columns(pl.lit(True).alias(f"is_dense_{end}"))
        rows = rows.join(marked, on=list(names.values()), how="left", maintain_order="left")
    has_dense = pl.col("is_dense_a").fill_null(False) | pl.col("is_dense_b").fill_null(False)
    return rows.with_columns(has_dense.alias("has_dense")).drop("is_dense_a", "is_dense_b")


def _measured(listed: pl.DataFrame, support: Ints, places: pl.DataFrame, n_tested: int) -> pl.DataFrame:
    both, n_a, n_b = (listed[name].to_numpy() for name in ("support", "n_a", "n_b"))
    expected = np.zeros(len(both))
    if support.sum() > 0:
        length, times = places["length"].to_numpy(), places["n"].to_numpy()
        expected = fit_null(support, length, times=times).expected_pairs(n_a, n_b)
    measures = {"jaccard": quotient(both, n_a + n_b - both)}
    measures |= against(both, expected, int(places["n"].sum()), n_tested)
    columns = [pl.Series(name, values.tolist(), dtype=pl.Float64) for name, values in measures.items()]
    order = ["grain", *_PAIR, "n_a", "n_b", "support", "jaccard", *MEASURES]
    return listed.with_columns(columns).select(order)
