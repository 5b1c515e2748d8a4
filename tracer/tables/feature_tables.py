"""Declarations of the tables that follow features: merged from shards or aggregated over the run."""

from tracer.tables.declare import Column, Table
from tracer.tables.frequency_tables import COMPONENT, EDGE_ENDS, EDGE_KEY, EDGE_MEASURES
from tracer.tables.graph_tables import FEATURE, LAYER, PROMPT_ID

FEATURE_COUNTS = Table(
    name="feature_counts",
    grain="shard x feature",
    key=("layer", "feature"),
    made_by="partial",
    columns=(
        LAYER,
        FEATURE,
        Column("n_firings", "int", "token positions at which it is active, before any pruning"),
        Column("n_prompts", "int", "prompts in which it is active at least once"),
        Column("activation_sum", "float", "sum of its activations"),
        Column("activation_square_sum", "float", "sum of their squares"),
        Column("activation_max", "float", "largest activation"),
    ),
)

TOKEN_COUNTS = Table(
    name="token_counts",
    grain="token",
    key=("token_id",),
    made_by="partial",
    columns=(
        Column("token_id", "int", "vocabulary id"),
        Column("token", "text", "its raw text"),
        Column("n_at", "int", "eligible positions that hold it (ignored positions left out)"),
        Column("n_before", "int", "eligible positions whose previous token it is"),
        Column("n_context", "int", "eligible positions with it among the `aggregate.n_context_tokens` tokens before"),
    ),
)

FEATURE_TOKENS = Table(
    name="feature_tokens",
    grain="feature x token",
    key=("layer", "feature", "token_id"),
    made_by="partial",
    columns=(
        LAYER,
        FEATURE,
        Column("token_id", "int", "vocabulary id"),
        Column("token", "text", "its raw text"),
        Column("n_at", "int", "firings on this token, over all activations before pruning"),
        Column("n_before", "int", "firings right after this token"),
        Column("n_after", "int", "firings right before this token"),
        Column("n_context", "int", "firings with this token among the `aggregate.n_context_tokens` tokens before"),
    ),
)

FEATURE_ACTIVATION_HIST = Table(
    name="feature_activation_hist",
    grain="feature x sign x logarithmic bin",
    key=("layer", "feature", "is_negative", "bin"),
    made_by="partial",
    columns=(
        LAYER,
        FEATURE,
        Column("is_negative", "bool", "whether the bin counts negative activations (TopK keeps some)"),
        Column("bin", "int", "quarter octave: holds 2^(bin/4) <= |activation| < 2^((bin+1)/4)"),
        Column("n", "int", "activations in the bin"),
    ),
)

EXAMPLES = Table(
    name="examples",
    grain="feature x rank",
    key=("layer", "feature", "rank"),
    made_by="partial",
    columns=(
        LAYER,
        FEATURE,
        Column("rank", "int", "0 is the largest activation; ties break on prompt_id, then position"),
        PROMPT_ID,
        Column("pos", "int", "position of the largest activation in this prompt"),
        Column("token", "text", "the token at `pos`"),
        Column("activation", "float", "activation at `pos`", "activation"),
        Column("context", "text", "5 tokens before, the token in << >>, 1 after, as readable text"),
        Column("window_start", "int", "position of the first token of the window"),
        Column("window_tokens", "list[text]", "tokens around `pos`"),
        Column("window_activations", "list[float]", "the feature's activation at each of them; 0 where inactive"),
        Column("split", "text", "explain (shown to a labeller) or score (kept to test labels), by hash of the prompt"),
    ),
)

FEATURES = Table(
    name="features",
    grain="feature that fired at least once",
    key=("layer", "feature"),
    made_by="aggregate",
    columns=(
        LAYER,
        FEATURE,
        Column("support", "int", "graphs with at least one kept node of it"),
        Column("graph_frequency", "float", "support over all graphs; null without graphs", "share"),
        Column("is_always_on", "bool", "whether every graph holds it; null without graphs"),
        Column("n_nodes", "int", "kept nodes over all graphs and positions"),
        Column("influence_sum", "float", "influence of its kept nodes, summed over graphs"),
        Column("influence_mean", "float", "influence per graph that holds it; null when none does"),
        Column("influence_sd", "float", "standard deviation over those graphs; null at support 1 or 0"),
        Column("kept_activation_mean", "float", "mean activation of its kept nodes; null when none is", "activation"),
        Column("kept_activation_min", "float", "smallest activation of its kept nodes", "activation"),
        Column("n_prompts", "int", "prompts in which it is active, before pruning"),
        Column("n_firings", "int", "token positions at which it is active, before pruning"),
        Column("activation_frequency", "float", "n_firings over all eligible token positions", "share"),
        Column("is_dense", "bool", "whether activation_frequency is above `aggregate.dense_frequency`"),
        Column("activation_mean", "float", "mean activation where active", "activation"),
        Column("activation_sd", "float", "standard deviation where active", "activation"),
        Column("activation_max", "float", "largest activation", "activation"),
        Column("url", "text", "its page on Neuronpedia; null unless `model.neuronpedia` is set", volatile=True),
        Column("decoder_norm", "float", "norm of its write vector (all layers it writes, concatenated)"),
        Column("top_tokens", "list[text]", "tokens it promotes most through the unembedding"),
        Column("top_token_logits", "list[float]", "their logits per unit of activation, demeaned"),
        Column("bottom_tokens", "list[text]", "tokens it suppresses most"),
        Column("bottom_token_logits", "list[float]", "their logits per unit of activation, demeaned"),
    ),
)

FEATURE_LOGITS = Table(
    name="feature_logits",
    grain="feature",
    key=("layer", "feature"),
    made_by="partial",
    columns=(LAYER, FEATURE, *FEATURES.columns[-5:]),
)

EDGE_STATS = Table(
    name="edge_stats",
    grain="source feature or token -> target feature or logit, over graphs",
    key=EDGE_KEY,
    made_by="aggregate",
    columns=(*EDGE_ENDS, *EDGE_MEASURES),
)

COMPONENTS = Table(
    name="components",
    grain="component: an MLP layer, or an attention head where the run has head loadings",
    key=("kind", "layer", "head"),
    made_by="aggregate",
    columns=(
        *COMPONENT,
        Column(
            "support",
            "int",
            "graphs with a kept feature of the MLP, or in which the head carries at least `aggregate.head_share` of "
            "all edge scores",
        ),
        Column("frequency", "float", "support over all graphs", "share"),
        Column("n_features", "int", "distinct features of the MLP kept in any graph, or that the head reads from"),
        Column("n_nodes", "int", "kept feature nodes of the MLP; null for a head"),
        Column("influence_sum", "float", "influence that it carries, summed over graphs", "share of logit weight"),
        Column(
            "influence_mean",
            "float",
            "influence of the MLP's features, or edge scores that the head carries, per graph over all graphs",
            "share of logit weight",
        ),
        Column("influence_sd", "float", "standard deviation over all graphs; null for a single graph"),
        Column(
            "error_influence_mean",
            "float",
            "influence of the MLP's kept error nodes per graph, over all graphs; null for a head",
            "share of logit weight",
        ),
    ),
)

RUNS = Table(
    name="runs",
    grain="run",
    key=("config_fingerprint", "corpus_fingerprint"),
    made_by="aggregate",
    columns=(
        Column("run_id", "text", "name of the run folder", volatile=True),
        Column("config_fingerprint", "text", "hash of the settings that affect results"),
        Column("corpus_fingerprint", "text", "hash of the normalised prompts"),
        Column("config", "text", "the whole configuration as JSON", volatile=True),
        Column("model", "text", "checkpoint, as referred to"),
        Column("model_hash", "text", "content hash of the checkpoint's files"),
        Column("transcoders", "text", "transcoder set, as referred to"),
        Column("transcoders_hash", "text", "content hash of the transcoder files"),
        Column("neuronpedia", "text", "MODEL_ID/SOURCE_SET of the transcoders there, where known", volatile=True),
        Column("corpus", "text", "source of the prompts"),
        Column("n_layers", "int", "layers of the model"),
        Column("n_prompts", "int", "prompts in the corpus after normalisation"),
        Column("n_graphs", "int", "graphs made"),
        Column("n_failures", "int", "rows of `failures`"),
        Column("n_eligible_tokens", "int", "token positions that could fire (ignored positions left out)", "tokens"),
        Column("schema_version", "int", "version of the table declarations"),
        Column("parts_hash", "text", "hash over the parts that these tables are made from", volatile=True),
        Column("tracer_version", "text", "version of tracer"),
        Column("versions", "text", "versions of Python and the main packages as JSON", volatile=True),
        Column("started_at", "time", "when the run folder was made", volatile=True),
        Column("seconds", "float", "summed time of all driver sessions up to aggregation", "s", volatile=True),
    ),
)

FEATURE_TABLES = (
    RUNS, FEATURES, FEATURE_TOKENS, FEATURE_ACTIVATION_HIST, EXAMPLES, EDGE_STATS, COMPONENTS,
    FEATURE_COUNTS, TOKEN_COUNTS, FEATURE_LOGITS,
)  # fmt: skip
