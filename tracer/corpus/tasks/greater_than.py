"""Greater-than for any tokenizer: a span of years has begun, and every later number is a right end of it.

The task is that of Hanna et al. 2023 ("How does GPT-2 compute greater-than?"); the sentences are our own. How a number
is cut into tokens differs, so a *layout* is chosen in which the compared numbers are single tokens: two digits right
after a century (`1732` as `17` `32`), two digits after an apostrophe, the decade's digit, or two digits as a word of
their own. The counterfactual partner starts earlier, and its answer lies at or before the first prompt's start: right
in the partner, wrong in the prompt. Many answers are right: score by probability mass after `start`, not by one answer.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from tracer.corpus.tasks import atlas
from tracer.corpus.tasks import atlas_words as words
from tracer.corpus.tasks.drawing import TaskOptions, TaskPrompt, draw_rows
from tracer.corpus.tokens import encode, is_single_token, single_token_words
from tracer.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NAME = "greater_than"
DIGITS = tuple("0123456789")
MIN_NUMBERS, MIN_EVENTS = 5, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A sentence up to its end number, the numbers that `start` and the answer are drawn from, and what parts them."""

    template: str
    numbers: tuple[str, ...]
    space: str = ""

    def centuries(self) -> tuple[str, ...]:
        """The centuries that fit; an empty one where the template names none."""
        return words.CENTURIES if "{century}" in self.template else ("",)


LAYOUTS = (
    Layout(
        template="The {event} began in the year {century}{start} and ended in the year {century}", numbers=words.YEARS
    ),
    Layout(template="The {event} began in '{start} and ended in '", numbers=words.YEARS),
    Layout(template="The {event} began in the year {century}{start}0 and ended in the year {century}", numbers=DIGITS),
    Layout(template=atlas.TEMPLATES["greater_than"][0].split("|")[0], numbers=words.YEARS, space=" "),
)


def greater_than_rows(tokenizer: "PreTrainedTokenizerBase", options: TaskOptions) -> Iterator[dict[str, object]]:
    """Rows of the first layout that the tokenizer can say; event, century, start and end are metadata.

    Raises:
        DataError: no layout with enough single-token numbers, too few events, or too few prompts.
    """
    events = single_token_words(words.EVENTS, tokenizer)
    if len(events) < MIN_EVENTS:
        raise _too_few(f"{len(events)} of {len(words.EVENTS)} events that are one token", f"at least {MIN_EVENTS}")
    layout, numbers_by_century = _choose_layout(tokenizer, events[0])
    centuries = list(numbers_by_century)

    def fill(event: str, century: str, start: str, end: str) -> TaskPrompt:
        slots = {"template": layout.template, "event": event, "century": century, "start": start, "end": end}
        text = layout.template.format(**slots)
        end_id = encode(text + layout.space + end, tokenizer)[-1]
        slots = {name: value for name, value in slots.items() if value}
        return TaskPrompt(task=NAME, text=text, answer=end, split=None, slots=slots, answer_token_id=end_id)

    def draw_pair(rng: Random) -> tuple[TaskPrompt, Callable[[], TaskPrompt]]:
        event, century = rng.choice(events), rng.choice(centuries)
        numbers = numbers_by_century[century]
        start = rng.randrange(1, len(numbers) - 1)
        end = rng.randrange(start + 1, len(numbers))
        earlier_start = rng.randrange(start)
        earlier_end = rng.randrange(earlier_start + 1, start + 1)
        prompt = fill(event, century, numbers[start], numbers[end])
        return prompt, lambda: fill(event, century, numbers[earlier_start], numbers[earlier_end])

    return draw_rows(NAME, options, draw_pair)


def _choose_layout(tokenizer: "PreTrainedTokenizerBase", event: str) -> tuple[Layout, dict[str, list[str]]]:
    for layout in LAYOUTS:
        usable = {century: _usable_numbers(layout, event, century, tokenizer) for century in layout.centuries()}
        usable = {century: numbers for century, numbers in usable.items() if len(numbers) >= MIN_NUMBERS}
        if usable:
            return layout, usable
    raise _too_few("no layout in which numbers are single tokens", f"one with at least {MIN_NUMBERS} numbers")


def _usable_numbers(layout: Layout, event: str, century: str, tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    before_start = layout.template.split("{start}")[0].rstrip(" ").format(event=event, century=century)
    whole = layout.template.format(event=event, century=century, start=layout.numbers[-1])
    if tokenizer.unk_token_id in encode(whole, tokenizer):
        return []
    return [
        number
        for number in layout.numbers
        if is_single_token(before_start, layout.space + number, tokenizer)
        and is_single_token(whole, layout.space + number, tokenizer)
    ]


def _too_few(found: str, expected: str) -> DataError:
    return DataError(f"tasks:{NAME}", found=found, expected=expected, to_do="Use another task for this model.")
