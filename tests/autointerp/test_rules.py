"""The rule labeller: its sets are the best there are, its figures true, and it is silent where nothing stands out."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.autointerp.labeller import Evidence, Labeller, TokenEvidence
from tracer.autointerp.rules import MIN_FIRED, RuleLabeller, best_rule, said_tokens


def token(
    name: str,
    *,
    at: tuple[int, int] = (0, 0),
    before: tuple[int, int] = (0, 0),
    context: tuple[int, int] = (0, 0),
    prompts: list[int] | None = None,
) -> TokenEvidence:
    """Evidence of a token from (firings, positions) of each sort."""
    return TokenEvidence(
        token=name,
        fired_at=at[0],
        fired_before=before[0],
        fired_context=context[0],
        n_at=at[1],
        n_before=before[1],
        n_context=context[1],
        prompts=np.array(prompts or [], dtype=np.int64),
    )


def evidence(
    *tokens: TokenEvidence, n_firings: int = 10, frequency: float = 0.01, promoted: tuple[tuple[str, float], ...] = ()
) -> Evidence:
    """Evidence of a feature."""
    return Evidence(
        layer=1,
        feature=2,
        support=3,
        n_firings=n_firings,
        activation_frequency=frequency,
        activation_mean=1.0,
        activation_max=2.0,
        tokens=tokens,
        promoted=promoted,
        suppressed=(),
        examples=(),
    )


PEAKED = tuple(zip((" Austin", " Texas", *(f" w{place}" for place in range(18))), (3.0, 2.0, *[1.0] * 18), strict=True))
FLAT = tuple((f" w{place}", 3.0 - 0.05 * place) for place in range(20))


def test_it_is_a_labeller_that_says_it_is_a_rule() -> None:
    labeller = RuleLabeller()
    assert isinstance(labeller, Labeller)
    label = labeller.label([evidence(token(" Dallas", at=(10, 10)))])[0]
    assert labeller.name == "rule"
    assert "no language model" in label.provenance


def test_input_and_output_make_one_label() -> None:
    found = evidence(
        token(" Dallas", before=(6, 6)), token(" Plano", before=(4, 5)), token(" the", before=(0, 50)), promoted=PEAKED
    )
    label = RuleLabeller().label([found])[0]
    assert label.label == "says ·Austin, ·Texas ← after ·Dallas, ·Plano"
    assert (label.kind, label.rule_kind, label.rule_tokens) == ("both", "before", (" Dallas", " Plano"))
    assert (label.precision, label.recall) == (pytest.approx(10 / 11), 1.0)
    assert label.confidence == pytest.approx(2 * (10 / 11) / (10 / 11 + 1))
    assert label.description == (
        "Fires right after the tokens ·Dallas, ·Plano (precision 0.91, recall 1.00). "
        "Raises the logits of ·Austin, ·Texas."
    )


@pytest.mark.parametrize(
    ("found", "kind", "text"),
    [
        (evidence(token(" Dallas", at=(10, 10)), promoted=FLAT), "input", "on ·Dallas"),
        (evidence(token(" Dallas", at=(1, 10)), promoted=PEAKED), "output", "says ·Austin, ·Texas"),
        (evidence(token(" Dallas", at=(2, 20)), promoted=FLAT), "unclear", "unclear, sometimes on ·Dallas"),
        (evidence(token(" Dallas", at=(1, 1)), promoted=FLAT), "unclear", "unclear"),
        (evidence(promoted=FLAT), "unclear", "unclear"),
        (evidence(token(" Dallas", context=(10, 12))), "input", "somewhere after ·Dallas"),
    ],
)
def test_a_side_is_told_only_where_it_is_clear(found: Evidence, kind: str, text: str) -> None:
    label = RuleLabeller().label([found])[0]
    assert (label.kind, label.label) == (kind, text)


def test_a_token_that_is_everywhere_does_not_make_a_rule() -> None:
    everywhere = token("<bos>", context=(600, 1000))
    assert best_rule(evidence(everywhere, n_firings=600, frequency=0.6)) is None


def test_on_equal_terms_the_nearest_place_wins() -> None:
    found = evidence(token(" a", at=(10, 10), before=(10, 10), context=(10, 10)))
    rule = best_rule(found)
    assert rule is not None
    assert rule.kind == "at"


def test_context_tokens_that_share_a_prompt_are_not_joined() -> None:
    apart = [token(" Dallas", context=(5, 5), prompts=[0, 1]), token(" Plano", context=(5, 5), prompts=[2])]
    together = [apart[0], token(" Plano", context=(5, 5), prompts=[1, 2])]
    rules = best_rule(evidence(*apart)), best_rule(evidence(*together))
    assert rules[0] is not None
    assert rules[1] is not None
    assert (rules[0].tokens, rules[0].recall) == ((" Dallas", " Plano"), 1.0)
    assert (rules[1].tokens, rules[1].recall) == ((" Dallas",), 0.5)


@settings(max_examples=150, deadline=None)
@given(
    counts=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=7),
    n_elsewhere=st.integers(0, 5),
)
def test_no_set_of_tokens_that_fired_more_than_once_has_a_better_f1(
    counts: list[tuple[int, int]], n_elsewhere: int
) -> None:
    tokens = [token(f"t{place}", at=(fired, fired + more)) for place, (fired, more) in enumerate(counts)]
    n_firings = sum(fired for fired, _ in counts) + n_elsewhere
    rule = best_rule(evidence(*tokens, n_firings=n_firings, frequency=0.0))
    best = 0.0
    repeated = [one for one in tokens if one.fired_at >= MIN_FIRED]
    for size in range(1, len(repeated) + 1):
        for chosen in combinations(repeated, size):
            fired, n = sum(one.fired_at for one in chosen), sum(one.n_at for one in chosen)
            best = max(best, 2 * fired / (n + n_firings) if fired else 0.0)
    assert (rule.f1 if rule else 0.0) == pytest.approx(best)
    if rule:
        chosen = [one for one in tokens if one.token in rule.tokens]
        assert rule.precision == sum(one.fired_at for one in chosen) / sum(one.n_at for one in chosen)
        assert rule.recall == sum(one.fired_at for one in chosen) / n_firings
        firings = {one.token: one.fired_at for one in chosen}
        assert [firings[name] for name in rule.tokens] == sorted(firings.values(), reverse=True)


@pytest.mark.parametrize(
    ("promoted", "said"),
    [
        (PEAKED, (" Austin", " Texas")),
        (FLAT, ()),
        ((), ()),
        (((" a", 1.0),), ()),
        (((" a", -1.0), (" b", -2.0)), ()),
        (
            tuple((f"t{place}", 4.0 - 0.1 * place) for place in range(10)) + ((" z", 0.1),),
            ("t0", "t1", "t2", "t3", "t4"),
        ),
    ],
)
def test_promoted_tokens_are_said_only_where_they_stand_out(
    promoted: tuple[tuple[str, float], ...], said: tuple[str, ...]
) -> None:
    assert said_tokens(promoted) == said


@pytest.mark.parametrize("d_vocab", [700, 50_000])
def test_logits_without_structure_say_nothing(d_vocab: int) -> None:
    rng = np.random.default_rng(0)
    n_said = 0
    for _ in range(200):
        logits = -np.sort(-rng.standard_normal(d_vocab))[:20]
        n_said += bool(said_tokens(tuple((f"t{place}", float(logit)) for place, logit in enumerate(logits))))
    assert n_said <= 20
