"""The settings of the endpoint that a labeller asks: where it is, what it costs, how long to wait. Keys come from the
environment alone.
"""

from typing import Literal

from pydantic import Field

from tracer.config.base import NOT_IN_RESULTS, Settings

AnswerMode = Literal["json_schema", "json_object", "text"]
FailureClass = Literal[
    "rate_limit", "timeout", "connection", "server", "malformed", "bad_request", "too_long", "filtered",
    "authentication", "quota", "no_model",
]  # fmt: skip
"""Why a request got no answer."""


class PriceConfig(Settings):
    """What a model costs, US dollars per million tokens."""

    input_usd: float = Field(ge=0.0, description="a million prompt tokens that were not cached")
    cached_input_usd: float | None = Field(
        None, ge=0.0, description="a million prompt tokens read from the endpoint's cache; none given: as others"
    )
    output_usd: float = Field(ge=0.0, description="a million tokens of answers, reasoning included")
    batch_factor: float = Field(0.5, ge=0.0, le=1.0, description="price by the batch lane as a share of this one")


class AzureConfig(Settings):
    """An Azure OpenAI resource; what is not given comes from the environment."""

    endpoint: str | None = Field(
        None, description="https://NAME.openai.azure.com; none given: AZURE_OPENAI_ENDPOINT of the environment"
    )
    api_version: str | None = Field(
        None, description="such as 2024-10-21; none given: OPENAI_API_VERSION of the environment"
    )
    deployment: str = Field(description="name of the deployment, which is asked in place of a model")


class ClientConfig(Settings):
    """How a language model is asked. Keys are in the environment: OPENAI_API_KEY, or AZURE_OPENAI_API_KEY."""

    base_url: str | None = Field(
        None,
        description="an OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1; none given: OPENAI_BASE_URL of "
        "the environment, else OpenAI's",
    )
    azure: AzureConfig | None = Field(None, description="ask Azure OpenAI instead")
    model: str | None = Field(
        None, description="model name, dated where possible; none given: OPENAI_MODEL of the environment"
    )
    prices: dict[str, PriceConfig] = Field(
        default_factory=dict,
        description="prices by model name; without one tokens are counted, not dollars",
        json_schema_extra=NOT_IN_RESULTS,
    )
    max_usd: float | None = Field(
        None,
        ge=0.0,
        description="most US dollars that all calls of a ledger may come to; needs the model's price",
        json_schema_extra=NOT_IN_RESULTS,
    )
    answer_mode: AnswerMode | None = Field(
        None,
        description="how answers in a given form are asked for; none given: the first that the endpoint can, in this "
        "order, probed once",
    )
    retried_failures: list[FailureClass] = Field(
        ["rate_limit", "timeout", "connection", "server", "malformed"],
        description="classes of failures in the ledger that are asked again",
        json_schema_extra=NOT_IN_RESULTS,
    )
    timeout_s: float = Field(
        120.0, gt=0.0, description="longest wait for one request, seconds", json_schema_extra=NOT_IN_RESULTS
    )
    deadline_s: float = Field(
        600.0,
        gt=0.0,
        description="longest time for one call from its first request on, with all that are tried again, seconds",
        json_schema_extra=NOT_IN_RESULTS,
    )
    start_concurrency: int = Field(
        20, ge=1, description="requests in flight to begin with", json_schema_extra=NOT_IN_RESULTS
    )
    max_concurrency: int = Field(200, ge=1, description="most requests in flight", json_schema_extra=NOT_IN_RESULTS)
    cooldown_s: float = Field(
        15.0,
        ge=0.0,
        description="after requests in flight became fewer because the endpoint refused some (429): time before they "
        "may become fewer again, or more, seconds",
        json_schema_extra=NOT_IN_RESULTS,
    )
    lane: Literal["now", "batch"] = Field(
        "now",
        description="ask call by call, or by the endpoint's batch files: cheaper, within a day",
        json_schema_extra=NOT_IN_RESULTS,
    )
    batch_size: int = Field(5_000, ge=1, description="most calls in one batch", json_schema_extra=NOT_IN_RESULTS)
    batch_poll_s: float = Field(
        30.0, gt=0.0, description="time between two looks at a batch, seconds", json_schema_extra=NOT_IN_RESULTS
    )
