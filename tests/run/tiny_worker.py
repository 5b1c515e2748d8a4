"""A worker of the made-up model of `tests.tables`, which fails on demand, and a run folder for it to work in."""

import itertools
import json
import os
import signal
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pyarrow as pa
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.tables.tiny_prompts import N_LAYERS, VOCABULARY, draw_prompts
from tests.tables.tiny_shard import shard_tables, tiny_feature_logits
from tracer.config import RunConfig, parse_config
from tracer.corpus.corpus import normalise
from tracer.corpus.prompts import Prompt
from tracer.corpus.shards import plan_shards
from tracer.corpus.tokens import special_token_rule
from tracer.run import work
from tracer.run.ledger import ShardError
from tracer.run.plan import Plan
from tracer.run.record import RunRecord, load_record, new_record
from tracer.run.work import WorkerMaker
from tracer.storage.store import open_store
from tracer.tables.parts import Part

MODEL = {"n_layers": N_LAYERS, "model_hash": "aa", "transcoders_hash": "bb"}


@dataclass(frozen=True)
class Fault:
    """What goes wrong, `n_times` over all processes: `load`; or `raise`, `kill` or `kill_writing` at the shard with
    prompt `number`.
    """

    kind: str
    folder: Path
    number: int = 0
    n_times: int = 1

    def is_due(self) -> bool:
        """Whether it shall happen once more; counts in files, since the process may die of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        n_happened = len(list(self.folder.iterdir()))
        if n_happened >= self.n_times:
            return False
        (self.folder / str(n_happened)).touch()
        return True


class TinyWorker:
    """Makes consistent tables from the made-up model, whatever the token ids say; with a folder for a `meeting` it
    begins when there are two workers.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        fault: Fault | None = None,
        model: dict | None = None,
        seconds: float = 0.0,
        meeting: Path | None = None,
    ) -> None:
        self._fault, self._model, self._seconds, self._meeting = fault, model or MODEL, seconds, meeting
        if meeting is not None:
            (meeting / uuid.uuid4().hex).touch()
        if fault is not None and fault.kind == "load" and fault.is_due():
            raise OSError("made to fail while loading")

    def trace(
        self,
        prompts: list[Prompt],
        shard_id: str,
        attempt: int,
        *,
        skipped: Sequence[ShardError] = (),
        n_halved: int = 0,
    ) -> dict[str, pa.Table]:
        """As `TraceWorker.trace`; none of its faults makes a prompt one to skip."""
        assert not skipped
        assert n_halved == 0
        while self._meeting is not None and len(list(self._meeting.iterdir())) < 2:
            time.sleep(0.05)
        time.sleep(self._seconds)
        numbers = [prompt.metadata["number"] for prompt in prompts]
        if (
            self._fault is not None
            and self._fault.number in numbers
            and self._fault.kind != "load"
            and self._fault.is_due()
        ):
            if self._fault.kind == "raise":
                raise ValueError("made to fail")
            if self._fault.kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            die_while_writing()
        known = draw_prompts(max(numbers) + 1)
        tiny = [
            replace(known[number], prompt_id=prompt.prompt_id) for number, prompt in zip(numbers, prompts, strict=True)
        ]
        return shard_tables(tiny, shard_id, attempt=attempt)

    def feature_logits(self, features: list[tuple[int, int]], n_tokens: int) -> pa.Table:
        """As `TraceWorker.feature_logits`."""
        return tiny_feature_logits(features)

    def facts(self) -> dict:
        """As `TraceWorker.facts`."""
        return {**self._model, "device": "cpu"}


def die_while_writing(n_parts: int = 3) -> None:
    """Let this process be killed once it has written so many more parts."""
    write_part, n_written = work.write_part, itertools.count(1)

    def write(*arguments: object, **named: object) -> Part:
        if next(n_written) > n_parts:
            os.kill(os.getpid(), signal.SIGKILL)
        return write_part(*arguments, **named)

    work.write_part = write


def faulty(kind: str, folder: Path, *, number: int = 0, n_times: int = 1) -> WorkerMaker:
    """Makes workers with a fault."""
    return partial(TinyWorker, fault=Fault(kind, folder, number, n_times))


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Knows the words of the made-up model."""
    words = {token.strip(): token_id for token_id, token in enumerate((*VOCABULARY, "<unk>"))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", unk_token="<unk>")


def tiny_config(source: Path, **runner: object) -> RunConfig:
    """Settings of a run over `source`."""
    return parse_config({
        "model": {"checkpoint": "tiny/model", "transcoders": "tiny/transcoders"},
        "corpus": {"source": str(source)},
        "aggregate": {"min_support": 3, "circuits": {"n_resamples": 1, "max_clusters": 2}},
        "runner": {"shard_size": 6, **runner},
    })


def begin_tiny_run(root: Path, *, n_prompts: int = 24, **runner: object) -> RunConfig:
    """Write corpus and run.json as a driver does before it traces; gives the configuration to go on with.

    The source lies two folders above the run, so that the runs of one test session have the same one.
    """
    source = root.parents[1] / f"tiny-{n_prompts}.jsonl"
    rows = [
        {"text": "".join(prompt.tokens[1:]).strip(), "task": prompt.task, "number": number}
        for number, prompt in enumerate(draw_prompts(n_prompts))
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config, folder, tokenizer = tiny_config(source, **runner), open_store(root), tiny_tokenizer()
    root.mkdir(parents=True)
    corpus = normalise(config.corpus, tokenizer, special_token_rule(tokenizer), n_ctx=64, root=root)
    shards = tuple(plan_shards(corpus, root, config.runner.shard_size))
    new_record(folder, config, Plan(corpus=corpus, shards=shards, model=MODEL)).save(folder)
    return config


def record_of(root: Path) -> RunRecord:
    """What run.json says."""
    return load_record(open_store(root))
