"""Builds the tests of a label: texts that its author never saw, in an order drawn by hash, and the call that asks.

Detection asks in which texts the feature is active; fuzzing, in which texts the marks stand where it is; an intruder
is to be found among texts by their marks, without any label; simulation foretells the activation of every token;
output asks which tokens are promoted, which is compared with the logits, or with what ablating the feature does.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tracer.autointerp.answers import Answer, IntruderAnswer, SimulationAnswer, VerdictsAnswer
from tracer.autointerp.client.calls import Call, Message, Parameters
from tracer.autointerp.explaining import choose_texts
from tracer.autointerp.feature_evidence import FeatureEvidence
from tracer.autointerp.prompts import instructions
from tracer.autointerp.scoring.measures import generator, hashed
from tracer.autointerp.scoring.questions import Question, Subject
from tracer.autointerp.texts import FeatureText, numbered, write
from tracer.corpus.tokens import visible

FEWEST = 3
"""Fewest items of a kind that a test is made of."""
N_INTRUDER_TRIALS, N_INTRUDER_TEXTS = 3, 5
N_SIMULATED = 6
N_OUTPUT_TOKENS = 8
TOP_LOGPROBS = 10
ANSWER_TOKENS_PER_ITEM = 40
INSTRUCTIONS = {
    "detection": "detect", "fuzzing": "fuzz", "intruder": "intruder", "simulation": "simulate",
    "output_logits": "output", "output_ablation": "output",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringTexts:
    """Texts to score a feature on: in which it is active, and in which it is not, near misses among them."""

    active: tuple[FeatureText, ...]
    inactive: tuple[FeatureText, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Tokens that a feature raises and tokens that it leaves alone, measured on the prompts `documents`."""

    raised: tuple[str, ...]
    left_alone: tuple[str, ...]
    documents: tuple[str, ...] = ()


def choose_scoring_texts(scoring: Sequence[FeatureText], n_active: int, n_inactive: int, seed: int) -> ScoringTexts:
    """Of the texts to score on: active ones of all strengths; inactive ones, half of them near misses where there are.

    Args:
        scoring: texts of the split `score`.
        n_active: at most so many active ones.
        n_inactive: at most so many inactive ones.
        seed: what is drawn by.
    """
    inactive = sorted(
        (text for text in scoring if not text.is_active),
        key=lambda text: hashed(seed, text.document_id, text.kind, text.peak_idx),
    )
    distinct = {text.tokens: text for text in reversed(inactive)}
    inactive = [text for text in inactive if distinct[text.tokens] is text]
    near = [text for text in inactive if text.kind == "near_miss"][: (n_inactive + 1) // 2]
    others = [text for text in inactive if text not in near]
    return ScoringTexts(
        active=tuple(choose_texts(scoring, n_active, seed=seed)),
        inactive=tuple([*near, *others][:n_inactive]),
    )


def lacking(scorer: str, texts: ScoringTexts, effect: Effect | None) -> str | None:
    """Why a scorer cannot be asked of a feature; None where it can."""
    if scorer.startswith("output"):
        if effect is None or min(len(effect.raised), len(effect.left_alone)) < FEWEST:
            return f"fewer than {FEWEST} tokens raised, beyond those shown to the label's author, or left alone"
        return None
    if len(texts.active) < FEWEST:
        return f"{len(texts.active)} texts to score on in which it is active, {FEWEST} needed"
    if len(texts.inactive) < FEWEST:
        return f"{len(texts.inactive)} texts to score on in which it is not active, {FEWEST} needed"
    return None


def ask(
    scorer: str, subject: Subject, evidence: FeatureEvidence, texts: ScoringTexts, effect: Effect | None, seed: int
) -> list[Question]:
    """The questions of one scorer about one label; `lacking` said that there is enough to ask.

    Args:
        scorer: which test.
        subject: whose words are tested.
        evidence: the feature that they are tested on.
        texts: texts that the label's author did not see.
        effect: what the feature does to next tokens, for the tests of output.
        seed: what marks and orders are drawn by.
    """
    name = f"{seed}|{scorer}|{evidence.layer}|{evidence.feature}"
    if scorer == "detection":
        return [_detection(subject, evidence, texts, name)]
    if scorer == "fuzzing":
        return [_fuzzing(subject, evidence, texts, name)]
    if scorer == "intruder":
        trials = (_intruder(subject, evidence, texts, f"{name}|{trial}") for trial in range(N_INTRUDER_TRIALS))
        return [trial for trial in trials if trial is not None]
    if scorer == "simulation":
        return [_simulation(subject, evidence, texts, name)]
    assert effect is not None, "asked for by lacking"
    return [_output(scorer, subject, evidence, effect, name)]


def _detection(subject: Subject, evidence: FeatureEvidence, texts: ScoringTexts, name: str) -> Question:
    items = [(write(text.tokens, evidence.between), text.is_active, text) for text in (*texts.active, *texts.inactive)]
    return _yes_or_no("detection", subject, evidence, _shuffled(items, name))


def _fuzzing(subject: Subject, evidence: FeatureEvidence, texts: ScoringTexts, name: str) -> Question:
    n_right = (len(texts.active) + 1) // 2
    order = sorted(texts.active, key=lambda text: hashed(name, text.document_id))
    items = [(write(text.tokens, evidence.between, firing=text.firing), True, text) for text in order[:n_right]]
    n_marks = max(1, round(sum(len(text.firing) for text in texts.active) / len(texts.active)))
    wrong = [(text, len(text.firing)) for text in order[n_right:]] + [(text, n_marks) for text in texts.inactive]
    for text, n in wrong:
        marks = _wrong_marks(text, n, name)
        if marks:
            items.append((write(text.tokens, evidence.between, firing=marks), False, text))
    return _yes_or_no("fuzzing", subject, evidence, _shuffled(items, name))


def _wrong_marks(text: FeatureText, n: int, name: str) -> Collection[int]:
    """Places where the feature is not active, so many if there are."""
    free = [idx for idx in range(len(text.tokens)) if idx not in text.firing]
    rng = generator(f"{name}|{text.document_id}|{text.peak_idx}")
    return set(rng.permutation(free)[:n].tolist())


def _intruder(subject: Subject, evidence: FeatureEvidence, texts: ScoringTexts, name: str) -> Question | None:
    rng = generator(name)
    n_others = min(N_INTRUDER_TEXTS - 1, len(texts.active))
    others = [texts.active[place] for place in rng.permutation(len(texts.active))[:n_others]]
    odd = texts.inactive[int(rng.integers(len(texts.inactive)))]
    n_marks = max(1, round(sum(len(text.firing) for text in others) / n_others))
    items = [(write(text.tokens, evidence.between, firing=text.firing), False, text) for text in others]
    items.append((write(odd.tokens, evidence.between, firing=_wrong_marks(odd, n_marks, name)), True, odd))
    items = _shuffled(items, name)
    return _question(
        "intruder", subject, evidence, numbered([line for line, _, _ in items]), IntruderAnswer,
        truth=tuple(is_odd for _, is_odd, _ in items), intruder=1 + [is_odd for _, is_odd, _ in items].index(True),
        texts=[text for _, _, text in items],
    )  # fmt: skip


def _simulation(subject: Subject, evidence: FeatureEvidence, texts: ScoringTexts, name: str) -> Question:
    chosen = [*texts.active[: N_SIMULATED // 2], *texts.inactive[: N_SIMULATED // 2]]
    items = _shuffled([("", text.is_active, text) for text in chosen], name)
    lines = [f"[{' | '.join(visible(token) for token in text.tokens)}]" for _, _, text in items]
    return _question(
        "simulation", subject, evidence, f"Description: {subject.words}\n\nTexts:\n{numbered(lines)}",
        SimulationAnswer, activations=tuple(text.activations for _, _, text in items),
        texts=[text for _, _, text in items], top_logprobs=TOP_LOGPROBS,
        n_answer_tokens=8 * sum(len(text.tokens) for _, _, text in items),
    )  # fmt: skip


def _output(scorer: str, subject: Subject, evidence: FeatureEvidence, effect: Effect, name: str) -> Question:
    n = min(N_OUTPUT_TOKENS, len(effect.raised), len(effect.left_alone))
    tokens = [(token, True) for token in effect.raised[:n]] + [(token, False) for token in effect.left_alone[:n]]
    order = sorted(tokens, key=lambda item: hashed(name, item[0]))
    lines = numbered([visible(token) for token, _ in order])
    return _question(
        scorer, subject, evidence, f"Description: {subject.words}\n\nTokens:\n{lines}", VerdictsAnswer,
        truth=tuple(is_raised for _, is_raised in order), texts=(), documents=effect.documents,
    )  # fmt: skip


Item = tuple[str, bool, FeatureText]


def _yes_or_no(scorer: str, subject: Subject, evidence: FeatureEvidence, items: Sequence[Item]) -> Question:
    lines = numbered([line for line, _, _ in items])
    return _question(
        scorer, subject, evidence, f"Description: {subject.words}\n\nTexts:\n{lines}", VerdictsAnswer,
        truth=tuple(is_right for _, is_right, _ in items), texts=[text for _, _, text in items],
    )  # fmt: skip


def _shuffled(items: Sequence[Item], name: str) -> list[Item]:
    return [items[place] for place in generator(name).permutation(len(items))]


def _question(
    scorer: str,
    subject: Subject,
    evidence: FeatureEvidence,
    content: str,
    form: type[Answer],
    *,
    texts: Sequence[FeatureText],
    truth: tuple[bool, ...] = (),
    intruder: int = 0,
    activations: tuple[tuple[float, ...], ...] = (),
    documents: tuple[str, ...] = (),
    top_logprobs: int | None = None,
    n_answer_tokens: int | None = None,
) -> Question:
    task = instructions(INSTRUCTIONS[scorer])
    n_tokens = n_answer_tokens or ANSWER_TOKENS_PER_ITEM * (1 + len(truth))
    return Question(
        subject=subject,
        scorer=scorer,
        call=Call(
            stage=scorer,
            target=evidence.target,
            messages=(Message("system", task.text), Message("user", content)),
            form=form,
            parameters=Parameters(max_tokens=300 + n_tokens, top_logprobs=top_logprobs),
            prompt_version=task.version,
        ),
        truth=truth,
        intruder=intruder,
        activations=activations,
        examples_hash=hashed(content)[:16],
        documents=documents or tuple(text.document_id for text in texts),
    )
