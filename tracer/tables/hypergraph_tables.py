"""Declarations of the co-occurrence hypergraph: which features, and which components, share graphs."""

from tracer.tables.declare import Column, Table
from tracer.tables.graph_tables import FEATURE, GRAPH_ID, LAYER


def _null(suffix: str, which: str) -> tuple[Column, ...]:
    """What a pair is compared with under one null."""
    return (
        Column(f"expected{suffix}", "float", f"graphs expected with both under the length-aware null{which}", "graphs"),
        Column(f"lift{suffix}", "float", f"support over expected{suffix}; null where nothing is expected"),
        Column(
            f"npmi{suffix}",
            "float",
            f"normalised pointwise mutual information under that null{which}, -1 to 1; null if in all graphs",
        ),
        Column(f"p_above{suffix}", "float", "Poisson chance of at least this support", "probability"),
        Column(f"p_below{suffix}", "float", "Poisson chance of at most this support", "probability"),
        Column(
            f"q_above{suffix}",
            "float",
            f"p_above{suffix} after Benjamini-Hochberg over all tested pairs",
            "probability",
        ),
        Column(f"q_below{suffix}", "float", f"p_below{suffix} after Benjamini-Hochberg", "probability"),
    )


PAIR_MEASURES = (
    Column("n_a", "int", "graphs with a"),
    Column("n_b", "int", "graphs with b"),
    Column("support", "int", "graphs with both"),
    Column("jaccard", "float", "graphs with both over graphs with either", "share"),
    *_null("", ""),
    *_null("_stratified", " within each stratum; null without `aggregate.stratify_by`"),
)

COOCCURRENCE = Table(
    name="cooccurrence",
    grain="pair of features in graphs",
    key=("layer_a", "feature_a", "layer_b", "feature_b"),
    made_by="aggregate",
    columns=(
        Column("layer_a", "int", "layer of the first feature; (layer, feature) of a sorts before that of b"),
        Column("feature_a", "int", "index of the first feature"),
        Column("layer_b", "int", "layer of the second feature"),
        Column("feature_b", "int", "index of the second feature"),
        *PAIR_MEASURES,
    ),
)

COMPONENT_COOCCURRENCE = Table(
    name="component_cooccurrence",
    grain="pair of components in graphs",
    key=("component_a", "component_b"),
    made_by="aggregate",
    columns=(
        Column("component_a", "text", "name of the first component: MLP0, L9H9; that of a sorts before that of b"),
        Column("component_b", "text", "name of the second component"),
        *PAIR_MEASURES,
    ),
)

INCIDENCE = Table(
    name="incidence",
    grain="graph x feature in it: the incidence of the hypergraph whose hyperedges are graphs",
    key=("graph_id", "layer", "feature"),
    made_by="view",
    columns=(
        GRAPH_ID,
        LAYER,
        FEATURE,
        Column("n_nodes", "int", "kept nodes of the feature in this graph"),
        Column("influence", "float", "their influence, summed", "share of logit weight"),
        Column("activation_max", "float", "their largest activation", "activation"),
    ),
)

GRANULARITY = Column(
    "granularity",
    "text",
    "what members are: feature, component, or position (a feature at a token position)",
)

HYPEREDGES = Table(
    name="hyperedges",
    grain="set of three or more that recurs in graphs",
    key=("granularity", "hyperedge_id"),
    made_by="aggregate",
    columns=(
        GRANULARITY,
        Column("hyperedge_id", "int", "number of the set within its granularity; members: `hyperedge_members`"),
        Column("size", "int", "members"),
        Column("support", "int", "graphs that hold all members"),
        Column("expected", "float", "graphs expected with all members under the length-aware null", "graphs"),
        Column("lift", "float", "support over expected"),
        Column(
            "expected_given_parts",
            "float",
            "the most that two parts of it explain: the graphs of one times the chance of the other, over all splits "
            "(within strata, where there are strata)",
            "graphs",
        ),
        Column("lift_given_parts", "float", "support over expected_given_parts: beyond what smaller sets explain"),
        Column("p_above", "float", "Poisson chance of at least this support, given the parts", "probability"),
        Column(
            "q_above", "float", "p_above after Benjamini-Hochberg over all counted sets of this size", "probability"
        ),
        Column("is_closed", "bool", "whether no further item is in all of its graphs"),
        Column("is_maximal", "bool", "whether no larger set, listed or not, is in `min_support` graphs"),
    ),
)

HYPEREDGE_MEMBERS = Table(
    name="hyperedge_members",
    grain="member of a hyperedge",
    key=("granularity", "hyperedge_id", "member_idx"),
    made_by="aggregate",
    columns=(
        GRANULARITY,
        Column("hyperedge_id", "int", "as in `hyperedges`"),
        Column("member_idx", "int", "place among the members, which are sorted"),
        Column("kind", "text", "feature, mlp or head"),
        LAYER,
        Column("head", "int", "attention head; -1 for other kinds"),
        Column("feature", "int", "feature index within its layer; -1 for components"),
        Column("pos", "int", "token position; -1 but for granularity position"),
    ),
)

HYPEREDGE_LIMITS = Table(
    name="hyperedge_limits",
    grain="granularity x size of sets: what was listed, and where lists were cut",
    key=("granularity", "size"),
    made_by="aggregate",
    columns=(
        GRANULARITY,
        Column("size", "int", "members of a set"),
        Column("min_support", "int", "least support that was asked for"),
        Column("min_support_listed", "int", "least support listed: larger where there were too many sets"),
        Column(
            "n_found",
            "int",
            "sets of this size, closed or not, at min_support or more; null where not all were counted",
        ),
        Column("n_listed", "int", "closed sets of this size in `hyperedges`"),
    ),
)

HYPERGRAPH_TABLES = (
    COOCCURRENCE, COMPONENT_COOCCURRENCE, INCIDENCE, HYPEREDGES, HYPEREDGE_MEMBERS, HYPEREDGE_LIMITS,
)  # fmt: skip
