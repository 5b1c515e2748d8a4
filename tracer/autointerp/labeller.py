"""What every labeller takes and gives: evidence about features in, labels out."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

RuleKind = Literal["at", "before", "context"]
LabelKind = Literal["input", "output", "both", "unclear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEvidence:
    """A token, how often the feature fires at, right after (`before` is the previous token) and anywhere after it,
    and how many eligible positions there are of each sort. `prompts` numbers the prompts that hold the token.
    """

    token: str
    fired_at: int
    fired_before: int
    fired_context: int
    n_at: int
    n_before: int
    n_context: int
    prompts: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A window of a prompt with the feature's activations; `peak_idx` is the place of the largest."""

    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    peak_idx: int
    context: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that a labeller may know of a feature; the corpus's metadata (state, task, ...) is left out on purpose.

    `promoted` and `suppressed` are (token, logit per unit of activation), strongest first; `examples` are those of
    the split `explain`, strongest first.
    """

    layer: int
    feature: int
    support: int
    n_firings: int
    activation_frequency: float
    activation_mean: float | None
    activation_max: float | None
    tokens: tuple[TokenEvidence, ...]
    promoted: tuple[tuple[str, float], ...]
    suppressed: tuple[tuple[str, float], ...]
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A row of `labels` but for the labeller's name; rule and figures are None where the labeller has none."""

    layer: int
    feature: int
    label: str
    description: str
    kind: LabelKind
    provenance: str
    rule_kind: RuleKind | None = None
    rule_tokens: tuple[str, ...] = ()
    precision: float | None = None
    recall: float | None = None
    confidence: float | None = None
    precision_interval: tuple[float, float] | None = None
    recall_interval: tuple[float, float] | None = None


@runtime_checkable
class Labeller(Protocol):
    """Something that labels features, many at once if that is cheaper."""

    @property
    def name(self) -> str:
        """Goes into the column `method`."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever the same evidence could get another label."""
        ...

    def label(self, evidence: Sequence[Evidence]) -> list[Label]:
        """One label for each evidence, in the same order."""
        ...


def feature_id(layer: int, feature: int) -> str:
    """The name of a feature, such as L0/12."""
    return f"L{layer}/{feature}"


def make_label_id(target_kind: str, target_id: str, method: str, *made_from: str | None) -> str:
    """16 hex digits over what is labelled, who labels, and whatever else tells two labels of the same one apart."""
    parts = "\0".join([target_kind, target_id, method, *(part or "" for part in made_from)])
    return hashlib.sha256(parts.encode()).hexdigest()[:16]
