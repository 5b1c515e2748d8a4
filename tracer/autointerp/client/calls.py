"""What is asked and what comes back."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from pydantic import BaseModel

Role = Literal["system", "user", "assistant"]
Status = Literal["ok", "parse_failed", "refused", "truncated", "failed", "over_budget"]
Form = TypeVar("Form", bound=BaseModel)


class Message(NamedTuple):
    """One message of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """How an answer is drawn; what is None is left to the endpoint.

    `top_logprobs` asks for the log-probability of every token of the answer with that many alternatives (0: none).
    `draw` tells several answers to the same question apart, each of which is asked for.
    """

    max_tokens: int = 1024
    temperature: float | None = 0.0
    top_p: float | None = None
    seed: int | None = None
    reasoning_effort: str | None = None
    top_logprobs: int | None = None
    draw: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[Form]):
    """A question for a language model.

    `stage` and `target` say what it is for, such as "label" and "feature/3/1021"; they are not part of what is asked.
    `messages` have what calls of a stage share first, byte by byte equal, which endpoints cache. `form` is the pydantic
    model of the answer; None takes any text. `prompt_version` is that of the prompt's file. `model` is None for that of
    the settings.
    """

    stage: str
    target: str
    messages: tuple[Message, ...]
    form: type[Form] | None = None
    parameters: Parameters = Parameters()
    prompt_version: str
    model: str | None = None

    def request(self, *, endpoint: str, model: str) -> str:
        """All that the answer may depend on, as canonical JSON."""
        content = {
            "messages": [list(message) for message in self.messages],
            "schema": None if self.form is None else schema_of(self.form),
            "parameters": asdict(self.parameters),
            "prompt_version": self.prompt_version,
            "endpoint": endpoint,
            "model": self.model or model,
        }
        return json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))


@lru_cache(maxsize=64)
def schema_of(form: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a form, not to be changed."""
    return form.model_json_schema()


def request_hash(request: str) -> str:
    """The key of a request in the ledger: sha256 of its canonical JSON, 64 hex digits."""
    return hashlib.sha256(request.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one or several requests, as the endpoint counts them."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )


class TokenLogprob(NamedTuple):
    """A token of an answer, its log-probability, and the alternatives in its place with theirs, likeliest first."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...]

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> "TokenLogprob":
        """From an item of `choices[].logprobs.content` of the protocol."""
        top = tuple((other["token"], other["logprob"]) for other in item.get("top_logprobs") or ())
        return cls(item["token"], item["logprob"], top)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[Form]):
    """What became of a call.

    `status` is ok (`parsed` is the answer in the call's form, or `text` where it has none), parse_failed (twice no
    answer in that form), refused (by the model or its filter), truncated (`max_tokens` were too few), failed
    (`error_class` and `message` say how) or over_budget (not asked). `request_hash` is that of the request whose answer
    this is (of the repair where there was one). `usage` and `cost_usd` (None without a price) cover the repair too;
    `from_ledger` says that nothing was asked this time.
    """

    status: Status
    request_hash: str
    parsed: Form | None = None
    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    usage: Usage = Usage()
    cost_usd: float | None = None
    error_class: str = ""
    message: str = ""
    model_returned: str = ""
    from_ledger: bool = False

    @property
    def is_ok(self) -> bool:
        """Whether there is an answer."""
        return self.status == "ok"
