"""A corpus: a source read once, tokenised once, and written to the run folder in one form."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tracer.config import CorpusConfig
from tracer.corpus import chat
from tracer.corpus.prompt_files import FOLDER, PromptWriter, writing
from tracer.corpus.prompts import Prompt, Value, hash_ids, identified, share_of
from tracer.corpus.records import RowReader
from tracer.corpus.sources import read_rows
from tracer.corpus.tokens import SpecialTokenRule
from tracer.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

N_ROWS_PER_REPORT = 500
MAX_FAILURE_CHARACTERS = 2_000
"""A failure names its row; of a whole book that fails, the start is enough."""

_TYPES = {"bool": bool, "int": int, "float": float, "text": str}  # bool first: it is an int in Python


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusFailure:
    """A row that gave no prompt; `item_id` is `row-N`, N counted from 1 in the source."""

    item_id: str
    error_class: str
    message: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """What `normalise` wrote; `files` lie under the run folder, `metadata_columns` are text, int, float or bool."""

    source: str
    fingerprint: str
    n_prompts: int
    files: tuple[str, ...]
    metadata_columns: dict[str, str]
    failures: tuple[CorpusFailure, ...]
    chat_template_hash: str | None
    n_duplicates: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data, for run.json."""
        return asdict(self) | {"files": list(self.files), "failures": [asdict(failure) for failure in self.failures]}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "Corpus":
        """The inverse of `to_json`."""
        failures = tuple(CorpusFailure(**failure) for failure in plain["failures"])
        return cls(**(plain | {"files": tuple(plain["files"]), "failures": failures}))


@runtime_checkable
class Budget(Protocol):
    """Bounds a corpus by something else than its number of prompts."""

    @property
    def is_spent(self) -> bool:
        """Whether nothing more is taken."""

    def take(self, prompt: Prompt) -> Prompt:
        """The prompt, under its own id, cut to what is left."""


def fingerprint_of(prompt_ids: Iterable[str], chat_template_hash: str | None) -> str:
    """16 hex digits over the prompt ids in order and the chat template that made the prompts."""
    return hash_ids(chain(prompt_ids, [chat_template_hash or "no chat template"]))


def normalise(
    config: CorpusConfig,
    tokenizer: "PreTrainedTokenizerBase",
    rule: SpecialTokenRule,
    *,
    n_ctx: int,
    root: Path,
    progress: Callable[[int], None] | None = None,
    budget: "Budget | None" = None,
) -> Corpus:
    """Read the source once and write `root/corpus/*.parquet`; a row that gives no prompt becomes a failure.

    Identical prompts (tokens, metadata, reserved columns) are kept once unless `config.keep_duplicates`. The sample is
    drawn by hash of seed and prompt id, and `config.limit` counts the prompts kept: reading stops when it is reached.

    Args:
        config: the source and which of its prompts are used.
        tokenizer: the model's Hugging Face tokenizer.
        rule: which special token is put in front.
        n_ctx: the model's context, tokens; `config.max_tokens` may be less.
        root: the run folder.
        progress: called now and then, and at the end, with the number of rows read so far.
        budget: a further bound on what is taken; none given: there is none.

    Raises:
        DataError: the source is absent, unreadable, empty, or lacks a column; then nothing is written.
        ArtifactError: the run folder cannot be written.
    """
    max_tokens = min(config.max_tokens or n_ctx, n_ctx)
    intake = _Intake(reader=RowReader(config=config, tokenizer=tokenizer, rule=rule, max_tokens=max_tokens))
    rows = read_rows(config, tokenizer)
    first = next(rows, None)
    if first is None:
        to_do = "Check corpus.source."
        raise DataError(config.source, found="no rows", expected="at least one prompt", to_do=to_do)
    intake.reader.check_columns(first)
    with writing(root) as writer:
        _fill(writer, intake, chain([first], rows), progress or (lambda _: None), budget)
        intake.check_whole()
    chat_template_hash = chat.chat_template_hash(tokenizer) if intake.uses_messages else None
    return Corpus(
        source=config.source,
        fingerprint=fingerprint_of(intake.prompt_ids, chat_template_hash),
        n_prompts=len(intake.prompt_ids),
        files=tuple(f"{FOLDER}/{name}" for name in writer.names),
        metadata_columns={name: kind or "text" for name, kind in intake.metadata_columns.items()},
        failures=tuple(intake.failures),
        chat_template_hash=chat_template_hash,
        n_duplicates=intake.n_duplicates,
    )


def _fill(
    writer: PromptWriter,
    intake: "_Intake",
    rows: Iterable[dict[str, object]],
    report: Callable[[int], None],
    budget: "Budget | None",
) -> None:
    limit = intake.reader.config.limit
    for row in rows:
        prompt = intake.take(row)
        if prompt is not None:
            writer.add(prompt if budget is None else budget.take(prompt))
        if intake.n_rows % N_ROWS_PER_REPORT == 0:
            report(intake.n_rows)
        # Asking for one more row would make a stream fetch it.
        if len(intake.prompt_ids) == limit or (budget is not None and budget.is_spent):
            break
    report(intake.n_rows)


@dataclass(slots=True, kw_only=True)
class _Intake:
    """Decides row by row what enters the corpus, and keeps count."""

    reader: RowReader
    n_rows: int = 0
    n_duplicates: int = 0
    uses_messages: bool = False
    prompt_ids: list[str] = field(default_factory=list)
    failures: list[CorpusFailure] = field(default_factory=list)
    metadata_columns: dict[str, str | None] = field(default_factory=dict)
    n_by_id: dict[str, int] = field(default_factory=dict)
    columns_seen: dict[str, None] = field(default_factory=dict)

    def take(self, row: dict[str, object]) -> Prompt | None:
        """The row's prompt, if the corpus takes it."""
        self.n_rows += 1
        self.columns_seen |= dict.fromkeys(row)
        item_id = f"row-{self.n_rows}"
        try:
            prompt = self._distinct(self.reader.read(row, f"{self.reader.config.source}, {item_id}"))
        except DataError as error:
            if self._is_sampled(item_id):
                self.failures.append(_failure(item_id, error, row, self.reader.config.text_column))
            return None
        if prompt is None or not self._is_sampled(prompt.prompt_id):
            return None
        self.prompt_ids.append(prompt.prompt_id)
        self.uses_messages |= self.reader.uses_messages(row)
        for name, value in prompt.metadata.items():
            self.metadata_columns[name] = _wider_type(self.metadata_columns.get(name), value)
        return prompt

    def check_whole(self) -> None:
        """Refuse what can only be known at the end.

        Raises:
            DataError: a metadata column that no row has, or a sample that took nothing.
        """
        config = self.reader.config
        absent = [name for name in config.metadata_columns or () if name not in self.columns_seen]
        if absent:
            found, expected = f"the columns {', '.join(self.columns_seen)}", f"a column {absent[0]!r}"
            raise DataError(config.source, found=found, expected=expected, to_do="Mend corpus.metadata_columns.")
        if not self.prompt_ids and not self.failures:
            found = f"no prompt among {self.n_rows} rows in a sample of {config.sample:g}"
            raise DataError(config.source, found=found, expected="at least one prompt", to_do="Raise corpus.sample.")

    def _distinct(self, prompt: Prompt) -> Prompt | None:
        occurrence = self.n_by_id.get(prompt.prompt_id, 0)
        self.n_by_id[prompt.prompt_id] = occurrence + 1
        if occurrence and not self.reader.config.keep_duplicates:
            self.n_duplicates += 1
            return None
        return identified(prompt, occurrence) if occurrence else prompt

    def _is_sampled(self, name: str) -> bool:
        config = self.reader.config
        return config.sample is None or share_of(config.sample_seed, name) < config.sample


def _failure(item_id: str, error: DataError, row: dict[str, object], text_column: str) -> CorpusFailure:
    held = next((row[name] for name in ("token_ids", text_column, "messages") if row.get(name) is not None), "")
    text = str(held)[:MAX_FAILURE_CHARACTERS].encode(errors="replace").decode()
    return CorpusFailure(item_id=item_id, error_class=type(error).__name__, message=str(error), text=text)


def _wider_type(known: str | None, value: Value) -> str | None:
    if value is None:
        return known
    kind = next(name for name, type_ in _TYPES.items() if isinstance(value, type_))
    if known is None or known == kind:
        return kind
    return "float" if {known, kind} == {"int", "float"} else "text"
