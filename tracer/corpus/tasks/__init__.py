"""Task generators by name: `tasks:atlas`, `tasks:ioi`, `tasks:greater_than`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tracer.corpus.tasks.atlas_rows import AtlasOptions, atlas_rows
from tracer.corpus.tasks.drawing import TaskOptions
from tracer.corpus.tasks.greater_than import greater_than_rows
from tracer.corpus.tasks.ioi import ioi_rows
from tracer.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Row = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """A generator: the options it takes, and how it makes rows for a tokenizer."""

    options: type[TaskOptions]
    rows: Callable[["PreTrainedTokenizerBase", Any], Iterator[Row]]


GENERATORS: dict[str, Generator] = {
    "atlas": Generator(options=AtlasOptions, rows=atlas_rows),
    "ioi": Generator(options=TaskOptions, rows=ioi_rows),
    "greater_than": Generator(options=TaskOptions, rows=greater_than_rows),
}


def generate(name: str, tokenizer: "PreTrainedTokenizerBase", options: Mapping[str, Any]) -> Iterator[Row]:
    """Rows of the generator `name`: text, answer, counterfactual_answer, pair_id, task, split, its slots as metadata.

    Raises:
        DataError: no such generator, or too few prompts or single-token words for this tokenizer.
        ConfigError: an option that is unknown or of the wrong type.
    """
    if name not in GENERATORS:
        known = ", ".join(f"tasks:{known}" for known in GENERATORS)
        raise DataError(
            f"tasks:{name}", found="no such generator", expected=f"one of {known}", to_do="Mend corpus.source."
        )
    generator = GENERATORS[name]
    try:
        checked = generator.options.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        option = ".".join(str(part) for part in first["loc"])
        is_unknown = first["type"] == "extra_forbidden"
        found = "an unknown option" if is_unknown else repr(first["input"])
        expected = f"one of {', '.join(generator.options.model_fields)}" if is_unknown else first["msg"].lower()
        raise ConfigError(
            f"corpus.options.{option}", found=found, expected=expected, to_do="Mend the option."
        ) from error
    return generator.rows(tokenizer, checked)
