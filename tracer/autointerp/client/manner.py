"""How an endpoint wants to be asked, as far as it has said so by refusing."""

from typing import Any

from pydantic import BaseModel

from tracer.autointerp.client.endpoint import RequestError
from tracer.autointerp.client.forms import ANSWER_MODES, request_body
from tracer.autointerp.client.questions import Question, Sending
from tracer.config.autointerp import AnswerMode

OTHER_LIMIT_NAME = "max_completion_tokens"
"""What some models call `max_tokens`; they say so."""


class Manner:
    """What was learned of each model: the name of a parameter, and forms that it cannot be asked for in one mode."""

    def __init__(self) -> None:
        self._modes: dict[tuple[str, type[BaseModel]], AnswerMode] = {}
        self._limit_names: dict[str, str] = {}

    def mode(self, form: type[BaseModel], model: str, usual: AnswerMode) -> AnswerMode:
        """How a form is asked for: a plainer way than usual where the model refused that one."""
        return self._modes.get((model, form), usual)

    def body(self, question: Question, mode: AnswerMode | None) -> dict[str, Any]:
        """What is sent for a question."""
        call, model = question.call, question.model
        limit_name = self._limit_names.get(model, "max_tokens")
        return request_body(call.messages, call.form, mode, call.parameters, model=model, limit_name=limit_name)

    def learns(self, question: Question, sending: Sending, failure: RequestError, *, may_choose: bool) -> bool:
        """Whether a refusal says what to send instead; `may_choose`: whether another mode would do."""
        said, form = f"{failure.param} {failure.message}", question.call.form
        if failure.error_class != "bad_request":
            return False
        if OTHER_LIMIT_NAME in said:
            self._limit_names[question.model] = OTHER_LIMIT_NAME
            return True
        if form is None or sending.mode in (None, "text") or not may_choose or "response_format" not in said:
            return False
        self._modes[question.model, form] = ANSWER_MODES[ANSWER_MODES.index(sending.mode) + 1]
        return True
