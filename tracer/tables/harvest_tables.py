"""Declarations of the tables of a harvest: what every feature of a set fires on over a reference corpus.

A harvest is a folder of its own with a results.duckdb of its own; it is joined to a run by `transcoders_hash` and
(layer, feature). Some tables have the names and columns of a run's, counted over the reference corpus instead.
"""

from tracer.tables.declare import Column, Table
from tracer.tables.feature_tables import FEATURE_ACTIVATION_HIST, FEATURE_LOGITS
from tracer.tables.graph_tables import FAILURES, FEATURE, LAYER
from tracer.tables.harvest_feature_tables import (
    COACTIVATION_LENGTHS,
    COACTIVATION_PAIRS,
    FEATURE_COACTIVATION,
    FEATURE_EXCITATIONS,
    FEATURE_NEIGHBOURS,
)

DOCUMENT_ID = Column("document_id", "text", "the document: hash of its tokens, metadata and occurrence number")
DOCUMENT_KEY = Column("document_key", "int", "document_id as a signed number of the same order")
WINDOW_START = Column("window_start", "int", "place in the document of the window's first own token", "tokens")

HARVESTS = Table(
    name="harvests",
    grain="harvest",
    key=("config_fingerprint", "corpus_fingerprint"),
    made_by="aggregate",
    columns=(
        Column("harvest_id", "text", "name of the harvest folder", volatile=True),
        Column("config_fingerprint", "text", "hash of the settings that affect results"),
        Column("corpus_fingerprint", "text", "hash of the documents"),
        Column("config", "text", "the whole configuration as JSON", volatile=True),
        Column("model", "text", "checkpoint, as referred to"),
        Column("model_hash", "text", "content hash of the checkpoint's files"),
        Column("transcoders", "text", "transcoder set or SAEs, as referred to"),
        Column("transcoders_hash", "text", "content hash of their files"),
        Column("corpus", "text", "source of the documents"),
        Column("n_layers", "int", "layers of the model"),
        Column("n_features", "int", "features over all layers"),
        Column("window_tokens", "int", "longest window, special token included", "tokens"),
        Column("n_documents", "int", "documents of which windows were taken"),
        Column("n_duplicates", "int", "identical documents left out"),
        Column("n_windows", "int", "windows"),
        Column("n_tokens", "int", "positions of all windows, special tokens included", "tokens"),
        Column("n_eligible_tokens", "int", "positions that could fire: neither special nor of high norm", "tokens"),
        Column("n_special_tokens", "int", "positions left out because they hold a special token", "tokens"),
        Column("n_high_norm_tokens", "int", "positions left out because of their norm", "tokens"),
        Column("n_failures", "int", "rows of `failures`"),
        Column("schema_version", "int", "version of the table declarations"),
        Column("parts_hash", "text", "hash over the parts that these tables are made from", volatile=True),
        Column("tracer_version", "text", "version of tracer"),
        Column("versions", "text", "versions of Python and the main packages as JSON", volatile=True),
        Column("started_at", "time", "when the harvest folder was made", volatile=True),
        Column("seconds", "float", "summed time of all driver sessions up to the tables", "s", volatile=True),
    ),
)

DOCUMENTS = Table(
    name="documents",
    grain="document of which windows were taken",
    key=("document_id",),
    made_by="shard",
    columns=(
        DOCUMENT_ID,
        Column("shard_id", "text", "shard that holds the document: a hash of its content"),
        Column("n_tokens", "int", "length without a special token in front", "tokens"),
        Column("n_windows", "int", "windows cut from it"),
        Column("n_eligible_tokens", "int", "positions of its windows that could fire", "tokens"),
        Column("n_special_tokens", "int", "positions of its windows that hold a special token", "tokens"),
        Column("n_high_norm_tokens", "int", "positions of its windows left out because of their norm", "tokens"),
        Column("status", "text", "harvested, or failed: see `failures`"),
        Column("metadata", "text", "remaining columns of the corpus as a JSON object"),
    ),
)

_SUMS = (
    Column("n_firings", "int", "eligible token positions at which it is active"),
    Column("n_documents", "int", "documents in which it is active at least once"),
    Column("activation_sum", "float", "sum of its activations"),
    Column("activation_square_sum", "float", "sum of their squares"),
)

FEATURE_SUMS = Table(
    name="feature_sums",
    grain="shard x feature that fired",
    key=("layer", "feature"),
    made_by="partial",
    columns=(LAYER, FEATURE, *_SUMS, Column("activation_max", "float", "largest activation", "activation")),
)

HARVEST_FEATURES = Table(
    name="features",
    grain="feature, dead ones too",
    key=("layer", "feature"),
    made_by="aggregate",
    columns=(
        LAYER,
        FEATURE,
        *_SUMS,
        Column("activation_frequency", "float", "n_firings over all eligible token positions", "share"),
        Column("document_frequency", "float", "n_documents over all documents", "share"),
        Column("activation_mean", "float", "mean activation where active; null where it never is", "activation"),
        Column("activation_sd", "float", "standard deviation where active; null where it never is", "activation"),
        Column("activation_max", "float", "largest activation; null where it never is", "activation"),
        Column("is_dense", "bool", "whether activation_frequency is above `harvest.dense_frequency`"),
        *FEATURE_LOGITS.columns[2:],
    ),
)

FEATURE_POSITIONS = Table(
    name="feature_positions",
    grain="feature x octave of the position in its window",
    key=("layer", "feature", "bin"),
    made_by="partial",
    columns=(
        LAYER,
        FEATURE,
        Column("bin", "int", "octave: holds 2^bin <= position < 2^(bin+1); position 0 is in bin -1"),
        Column("n", "int", "firings in the bin"),
    ),
)

_TOKEN = (Column("token_id", "int", "vocabulary id"), Column("token", "text", "its raw text"))
_FIRINGS_BY_TOKEN = (
    Column("n_at", "int", "firings on this token"),
    Column("n_before", "int", "firings right after this token"),
    Column("n_after", "int", "firings right before this token"),
)
_PLACES_BY_TOKEN = (
    Column("n_at", "int", "eligible positions that hold it"),
    Column("n_before", "int", "eligible positions whose previous token it is"),
    Column("n_after", "int", "eligible positions whose next token it is"),
)

FEATURE_TOKEN_SUMS = Table(
    name="feature_token_sums",
    grain="shard x feature x token",
    key=("layer", "feature", "token_id"),
    made_by="partial",
    columns=(LAYER, FEATURE, _TOKEN[0], *_FIRINGS_BY_TOKEN),
)
HARVEST_FEATURE_TOKENS = Table(
    name="feature_tokens",
    grain="feature x token",
    key=("layer", "feature", "token_id"),
    made_by="aggregate",
    columns=(LAYER, FEATURE, *_TOKEN, *_FIRINGS_BY_TOKEN),
)
HARVEST_TOKEN_COUNTS = Table(
    name="token_counts",
    grain="token",
    key=("token_id",),
    made_by="aggregate",
    columns=(*_TOKEN, *_PLACES_BY_TOKEN),
)
TOKEN_SUMS = Table(
    name="token_sums",
    grain="shard x token of its windows",
    key=("token_id",),
    made_by="partial",
    columns=HARVEST_TOKEN_COUNTS.columns,
)

HARVEST_EXAMPLES = Table(
    name="examples",
    grain="feature x kind of example x rank",
    key=("layer", "feature", "kind", "rank"),
    made_by="aggregate",
    columns=(
        LAYER,
        FEATURE,
        Column(
            "kind",
            "text",
            "top (largest activations), quantile (firings drawn at random), random (windows without the feature), "
            "near_miss (the same, but they hold a token it fires on, or a feature that neighbours it fires)",
        ),
        Column("quantile", "int", "0 holds the weakest firings drawn, by equal number; null unless kind is quantile"),
        Column("rank", "int", "from 0 within the kind: by activation, descending, or by hash where it does not fire"),
        DOCUMENT_ID,
        Column("pos", "int", "position of the firing in its window, the special token in front included", "tokens"),
        Column("token", "text", "the token at `pos`"),
        Column("activation", "float", "activation at `pos`; 0 for random and near_miss", "activation"),
        Column("context", "text", "5 tokens before, the token in << >>, 1 after, as readable text"),
        Column("document_start", "int", "place in the document of the window's first own token", "tokens"),
        Column("window_start", "int", "position in the window of the first token in `window_tokens`", "tokens"),
        Column("window_tokens", "list[text]", "tokens around `pos`"),
        Column("window_activations", "list[float]", "the feature's activation at each of them; 0 where inactive"),
        Column("split", "text", "explain (shown to a labeller) or score (kept to test labels), by hash of document"),
        Column(
            "copies",
            "int",
            "further positions of the corpus with the same last 8 tokens but for case, digits and punctuation; of the "
            "top windows only the strongest of each text is kept; null where the feature is not active",
        ),
        Column("reason", "text", "why a near miss is near: token, or neighbour L/F; null for other kinds"),
    ),
)

EXAMPLE_CANDIDATES = Table(
    name="example_candidates",
    grain="shard x feature x kind x document",
    key=("layer", "feature", "kind", "document_key"),
    made_by="partial",
    columns=(
        LAYER,
        FEATURE,
        Column("kind", "text", "top or quantile"),
        DOCUMENT_KEY,
        WINDOW_START,
        Column("pos", "int", "position of the firing in its window", "tokens"),
        Column("activation", "float", "activation at `pos`", "activation"),
        Column("draw", "int", "for quantile: hash of feature, document and place, by which firings are drawn; else 0"),
        Column("text_hash", "int", "hash of the text up to `pos` but for case, digits and punctuation"),
        Column("firing_pos", "list[int]", "positions near `pos` at which the feature is active", "tokens"),
        Column("firing_activations", "list[float]", "its activations there", "activation"),
    ),
)

TEXT_COUNTS = Table(
    name="text_counts",
    grain="shard x text",
    key=("text_hash",),
    made_by="partial",
    columns=(
        Column("text_hash", "int", "hash of the last 8 tokens but for case, digits and punctuation"),
        Column("n", "int", "eligible positions at which they end"),
    ),
)

REFERENCE_FIRINGS = Table(
    name="reference_firings",
    grain="reference window x layer",
    key=("document_key", "window_start", "layer"),
    made_by="partial",
    columns=(
        DOCUMENT_KEY,
        WINDOW_START,
        LAYER,
        Column("features", "list[int]", "features that are active in the window"),
        Column("pos", "list[int]", "where each is most active", "tokens"),
    ),
)

HARVEST_WINDOWS = Table(
    name="harvest_windows",
    grain="window",
    key=("document_key", "window_start"),
    made_by="partial",
    columns=(
        DOCUMENT_KEY,
        WINDOW_START,
        Column("is_reference", "bool", "whether it is one of those from which windows without a feature are chosen"),
        Column("token_ids", "list[int]", "its tokens, the special one in front included"),
    ),
)

HARVEST_TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        HARVESTS, DOCUMENTS, HARVEST_FEATURES, FEATURE_ACTIVATION_HIST, FEATURE_POSITIONS, HARVEST_FEATURE_TOKENS,
        HARVEST_TOKEN_COUNTS, HARVEST_EXAMPLES, FEATURE_LOGITS, FEATURE_EXCITATIONS, FEATURE_NEIGHBOURS,
        FEATURE_COACTIVATION, FAILURES,
    )
}  # fmt: skip
"""Every table of a harvest's results.duckdb by name."""

HARVEST_SHARD_TABLES: tuple[Table, ...] = (
    DOCUMENTS, FAILURES, FEATURE_SUMS, FEATURE_ACTIVATION_HIST, FEATURE_POSITIONS, FEATURE_TOKEN_SUMS, TOKEN_SUMS,
    EXAMPLE_CANDIDATES, TEXT_COUNTS, REFERENCE_FIRINGS, HARVEST_WINDOWS, COACTIVATION_PAIRS, COACTIVATION_LENGTHS,
)  # fmt: skip
"""The tables of which every committed shard of a harvest has exactly one part."""
