"""What labelling will cost, before it is paid for: a sample is asked, whose answers are kept, and the rest scaled."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tracer.autointerp.choosing import stratified
from tracer.autointerp.client.answerer import Answerer
from tracer.autointerp.client.calls import Call, Outcome
from tracer.autointerp.client.estimate import estimate, expected_usd
from tracer.autointerp.feature_evidence import RANDOM_DIRECTION, FeatureKey
from tracer.autointerp.groups import group_calls
from tracer.autointerp.rows import Rows
from tracer.autointerp.stage import Stage
from tracer.autointerp.tier1 import explain_calls, features_to_label, keep_answers
from tracer.autointerp.tier2 import Directions, Effects, n_tests, score_labels
from tracer.autointerp.tier3 import look_deeper

N_SAMPLED = 50
"""Calls asked of labels and of groups."""
N_SCORED = 12
"""Labels of the sample that are tested, and groups asked of which the answers will be of no use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEstimate:
    """What is left to pay for labelling a run, by step; `n_labels` counts those of random directions too, `n_deep`
    drafts and the calls that settle them, and `n_scores` tests of both tiers. `margin_usd` is half the 95 % interval of
    features' labels and, where all labels are known, of groups. The dollars are None without a price; calls of the
    kinds `unknown` (scorers, random_direction, draft, settle) are not in them, for none was asked yet.
    """

    n_labels: int
    n_scores: int
    n_deep: int
    n_groups: int
    cost_usd: float | None
    margin_usd: float | None
    unknown: tuple[str, ...]
    spent_usd: float
    """What the sample cost."""


class LedgerAlone:
    """Answers, as `CallAnswerer`, what the ledger has an answer to; the others are not asked, and are in `open`.

    Args:
        answerer: knows the ledger.
    """

    def __init__(self, answerer: Answerer) -> None:
        self.open: set[Call[Any]] = set()
        self._answerer = answerer

    def answer(self, calls: Iterable[Call[Any]]) -> Iterator[tuple[Call[Any], Outcome[Any]]]:
        """As `Answerer.answer`, of known calls alone."""
        return self._answerer.answer(filter(self._is_known, calls))

    def _is_known(self, call: Call[Any]) -> bool:
        is_known = self._answerer.is_settled(call)
        if not is_known:
            self.open.add(call)
        return is_known


def estimate_stage(
    stage: Stage, answerer: Answerer, *, measure_effects: Effects, measure_directions: Directions
) -> StageEstimate:
    """Ask a sample of labels, of their tests, of deep looks and of groups; what all others will cost.

    Args:
        stage: the run and the settings.
        answerer: the one that the stage asks.
        measure_effects: as for `score_labels`.
        measure_directions: as for `score_labels`.

    Raises:
        ConfigError: as `look_deeper`.
        RunError: as `Answerer.answer`.
    """
    before, keys = answerer.spent().cost_usd, features_to_label(stage)
    labels = estimate(answerer, (call for call, _ in explain_calls(stage, keys)), n_sampled=N_SAMPLED).get("label")
    known, settled, to_come = replace(stage, rows=Rows()), [], dict[FeatureKey, float]()
    for call, about in explain_calls(known, keys):
        if answerer.is_settled(call):
            settled.append((call, about))
        else:
            to_come[about[0].key] = about[0].activation_frequency
    keep_answers(known, settled)
    _ask_sample(known, answerer, measure_effects, measure_directions)
    planned = _planned(known, to_come, answerer, measure_effects, measure_directions)
    n_deep, n_directions = planned["draft"] + planned["settle"], planned[RANDOM_DIRECTION]
    n_scores = planned.total() - n_deep - n_directions
    if answerer.spent("label").n_calls:  # a draft is a label, and far more labels were asked
        planned["label"] = planned.pop("draft", 0)
    unknown = tuple(kind for kind, n_calls in planned.items() if n_calls and not answerer.spent(kind).n_calls)
    foreseen = {kind: n_calls for kind, n_calls in planned.items() if n_calls and kind not in unknown}
    of_groups = [call for call, _ in group_calls(known)]
    is_told = (labels is None or not labels.n_calls) and not n_deep
    groups = estimate(answerer, of_groups, n_sampled=N_SAMPLED if is_told else N_SCORED).get("group")
    if groups is not None and not is_told:
        # groups are told by labels of their members: once those to come are known, each is another question
        foreseen["group"], groups = len(of_groups), None
    parts = [one for one in (labels, groups) if one is not None]
    costs = [*(one.cost_usd for one in parts), expected_usd(answerer, foreseen)]
    priced = [cost for cost in costs if cost is not None]
    margins = [one.margin_usd or 0.0 for one in parts]
    return StageEstimate(
        n_labels=(labels.n_calls if labels else 0) + n_directions,
        n_scores=n_scores,
        n_deep=n_deep,
        n_groups=groups.n_calls if groups else foreseen.get("group", 0),
        cost_usd=sum(priced) if len(priced) == len(costs) else None,
        margin_usd=sum(margin**2 for margin in margins) ** 0.5 if len(priced) == len(costs) else None,
        unknown=unknown,
        spent_usd=answerer.spent().cost_usd - before,
    )


def _ask_sample(stage: Stage, answerer: Answerer, measure_effects: Effects, measure_directions: Directions) -> None:
    """Ask tests of a few of the stage's labels and, unless it is known what settling costs, for one deep look."""
    settings, is_tested = stage.settings, stage.source.is_harvest
    rows = Rows(features=dict(stage.rows.features))
    if is_tested and settings.n_scored:
        few = settings.model_copy(update={"n_scored": min(N_SCORED, settings.n_scored)})
        score_labels(replace(stage, settings=few, rows=rows), measure_effects, measure_directions)
    for name in settings.deep:
        if answerer.spent("settle").n_calls:
            return
        one = replace(stage, settings=settings.model_copy(update={"deep": (name,)}), rows=rows)
        looked = look_deeper(one)
        if looked and is_tested and not settings.n_scored:
            score_labels(one, measure_effects, only=looked)


def _planned(
    stage: Stage, to_come: Mapping[FeatureKey, float], answerer: Answerer, measure_effects: Effects,
    measure_directions: Directions,
) -> Counter[str]:  # fmt: skip
    """Calls that are left of tests and deep looks, by kind. Those that can be written down are looked for in the
    ledger; others wait for their label, tests of another feature's label for all of tier 1, what settles for drafts.
    Of features whose labels are `to_come` it is the activation frequency.
    """
    ledger, settings, is_tested = LedgerAlone(answerer), stage.settings, stage.source.is_harvest
    stage = replace(stage, answerer=ledger)
    n_labels = n_others = n_directions = 0
    if is_tested and settings.n_scored and not to_come:
        score_labels(stage, measure_effects, measure_directions)
    elif is_tested and settings.n_scored:
        frequencies = {key: label.activation_frequency for key, label in stage.rows.features.items()} | dict(to_come)
        chosen = stratified(frequencies, settings.n_scored, settings.seed)
        told = [key for key in chosen if key in stage.rows.features]
        if told:
            alone = settings.model_copy(update={"with_other_label": False})
            score_labels(replace(stage, settings=alone), measure_effects, measure_directions, only=told)
        n_labels, n_others = len(chosen) - len(told), len(chosen)
        n_directions = n_labels * settings.with_random_direction
    looked = look_deeper(stage) if settings.deep else []
    if looked and is_tested and not to_come:
        score_labels(stage, measure_effects, only=looked)
        looked = []
    planned = Counter(call.stage for call in ledger.open)
    planned["settle"] = len({call.target for call in ledger.open if call.stage in ("draft", "settle")})
    planned[RANDOM_DIRECTION] += n_directions
    if is_tested:
        n_deep = len(looked) + planned["settle"]
        n_others = (n_others + n_deep) * settings.with_other_label
        n_directions = planned[RANDOM_DIRECTION]
        planned.update(n_tests(settings, n_labels=n_labels + n_deep, n_others=n_others, n_directions=n_directions))
    return planned
