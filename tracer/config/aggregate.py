"""The settings of aggregation."""

from typing import Literal

from pydantic import Field, field_validator

from tracer.config.base import NOT_IN_RESULTS, Settings, Share
from tracer.config.circuits import CircuitConfig, MotifConfig
from tracer.config.comparison import ComparisonConfig

Granularity = Literal["feature", "component", "position"]
SET_BEFORE_TRACING = ("n_examples", "n_context_tokens")
"""What each shard is counted with; all else can be changed when a run that was traced is aggregated anew."""


class AggregateConfig(Settings):
    """What is counted over the corpus."""

    min_support: int = Field(5, ge=1, description="fewest graphs that a feature pair or edge must share")
    by: list[str] = Field(
        default_factory=lambda: ["task", "split"],
        description="metadata columns by whose values features, components, edges and errors are counted too, and "
        "consensus circuits made",
    )
    head_share: Share = Field(
        0.02, description="least share of a graph's edge scores that a head carries to count as part of the graph"
    )
    dense_frequency: Share = Field(0.1, description="share of token positions above which a feature is flagged dense")
    set_min_support: int | None = Field(
        None,
        ge=1,
        description="fewest graphs that a set of three or more shares; none given: min_support, or one in 100 graphs "
        "where that is more",
    )
    sets_of: list[Granularity] = Field(
        ["feature", "component", "position"],
        description="what sets of three or more are made of: features, components, features at a token position",
    )
    max_set_size: int = Field(5, ge=3, description="most members of a set that is looked for")
    max_sets: int = Field(
        20_000, ge=1, description="most sets of one size; where there are more, those of larger support are listed"
    )
    stratify_by: str | None = Field(None, description="metadata column within which the co-occurrence null is taken")
    n_examples: int = Field(25, ge=1, description="max-activating windows kept per feature")
    n_context_tokens: int = Field(
        32,
        ge=0,
        description="tokens before a firing that `feature_tokens.n_context` counts; 0: none. Costs firings x this",
    )
    n_promoted_tokens: int = Field(20, ge=1, description="promoted and suppressed tokens kept per feature")
    circuits: CircuitConfig = Field(default_factory=CircuitConfig, description="bounds of recurring circuits")
    motifs: MotifConfig = Field(default_factory=MotifConfig, description="bounds of recurring motifs")
    comparisons: list[ComparisonConfig] = Field(
        default_factory=list, description="sets of prompts whose graphs are compared, of different names"
    )
    memory_limit_bytes: int = Field(
        4 * 1024**3,
        ge=2**28,
        description="memory of the database while it aggregates, bytes; what does not fit lies on disk meanwhile",
        json_schema_extra=NOT_IN_RESULTS,
    )

    @field_validator("comparisons")
    @classmethod
    def _have_names_of_their_own(cls, comparisons: list[ComparisonConfig]) -> list[ComparisonConfig]:
        if len({comparison.name for comparison in comparisons}) < len(comparisons):
            raise ValueError("comparisons of different names")
        return comparisons
