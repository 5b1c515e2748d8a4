"""An OpenAI-compatible endpoint over HTTP: one request at a time, every way to fail as a class.

The `openai` package speaks the protocol, its own retries off. Keys come from the environment, live in its client
alone, and are taken out of every message that comes back.
"""

import asyncio
import json
import os
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import TYPE_CHECKING, Any

from tracer.config.autointerp import ClientConfig, FailureClass
from tracer.errors import ConfigError, RunError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

OPENAI_URL = "https://api.openai.com/v1"
KEY_VARIABLE, AZURE_KEY_VARIABLE = "OPENAI_API_KEY", "AZURE_OPENAI_API_KEY"
HASH_HEADER = "X-Client-Request-Id"
"""Carries the request's hash, by which a provider finds a request in its own logs."""

TRANSIENT = frozenset({"rate_limit", "timeout", "connection", "server", "malformed"})
"""Classes that are tried again until a call's time is up."""
FATAL = frozenset({"authentication", "quota", "no_model"})
"""Classes that no call can succeed after."""


class RequestError(Exception):
    """A request without an answer; `retry_after_s` is how long the endpoint asks to wait, `param` what it names."""

    def __init__(
        self, error_class: FailureClass, message: str, *, retry_after_s: float | None = None, param: str = ""
    ) -> None:
        super().__init__(message)
        self.error_class, self.message, self.retry_after_s, self.param = error_class, message, retry_after_s, param


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where calls go: `url` (without keys) and `model` (of Azure, the deployment) are part of what a request is."""

    url: str
    model: str


def find_place(settings: ClientConfig) -> Place:
    """Complete the settings by the environment.

    Raises:
        ConfigError: no model, Azure without an endpoint, or a secret in the URL.
    """
    if settings.azure is not None:
        url = settings.azure.endpoint or os.environ.get("AZURE_OPENAI_ENDPOINT")
        if not url:
            raise _missing("autointerp.azure.endpoint", "AZURE_OPENAI_ENDPOINT")
        where = "autointerp.azure.endpoint" if settings.azure.endpoint else "AZURE_OPENAI_ENDPOINT"
        return Place(url=_plain(url, where), model=settings.azure.deployment)
    model = settings.model or os.environ.get("OPENAI_MODEL")
    if not model:
        raise _missing("autointerp.model", "OPENAI_MODEL")
    url = settings.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
    return Place(url=_plain(url, "autointerp.base_url" if settings.base_url else "OPENAI_BASE_URL"), model=model)


def _plain(url: str, where: str) -> str:
    if "@" in url or "?" in url:
        raise ConfigError(
            where, found="a user name, password or query in it", expected="a plain URL",
            to_do="Give the key in its own variable of the environment.",
        )  # fmt: skip
    return url.rstrip("/")


class Endpoint:
    """Sends requests; made and used in one event loop.

    Raises:
        ConfigError: the environment lacks the key or, for Azure, the version.
    """

    def __init__(self, settings: ClientConfig, place: Place) -> None:
        self.place = place
        self._client = _azure_client(settings, place) if settings.azure else _openai_client(place)
        self._secrets = tuple(
            secret
            for secret in (self._client.api_key, os.environ.get(AZURE_KEY_VARIABLE))
            if secret and len(secret) > 3
        )

    async def ask(self, body: dict[str, Any], *, request_hash: str, timeout_s: float) -> dict[str, Any]:
        """The JSON of a chat completion.

        Raises:
            RequestError: there is none.
        """

        async def send() -> bytes:
            raw = await self._client.chat.completions.with_raw_response.create(
                **body, extra_headers={HASH_HEADER: request_hash}, timeout=timeout_s
            )
            return raw.content

        return self._completion(self.without_keys(await self.tried(send(), timeout_s)))

    async def tried(self, request: Any, timeout_s: float) -> Any:
        """The result of a coroutine of the client, all its errors as RequestError without secrets."""
        import openai

        try:
            async with asyncio.timeout(timeout_s):
                return await request
        except (TimeoutError, openai.APITimeoutError):
            raise RequestError("timeout", f"no answer in {timeout_s:.0f} s") from None
        except openai.APIStatusError as error:
            raise _refused(error, self.scrubbed(str(error.message))) from None
        except (openai.APIError, OSError) as error:
            raise RequestError("connection", self.scrubbed(f"{type(error).__name__}: {error}")) from None

    @property
    def client(self) -> "AsyncOpenAI":
        """The package's client, for files and batches."""
        return self._client

    def without_keys(self, content: bytes) -> bytes:
        """What the endpoint sent, without the keys."""
        for secret in self._secrets:
            content = content.replace(secret.encode(), b"[key]")
        return content

    def scrubbed(self, text: str) -> str:
        """Text of the endpoint, in one line of bounded length, without the keys."""
        return " ".join(self.without_keys(text.encode(errors="replace")).decode().split())[:500]

    def fatal(self, error: RequestError) -> RunError:
        """An error after which no call can succeed, for a user."""
        to_do = {
            "authentication": "Check the key in the environment and what it may do.",
            "quota": "Raise the account's budget, then run the same command again.",
            "no_model": "Check the model's name and the endpoint.",
        }.get(error.error_class, "Check that it runs and that its URL is right; then run the same command again.")
        return RunError(
            self.place.url, found=error.message, expected=f"an endpoint that answers for {self.place.model}",
            to_do=to_do,
        )  # fmt: skip

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _completion(self, content: bytes) -> dict[str, Any]:
        try:
            reply = json.loads(content)
            if reply["choices"][0]["message"]:
                return reply
        except (ValueError, KeyError, IndexError, TypeError):
            pass
        found = self.scrubbed(content[:200].decode(errors="replace"))
        raise RequestError("malformed", f"an answer that is no chat completion: {found}")


def _refused(error: Any, message: str) -> RequestError:
    code, status = str(error.code or ""), error.status_code
    retry_after_s = _retry_after_s(error.response.headers)
    return RequestError(
        class_of(status, code, message), message, retry_after_s=retry_after_s, param=str(error.param or "")
    )


def class_of(status: int, code: str, message: str) -> FailureClass:
    """The class of a failure by HTTP status, the protocol's code and its words."""
    if code == "insufficient_quota":
        return "quota"
    if status == 429:
        return "rate_limit"
    if status in (401, 403):
        return "authentication"
    if status == 404:
        return "no_model"
    if status in (408, 409) or status >= 500:
        return "server"
    if code == "content_filter":
        return "filtered"
    is_long = code == "context_length_exceeded" or "maximum context length" in message
    return "too_long" if is_long or status == 413 else "bad_request"


def _retry_after_s(headers: Any) -> float | None:
    """Seconds to wait by `retry-after-ms` or `retry-after`, which is a number or a date."""
    try:
        if "retry-after-ms" in headers:
            return max(float(headers["retry-after-ms"]) / 1000, 0.0)
        value = headers.get("retry-after")
        if value is None:
            return None
        if value.strip().replace(".", "", 1).isdigit():
            return float(value)
        return max(parsedate_to_datetime(value).timestamp() - time(), 0.0)
    except ValueError:
        return None


def _openai_client(place: Place) -> "AsyncOpenAI":
    from openai import AsyncOpenAI

    key = os.environ.get(KEY_VARIABLE)
    if not key and place.url == OPENAI_URL:
        raise _missing("the key of OpenAI", KEY_VARIABLE)
    return AsyncOpenAI(api_key=key or "none", base_url=place.url, max_retries=0)


def _azure_client(settings: ClientConfig, place: Place) -> "AsyncOpenAI":
    from openai import AsyncAzureOpenAI

    assert settings.azure is not None
    key = os.environ.get(AZURE_KEY_VARIABLE)
    if not key:
        raise _missing("the key of Azure OpenAI", AZURE_KEY_VARIABLE)
    version = settings.azure.api_version or os.environ.get("OPENAI_API_VERSION")
    if not version:
        raise _missing("autointerp.azure.api_version", "OPENAI_API_VERSION")
    return AsyncAzureOpenAI(api_key=key, azure_endpoint=place.url, api_version=version, max_retries=0)


def _missing(what: str, variable: str) -> ConfigError:
    return ConfigError(
        what, found="nothing", expected="a value in the settings or the environment" if "." in what else "a key",
        to_do=f"Set {variable} in the environment.",
    )  # fmt: skip
