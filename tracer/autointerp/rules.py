"""The embedded labeller, no language model: a rule for what a feature fires on, and the tokens that it promotes.

**Input side.** Three sorts of rule are tried: `at` (the feature fires on these tokens), `before` (the previous token is
one of these) and `context` (one of these is anywhere earlier). Precision is the share of eligible positions where the
rule holds at which the feature fires, recall the share of its firings at which the rule holds. Tokens on which the
feature fired at least `MIN_FIRED` times (once may be chance) are sorted by their own precision and added one by one;
the set with the best F1 is kept, which for `at` and `before` is the best set of all, since every position has exactly
one such token. Several `context` tokens can hold at one position; so only tokens that never share a prompt are joined,
which keeps the sums exact. A rule counts as found when F1 is at least `MIN_F1` and precision at least `MIN_LIFT` times
the share of all positions at which the feature fires (a rule that holds everywhere is none).

**Output side.** The promoted tokens count as found when the strongest has at least `MIN_CONTRAST` times the logit of
the weakest of those kept (20 by default): over Gaussian logits of 700 to 100,000 tokens that quotient is about 1.3 to
1.7. Named are the tokens with at least half of the strongest one's logit, at most `MAX_SAID`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tracer.autointerp.labeller import Evidence, Label, LabelKind, RuleKind, TokenEvidence
from tracer.autointerp.wording import describe, write_label

MIN_F1 = 0.4
MIN_LIFT = 2.0
MIN_FIRED = 2
MIN_CONTRAST = 2.0
MAX_SAID = 5
MAX_CONTEXT_TOKENS = 64

COUNTS: dict[RuleKind, Callable[[TokenEvidence], tuple[int, int]]] = {
    "at": lambda token: (token.fired_at, token.n_at),
    "before": lambda token: (token.fired_before, token.n_before),
    "context": lambda token: (token.fired_context, token.n_context),
}
"""By sort of rule, a token's firings under it and the positions where it holds; on equal F1 the first sort wins."""


class Count(NamedTuple):
    """A token, the feature's firings under the rule that it makes, and the eligible positions where that rule holds."""

    token: TokenEvidence
    fired: int
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule with its measured figures; `tokens` by firings, most first. The intervals are None where all positions
    were counted.
    """

    kind: RuleKind
    tokens: tuple[str, ...]
    precision: float
    recall: float
    precision_interval: tuple[float, float] | None = None
    recall_interval: tuple[float, float] | None = None

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


class RuleLabeller:
    """Labels features by rules over their token counts and by the tokens they promote."""

    name = "rule"
    version = "1"

    def label(self, evidence: Sequence[Evidence]) -> list[Label]:
        """One label for each evidence, in the same order."""
        return [self._label(one) for one in evidence]

    def _label(self, evidence: Evidence) -> Label:
        provenance = (
            f"rule labeller {self.version}, no language model; precision and recall over all {evidence.n_firings} "
            "firings on this run's prompts, by which the rule was also chosen"
        )
        return label_by(best_rule(evidence), evidence, provenance)


def label_by(rule: Rule | None, evidence: Evidence, provenance: str) -> Label:
    """The label that a rule and the promoted tokens make.

    Args:
        rule: for what the feature fires on; None if there is none.
        evidence: the feature.
        provenance: what the rule's figures were measured on.
    """
    said = said_tokens(evidence.promoted)
    is_found = rule is not None and rule.f1 >= MIN_F1
    kind: LabelKind = "both" if is_found and said else "input" if is_found else "output" if said else "unclear"
    shown = None if rule is None or kind == "output" else (rule.kind, rule.tokens)
    return Label(
        layer=evidence.layer,
        feature=evidence.feature,
        label=write_label(kind, shown, said),
        description=describe(None if rule is None else (rule.kind, rule.tokens, rule.precision, rule.recall), said),
        kind=kind,
        provenance=provenance,
        rule_kind=rule.kind if rule else None,
        rule_tokens=rule.tokens if rule else (),
        precision=rule.precision if rule else None,
        recall=rule.recall if rule else None,
        precision_interval=rule.precision_interval if rule else None,
        recall_interval=rule.recall_interval if rule else None,
        confidence=rule.f1 if rule else None,
    )


def best_rule(evidence: Evidence) -> Rule | None:
    """The rule of best F1 among those that say more than how often the feature fires anyway; None if there is none."""
    rules = [rule for rule in (_best_of_kind(kind, evidence) for kind in COUNTS) if rule]
    return max(rules, key=lambda rule: rule.f1, default=None)


def _best_of_kind(kind: RuleKind, evidence: Evidence) -> Rule | None:
    """The best of the rules that grow token by token in order of precision."""
    floor = MIN_LIFT * evidence.activation_frequency
    counts = [Count(token, *COUNTS[kind](token)) for token in evidence.tokens]
    useful = [count for count in counts if count.fired >= MIN_FIRED and count.fired / count.n >= floor]
    order = sorted(useful, key=lambda count: (-count.fired / count.n, -count.fired, count.token.token))
    if kind == "context":
        order = _never_together(order)
    if not order:
        return None
    fired, n = np.cumsum([count.fired for count in order]), np.cumsum([count.n for count in order])
    best = int(np.argmax(2 * fired / (n + evidence.n_firings)))
    by_firings = sorted(order[: best + 1], key=lambda count: -count.fired)
    return Rule(
        kind=kind,
        tokens=tuple(count.token.token for count in by_firings),
        precision=float(fired[best] / n[best]),
        recall=float(fired[best] / evidence.n_firings),
    )


def _never_together(order: list[Count]) -> list[Count]:
    kept: list[Count] = []
    taken = np.zeros(0, dtype=np.int64)
    for count in order:
        if len(kept) < MAX_CONTEXT_TOKENS and not np.isin(count.token.prompts, taken).any():
            kept.append(count)
            taken = np.union1d(taken, count.token.prompts)
    return kept


def said_tokens(promoted: Sequence[tuple[str, float]]) -> tuple[str, ...]:
    """The tokens that a feature clearly promotes, strongest first; empty when none stands out."""
    if len(promoted) < 2 or promoted[0][1] <= 0 or promoted[0][1] < MIN_CONTRAST * promoted[-1][1]:
        return ()
    return tuple(token for token, logit in promoted if logit >= promoted[0][1] / 2)[:MAX_SAID]
