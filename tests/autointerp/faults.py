"""What goes wrong at the server: faults at seeded rates, and a limit of requests a minute."""

import hashlib
import time
from dataclasses import dataclass, field, fields


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Shares of requests that fail in each way; they add up to at most 1."""

    rate_limited: float = 0.0
    server_error: float = 0.0
    hung: float = 0.0
    dropped: float = 0.0
    malformed: float = 0.0
    wrong_form: float = 0.0
    refused: float = 0.0
    truncated: float = 0.0
    seed: int = 0

    @classmethod
    def of_every_kind(cls, share: float, seed: int = 0) -> "Faults":
        """All kinds, alike, adding up to a share."""
        names = [item.name for item in fields(cls) if item.name != "seed"]
        return cls(seed=seed, **{name: share / len(names) for name in names})

    def choose(self, asked: str, nth: int) -> str | None:
        """The fault of the nth request for something, if it has one."""
        digest = hashlib.sha256(f"{self.seed}/{asked}/{nth}".encode()).digest()
        drawn = int.from_bytes(digest[:8], "big") / 2**64
        for item in fields(self):
            if item.name != "seed":
                drawn -= getattr(self, item.name)
                if drawn < 0:
                    return item.name
        return None


@dataclass(kw_only=True)
class Bucket:
    """Tokens for requests: `per_minute` of them, at most `size` kept."""

    per_minute: float
    size: float
    left: float = field(init=False)
    at: float = field(init=False)

    def __post_init__(self) -> None:
        self.left, self.at = self.size, time.monotonic()

    def wait_s(self) -> float:
        """Take a token: 0; or how long until there is one."""
        now = time.monotonic()
        self.left = min(self.left + (now - self.at) * self.per_minute / 60, self.size)
        self.at = now
        if self.left >= 1:
            self.left -= 1
            return 0.0
        return (1 - self.left) * 60 / self.per_minute
