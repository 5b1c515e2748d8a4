"""Declarations of the tables that count by metadata: what recurs in which prompts."""

from tracer.tables.declare import Column, Table
from tracer.tables.graph_tables import FEATURE, LAYER

BY_COLUMN = Column("by_column", "text", "column of `prompts`, one of `aggregate.by`")
BY_VALUE = Column("by_value", "text", "its value, as text; prompts without a value are under none")
BY = (BY_COLUMN, BY_VALUE)
N_GRAPHS = Column("n_graphs", "int", "graphs of this value")
COMPONENT = (
    Column("kind", "text", "mlp or head"),
    LAYER,
    Column("head", "int", "attention head, from 0; -1 for an MLP"),
    Column("component", "text", "its name: MLP0, L9H9"),
)
EDGE_ENDS = (
    Column("source_kind", "text", "feature or token"),
    Column("source_layer", "int", "layer of a feature source; -1 for a token"),
    Column("source_feature", "int", "feature index, or the token's vocabulary id"),
    Column("target_kind", "text", "feature or logit"),
    Column("target_layer", "int", "layer of a feature target; -1 for a logit"),
    Column("target_feature", "int", "feature index, or the logit's vocabulary id"),
)
EDGE_KEY = tuple(column.name for column in EDGE_ENDS)
EDGE_MEASURES = (
    Column("source_token", "text", "raw text of a token source"),
    Column("target_token", "text", "raw text of a logit target"),
    Column("support", "int", "graphs that keep this edge at any positions"),
    Column("frequency", "float", "support over all graphs (of the value)", "share"),
    Column("weight_mean", "float", "mean over those graphs of the weight summed over positions"),
    Column("weight_sd", "float", "its standard deviation; null at support 1"),
    Column("sign_agreement", "float", "share of those graphs in which the sign is the commoner one", "share"),
    Column("edge_score_sum", "float", "edge scores summed over graphs and positions"),
)

FEATURE_FREQUENCY = Table(
    name="feature_frequency",
    grain="value of a metadata column x feature in graphs",
    key=("by_column", "by_value", "layer", "feature"),
    made_by="aggregate",
    columns=(
        *BY,
        LAYER,
        FEATURE,
        Column("support", "int", "graphs of this value with at least one kept node of it"),
        N_GRAPHS,
        Column("frequency", "float", "support over n_graphs", "share"),
        Column("is_always_on", "bool", "whether every graph of this value holds it"),
        Column("n_nodes", "int", "kept nodes of it in graphs of this value"),
        Column("influence_sum", "float", "influence of its kept nodes, summed over graphs"),
        Column("influence_mean", "float", "influence per graph that holds it"),
        Column("influence_sd", "float", "standard deviation over the graphs that hold it; null at support 1"),
        Column("activation_mean", "float", "mean activation of its kept nodes", "activation"),
        Column("activation_min", "float", "smallest activation of its kept nodes", "activation"),
        Column("activation_max", "float", "largest activation of its kept nodes", "activation"),
    ),
)

COMPONENT_FREQUENCY = Table(
    name="component_frequency",
    grain="value of a metadata column x component",
    key=("by_column", "by_value", "kind", "layer", "head"),
    made_by="aggregate",
    columns=(
        *BY,
        *COMPONENT,
        Column("support", "int", "graphs of this value that hold it (see `components`)"),
        N_GRAPHS,
        Column("frequency", "float", "support over n_graphs", "share"),
        Column("n_features", "int", "distinct features of it (see `component_features`) in graphs of this value"),
        Column("influence_sum", "float", "influence that it carries, summed over graphs"),
        Column("influence_mean", "float", "the same per graph of this value", "share of logit weight"),
        Column("influence_sd", "float", "standard deviation over the graphs of this value; null for a single graph"),
    ),
)

COMPONENT_FEATURES = Table(
    name="component_features",
    grain="component x feature of it",
    key=("kind", "layer", "head", "feature_layer", "feature"),
    made_by="aggregate",
    columns=(
        *COMPONENT,
        Column("feature_layer", "int", "layer of the feature: the MLP's own, or one that the head reads from"),
        FEATURE,
        Column(
            "support",
            "int",
            "graphs in which an MLP's feature is kept, or of which the head carries the largest part of an edge from "
            "it, whether or not they hold the head (see `components`)",
        ),
        Column("influence_sum", "float", "influence of the MLP's feature, or edge scores that the head carries"),
    ),
)  # fmt: skip

EDGE_FREQUENCY = Table(
    name="edge_frequency",
    grain="value of a metadata column x edge of `edge_stats`",
    key=("by_column", "by_value", *EDGE_KEY),
    made_by="aggregate",
    columns=(*BY, *EDGE_ENDS, N_GRAPHS, *EDGE_MEASURES),
)

ERRORS = Table(
    name="errors",
    grain="layer x position",
    key=("layer", "pos"),
    made_by="aggregate",
    columns=(
        LAYER,
        Column("pos", "int", "token position, from 0"),
        Column("support", "int", "graphs that keep the error node there"),
        Column("n_graphs", "int", "graphs long enough to have this position"),
        Column("frequency", "float", "support over n_graphs", "share"),
        Column("influence_sum", "float", "influence of the kept error nodes, summed over graphs"),
        Column("influence_mean", "float", "the same per graph that has this position", "share of logit weight"),
    ),
)

ERROR_FREQUENCY = Table(
    name="error_frequency",
    grain="value of a metadata column x layer x position",
    key=("by_column", "by_value", "layer", "pos"),
    made_by="aggregate",
    columns=(*BY, *ERRORS.columns),
)

FREQUENCY_TABLES = (
    FEATURE_FREQUENCY, COMPONENT_FREQUENCY, COMPONENT_FEATURES, EDGE_FREQUENCY, ERRORS, ERROR_FREQUENCY,
)  # fmt: skip
