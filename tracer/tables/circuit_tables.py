"""Declarations of recurring circuits, motifs and comparisons."""

from tracer.tables.declare import Column, Table
from tracer.tables.frequency_tables import EDGE_ENDS, EDGE_KEY, EDGE_MEASURES
from tracer.tables.graph_tables import GRAPH_ID

CIRCUIT_ID = Column("circuit_id", "text", "name of the circuit, stable for equal inputs")

CIRCUITS = Table(
    name="circuits",
    grain="recurring circuit",
    key=("circuit_id",),
    made_by="aggregate",
    columns=(
        CIRCUIT_ID,
        Column(
            "kind",
            "text",
            "consensus (what the graphs of a value share), graph_cluster (graphs alike in their features), "
            "feature_cluster (features that co-occur), profile_cluster (features with the same sources and targets), "
            "supernode (a profile cluster within one consensus circuit)",
        ),
        Column("by_column", "text", "column of `prompts` that a consensus circuit is of; null for other kinds"),
        Column("by_value", "text", "its value"),
        Column("parent_id", "text", "consensus circuit that a supernode is part of; null for other kinds"),
        Column("method", "text", "how it was found, with the settings that matter"),
        Column("n_graphs", "int", "graphs it was found in; null for clusters of features"),
        Column("n_members", "int", "rows of `circuit_members`"),
        Column(
            "stability",
            "float",
            "mean over bootstrap resamples of the Jaccard similarity with the most similar cluster there; for a "
            "consensus, of its edges; null where there was too little to resample",
            "share",
        ),
        Column("cohesion", "float", "mean cosine similarity of members to their centre; null for a consensus"),
    ),
)  # fmt: skip

CIRCUIT_MEMBERS = Table(
    name="circuit_members",
    grain="circuit x node",
    key=("circuit_id", "kind", "layer", "feature"),
    made_by="aggregate",
    columns=(
        CIRCUIT_ID,
        Column("kind", "text", "feature, token or logit"),
        Column("layer", "int", "layer of a feature; -1 for other kinds"),
        Column("feature", "int", "feature index, or the vocabulary id of a token or logit"),
        Column("token", "text", "raw text of a token or logit; null for a feature"),
        Column("support", "int", "graphs of the circuit that hold it"),
        Column("frequency", "float", "support over the circuit's graphs", "share"),
        Column("influence_mean", "float", "influence per graph of the circuit that holds it", "share of logit weight"),
        Column(
            "weight",
            "float",
            "how much it belongs: cosine similarity to a cluster's centre; for a graph cluster its share of the "
            "centre's weight; for a consensus its frequency",
        ),
    ),
)

CIRCUIT_GRAPHS = Table(
    name="circuit_graphs",
    grain="graph cluster x graph in it",
    key=("circuit_id", "graph_id"),
    made_by="aggregate",
    columns=(CIRCUIT_ID, GRAPH_ID, Column("weight", "float", "cosine similarity to the cluster's centre")),
)

CIRCUIT_EDGES = Table(
    name="circuit_edges",
    grain="consensus circuit x edge",
    key=("circuit_id", *EDGE_KEY),
    made_by="aggregate",
    columns=(CIRCUIT_ID, *EDGE_ENDS, *EDGE_MEASURES),
)

MOTIFS = Table(
    name="motifs",
    grain="recurring pattern of two or three edges between three features",
    key=("shape", "layer_a", "feature_a", "layer_b", "feature_b", "layer_c", "feature_c"),
    made_by="aggregate",
    columns=(
        Column(
            "shape",
            "text",
            "chain (a -> b -> c), fan_out (a -> b, a -> c), fan_in (a -> c, b -> c) or feed_forward (a -> b -> c with "
            "a -> c)",
        ),
        Column("layer_a", "int", "layer of a"),
        Column("feature_a", "int", "feature index of a"),
        Column("layer_b", "int", "layer of b"),
        Column("feature_b", "int", "feature index of b"),
        Column("layer_c", "int", "layer of c"),
        Column("feature_c", "int", "feature index of c"),
        Column("support", "int", "graphs that keep all its edges, at any positions"),
        Column("n_with_nodes", "int", "graphs that hold all three features"),
        Column(
            "expected",
            "float",
            "graphs expected if edges were kept independently of one another in the graphs that hold their two ends",
            "graphs",
        ),
        Column("lift", "float", "support over expected"),
        Column("p_above", "float", "chance of at least this support, Poisson", "probability"),
        Column("q_above", "float", "p_above after Benjamini-Hochberg over all motifs of this shape", "probability"),
    ),
)

COMPARISONS = Table(
    name="comparisons",
    grain="comparison x feature, pair of features or edge",
    key=("comparison", "kind", "kind_a", "layer_a", "feature_a", "kind_b", "layer_b", "feature_b"),
    made_by="aggregate",
    columns=(
        Column("comparison", "text", "its name in `aggregate.comparisons`"),
        Column("kind", "text", "feature, pair or edge (from a to b)"),
        Column("kind_a", "text", "feature, or token as the source of an edge"),
        Column("layer_a", "int", "layer of a; -1 for a token"),
        Column("feature_a", "int", "feature index of a, or the token's vocabulary id"),
        Column("kind_b", "text", "feature, logit as the target of an edge, or none where the kind is feature"),
        Column("layer_b", "int", "layer of b; -1 for a logit or none"),
        Column("feature_b", "int", "feature index of b, or the logit's vocabulary id; -1 for none"),
        Column("support_first", "int", "graphs of the first side that hold it"),
        Column("n_first", "int", "graphs of the first side"),
        Column("frequency_first", "float", "their quotient", "share"),
        Column("support_second", "int", "graphs of the second side that hold it"),
        Column("n_second", "int", "graphs of the second side"),
        Column("frequency_second", "float", "their quotient", "share"),
        Column("is_paired", "bool", "whether each graph was compared with its counterfactual partner"),
        Column("difference", "float", "frequency_first - frequency_second", "share"),
        Column("difference_low", "float", "lower end of its 95 % interval (Newcombe 1998)", "share"),
        Column("difference_high", "float", "upper end", "share"),
        Column("effect_size", "float", "Cohen's h: difference of arcsine-transformed frequencies", "radians"),
        Column("p", "float", "two-sided chance: Fisher's exact test; paired, the exact McNemar test", "probability"),
        Column(
            "q",
            "float",
            "p after Benjamini-Hochberg over all tested items of this kind; null for one so rare or so common that no "
            "split of its graphs over the sides is unlikely enough to be tested (Tarone 1990)",
            "probability",
        ),
        Column(
            "p_permutation",
            "float",
            "share of permutations of the sides in which any item of this kind differs as much: family-wise; null "
            "where no permutations are asked for",
            "probability",
        ),
    ),
)  # fmt: skip

CIRCUIT_TABLES = (CIRCUITS, CIRCUIT_MEMBERS, CIRCUIT_GRAPHS, CIRCUIT_EDGES, MOTIFS, COMPARISONS)
