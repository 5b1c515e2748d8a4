"""The call that asks for a feature's label: what was measured of it, in words."""

from collections.abc import Mapping, Sequence

from tracer.autointerp.answers import FeatureAnswer, SettledAnswer
from tracer.autointerp.client.calls import Call, Message, Parameters
from tracer.autointerp.feature_evidence import FeatureEvidence, FeatureKey
from tracer.autointerp.labeller import feature_id
from tracer.autointerp.prompts import instructions
from tracer.autointerp.roles import End, Role
from tracer.autointerp.scoring.measures import hashed
from tracer.autointerp.texts import FeatureText, numbered, write
from tracer.corpus.tokens import visible

N_EFFECTS = 12
"""Promoted and suppressed tokens shown, of each."""
MAX_TOKENS = 1_000
"""Longest answer."""
Labels = Mapping[FeatureKey, str]


def choose_texts(explaining: Sequence[FeatureText], n: int, *, draw: int = 0, seed: int = 0) -> list[FeatureText]:
    """Texts to make a label from: half the strongest, half over the whole range of activations, strongest first.

    Args:
        explaining: texts of the split `explain` in which the feature is active.
        n: so many at most.
        draw: which of several choices from the same texts; 0 takes the strongest, others draw them by hash.
        seed: of that hash.
    """
    active = [text for text in explaining if text.is_active]
    if draw:
        order = sorted(active, key=lambda text: hashed(seed, draw, text.document_id, text.kind, text.peak_idx))
        return sorted(order[:n], key=_strength)
    by_kind = [[text for text in active if text.kind == kind] for kind in ("top", "quantile")]
    chosen = by_kind[0][: n if not by_kind[1] else (n + 1) // 2]
    rest = sorted(by_kind[1], key=lambda text: hashed(seed, text.document_id, text.peak_idx))
    seen = {text.tokens for text in chosen}
    chosen += [text for text in rest if text.tokens not in seen][: n - len(chosen)]
    return sorted(chosen, key=_strength)


def _strength(text: FeatureText) -> tuple[float, str]:
    return -max(text.activations), text.document_id


def explain_call(evidence: FeatureEvidence, texts: Sequence[FeatureText], labels: Labels) -> Call[FeatureAnswer]:
    """Ask what a feature is.

    Args:
        evidence: what was measured.
        texts: those to make the label from.
        labels: what is known of other features, which its sources and targets are told by.
    """
    task = instructions("explain")
    return Call(
        stage="label",
        target=evidence.target,
        messages=(Message("system", task.text), Message("user", explain_text(evidence, texts, labels))),
        form=FeatureAnswer,
        parameters=Parameters(max_tokens=MAX_TOKENS),
        prompt_version=task.version,
    )


def settle_call(
    evidence: FeatureEvidence, drafts: Sequence[FeatureAnswer], active: Sequence[FeatureText],
    inactive: Sequence[FeatureText],
) -> Call[SettledAnswer]:  # fmt: skip
    """Ask which of several drafts of a label holds.

    Args:
        evidence: what was measured.
        drafts: labels, each made from other texts.
        active: texts in which the feature is active.
        inactive: texts that look alike, in which it is not.
    """
    task = instructions("settle")
    sections = [
        "Drafts:\n" + numbered([f"[{draft.kind}] {draft.label}: {draft.description}" for draft in drafts]),
        _effects("Promotes", evidence.promoted),
        "Texts where it is active:\n" + numbered(shown_texts(evidence, active)),
        "Texts where it is not:\n" + numbered([write(text.tokens, evidence.between) for text in inactive]),
    ]
    return Call(
        stage="settle",
        target=evidence.target,
        messages=(Message("system", task.text), Message("user", "\n\n".join(filter(None, sections)))),
        form=SettledAnswer,
        parameters=Parameters(max_tokens=MAX_TOKENS),
        prompt_version=task.version,
    )


def explain_text(evidence: FeatureEvidence, texts: Sequence[FeatureText], labels: Labels) -> str:
    """The variable part of the call: counts, effects, part in circuits, texts; what was not measured is left out."""
    sections = [
        f"Active on {evidence.activation_frequency:.2%} of all tokens.",
        _counts("Active on these tokens (times of all occurrences)", evidence.fires_on),
        _counts("Active right after these tokens", evidence.fires_after),
        _effects("Promotes", evidence.promoted),
        _effects("Suppresses", evidence.suppressed),
        _role(evidence.role, labels) if evidence.role else "No part in any circuit of this run.",
        "Texts:\n" + numbered(shown_texts(evidence, texts)) if texts else "",
        _circuit_texts(evidence.role, evidence.between) if evidence.role and evidence.role.texts else "",
    ]
    return "\n\n".join(filter(None, sections))


def shown_texts(evidence: FeatureEvidence, texts: Sequence[FeatureText]) -> list[str]:
    """Texts with marks and, as a share of the feature's largest, the largest activation in each."""
    largest = evidence.activation_max or 1.0
    return [
        f"{write(text.tokens, evidence.between, firing=text.firing)}  ({max(text.activations) / largest:.2f})"
        for text in texts
    ]


def _counts(title: str, counts: Sequence[tuple[str, int, int]]) -> str:
    if not counts:
        return ""
    return f"{title}: " + ", ".join(f"{visible(token)} {n}/{n_all}" for token, n, n_all in counts)


def _effects(title: str, effects: Sequence[tuple[str, float]]) -> str:
    if not effects:
        return ""
    return f"{title}: " + ", ".join(f"{visible(token)} {logit:+.2f}" for token, logit in effects[:N_EFFECTS])


def _role(role: Role, labels: Labels) -> str:
    places = ", ".join(f"{_place(n_from_end)} ({n})" for n_from_end, n in role.places)
    lines = [
        f"In the circuits of {role.support} of {role.n_graphs} prompts, {role.influence_mean:.1%} of the influence.",
        f"Positions there: {places}." if places else "",
        f"Acted on by: {_ends(role.sources, labels)}." if role.sources else "",
        f"Acts on: {_ends(role.targets, labels)}." if role.targets else "",
    ]
    return "\n".join(filter(None, lines))


def _place(n_from_end: int) -> str:
    return "last token" if n_from_end == 0 else f"{n_from_end} before the last"


def _ends(ends: Sequence[End], labels: Labels) -> str:
    return ", ".join(f"{_end(end, labels)} ({'+' if end.weight >= 0 else '-'}, {end.support} prompts)" for end in ends)


def _end(end: End, labels: Labels) -> str:
    if end.kind != "feature":
        kind = "next token" if end.kind == "logit" else "token"
        return f"{kind} {visible(end.name or '')}"
    known = labels.get((end.layer, end.feature))
    name = feature_id(end.layer, end.feature)
    return f"{name} [{known}]" if known else name


def _circuit_texts(role: Role, between: str) -> str:
    lines = [write(text.tokens, between, firing={text.pos}, read=text.read) for text in role.texts]
    return "Texts out of circuits:\n" + numbered(lines)
