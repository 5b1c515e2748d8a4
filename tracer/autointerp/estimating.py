"""What labelling will cost, before it is paid for: a sample is asked, whose answers are kept, and the rest scaled."""

from dataclasses import dataclass, replace

from tracer.autointerp.client.answerer import Answerer
from tracer.autointerp.client.estimate import estimate, expected_usd
from tracer.autointerp.groups import group_calls
from tracer.autointerp.rows import Rows
from tracer.autointerp.stage import Stage
from tracer.autointerp.tier1 import explain_calls, features_to_label, keep_answers
from tracer.autointerp.tier2 import Effects, n_calls_of, score_labels

N_SAMPLED = 50
"""Calls asked of labels and of groups."""
N_SCORED = 12
"""Labels of the sample that are tested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEstimate:
    """What is left to pay for labelling a run, by step; `margin_usd` is half the 95 % interval of labels and groups.
    The dollars are None without a price; tests of the scorers `unknown` are not in them, for none was asked yet.
    """

    n_labels: int
    n_scores: int
    n_groups: int
    cost_usd: float | None
    margin_usd: float | None
    unknown: tuple[str, ...]
    spent_usd: float
    """What the sample cost."""


def estimate_stage(stage: Stage, answerer: Answerer, *, measure_effects: Effects) -> StageEstimate:
    """Ask a sample of labels, of their tests and of groups; what all others will cost.

    Tier 3 is not in it: it is for a few features, each at about `n_drafts` labels.

    Args:
        stage: the run and the settings.
        answerer: the one that the stage asks.
        measure_effects: as for `score_labels`.
    """
    before = answerer.spent().cost_usd
    settings, keys = stage.settings, features_to_label(stage)
    of_labels = estimate(answerer, (call for call, _ in explain_calls(stage, keys)), n_sampled=N_SAMPLED)
    labels = of_labels.get("label")
    planned = dict[str, int]()
    if stage.source.is_harvest and settings.n_scored and labels is not None:
        n_tested = min(settings.n_scored, labels.n_calls + labels.n_known + labels.n_sampled)
        n_sampled = min(N_SCORED, n_tested)
        sample = replace(stage, settings=settings.model_copy(update={"n_scored": n_sampled}), rows=Rows())
        settled = [(call, about) for call, about in explain_calls(sample, keys) if answerer.is_settled(call)]
        keep_answers(sample, settled)
        score_labels(sample, measure_effects)
        # other labels are drawn among all of them: only when all are known are the sample's tests among those to come
        n_left = n_tested if labels.n_calls else n_tested - n_sampled
        planned = {str(scorer): n_left * n_calls_of(scorer, settings) for scorer in settings.scorers}
    unknown = tuple(scorer for scorer, n_calls in planned.items() if n_calls and not answerer.spent(scorer).n_calls)
    foreseen = {scorer: n_calls for scorer, n_calls in planned.items() if n_calls and scorer not in unknown}
    of_groups = estimate(answerer, (call for call, _ in group_calls(stage)), n_sampled=N_SAMPLED)
    groups = of_groups.get("group")
    parts = [one for one in (labels, groups) if one is not None]
    costs = [*(one.cost_usd for one in parts), expected_usd(answerer, foreseen)]
    known = [cost for cost in costs if cost is not None]
    margins = [one.margin_usd or 0.0 for one in parts]
    return StageEstimate(
        n_labels=labels.n_calls if labels else 0,
        n_scores=sum(planned.values()),
        n_groups=groups.n_calls if groups else 0,
        cost_usd=sum(known) if len(known) == len(costs) else None,
        margin_usd=sum(margin**2 for margin in margins) ** 0.5 if len(known) == len(costs) else None,
        unknown=unknown,
        spent_usd=answerer.spent().cost_usd - before,
    )
