"""The settings of one comparison of two sets of prompts."""

from typing import Literal

from pydantic import Field

from tracer.config.base import Settings

ComparedKind = Literal["feature", "pair", "edge"]


class ComparisonConfig(Settings):
    """Two sets of prompts whose graphs are compared."""

    name: str = Field(description="what `comparisons` calls it")
    first: str = Field(description="SQL condition on `prompts` of the first side, such as task = 'antonym'")
    second: str | None = Field(
        None, description="that of the second side; none given: the counterfactual partners of the first side's prompts"
    )
    paired: bool | None = Field(
        None, description="compare graphs in pairs by `pair_id`; none given: with counterfactual partners alone"
    )
    kinds: list[ComparedKind] = Field(["feature", "pair", "edge"], min_length=1, description="what is compared")
    n_permutations: int = Field(
        1000, ge=0, description="how often sides are dealt out anew for `p_permutation`; 0: it is null"
    )
    seed: int = Field(0, description="seed of the permutations")
    stratify_by: str | None = Field(
        None, description="column of `prompts` within whose values sides are dealt out; for graphs without pairs"
    )
