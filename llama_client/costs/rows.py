"""What the ledger keeps of an attempt, as the call hands it over: plain data, never what was asked or answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from llama_client.costs.money import to_pico

if TYPE_CHECKING:
    from decimal import Decimal

    from llama_client.costs.bills import Tokens
    from llama_client.types.attempt import Attempt

# What `counts` of a row holds, so that a report only has to add: whether it is the first row of its call, the first of
# it that asked its provider, and its target; the same for rows whose cost is unknown; and whether the attempt failed.
CALL, PROVIDER, TARGET, UNPRICED_CALL, UNPRICED_PROVIDER, UNPRICED_TARGET, ERROR = (1 << bit for bit in range(7))
COLUMNS = (
    "at_us", "request_id", "number", "label_id", "outcome", "error", "http_status", "input_tokens", "output_tokens",
    "cached_tokens", "reasoning_tokens", "tokens_are_estimated", "usd_pico", "input_usd_pico", "cached_usd_pico",
    "output_usd_pico", "cost_status", "cost_source", "price_effective_from", "latency_us", "ttft_us", "counts",
)  # fmt: skip
_NO_TOKENS = (None, None, None, None, 0)
_NO_MONEY = (None,) * 7
Words = tuple[str | None, str, str, tuple[tuple[str, str], ...]]
# A database's whole numbers have 64 bits; no honest count has so many.
_MAX = 2**62


@dataclass(frozen=True, slots=True)
class Row:
    """One attempt.

    Attributes:
        at: When it began, in seconds since the Unix epoch.
        request_id: Ours, of the call.
        number: Which of the call's attempts it is, from 1.
        route: The route's name; None: the call named its targets.
        provider: The provider's name.
        model: The provider's own model id.
        tags: The call's labels.
        attempt: What became of it.
        tokens: What is charged for; None: nothing is.
        counts: See above.
    """

    at: float
    request_id: str
    number: int
    route: str | None
    provider: str
    model: str
    tags: Mapping[str, str]
    attempt: Attempt
    tokens: Tokens | None
    counts: int

    def label(self) -> tuple[int, dict[str, Any]]:
        """The row's words as a row of their own, and its id."""
        words = (
            None if self.route is None else _storable(self.route),
            _storable(self.provider),
            _storable(f"{self.provider}/{self.model}"),
            _storable(self.model),
            _storable(json.dumps(self.tags, sort_keys=True, ensure_ascii=False)),
        )
        digest = blake2b(json.dumps(words).encode(), digest_size=8).digest()
        identity = int.from_bytes(digest, "big", signed=True)
        return identity, dict(
            zip(("id", "route", "provider", "target", "model", "tags"), (identity, *words), strict=True)
        )

    @property
    def words(self) -> Words:
        """What its label hangs on, to be looked up by."""
        return self.route, self.provider, self.model, tuple(self.tags.items())

    def values(self, label_id: int) -> tuple[Any, ...]:
        """The row as the database takes it, in the order of `COLUMNS`."""
        attempt, tokens, cost = self.attempt, self.tokens, self.attempt.cost
        money: tuple[Any, ...] = _NO_MONEY
        if cost is not None:
            begun = None if cost.effective_from is None else cost.effective_from.isoformat()
            amounts = (cost.usd, cost.input_usd, cost.cached_usd, cost.output_usd)
            money = (*(_pico(usd) for usd in amounts), cost.status, cost.source, begun)
        counts: tuple[Any, ...] = _NO_TOKENS
        if tokens is not None:
            counts = (
                _bounded(tokens.input_tokens),
                _bounded(tokens.output_tokens),
                _bounded(tokens.cached_tokens),
                _bounded(tokens.reasoning_tokens),
                int(tokens.are_estimated),
            )
        return (
            round(self.at * 1e6),
            self.request_id,
            self.number,
            label_id,
            attempt.outcome,
            attempt.error,
            attempt.http_status,
            *counts,
            *money,
            _microseconds(attempt.latency_s),
            _microseconds(attempt.ttft_s),
            self.counts,
        )


def _storable(text: str) -> str:
    """Text that every database takes: PostgreSQL has no NUL, and UTF-8 no halves of characters."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _bounded(number: int | None) -> int | None:
    return number if number is None or -_MAX <= number <= _MAX else min(max(number, -_MAX), _MAX)


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else _bounded(round(seconds * 1e6))


def _pico(usd: Decimal | None) -> int | None:
    return None if usd is None else _bounded(to_pico(usd))
