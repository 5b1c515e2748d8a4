"""The toy atlas: eleven small language tasks with known circuits, for the embedded demo model and for demo runs.

A task draws *slots* (which city, which names), renders them through a template into a prompt and its answer, and can
make a counterfactual partner: the same template with another answer, and where the task allows it one changed word.
Some slot values are held out: they never occur in the training text of the embedded model, so a right answer shows that
the model composes rather than remembers.

The task families follow the published circuits they imitate: two-hop recall, antonyms and translation (Lindsey et al.
2025, "On the Biology of a Large Language Model"), indirect object identification (Wang et al. 2022), greater-than
(Hanna et al. 2023), subject-verb agreement with an attractor (Linzen et al. 2016), induction (Olsson et al. 2022).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from random import Random

from tracer.corpus.tasks import atlas_words as words
from tracer.corpus.tasks.atlas_templates import TEMPLATES

Slots = dict[str, str]
"""Named fillers of a template; `template` is the template itself and `split` is `seen` or `held_out`."""

MAX_HELD_OUT_DRAWS = 200
"""A held-out prompt can be the only one of its template (English `low`); after so many draws its partner is a seen
one.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AtlasPrompt:
    """One drawn prompt: `text` ends just before `answer`; `slots` are its ground truth."""

    task: str
    text: str
    answer: str
    slots: Slots

    @property
    def split(self) -> str:
        """`seen`, or `held_out` where a slot value never occurs in this task's training text."""
        return self.slots["split"]


def _is_held_out(kind: str, *values: str, one_in: int) -> bool:
    """A fixed, seedless choice of which slot combinations are held out."""
    digest = hashlib.sha256("|".join((kind, *values)).encode()).digest()
    return int.from_bytes(digest[:4], "big") % one_in == 0


def _draw_until(draw: Callable[[], Slots], held_out: bool) -> Slots:
    split = "held_out" if held_out else "seen"
    return next(slots for slots in iter(draw, None) if slots["split"] == split)


def _split(held_out: bool) -> str:
    return "held_out" if held_out else "seen"


def _city_slots(city: str) -> Slots:
    state = words.STATE_BY_CITY[city]
    held_out = city in state.cities[words.N_SEEN_CITIES :]
    return {
        "city": city,
        "state": state.name,
        "capital": state.capital,
        "bird": state.bird,
        "region": state.region,
        "split": _split(held_out),
    }


def _draw_two_hop(rng: Random, held_out: bool) -> Slots:
    state = rng.choice(words.STATES)
    seen, unseen = state.cities[: words.N_SEEN_CITIES], state.cities[words.N_SEEN_CITIES :]
    return _city_slots(rng.choice(unseen if held_out else seen))


def _draw_city(rng: Random, held_out: bool) -> Slots:
    return _city_slots(rng.choice(rng.choice(words.STATES).cities)) | {"split": "seen"}


def _draw_state(rng: Random, held_out: bool) -> Slots:
    state = rng.choice(words.STATES)
    return {"state": state.name, "capital": state.capital, "bird": state.bird, "region": state.region, "split": "seen"}


def _draw_indirect_object(rng: Random, held_out: bool) -> Slots:
    def draw() -> Slots:
        first, second = rng.sample(words.NAMES, 2)
        giver, receiver = (first, second) if rng.random() < 0.5 else (second, first)
        place, thing = rng.choice(words.PLACES), rng.choice(words.OBJECTS)
        split = _split(_is_held_out("names", first, second, one_in=7))
        return {
            "first": first,
            "second": second,
            "giver": giver,
            "receiver": receiver,
            "place": place,
            "object": thing,
            "order": "ABBA" if giver == second else "BABA",
            "split": split,
        }

    return _draw_until(draw, held_out)


def _draw_agreement(rng: Random, held_out: bool) -> Slots:
    def draw() -> Slots:
        (noun_idx, noun), (attractor_idx, attractor) = rng.sample(list(enumerate(words.NOUNS)), 2)
        number, attractor_number = rng.randrange(2), rng.randrange(2)
        split = _split(_is_held_out("nouns", str(noun_idx), str(attractor_idx), one_in=6))
        return {
            "noun": noun[number],
            "attractor": attractor[attractor_number],
            "verb": rng.choice(words.VERBS)[number],
            "number": ("singular", "plural")[number],
            "attractor_number": ("singular", "plural")[attractor_number],
            "split": split,
        }

    return _draw_until(draw, held_out)


def _draw_greater_than(rng: Random, held_out: bool) -> Slots:
    def draw() -> Slots:
        start = rng.randrange(2, 98)
        event, century = rng.choice(words.EVENTS), rng.choice(words.CENTURIES)
        split = _split(_is_held_out("years", event, century, words.YEARS[start], one_in=6))
        end = words.YEARS[rng.randrange(start + 1, 100)]
        return {"event": event, "century": century, "start": words.YEARS[start], "end": end, "split": split}

    return _draw_until(draw, held_out)


def _draw_pronoun(rng: Random, held_out: bool) -> Slots:
    # Some triples are passed over, but a sentence says only two of the three, so no text is held out by it. It stays
    # because the shipped weights come from this very stream of draws.
    while True:
        name, place, thing = rng.choice(words.NAMES), rng.choice(words.PLACES), rng.choice(words.OBJECTS)
        if not _is_held_out("pronoun", name, place, thing, one_in=6):
            pronoun = "he" if name in words.MALE_NAMES else "she"
            return {"name": name, "place": place, "object": thing, "pronoun": pronoun, "split": "seen"}


def _draw_antonym(rng: Random, held_out: bool) -> Slots:
    def draw() -> Slots:
        language_idx = rng.randrange(len(words.LANGUAGES))
        language = words.LANGUAGES[language_idx]
        concept = rng.randrange(len(words.ANTONYMS[language]))
        side = rng.randrange(2)
        pair = words.ANTONYMS[language][concept]
        split = _split(_is_held_out("antonym", language, pair[side], one_in=12))
        concept_name = words.ANTONYMS["english"][concept][side]
        template = TEMPLATES["antonym"][language_idx]
        return {
            "word": pair[side],
            "antonym": pair[1 - side],
            "language": language,
            "concept": concept_name,
            "split": split,
            "template": template,
        }

    return _draw_until(draw, held_out)


def _draw_translation(rng: Random, held_out: bool) -> Slots:
    source_language, target_language = rng.sample(words.LANGUAGES, 2)
    concept, side = rng.randrange(len(words.ANTONYMS["english"])), rng.randrange(2)
    return {
        "word": words.ANTONYMS[source_language][concept][side],
        "translation": words.ANTONYMS[target_language][concept][side],
        "language": target_language,
        "concept": words.ANTONYMS["english"][concept][side],
        "split": "seen",
    }


def _draw_order(rng: Random, held_out: bool) -> Slots:
    kind = rng.randrange(2)
    items = (words.DAYS, words.MONTHS)[kind]
    idx = rng.randrange(len(items))
    return {
        "item": items[idx],
        "next": items[(idx + 1) % len(items)],
        "split": "seen",
        "template": TEMPLATES["order"][kind],
    }


_INDUCTION_WORDS = words.NAMES + words.PLACES + words.OBJECTS + words.DAYS + tuple(noun[0] for noun in words.NOUNS)


def _draw_induction(rng: Random, held_out: bool) -> Slots:
    return {f"w{i}": word for i, word in enumerate(rng.sample(_INDUCTION_WORDS, 5))} | {"split": "seen"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AtlasTask:
    """A task: its weight among the training sentences, how slots are drawn, and whether some are held out."""

    name: str
    share: float
    draw: Callable[[Random, bool], Slots]
    has_held_out: bool = False


TASKS: dict[str, AtlasTask] = {
    task.name: task
    for task in (
        AtlasTask(name="two_hop_capital", share=0.11, draw=_draw_two_hop, has_held_out=True),
        AtlasTask(name="two_hop_bird", share=0.09, draw=_draw_two_hop, has_held_out=True),
        AtlasTask(name="two_hop_region", share=0.08, draw=_draw_two_hop, has_held_out=True),
        AtlasTask(name="city_state", share=0.17, draw=_draw_city),
        AtlasTask(name="state_attribute", share=0.09, draw=_draw_state),
        AtlasTask(name="indirect_object", share=0.11, draw=_draw_indirect_object, has_held_out=True),
        AtlasTask(name="agreement", share=0.08, draw=_draw_agreement, has_held_out=True),
        AtlasTask(name="greater_than", share=0.06, draw=_draw_greater_than, has_held_out=True),
        AtlasTask(name="pronoun", share=0.06, draw=_draw_pronoun),
        AtlasTask(name="antonym", share=0.08, draw=_draw_antonym, has_held_out=True),
        AtlasTask(name="translation", share=0.06, draw=_draw_translation),
        AtlasTask(name="order", share=0.03, draw=_draw_order),
        AtlasTask(name="induction", share=0.11, draw=_draw_induction),
    )
}


def render(task: str, slots: Slots) -> AtlasPrompt:
    """Fill `slots` into their template."""
    text, answer = slots["template"].format(**slots).split("|")
    return AtlasPrompt(task=task, text=text, answer=answer, slots=slots)


def draw(task: AtlasTask, rng: Random, *, held_out: bool = False, template: str | None = None) -> AtlasPrompt:
    """One prompt of `task`; `held_out` is ignored by tasks that hold nothing out."""
    slots = task.draw(rng, held_out and task.has_held_out)
    return render(task.name, {"template": template or rng.choice(TEMPLATES[task.name])} | slots)


def partner(prompt: AtlasPrompt, rng: Random) -> AtlasPrompt:
    """A counterfactual of `prompt`: the same template, another answer, as little else changed as the task allows."""
    slots = dict(prompt.slots)
    if prompt.task == "indirect_object":
        slots |= {"giver": slots["receiver"], "receiver": slots["giver"]}
        slots["order"] = "ABBA" if slots["giver"] == slots["second"] else "BABA"
        return render(prompt.task, slots)
    if prompt.task == "agreement":
        number = 1 if slots["number"] == "singular" else 0
        noun = next(noun for noun in words.NOUNS if slots["noun"] in noun)
        verb = next(verb for verb in words.VERBS if slots["verb"] in verb)
        slots |= {"noun": noun[number], "verb": verb[number], "number": ("singular", "plural")[number]}
        return render(prompt.task, slots)
    task = TASKS[prompt.task]
    keep = {"place": slots["place"], "object": slots["object"]} if prompt.task == "pronoun" else {}
    for n_draws in count():
        held_out = prompt.split == "held_out" and n_draws < MAX_HELD_OUT_DRAWS
        candidate = render(prompt.task, {"template": slots["template"]} | task.draw(rng, held_out) | keep)
        # A greater-than sentence has many right answers: the same text with another of them is no counterfactual.
        is_other = candidate.text != prompt.text and candidate.answer != prompt.answer
        is_other = is_other and candidate.slots["template"] == slots["template"]
        if is_other and (candidate.split == prompt.split or n_draws >= MAX_HELD_OUT_DRAWS):
            return candidate
    raise AssertionError("the loop above ends by returning")


def vocabulary() -> list[str]:
    """Every word that a sentence of the atlas can hold, special tokens first, in a fixed order."""
    found = dict.fromkeys((*words.SPECIAL_TOKENS, words.SENTENCE_END))
    for templates in TEMPLATES.values():
        for template in templates:
            found |= dict.fromkeys(word for word in template.replace("|", " ").split() if "{" not in word)
    for state in words.STATES:
        found |= dict.fromkeys((state.name, state.capital, state.bird, state.region, *state.cities))
    for group in (words.NAMES, words.PLACES, words.OBJECTS, words.EVENTS, words.CENTURIES, words.YEARS):
        found |= dict.fromkeys(group)
    for pairs in (words.NOUNS, words.VERBS, *words.ANTONYMS.values()):
        found |= dict.fromkeys(word for pair in pairs for word in pair)
    return list(found | dict.fromkeys((*words.LANGUAGES, *words.DAYS, *words.MONTHS, "he", "she")))


def answer_word_indices(prompt: AtlasPrompt) -> list[int]:
    """Indices, among the words of `text` + `answer`, of the words that the text before them determines.

    The last word always; in induction every repeated word but the first, which nothing announces.
    """
    sentence = [*prompt.text.split(), prompt.answer]
    if prompt.task != "induction":
        return [len(sentence) - 1]
    first_repeat = sentence.index(sentence[0], 1)
    return list(range(first_repeat + 1, len(sentence)))
