"""Declarations of the tables that follow features: merged from shards or aggregated over the run."""

from tracer.tables.declare import Column, Table
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
        Column("n_graphs", "int", "support: graphs with at least one kept node of it"),
        Column("graph_frequency", "float", "n_graphs over all graphs", "share"),
        Column("n_nodes", "int", "kept nodes over all graphs and positions"),
        Column("influence_sum", "float", "influence of its kept nodes, summed over graphs"),
        Column("influence_mean", "float", "influence per graph that holds it; null when none does"),
        Column("n_prompts", "int", "prompts in which it is active, before pruning"),
        Column("n_firings", "int", "token positions at which it is active, before pruning"),
        Column("activation_frequency", "float", "n_firings over all eligible token positions", "share"),
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
        Column("n_a", "int", "graphs with a"),
        Column("n_b", "int", "graphs with b"),
        Column("support", "int", "graphs with both"),
        Column("expected", "float", "graphs expected with both under the unstratified null (length-aware)", "graphs"),
        Column("lift", "float", "support over expected, so under the unstratified null, whatever p and q rest on"),
        Column(
            "expected_stratified",
            "float",
            "the same, expected within each stratum and summed; null without strata",
            "graphs",
        ),
        Column("lift_stratified", "float", "support over expected_stratified"),
        Column(
            "npmi", "float", "normalised pointwise mutual information, -1 to 1 (stratified null where there are strata)"
        ),
        Column("jaccard", "float", "graphs with both over graphs with either", "share"),
        Column(
            "p_above",
            "float",
            "Poisson chance of at least this support (stratified null where there are strata)",
            "probability",
        ),
        Column(
            "p_below",
            "float",
            "Poisson chance of at most this support (stratified null where there are strata)",
            "probability",
        ),
        Column("q_above", "float", "p_above after Benjamini-Hochberg over all tested pairs", "probability"),
        Column("q_below", "float", "p_below after Benjamini-Hochberg", "probability"),
    ),
)

EDGE_STATS = Table(
    name="edge_stats",
    grain="source feature or token -> target feature or logit, over graphs",
    key=("source_kind", "source_layer", "source_feature", "target_kind", "target_layer", "target_feature"),
    made_by="aggregate",
    columns=(
        Column("source_kind", "text", "feature or token"),
        Column("source_layer", "int", "layer of a feature source; -1 for a token"),
        Column("source_feature", "int", "feature index, or the token's vocabulary id"),
        Column("target_kind", "text", "feature or logit"),
        Column("target_layer", "int", "layer of a feature target; -1 for a logit"),
        Column("target_feature", "int", "feature index, or the logit's vocabulary id"),
        Column("source_token", "text", "raw text of a token source"),
        Column("target_token", "text", "raw text of a logit target"),
        Column("support", "int", "graphs that keep this edge at any positions"),
        Column("weight_mean", "float", "mean over those graphs of the weight summed over positions"),
        Column("weight_sd", "float", "its standard deviation; null at support 1"),
        Column("sign_agreement", "float", "share of those graphs in which the sign is the commoner one", "share"),
        Column("edge_score_sum", "float", "edge scores summed over graphs and positions"),
    ),
)

COMPONENTS = Table(
    name="components",
    grain="MLP layer",
    key=("kind", "layer"),
    made_by="aggregate",
    columns=(
        Column("kind", "text", "mlp"),
        Column("layer", "int", "layer, from 0"),
        Column("n_graphs", "int", "graphs with a kept feature of it"),
        Column("frequency", "float", "n_graphs over all graphs", "share"),
        Column("n_features", "int", "distinct features of it kept in any graph"),
        Column("n_nodes", "int", "kept feature nodes of it"),
        Column(
            "influence_mean", "float", "influence of its features per graph, over all graphs", "share of logit weight"
        ),
        Column(
            "error_influence_mean",
            "float",
            "influence of its kept error nodes per graph, over all graphs",
            "share of logit weight",
        ),
    ),
)

LABELS = Table(
    name="labels",
    grain="feature x labeller",
    key=("target_kind", "layer", "feature", "method"),
    made_by="aggregate",
    columns=(
        Column("target_kind", "text", "feature (groups later)"),
        LAYER,
        FEATURE,
        Column("label", "text", "short text, at most 80 characters"),
        Column("description", "text", "one or two sentences"),
        Column("kind", "text", "input (what it fires on), output (what it promotes), both, or unclear"),
        Column("method", "text", "who labelled: `rule` is the embedded labeller, no language model"),
        Column("rule_kind", "text", "at, before or context: where the rule looks for its tokens; null without a rule"),
        Column("rule_tokens", "list[text]", "the rule's tokens"),
        Column("precision", "float", "share of positions where the rule holds at which the feature fires", "share"),
        Column("recall", "float", "share of the feature's firings at which the rule holds", "share"),
        Column("confidence", "float", "F1 of the rule", "share"),
        Column("provenance", "text", "labeller version and what its figures were measured on"),
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
        Column("tracer_version", "text", "version of tracer"),
        Column("versions", "text", "versions of Python and the main packages as JSON", volatile=True),
        Column("started_at", "time", "when the run folder was made", volatile=True),
        Column("seconds", "float", "summed time of all driver sessions up to aggregation", "s", volatile=True),
    ),
)

FEATURE_TABLES = (
    RUNS, FEATURES, FEATURE_TOKENS, FEATURE_ACTIVATION_HIST, EXAMPLES, COOCCURRENCE, EDGE_STATS, COMPONENTS, LABELS,
    FEATURE_COUNTS, TOKEN_COUNTS, FEATURE_LOGITS,
)  # fmt: skip
