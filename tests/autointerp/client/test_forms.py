"""Forms: asked for in three ways, read out of whatever surrounds them, and wrong ones named without being shown."""

import json
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from tracer.autointerp.client.calls import Message, Parameters
from tracer.autointerp.client.forms import read_answer, repair_messages, request_body, strict_schema


class Part(BaseModel):
    default: str = "x"


class Form(BaseModel):
    reasoning: str
    kind: Literal["input", "output"] = "input"
    parts: list[Part] = Field(default_factory=list)


MESSAGES = (Message("system", "Rules."), Message("user", "Feature 1."))


def test_strict_schemas_require_every_property_and_allow_no_other() -> None:
    schema = strict_schema(Form)
    part = schema["$defs"]["Part"]
    assert schema["required"] == ["reasoning", "kind", "parts"]
    assert part["required"] == ["default"]
    assert schema["additionalProperties"] is part["additionalProperties"] is False
    assert "default" not in schema["properties"]["kind"]


@pytest.mark.parametrize(
    "text",
    [
        '{"reasoning": "r", "kind": "output"}',
        'Here: <answer>{"reasoning": "r", "kind": "output"}</answer> Good?',
        'Well {so}. <answer>\n{"reasoning": "r", "kind": "output"}\n',
        'Sure!\n```json\n{"reasoning": "r", "kind": "output"}\n```\nDone {}.',
        'The answer is {"reasoning": "r", "kind": "output"} as asked.',
    ],
)
def test_an_answer_is_found_in_what_surrounds_it(text: str) -> None:
    assert read_answer(text, Form) == Form(reasoning="r", kind="output")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("no idea", "there is no JSON object in it"),
        ('{"kind": "input"}', "reasoning: Field required"),
        ('{"reasoning": "r", "kind": "else"}', "kind: Input should be 'input' or 'output'"),
        ('{"reasoning": "secret', "there is no JSON object in it"),
    ],
)
def test_a_wrong_answer_is_named(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_answer(text, Form)


def test_what_calls_share_comes_first_and_is_equal_in_every_mode() -> None:
    others = (MESSAGES[0], Message("user", "Feature 2."))
    for mode in ("json_schema", "json_object", "text"):
        bodies = [
            request_body(messages, Form, mode, Parameters(), model="m", limit_name="max_tokens")
            for messages in (MESSAGES, others)
        ]
        first, second = (json.dumps(body["messages"][0]) for body in bodies)
        assert first == second
        assert bodies[0]["messages"][0]["content"].startswith("Rules.")
    assert bodies[0]["messages"][1]["content"] == "Feature 1."


def test_parameters_that_are_left_to_the_endpoint_are_not_sent() -> None:
    parameters = Parameters(max_tokens=7, temperature=None, top_logprobs=5, draw=3)
    body = request_body(MESSAGES, None, None, parameters, model="m", limit_name="max_completion_tokens")
    assert body.keys() == {"model", "max_completion_tokens", "messages", "logprobs", "top_logprobs"}


def test_a_repair_goes_on_with_the_wrong_answer() -> None:
    messages = repair_messages(MESSAGES, "", "there is no JSON object in it")
    assert messages[:2] == MESSAGES
    assert [message.role for message in messages[2:]] == ["assistant", "user"]
    assert messages[2].content
