"""What all task generators share: options, a drawn prompt, and rows drawn until enough distinct ones are there."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from pydantic import Field

from tracer.config import Settings
from tracer.errors import DataError

MIN_REPEATS = 2_000
REPEATS_PER_PROMPT = 10
"""So many draws in a row without a new prompt mean that there is none left: a space of n prompts, evenly drawn, hides
its last one from 10 n draws with probability e^-10."""


class TaskOptions(Settings):
    """Options of every generator."""

    n_prompts: int = Field(1_000, ge=1, description="distinct prompts to make, partners included")
    seed: int = Field(0, description="other seeds give other prompts")
    pairs: bool = Field(False, description="whether each prompt is followed by its counterfactual partner")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPrompt:
    """One drawn prompt; `slots` are its ground truth and become metadata."""

    task: str
    text: str
    answer: str
    split: str | None
    slots: dict[str, str]
    answer_token_id: int | None = None


DrawPair = Callable[[Random], tuple[TaskPrompt, Callable[[], TaskPrompt]]]
"""Draws a prompt, and on request its counterfactual partner."""


def draw_rows(name: str, options: TaskOptions, draw_pair: DrawPair) -> Iterator[dict[str, object]]:
    """`options.n_prompts` rows of distinct text; fewer prompts from one seed are the first of more.

    Raises:
        DataError: fewer exist, or an odd number of paired ones is asked for; says how many were found.
    """
    where = f"tasks:{name}"
    if options.pairs and options.n_prompts % 2:
        found = f"n_prompts = {options.n_prompts} with pairs"
        raise DataError(where, found=found, expected="an even number", to_do="Mend corpus.options.n_prompts.")
    rng = Random(int.from_bytes(hashlib.sha256(f"{options.seed}:{name}".encode()).digest()[:8], "big"))
    texts: set[str] = set()
    n_repeats = 0
    while len(texts) < options.n_prompts:
        pair = _draw_new(draw_pair, rng, texts, is_paired=options.pairs)
        if pair is not None:
            n_repeats = 0
            yield from _rows(pair, is_paired=options.pairs)
            continue
        n_repeats += 1
        if n_repeats > MIN_REPEATS + REPEATS_PER_PROMPT * len(texts):
            raise _exhausted(where, len(texts), options)


def _draw_new(
    draw_pair: DrawPair, rng: Random, texts: set[str], *, is_paired: bool
) -> tuple[TaskPrompt, TaskPrompt] | None:
    """A pair whose rows are not in `texts` yet, to which they are added; None if the draw gave no such pair."""
    prompt, make_partner = draw_pair(rng)
    if prompt.text in texts:
        return None
    partner = make_partner()
    if is_paired and (partner.text in texts or partner.text == prompt.text):
        return None
    texts |= {prompt.text, partner.text} if is_paired else {prompt.text}
    return prompt, partner


def _rows(pair: tuple[TaskPrompt, TaskPrompt], *, is_paired: bool) -> Iterator[dict[str, object]]:
    first, second = pair
    pair_id = hashlib.sha256(f"{first.text}\n{second.text}".encode()).hexdigest()[:16] if is_paired else None
    for prompt, partner in ((first, second), (second, first))[: 1 + int(is_paired)]:
        row: dict[str, object] = {
            "text": prompt.text,
            "answer": prompt.answer,
            "counterfactual_answer": partner.answer,
            "pair_id": pair_id,
            "task": prompt.task,
            "split": prompt.split,
        }
        if prompt.answer_token_id is not None:
            row["answer_token_id"] = prompt.answer_token_id
        yield row | prompt.slots


def _exhausted(where: str, n_found: int, options: TaskOptions) -> DataError:
    kind = "distinct prompts in pairs" if options.pairs else "distinct prompts"
    to_do = f"Lower corpus.options.n_prompts to at most {n_found}, or widen the task."
    return DataError(where, found=f"{n_found} {kind}", expected=f"{options.n_prompts}", to_do=to_do)
