"""What answers cost, and a bound that is kept: no request is sent unless its worst cost, and that of all that are in
flight, fits.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tracer.autointerp.client.calls import Usage
from tracer.config.autointerp import ClientConfig, PriceConfig
from tracer.errors import ConfigError

MILLION = 1e6
TOKENS_PER_MESSAGE = 16
"""Of a chat template, at most."""
MARGIN = 1.25
"""On the most prompt tokens per byte seen so far."""


def cost_usd(usage: Usage, price: PriceConfig | None, *, by_batch: bool = False) -> float | None:
    """The price of an answer in US dollars; None without a price."""
    if price is None:
        return None
    cached_usd = price.input_usd if price.cached_input_usd is None else price.cached_input_usd
    usd = (usage.prompt_tokens - usage.cached_tokens) * price.input_usd + usage.cached_tokens * cached_usd
    usd += usage.completion_tokens * price.output_usd
    return usd / MILLION * (price.batch_factor if by_batch else 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Sums over ledger rows: `cost_usd` over those with a price, `n_unpriced` those that have tokens but no price;
    `n_calls` is the number of calls that they are of, each with its repair and all its attempts.
    """

    n_rows: int = 0
    n_calls: int = 0
    usage: Usage = Usage()
    cost_usd: float = 0.0
    n_unpriced: int = 0

    @classmethod
    def of(cls, usage: Usage, usd: float | None, *, is_first: bool) -> "Spent":
        """That of one row; the first of a call is no repair and no later attempt."""
        n_unpriced = int(usd is None and usage != Usage())
        return cls(n_rows=1, n_calls=int(is_first), usage=usage, cost_usd=usd or 0.0, n_unpriced=n_unpriced)

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            n_rows=self.n_rows + other.n_rows,
            n_calls=self.n_calls + other.n_calls,
            usage=self.usage + other.usage,
            cost_usd=self.cost_usd + other.cost_usd,
            n_unpriced=self.n_unpriced + other.n_unpriced,
        )

    @property
    def cached_share(self) -> float | None:
        """Share of the prompt tokens that the endpoint had cached; None without tokens."""
        return self.usage.cached_tokens / self.usage.prompt_tokens if self.usage.prompt_tokens else None


class Budget:
    """Keeps what is spent, with the worst of what is in flight, below `max_usd`; used in one event loop.

    The worst of a request is `max_tokens` of answer and, of prompt, one token per byte, or a quarter more than the most
    tokens per byte seen so far. So the bound holds exactly unless a prompt has more than that; then it is passed by the
    excess of those in flight. A request without an answer (a timeout), or with one that is no chat completion,
    counts as free, for no endpoint says otherwise, though some may charge for it.
    """

    def __init__(self, settings: ClientConfig, spent_usd: float) -> None:
        self.max_usd, self.spent_usd = settings.max_usd, spent_usd
        self._prices = settings.prices
        self._reserved: list[float] = []
        self._held: dict[str, float] = {}
        self._tokens_per_byte: dict[str, float] = {}
        self._changed = asyncio.Condition()

    def check(self, model: str) -> None:
        """Refuse a model that the bound cannot be kept for.

        Raises:
            ConfigError: no price for it, and a bound.
        """
        if self.max_usd is not None and model not in self._prices:
            raise ConfigError(
                "autointerp.max_usd", found=f"{self.max_usd} without a price for {model}",
                expected="a price in autointerp.prices for every model that is asked",
                to_do=f"Add prices.{model}, or leave max_usd out: then tokens are counted alone.",
            )  # fmt: skip

    def price(self, model: str) -> PriceConfig | None:
        """The price of a model, if it is known."""
        return self._prices.get(model)

    @asynccontextmanager
    async def reserved(self, model: str, worst: Usage, *, by_batch: bool = False) -> AsyncIterator[bool]:
        """Reserve a request's worst cost while it is in flight; False if there is no room even when nothing else is.

        Waits as long as what is in flight may turn out cheaper than its worst.
        """
        if self.max_usd is None:
            yield True
            return
        usd = cost_usd(worst, self.price(model), by_batch=by_batch) or 0.0
        async with self._changed:
            await self._changed.wait_for(lambda: self._fits(usd) or not self._reserved)
            fits = self._fits(usd)
            if fits:
                self._reserved.append(usd)
        try:
            yield fits
        finally:
            if fits:
                async with self._changed:
                    self._reserved.remove(usd)
                    self._changed.notify_all()

    def hold(self, name: str, model: str, worst: Iterable[Usage]) -> None:
        """Count the worst cost of a batch that was made, whether or not it fits, until it is held anew with nothing.

        Nobody waits for it as for what is in flight: a batch takes a day.
        """
        price = self.price(model)
        self._held[name] = sum(cost_usd(usage, price, by_batch=True) or 0.0 for usage in worst)

    def n_affordable(self, model: str, worst: Sequence[Usage], *, by_batch: bool = False) -> int:
        """How many of these requests fit together, from the first on."""
        if self.max_usd is None:
            return len(worst)
        usd = 0.0
        for n_before, usage in enumerate(worst):
            usd += cost_usd(usage, self.price(model), by_batch=by_batch) or 0.0
            if not self._fits(usd):
                return n_before
        return len(worst)

    def worst(self, model: str, n_bytes: int, n_messages: int, max_tokens: int) -> Usage:
        """The most tokens that a request can come to."""
        per_byte = min(self._tokens_per_byte.get(model, 1.0) * MARGIN, 1.0)
        prompt_tokens = int(n_bytes * per_byte) + TOKENS_PER_MESSAGE * n_messages
        return Usage(prompt_tokens=prompt_tokens, completion_tokens=max_tokens)

    def paid(self, usd: float | None, *, model: str, n_bytes: int, prompt_tokens: int) -> None:
        """Count an answer, and learn from it how long prompts are in tokens."""
        self.spent_usd += usd or 0.0
        if n_bytes and prompt_tokens:
            seen = self._tokens_per_byte.get(model, 0.0)
            self._tokens_per_byte[model] = max(seen, prompt_tokens / n_bytes)

    def _fits(self, usd: float) -> bool:
        assert self.max_usd is not None
        return self.spent_usd + sum(self._held.values()) + sum(self._reserved) + usd <= self.max_usd


class Accounts:
    """What was spent by stage: before this session, and in it."""

    def __init__(self) -> None:
        self._before: dict[str, Spent] = {}
        self._now: dict[str, Spent] = {}

    def add(self, stage: str, usage: Usage, usd: float | None, *, is_first: bool, is_new: bool) -> None:
        """Count one row of the ledger; the first of a call is no repair and no later attempt."""
        accounts = self._now if is_new else self._before
        accounts[stage] = accounts.get(stage, Spent()) + Spent.of(usage, usd, is_first=is_first)

    def spent(self, stage: str | None = None, *, this_session: bool = False) -> Spent:
        """The sum over a stage, or all of them; of the whole ledger, or of what this session added to it."""
        accounts = (self._now,) if this_session else (self._now, self._before)
        parts = [part for account in accounts for name, part in list(account.items()) if stage in (None, name)]
        return sum(parts, start=Spent())


def usage_of(reply: dict[str, Any]) -> Usage:
    """The tokens of a chat completion; zeros where the endpoint counts none."""
    usage = reply.get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        cached_tokens=int(details.get("cached_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
    )
