"""The toy atlas as a corpus: prompts of chosen tasks and splits, drawn by the tasks' shares."""

from collections.abc import Callable, Iterator
from random import Random
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tracer.corpus.tasks import atlas
from tracer.corpus.tasks.drawing import TaskOptions, TaskPrompt, draw_rows
from tracer.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NAME = "atlas"


class AtlasOptions(TaskOptions):
    """Options of `tasks:atlas`."""

    tasks: list[str] | None = Field(
        None, min_length=1, description="names of tasks; none given: all that have the split"
    )
    split: Literal["seen", "held_out", "both"] = Field(
        "seen", description="which slot values are drawn; both: half each"
    )


def atlas_rows(_tokenizer: "PreTrainedTokenizerBase", options: AtlasOptions) -> Iterator[dict[str, object]]:
    """Rows of the atlas, whatever the tokenizer; the slots (template, city, state, ...) are metadata.

    Raises:
        DataError: an unknown task, one that holds nothing out where held-out prompts are asked for, or too few prompts.
    """
    tasks = _chosen_tasks(options)
    shares = [task.share for task in tasks]

    def draw_pair(rng: Random) -> tuple[TaskPrompt, Callable[[], TaskPrompt]]:
        task = rng.choices(tasks, shares)[0]
        is_held_out = options.split == "held_out" or (options.split == "both" and rng.random() < 0.5)
        prompt = atlas.draw(task, rng, held_out=is_held_out)
        return _to_task_prompt(prompt), lambda: _to_task_prompt(atlas.partner(prompt, rng))

    return draw_rows(NAME, options, draw_pair)


def _chosen_tasks(options: AtlasOptions) -> list[atlas.AtlasTask]:
    able = {name: task for name, task in atlas.TASKS.items() if options.split != "held_out" or task.has_held_out}
    for name in options.tasks or ():
        if name not in able:
            found = f"the task {name!r}"
            expected = f"one of {', '.join(able)}" + (
                ", which hold something out" if options.split == "held_out" else ""
            )
            raise DataError(f"tasks:{NAME}", found=found, expected=expected, to_do="Mend corpus.options.tasks.")
    return [able[name] for name in dict.fromkeys(options.tasks or able)]


def _to_task_prompt(prompt: atlas.AtlasPrompt) -> TaskPrompt:
    slots = {name: value for name, value in prompt.slots.items() if name != "split"}
    return TaskPrompt(task=prompt.task, text=prompt.text, answer=prompt.answer, split=prompt.split, slots=slots)
