"""Indirect object identification for any tokenizer: one of two people gives something to the other, who is named next.

The task and its two orders, ABBA and BABA by who is named first, are those of Wang et al. 2022 ("Interpretability in
the Wild: a Circuit for Indirect Object Identification in GPT-2 small"); the sentences are our own. The counterfactual
partner has the other person give, so that one name changes and the right answer with it.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import TYPE_CHECKING

from tracer.corpus.tasks import atlas
from tracer.corpus.tasks import atlas_words as words
from tracer.corpus.tasks.drawing import TaskOptions, TaskPrompt, draw_rows
from tracer.corpus.tokens import encode, single_token_words
from tracer.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NAME = "ioi"
TEMPLATES = (
    "While {first} and {second} were at the {place}, {giver} handed a {object} to",
    "Once {first} and {second} arrived at the {place}, {giver} passed a {object} to",
    "Yesterday {first} and {second} met at the {place}, and {giver} gave a {object} to",
    "Because {first} and {second} were leaving the {place}, {giver} offered a {object} to",
    "Later {first} and {second} walked to the {place}, where {giver} showed a {object} to",
)
PLAIN_TEMPLATES = tuple(template.split("|")[0] for template in atlas.TEMPLATES["indirect_object"])
"""Without capitals and commas, for vocabularies of whole words such as the embedded model's."""

CANDIDATES = {"names": words.NAMES, "places": words.PLACES, "objects": words.OBJECTS}
MIN_WORDS = {"names": 4, "places": 2, "objects": 2}


def ioi_rows(tokenizer: "PreTrainedTokenizerBase", options: TaskOptions) -> Iterator[dict[str, object]]:
    """Rows whose names, places and objects are each one token in context; who gives and in which order is metadata.

    Raises:
        DataError: too few such words, no template that the vocabulary can say, or too few prompts.
    """
    usable = {kind: _usable_words(kind, tokenizer) for kind in CANDIDATES}
    templates = _usable_templates(tokenizer, {kind: found[0] for kind, found in usable.items()})

    def draw_pair(rng: Random) -> tuple[TaskPrompt, Callable[[], TaskPrompt]]:
        first, second = rng.sample(usable["names"], 2)
        slots = {
            "template": rng.choice(templates),
            "first": first,
            "second": second,
            "place": rng.choice(usable["places"]),
            "object": rng.choice(usable["objects"]),
        }
        givers = (first, second) if rng.random() < 0.5 else (second, first)
        return _fill(slots, givers[0]), lambda: _fill(slots, givers[1])

    return draw_rows(NAME, options, draw_pair)


def _fill(slots: dict[str, str], giver: str) -> TaskPrompt:
    is_second = giver == slots["second"]
    receiver = slots["first"] if is_second else slots["second"]
    slots = slots | {"giver": giver, "receiver": receiver, "order": "ABBA" if is_second else "BABA"}
    return TaskPrompt(task=NAME, text=slots["template"].format(**slots), answer=receiver, split=None, slots=slots)


def _usable_words(kind: str, tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    found = single_token_words(CANDIDATES[kind], tokenizer)
    if len(found) < MIN_WORDS[kind]:
        found_text = f"{len(found)} of {len(CANDIDATES[kind])} {kind} that are one token of this tokenizer"
        expected = f"at least {MIN_WORDS[kind]}"
        raise DataError(f"tasks:{NAME}", found=found_text, expected=expected, to_do="Use another task for this model.")
    return found


def _usable_templates(tokenizer: "PreTrainedTokenizerBase", sample: dict[str, str]) -> list[str]:
    name, place, thing = sample["names"], sample["places"], sample["objects"]
    filling = {"first": name, "second": name, "giver": name, "place": place, "object": thing}
    for templates in (TEMPLATES, PLAIN_TEMPLATES):
        known = [t for t in templates if tokenizer.unk_token_id not in encode(t.format(**filling), tokenizer)]
        if known:
            return known
    found = "no template whose words this tokenizer knows"
    raise DataError(f"tasks:{NAME}", found=found, expected="at least one", to_do="Use another task for this model.")
