"""What bounds the search for recurring circuits and motifs; every bound that bites is said in `circuits.method`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitSettings:
    """Bounds of `build_circuits`.

    Samples of graphs are drawn by hash of `graph_id`, so they depend on neither order nor workers.
    """

    max_edges: int = 2_000
    """Edges of a consensus circuit, the strongest by edge score; and features that are on none of them."""
    max_members: int = 200
    """Features listed of a cluster of graphs, those with the largest share of its centre."""
    max_clusters: int = 50
    """Most clusters of graphs."""
    max_graphs: int = 10_000
    """Graphs that clusters are found on; the others are assigned to the nearest centre. Also the graphs that
    resamples of clusters of features are drawn from."""
    max_graphs_per_value: int = 1_000
    """Graphs of a value that resamples of its consensus circuit and supernodes are drawn from."""
    max_pairs: int = 100_000
    """Pairs of features, the strongest by npmi, whose communities are looked for."""
    max_features: int = 20_000
    """Features, those in most graphs, whose profiles are compared."""
    n_resamples: int = 20
    """Bootstrap resamples behind a stability."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MotifSettings:
    """Bounds of `build_motifs`."""

    max_edges_per_side: int = 100
    """Edges into a feature, and edges out of it, that are combined: those of largest support."""
    max_candidates: int = 2_000_000
    """Combinations of edges, over all shapes; where there are more, edges of larger support alone are combined."""
    max_graphs: int = 200_000
    """Graphs that motifs are counted on: a sample by hash where there are more."""
