"""The settings of the search for recurring circuits and motifs; every bound that bites is said in the tables."""

from pydantic import Field

from tracer.config.base import Settings


class CircuitConfig(Settings):
    """Bounds of recurring circuits; samples are drawn by hash, so that they depend on neither order nor workers."""

    max_edges: int = Field(
        2_000,
        ge=1,
        description="edges of a consensus circuit, the strongest by edge score; and features that are on none of them",
    )
    max_members: int = Field(
        200, ge=1, description="features listed of a cluster of graphs, those with the largest share of its centre"
    )
    max_clusters: int = Field(50, ge=2, description="most clusters of graphs")
    max_graphs: int = Field(
        10_000,
        ge=2,
        description="graphs that clusters are found on, the others being assigned to the nearest centre; also those "
        "that resamples of clusters of features are drawn from",
    )
    max_graphs_per_value: int = Field(
        1_000,
        ge=2,
        description="graphs of a value that resamples of its circuit and supernodes are drawn from",
    )
    max_pairs: int = Field(
        100_000, ge=1, description="pairs of features, the strongest by npmi, whose communities are looked for"
    )
    max_features: int = Field(20_000, ge=2, description="features, those in most graphs, whose profiles are compared")
    n_resamples: int = Field(20, ge=1, description="bootstrap resamples behind a stability")


class MotifConfig(Settings):
    """Bounds of recurring motifs."""

    max_edges_per_side: int = Field(
        100, ge=1, description="edges into a feature, and edges out of it, that are combined: those of largest support"
    )
    max_candidates: int = Field(
        2_000_000,
        ge=1,
        description="combinations of edges, over all shapes; where there are more, edges of larger support alone are "
        "combined",
    )
    max_graphs: int = Field(
        200_000, ge=1, description="graphs that motifs are counted on: a sample by hash where there are more"
    )
