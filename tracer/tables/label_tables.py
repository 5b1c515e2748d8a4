"""Declarations of the tables about labels and about the calls to language models behind them."""

from tracer.tables.declare import Column, Table

LLM_CALLS = Table(
    name="llm_calls",
    grain="answer, or final failure, of a request to a language model",
    key=("request_hash", "attempt"),
    made_by="aggregate",
    columns=(
        Column("request_hash", "text", "sha256 of `request`"),
        Column("attempt", "int", "which answer or failure of this request, from 0; the last one counts"),
        Column("stage", "text", "what it was asked for, such as label or detection; probe: what the endpoint can do"),
        Column("target", "text", "what it is about, such as feature/3/1021"),
        Column("repairs", "text", "`request_hash` of the answer that this request asks to mend; null for others"),
        Column("prompt_version", "text", "version of the prompt"),
        Column("endpoint", "text", "URL asked, without keys"),
        Column("model", "text", "model asked for"),
        Column("model_returned", "text", "model that answered, as it calls itself"),
        Column("system_fingerprint", "text", "the endpoint's name for its configuration; null where it gives none"),
        Column("request", "text", "messages, schema, parameters, prompt version, endpoint and model, as JSON"),
        Column("status", "text", "ok, parse_failed, refused, truncated or failed"),
        Column("error_class", "text", "why it failed: rate_limit, timeout, connection, server, ...; else null"),
        Column("message", "text", "what the endpoint or the check said; null where all is well"),
        Column("text", "text", "the answer; null where there is none"),
        Column("logprobs", "text", "log-probabilities of its tokens in the protocol's JSON; null unless asked for"),
        Column("answer_mode", "text", "how the form was asked for: json_schema, json_object or text"),
        Column("prompt_tokens", "int", "tokens of the prompt, as the endpoint counts them", "tokens"),
        Column("cached_tokens", "int", "those of them that the endpoint had cached", "tokens"),
        Column("completion_tokens", "int", "tokens of the answer, reasoning included", "tokens"),
        Column("cost_usd", "float", "price of the answer; null without a price for the model", "US dollars"),
        Column("lane", "text", "now or batch"),
        Column("n_tries", "int", "requests sent for it", volatile=True),
        Column("latency_s", "float", "time of the last of them", "seconds", volatile=True),
        Column("created_at", "time", "when the answer came", volatile=True),
    ),
)  # fmt: skip

LABEL_ID = Column("label_id", "text", "hash of what is labelled, by whom, from what: stable for equal work")
ABOUT = (
    Column(
        "target_kind",
        "text",
        "feature, group (of features), component (an MLP layer in one task) or random_direction (a null, no feature)",
    ),
    Column(
        "target_id",
        "text",
        "L0/12 for a feature; circuit_id or hyperedge_id of a group; MLP0 task=ioi; random_direction/0/12 for the "
        "direction that stood in the place of L0/12",
    ),
    Column("layer", "int", "layer of a feature, component or direction; null for a group"),
    Column("feature", "int", "index of a feature within its layer; null for others"),
)

ALL_LABELS = Table(
    name="all_labels",
    grain="feature, group, component or random direction x label that somebody gave it",
    key=("label_id",),
    made_by="aggregate",
    columns=(
        LABEL_ID,
        *ABOUT,
        Column("label", "text", "short text, at most 80 characters"),
        Column("description", "text", "one or two sentences"),
        Column(
            "kind", "text", "input (what it fires on), output (what it promotes), both, or unclear; null for groups"
        ),
        Column(
            "method",
            "text",
            "who labelled: rule (from this run's counts, no language model), rule_harvest (from a harvest's), llm, "
            "llm_deep (several drafts settled), person, or neuronpedia:TYPE for an imported explanation",
        ),
        Column("model", "text", "language model that wrote it; null for others"),
        Column("prompt_version", "text", "version of what it was asked; null without a language model"),
        Column("request_hash", "text", "the answer's row in `llm_calls`; null without one"),
        Column("examples_hash", "text", "hash of the texts it was made from; null where none were read"),
        Column("rule_kind", "text", "at, before or context: where the rule looks for its tokens; null without a rule"),
        Column("rule_tokens", "list[text]", "the rule's tokens"),
        Column("precision", "float", "share of positions where the rule holds at which the feature fires", "share"),
        Column("recall", "float", "share of the feature's firings at which the rule holds", "share"),
        Column("precision_low", "float", "lower end of its 95 % interval; null where it was counted", "share"),
        Column("precision_high", "float", "upper end", "share"),
        Column("recall_low", "float", "lower end of its 95 % interval; null where it was counted", "share"),
        Column("recall_high", "float", "upper end", "share"),
        Column("confidence", "float", "F1 of the rule; share of drafts that agree; null where nobody says", "share"),
        Column("provenance", "text", "labeller's version and what its figures were measured on; or who edited"),
        Column("created_at", "time", "when it was given; null for a rule, which is made anew each time", volatile=True),
        Column(
            "is_current",
            "bool",
            "whether it is the one that is shown: a person's before all others, a rule's after all others, else the "
            "latest",
        ),
    ),
)

LABELS = Table(
    name="labels",
    grain="feature, group, component or random direction: the label that is current",
    key=("target_kind", "target_id"),
    made_by="view",
    columns=ALL_LABELS.columns,
)

TESTED = Column(
    "tested",
    "text",
    "label; or a null: other_label (the label of another feature that fires as often), majority (the commoner answer "
    "for all), random_direction (the label of a random direction that is active as often, on that direction's texts)",
)
SCORER = Column(
    "scorer",
    "text",
    "detection, fuzzing, intruder, simulation, output_logits (of tokens that the label's author was not shown) or "
    "output_ablation",
)
MEASURE = Column(
    "measure", "text", "balanced_accuracy or auc of yes and no, accuracy of intruders, correlation of activations"
)

LABEL_SCORES = Table(
    name="label_scores",
    grain="label x scorer x measure x what was tested",
    key=("label_id", "scorer", "measure", "tested"),
    made_by="aggregate",
    columns=(
        LABEL_ID,
        *ABOUT,
        SCORER,
        MEASURE,
        TESTED,
        Column("value", "float", "the score; null where too little was answered, or there was too little to ask"),
        Column("low", "float", "lower end of its 95 % bootstrap interval over texts"),
        Column("high", "float", "upper end"),
        Column("chance", "float", "what an answer that pays no heed to the texts gets"),
        Column("n_positive", "int", "answered items where the feature is active, or that it promotes"),
        Column("n_negative", "int", "answered items where it is not"),
        Column("n_failed", "int", "items without an answer: failures are counted, never filled in"),
        Column("judge", "text", "language model that was asked; null where none was"),
        Column("prompt_version", "text", "version of what it was asked"),
        Column(
            "examples_hash",
            "text",
            "hash of the texts, or tokens, asked about and of the words tested",
        ),
        Column("message", "text", "why there is no score; else null"),
    ),
)

LABEL_SCORE_MEANS = Table(
    name="label_score_means",
    grain="scorer x measure x what was tested, over labels",
    key=("method", "scorer", "measure", "tested", "layer"),
    made_by="aggregate",
    columns=(
        Column("method", "text", "who labelled, as in `all_labels`"),
        SCORER,
        MEASURE,
        Column(
            "tested",
            "text",
            "as in `label_scores`; label_minus_other_label, label_minus_random_direction: differences, label by label",
        ),
        Column("layer", "int", "layer of the features; -1 for all layers together"),
        Column("n_labels", "int", "labels with a score"),
        Column("n_without", "int", "labels that were tested and have no score"),
        Column("n_failed", "int", "items without an answer"),
        Column("value", "float", "mean over labels"),
        Column("low", "float", "lower end of its 95 % bootstrap interval over labels; null for a single one"),
        Column("high", "float", "upper end"),
        Column("chance", "float", "what an answer that pays no heed to the texts gets; null for a difference"),
    ),
)

LABEL_SPLITS = Table(
    name="label_splits",
    grain="label x document that it was made from or tested on",
    key=("label_id", "document_id", "split"),
    made_by="aggregate",
    columns=(
        LABEL_ID,
        Column("document_id", "text", "document of the harvest, or prompt of the run"),
        Column("split", "text", "explain (the label's author saw it) or score (it was tested on it); never both"),
        Column("n_texts", "int", "texts of the document that were used"),
    ),
)

FEATURE_SIGNALS = Table(
    name="feature_signals",
    grain="feature that fired",
    key=("layer", "feature"),
    made_by="aggregate",
    columns=(
        Column("layer", "int", "layer that the feature reads, from 0"),
        Column("feature", "int", "index of the feature within its layer"),
        Column("is_from_harvest", "bool", "whether firings were counted over a harvest, or over this run's prompts"),
        Column("n_firings", "int", "eligible token positions at which it is active"),
        Column("entropy_at", "float", "entropy of the tokens that it fires on; 0: a single one", "bits"),
        Column("entropy_before", "float", "entropy of the tokens that it fires right after", "bits"),
        Column("top_token", "text", "the token that it fires on most"),
        Column("top_token_share", "float", "share of its firings on that token", "share"),
        Column(
            "logit_contrast",
            "float",
            "logit of its most promoted token over that of the weakest one kept: near 1.5 where no token stands out; "
            "null without promoted tokens",
        ),
        Column(
            "example_coherence",
            "float",
            "chance that two texts it fires in are more alike, by an embedding model, than one of them and a text in "
            "which it does not fire; 0.5 is chance; null without such a model, outside circuits, or with fewer than 3 "
            "texts of a sort",
        ),
    ),
)

LABEL_TABLES = (ALL_LABELS, FEATURE_SIGNALS, LABELS, LABEL_SCORES, LABEL_SCORE_MEANS, LABEL_SPLITS, LLM_CALLS)
