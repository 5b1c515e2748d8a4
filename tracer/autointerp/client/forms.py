"""Answers in a given form: how an endpoint is asked for one, how it is read, and how a wrong one is mended.

Three ways, by what an endpoint can: it keeps to a JSON schema itself; it gives some JSON object; or it gives text, in
which the JSON lies between tags. In the latter two the schema is put behind the first message, which calls of a stage
share, so that what they share stays at the front.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from tracer.autointerp.client.calls import Form, Message, Parameters, schema_of
from tracer.config.autointerp import AnswerMode

ANSWER_MODES: tuple[AnswerMode, ...] = ("json_schema", "json_object", "text")
N_MENDED_CHARS = 4_000
"""Of a wrong answer, shown to the model that is to mend it."""

_TAGGED = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL)
_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)
_INSTRUCTIONS = {
    "json_object": "Answer with one JSON object, and nothing else, that fits this JSON schema:\n{schema}",
    "text": "Answer with one JSON object between <answer> and </answer> that fits this JSON schema:\n{schema}",
}


def request_body(
    messages: Sequence[Message],
    form: type[BaseModel] | None,
    mode: AnswerMode | None,
    parameters: Parameters,
    *,
    model: str,
    limit_name: str,
) -> dict[str, Any]:
    """The body of a chat completion.

    Args:
        messages: those of the call.
        form: its form; None for any text.
        mode: how the form is asked for; None without one.
        parameters: those of the call.
        model: model or deployment.
        limit_name: what the endpoint calls the most tokens of an answer.
    """
    body: dict[str, Any] = {"model": model, limit_name: parameters.max_tokens}
    for name in ("temperature", "top_p", "seed", "reasoning_effort"):
        if getattr(parameters, name) is not None:
            body[name] = getattr(parameters, name)
    if parameters.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": parameters.top_logprobs}
    if form is not None and mode in _INSTRUCTIONS:
        schema = json.dumps(schema_of(form), ensure_ascii=False)
        first, *others = messages
        messages = [
            Message(first.role, f"{first.content}\n\n{_INSTRUCTIONS[mode].format(schema=schema)}"), *others
        ]  # fmt: skip
    if form is not None and mode == "json_object":
        body["response_format"] = {"type": "json_object"}
    elif form is not None and mode == "json_schema":
        strict = {"name": form.__name__, "strict": True, "schema": strict_schema(form)}
        body["response_format"] = {"type": "json_schema", "json_schema": strict}
    return body | {"messages": [{"role": message.role, "content": message.content} for message in messages]}


def strict_schema(form: type[BaseModel]) -> dict[str, Any]:
    """The form's JSON schema as strict endpoints want it: every property required, none beside them, no defaults."""
    return _strict(schema_of(form))


def read_answer(text: str, form: type[Form]) -> Form:
    """The answer in its form: the JSON between tags, in a fence, or from the first brace to the last.

    Raises:
        ValueError: there is no JSON object, or it does not fit; says what is wrong, without the answer.
    """
    tagged, fenced = _TAGGED.search(text), _FENCED.search(text)
    inside = tagged.group(1) if tagged else fenced.group(1) if fenced else text
    start, end = inside.find("{"), inside.rfind("}")
    if start < 0 or end < start:
        raise ValueError("there is no JSON object in it")
    try:
        return form.model_validate_json(inside[start : end + 1])
    except ValidationError as error:
        complaints = (
            f"{'.'.join(str(part) for part in item['loc']) or 'the whole'}: {item['msg']}"
            for item in error.errors()[:5]
        )
        raise ValueError("; ".join(complaints)) from None


def repair_messages(messages: Sequence[Message], wrong: str, complaint: str) -> tuple[Message, ...]:
    """The same conversation, going on with the wrong answer and what is wrong with it."""
    request = f"That answer cannot be read ({complaint}). Give it once more, as one JSON object in the form asked for."
    return (*messages, Message("assistant", wrong[:N_MENDED_CHARS] or "(nothing)"), Message("user", request))


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # a property may be called "default" too: its schema is an object, a default of an object is not kept either
    kept = {name: _strict(part) for name, part in schema.items() if name not in ("default", "properties")}
    if "properties" in schema:
        kept["properties"] = {name: _strict(part) for name, part in schema["properties"].items()}
    if schema.get("type") == "object":
        kept |= {"additionalProperties": False, "required": list(schema.get("properties", {}))}
    return kept
