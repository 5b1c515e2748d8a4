"""A prompt as the rest of the house sees it, and the hash that names it."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tracer.storage.json_files import json_hash

Value = str | int | float | bool | None
"""What a metadata column may hold."""

FIELDS_IN_ID = ("task", "split", "pair_id", "answer", "counterfactual_answer", "answer_token_id")
"""Reserved columns that tell two prompts of equal tokens apart, as metadata does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One prompt, tokenised once; no `targets` means the salient logits.

    `token_ids` hold the special token in front, `text` does not. `answer_token_id` is the first token of `answer` as a
    continuation of the prompt; null where there is no answer, or none that the vocabulary can say.
    """

    prompt_id: str
    text: str
    token_ids: tuple[int, ...]
    targets: tuple[int, ...]
    task: str | None
    split: str | None
    pair_id: str | None
    answer: str | None
    counterfactual_answer: str | None
    answer_token_id: int | None
    metadata: dict[str, Value]


def make_prompt_id(
    token_ids: Sequence[int], targets: Sequence[int], metadata: Mapping[str, Value], occurrence: int
) -> str:
    """16 hex digits that depend on the arguments alone; absent and null metadata are the same.

    `occurrence` counts identical prompts of one corpus from 0.
    """
    known = {name: value for name, value in metadata.items() if value is not None}
    return json_hash([list(token_ids), list(targets), known, occurrence])


def identified(prompt: Prompt, occurrence: int) -> Prompt:
    """`prompt` under the id that its content and `occurrence` give it."""
    identity = prompt.metadata | {f"corpus.{name}": getattr(prompt, name) for name in FIELDS_IN_ID}
    return replace(prompt, prompt_id=make_prompt_id(prompt.token_ids, prompt.targets, identity, occurrence))


def hash_ids(ids: Iterable[str]) -> str:
    """16 hex digits over names in order."""
    digest = hashlib.sha256()
    for name in ids:
        digest.update(f"{name}\n".encode())
    return digest.hexdigest()[:16]


def share_of(seed: int, name: str) -> float:
    """Where `name` falls in [0, 1) under `seed`: those below a share are a sample of it, whatever their order."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
