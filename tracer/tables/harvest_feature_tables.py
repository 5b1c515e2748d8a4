"""Declarations of what a harvest says of features beside each other: what excites them, neighbours, co-activation."""

from tracer.tables.declare import Column, Table
from tracer.tables.graph_tables import FEATURE, LAYER

FEATURE_EXCITATIONS = Table(
    name="feature_excitations",
    grain="feature x path from the embedding",
    key=("layer", "feature", "via_layer", "via_head"),
    made_by="aggregate",
    columns=(
        LAYER,
        FEATURE,
        Column("via_layer", "int", "layer of the attention head on the path; -1: straight from the embedding"),
        Column("via_head", "int", "that head; -1: straight from the embedding"),
        Column(
            "score_sd",
            "float",
            "standard deviation of the path's scores over the vocabulary; heads with the largest are listed",
        ),
        Column("tokens", "list[text]", "tokens whose embeddings excite it most over this path"),
        Column(
            "token_scores",
            "list[float]",
            "their embeddings dotted with what the encoder reads of the stream, at norm scales of one; through a head, "
            "as if it attended to the token alone",
        ),
    ),
)

FEATURE_NEIGHBOURS = Table(
    name="feature_neighbours",
    grain="feature x scope x rank",
    key=("layer", "feature", "scope", "rank"),
    made_by="aggregate",
    columns=(
        LAYER,
        FEATURE,
        Column("scope", "text", "within (neighbours of the same layer) or across (of all other layers)"),
        Column("rank", "int", "0 is the most similar of its scope; ties break on layer, then feature"),
        Column("neighbour_layer", "int", "layer of the similar feature"),
        Column("neighbour_feature", "int", "its index"),
        Column("cosine", "float", "cosine of the two write vectors, each summed over the layers it writes"),
    ),
)

_GRAIN = Column("grain", "text", "token (places are positions) or document (places are documents)")
_PAIR = (
    Column("layer_a", "int", "layer of the first feature; (layer, feature) of a sorts before that of b"),
    Column("feature_a", "int", "index of the first feature"),
    Column("layer_b", "int", "layer of the second feature"),
    Column("feature_b", "int", "index of the second feature"),
)
_PAIR_KEY = ("grain", "layer_a", "feature_a", "layer_b", "feature_b")

COACTIVATION_PAIRS = Table(
    name="coactivation_pairs",
    grain="shard x grain x pair of chosen features; a feature with itself has the places where it is active",
    key=_PAIR_KEY,
    made_by="partial",
    columns=(_GRAIN, *_PAIR, Column("support", "int", "places at which both are active")),
)

COACTIVATION_LENGTHS = Table(
    name="coactivation_lengths",
    grain="shard x grain x number of active features",
    key=("grain", "length"),
    made_by="partial",
    columns=(
        _GRAIN,
        Column("length", "int", "distinct features of any layer, chosen or not, that are active at a place"),
        Column("n", "int", "places with so many"),
    ),
)

FEATURE_COACTIVATION = Table(
    name="feature_coactivation",
    grain="grain x pair of chosen features that share enough places",
    key=_PAIR_KEY,
    made_by="aggregate",
    columns=(
        _GRAIN,
        *_PAIR,
        Column("n_a", "int", "places at which a is active"),
        Column("n_b", "int", "places at which b is active"),
        Column("support", "int", "places at which both are"),
        Column("jaccard", "float", "places with both over places with either", "share"),
        Column("expected", "float", "places expected with both under the length-aware null"),
        Column("lift", "float", "support over expected; null where nothing is expected"),
        Column("npmi", "float", "normalised pointwise mutual information under that null, -1 to 1"),
        Column("p_above", "float", "Poisson chance of at least this support", "probability"),
        Column("p_below", "float", "Poisson chance of at most this support", "probability"),
        Column(
            "q_above", "float", "p_above after Benjamini-Hochberg over all tested pairs of the grain", "probability"
        ),
        Column("q_below", "float", "p_below after Benjamini-Hochberg", "probability"),
        Column("has_dense", "bool", "whether either feature is dense (`features.is_dense`)"),
    ),
)
