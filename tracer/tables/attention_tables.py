"""Declarations of the tables that make attention visible; written shard by shard where they are asked for."""

from tracer.tables.declare import Column, Table
from tracer.tables.graph_tables import GRAPH_ID

HEAD_LOADINGS = Table(
    name="head_loadings",
    grain="graph x kept edge x part of it",
    key=("graph_id", "target_idx", "source_idx", "rank"),
    made_by="shard",
    columns=(
        GRAPH_ID,
        Column("target_idx", "int", "`node_idx` of the node that is acted on"),
        Column("source_idx", "int", "`node_idx` of the node that acts"),
        Column("rank", "int", "place of the part in its edge: largest absolute weight first, the rest last"),
        Column(
            "kind", "text", "what its paths cross last: head, skip (a skip connection), residual (nothing); or rest, "
            "the parts beyond `attribution.head_loadings`",
        ),
        Column("layer", "int", "layer of the head or skip connection; null for other kinds"),
        Column("head", "int", "the head; null for other kinds"),
        Column("weight", "float", "the part; those of an edge add up to its weight", "pre-activation"),
    ),
)  # fmt: skip

QK_EDGES = Table(
    name="qk_edges",
    grain="graph x attention score x side x rank",
    key=("graph_id", "layer", "head", "query_pos", "key_pos", "side", "rank"),
    made_by="shard",
    columns=(
        GRAPH_ID,
        Column("layer", "int", "layer of the head, from 0"),
        Column("head", "int", "the head"),
        Column("query_pos", "int", "position that looks"),
        Column("key_pos", "int", "position that is looked at"),
        Column("side", "text", "query or key: a source's share with the other side whole; pair: two sources together"),
        Column("rank", "int", "place by absolute weight within the side, from 0"),
        Column("weight", "float", "part of the score; those of all sources of a side, or of all pairs, add up to it"),
        Column("score", "float", "scaled product of query and key, before soft cap and mask"),
        Column("pattern", "float", "attention after the softmax", "share"),
        Column("query_kind", "text", "source on the query's side: feature, error, token or bias; null for side key"),
        Column("query_layer", "int", "layer of a feature or error; null for other kinds"),
        Column("query_source_pos", "int", "its position; null for the bias"),
        Column("query_feature", "int", "feature index within its layer; null for other kinds"),
        Column("key_kind", "text", "source on the key's side, as `query_kind`; null for side query"),
        Column("key_layer", "int", "as `query_layer`"),
        Column("key_source_pos", "int", "as `query_source_pos`"),
        Column("key_feature", "int", "as `query_feature`"),
    ),
)

ATTENTION_TABLES = (HEAD_LOADINGS, QK_EDGES)
