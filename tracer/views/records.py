"""What is shown of a run: the records that terminal summary and page share."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRef:
    """A feature and its label, if any labeller gave it one."""

    layer: int
    feature: int
    label: str | None

    @property
    def name(self) -> str:
        """Short stable name: `L0/123` is feature 123 of layer 0."""
        return f"L{self.layer}/{self.feature}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRef:
    """A token at one end of an edge: an embedding (`token`) or a `logit`; `label` is its text, white space visible."""

    kind: str
    label: str

    @property
    def name(self) -> str:
        """Its kind, where a feature shows its name."""
        return self.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFigures:
    """One task of the corpus; `accuracy` is the share of answers that are the model's likeliest next token."""

    task: str
    n_prompts: int
    n_graphs: int
    n_answers: int
    accuracy: float | None
    replacement_mean: float | None
    completeness_mean: float | None
    feature_nodes_mean: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureCount:
    """How many items failed at one stage with one class of error."""

    stage: str
    error_class: str
    n_failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurringFeature:
    """A feature by how many graphs keep it; influence is the mean over those graphs."""

    ref: FeatureRef
    support: int
    graph_frequency: float
    activation_frequency: float
    influence_mean: float
    activation_max: float
    top_tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CooccurringPair:
    """Two features that graphs keep together; expected and lift are stratified where the run has strata."""

    a: FeatureRef
    b: FeatureRef
    support: int
    expected: float
    lift: float
    q: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurringEdge:
    """A direct effect that many graphs keep; the weight is a mean over them."""

    source: FeatureRef | TokenRef
    target: FeatureRef | TokenRef
    support: int
    weight_mean: float
    weight_sd: float | None
    sign_agreement: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of a finished run; `accuracy` and the means are null where nothing was measured.

    Where `coverage` is below 1, nodes whose row was not computed count as free of error in the means of the scores.
    `page` is where the page lies if it was written; nothing here checks that it was.
    """

    run_id: str
    tracer_version: str
    config_fingerprint: str
    model: str
    transcoders: str
    n_layers: int
    corpus: str
    started_at: str
    n_prompts: int
    n_graphs: int
    n_failures: int
    n_features: int
    seconds: float
    coverage: float
    replacement_mean: float | None
    completeness_mean: float | None
    feature_nodes_mean: float | None
    n_answers: int
    accuracy: float | None
    stratified_by: str | None
    label_methods: tuple[str, ...]
    failures: tuple[FailureCount, ...]
    tasks: tuple[TaskFigures, ...]
    features: tuple[RecurringFeature, ...]
    pairs: tuple[CooccurringPair, ...]
    n_pairs: int
    n_pairs_beyond_chance: int
    edges: tuple[RecurringEdge, ...]
    database: Path
    page: Path

    @property
    def null_model(self) -> str:
        """What "expected" means for the pairs, in words."""
        return "a length-aware null" + (f", stratified by {self.stratified_by}" if self.stratified_by else "")

    @property
    def label_note(self) -> str:
        """Who wrote the labels, in words."""
        if not self.label_methods:
            return "no labels yet"
        if self.label_methods == ("rule",):
            return "labels are rules measured on this run, not written by a language model"
        return f"labels by: {', '.join(self.label_methods)}"
