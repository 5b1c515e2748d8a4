"""How a rule and its promoted tokens read: a label of at most 80 characters, and a sentence or two."""

from collections.abc import Sequence

from tracer.autointerp.labeller import LabelKind, RuleKind
from tracer.corpus.tokens import visible

MAX_LABEL_CHARACTERS = 80
MAX_TOKEN_CHARACTERS = 20
MAX_SHOWN_TOKENS = 4
MAX_DESCRIBED_TOKENS = 12

PLACES: dict[RuleKind, str] = {"at": "on", "before": "after", "context": "somewhere after"}
SENTENCES: dict[RuleKind, str] = {
    "at": "Fires on the tokens",
    "before": "Fires right after the tokens",
    "context": "Fires anywhere after the tokens",
}


def write_label(kind: LabelKind, rule: tuple[RuleKind, Sequence[str]] | None, said: Sequence[str]) -> str:
    """For example `says Austin, Texas ← after Dallas, Houston, Plano`; fewer tokens are shown where the room ends.

    Args:
        kind: which sides were found; an unclear label says so.
        rule: where the feature fires: sort and tokens, most firings first; None to leave it out.
        said: promoted tokens, strongest first; none where the label is unclear.
    """
    for n_said in range(len(said), -1, -1):
        for n_shown in range(min(len(rule[1]), MAX_SHOWN_TOKENS) if rule else 0, -1, -1):
            if (rule and n_shown == 0) or (said and n_said == 0):
                continue
            text = _write(kind, rule, n_shown, said[:n_said])
            if len(text) <= MAX_LABEL_CHARACTERS:
                return text
    raise AssertionError("one token of each side always fits")


def _write(kind: LabelKind, rule: tuple[RuleKind, Sequence[str]] | None, n_shown: int, said: Sequence[str]) -> str:
    # What is said comes first: it is the shorter side, and it survives where a narrow table cuts the label off.
    sides = [f"says {_join(said)}"] if said else []
    if rule:
        n_more = len(rule[1]) - n_shown
        more = f" +{n_more} more" if n_more else ""
        sides.append(f"{PLACES[rule[0]]} {_join(rule[1][:n_shown])}{more}")
    text = " ← ".join(sides)
    if kind == "unclear":
        return f"unclear, sometimes {text}" if text else "unclear"
    return text


def describe(rule: tuple[RuleKind, Sequence[str], float, float] | None, said: Sequence[str]) -> str:
    """One or two sentences with the rule's figures.

    Args:
        rule: sort, tokens, precision and recall.
        said: promoted tokens, strongest first.
    """
    sentences = []
    if rule:
        kind, tokens, precision, recall = rule
        more = ", ..." if len(tokens) > MAX_DESCRIBED_TOKENS else ""
        shown = _join(tokens[:MAX_DESCRIBED_TOKENS])
        sentences.append(f"{SENTENCES[kind]} {shown}{more} (precision {precision:.2f}, recall {recall:.2f}).")
    else:
        sentences.append("No set of tokens tells when it fires.")
    sentences.append(f"Raises the logits of {_join(said)}." if said else "No promoted token stands out.")
    return " ".join(sentences)


def without_controls(text: str) -> str:
    """Text of others in one line: what a terminal would obey, and what turns the direction of writing, is left out.

    Markup stays as it is written; whoever shows it escapes it.

    Args:
        text: a label or description by a language model, an import or a person.
    """
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def _join(tokens: Sequence[str]) -> str:
    return ", ".join(_show(token) for token in tokens)


def _show(token: str) -> str:
    text = visible(token)
    return text if len(text) <= MAX_TOKEN_CHARACTERS else text[: MAX_TOKEN_CHARACTERS - 1] + "…"
