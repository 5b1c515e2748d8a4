"""Declarations of the tables that follow prompts and graphs; written shard by shard."""

from tracer.tables.declare import Column, Table

GRAPH_ID = Column("graph_id", "text", "the attribution graph: hash of prompt and target set")
PROMPT_ID = Column("prompt_id", "text", "the prompt: hash of tokens, targets, metadata and occurrence number")
LAYER = Column("layer", "int", "layer that the feature reads, from 0")
FEATURE = Column("feature", "int", "index of the feature within its layer")

PROMPTS = Table(
    name="prompts",
    grain="prompt",
    key=("prompt_id",),
    made_by="shard",
    columns=(
        PROMPT_ID,
        Column("shard_id", "text", "shard that holds the prompt: a hash of its content"),
        Column("text", "text", "the prompt as given, before a special token was put in front"),
        Column("token_ids", "list[int]", "token ids as the model saw them, special token included"),
        Column("tokens", "list[text]", "the same tokens as raw text"),
        Column("n_tokens", "int", "length with the special token", "tokens"),
        Column("task", "text", "task of the corpus, if it names one"),
        Column("split", "text", "split of the corpus, if it names one (seen, held_out, train, ...)"),
        Column("pair_id", "text", "shared by a prompt and its counterfactual"),
        Column("answer", "text", "the right next token, if the corpus gives one"),
        Column("counterfactual_answer", "text", "the answer of the prompt's counterfactual"),
        Column("answer_token_id", "int", "vocabulary id of the answer's first token"),
        Column("answer_rank", "int", "number of tokens that the model finds likelier than the answer; 0 is the top"),
        Column("answer_prob", "float", "probability of the answer at the last position", "probability"),
        Column("answer_loss", "float", "negative log probability of the answer", "nats"),
        Column("is_correct", "bool", "whether the answer is the likeliest next token"),
        Column("metadata", "text", "remaining columns of the corpus as a JSON object; also columns of their own here"),
    ),
)

GRAPHS = Table(
    name="graphs",
    grain="prompt x target set",
    key=("graph_id",),
    made_by="shard",
    columns=(
        GRAPH_ID,
        PROMPT_ID,
        Column("n_tokens", "int", "length of the prompt with the special token", "tokens"),
        Column("n_active_features", "int", "active features over all layers and positions, before pruning"),
        Column("n_rows_computed", "int", "feature rows of the adjacency that were computed"),
        Column("n_feature_nodes", "int", "feature nodes kept by pruning"),
        Column("n_error_nodes", "int", "reconstruction error nodes kept by pruning"),
        Column("n_nodes", "int", "nodes kept, tokens and logits included"),
        Column("n_edges", "int", "edges kept"),
        Column(
            "replacement_score",
            "float",
            "share of token and error influence that comes from tokens, over the rows computed; null: there is none",
            "share",
        ),
        Column(
            "completeness_score",
            "float",
            "influence-weighted share of each node's input that is not error; 1 for nodes without a row",
            "share",
        ),
        Column(
            "uncovered_influence", "float", "influence on features whose row was not computed", "share of logit weight"
        ),
        Column("n_near_cut", "int", "nodes and edges within 1e-6 of a pruning cut"),
        Column("seconds", "float", "time of attribution and pruning", "s", volatile=True),
        Column("device", "text", "device that computed it", volatile=True),
        Column("host", "text", "machine that computed it", volatile=True),
        Column("attempt", "int", "which attempt at the shard this is, from 0", volatile=True),
    ),
)

LOGITS = Table(
    name="logits",
    grain="graph x target",
    key=("graph_id", "target_idx"),
    made_by="shard",
    columns=(
        GRAPH_ID,
        Column("target_idx", "int", "place among the graph's targets, likeliest first"),
        Column("token_id", "int", "vocabulary id; null where the target is a direction"),
        Column("token", "text", "the token's raw text, or the direction's name"),
        Column("pos", "int", "position whose next token it is"),
        Column("probability", "float", "the model's probability, which is the target's weight", "probability"),
        Column("logit", "float", "logit minus the mean over the vocabulary, before a final soft cap"),
    ),
)

NODES = Table(
    name="nodes",
    grain="graph x kept node",
    key=("graph_id", "node_idx"),
    made_by="shard",
    columns=(
        GRAPH_ID,
        Column("node_idx", "int", "place among the graph's kept nodes; `edges` refers to it"),
        Column("kind", "text", "feature, error, token or logit"),
        Column("layer", "int", "layer of a feature or error; null for tokens and logits"),
        Column("pos", "int", "token position, from 0"),
        Column("feature", "int", "feature index within its layer; null for other kinds"),
        Column("token_id", "int", "vocabulary id: of the token at `pos`, or of the logit"),
        Column("token", "text", "that token's raw text"),
        Column("activation", "float", "activation of a feature; null for other kinds", "activation"),
        Column(
            "influence",
            "float",
            "influence on the targets before pruning, `w (A + A^2 + ...)` over the sum of `w`",
            "share of logit weight",
        ),
        Column("cumulative_influence", "float", "share of all influence held by this and stronger nodes", "share"),
    ),
)

EDGES = Table(
    name="edges",
    grain="graph x kept edge",
    key=("graph_id", "target_idx", "source_idx"),
    made_by="shard",
    columns=(
        GRAPH_ID,
        Column("target_idx", "int", "`node_idx` of the node that is acted on"),
        Column("source_idx", "int", "`node_idx` of the node that acts"),
        Column("weight", "float", "direct effect on the target's pre-activation or demeaned logit", "pre-activation"),
        Column(
            "normalised_weight",
            "float",
            "absolute weight over the sum of the target's row in the pruned graph",
            "share",
        ),
        Column(
            "edge_score",
            "float",
            "normalised weight times the target's influence (plus own weight) in the pruned graph",
            "share of logit weight",
        ),
    ),
)

FAILURES = Table(
    name="failures",
    grain="anything that failed",
    key=("stage", "item_id"),
    made_by="shard",
    columns=(
        Column("stage", "text", "corpus, trace, harvest, aggregate or label"),
        Column("item_id", "text", "the prompt or shard that failed"),
        Column("shard_id", "text", "the shard it was in, if it reached one"),
        Column("error_class", "text", "class of the error"),
        Column("message", "text", "what was found, what was expected, what to do"),
        Column("text", "text", "the prompt, enough to try again"),
        Column("attempts", "int", "how often it was tried", volatile=True),
    ),
)

GRAPH_TABLES = (PROMPTS, GRAPHS, LOGITS, NODES, EDGES, FAILURES)
