"""What a test asks of a client's ledger: what was spent, and each attempt as an object."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from llama_client.errors import ConfigError

if TYPE_CHECKING:
    from llama_client.client import AsyncLlamaClient, LlamaClient
    from llama_client.costs.api import CostSource

_US = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """One attempt, as the ledger has it. What is not known is None.

    Attributes:
        at: Its moment.
        request_id: That of the reply.
        number: Its place among the attempts of its call, from 1.
        route: The route that was asked; None: a target was.
        target: `provider/model`.
        provider: The provider.
        model: The model.
        tags: Those of the client and of the call.
        outcome: `ok`, `error`, `interrupted`, `cancelled` or `skipped`.
        error: The class of the error.
        http_status: The status of the answer.
        input_tokens: Tokens of the prompt.
        output_tokens: Tokens of the answer.
        cached_tokens: Those of the prompt that were cached.
        reasoning_tokens: Those of the answer that were reasoning.
        usd: The cost.
        cost_status: `exact`, `estimated`, `free` or `unknown`.
        cost_source: Where the price is from.
        latency_s: Seconds from its start to its end.
        ttft_s: Seconds from its start to the first content.
    """

    at: datetime
    request_id: str
    number: int
    route: str | None
    target: str
    provider: str
    model: str
    tags: dict[str, str]
    outcome: str
    error: str | None
    http_status: int | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    usd: Decimal | None
    cost_status: str | None
    cost_source: str | None
    latency_s: float | None
    ttft_s: float | None


def spent(client: LlamaClient | AsyncLlamaClient) -> Decimal | None:
    """What all calls in the client's ledger cost, in US dollars; None: the cost of one of them is not known.

    With `[ledger] url = "memory"` these are the calls of this client. Also for async clients it is called without
    `await`: it waits for rows that are being written, some milliseconds.

    Args:
        client: An open client whose ledger is on.

    Raises:
        ConfigError: The ledger is off, or cannot be read.

    Example:
        >>> from llama_client import LlamaClient
        >>> from llama_client.testing.ledger import spent
        >>> with LlamaClient({"ledger": {"url": "memory"}}) as client:
        ...     print(spent(client))
        0
    """
    from llama_client.types.report import CostReport

    report = _source(client).report(lambda reports: reports.report(None, "target")) or CostReport()
    return None if report.unpriced_calls else report.total_usd


def ledger_rows(client: LlamaClient | AsyncLlamaClient) -> list[LedgerRow]:
    """The attempts in the client's ledger, in the order in which they were recorded; without `await`, as `spent`.

    Args:
        client: An open client whose ledger is on.

    Raises:
        ConfigError: The ledger is off, or cannot be read.

    Example:
        >>> from llama_client import LlamaClient
        >>> from llama_client.testing.ledger import ledger_rows
        >>> with LlamaClient({"ledger": {"url": "memory"}}) as client:
        ...     print([(row.target, row.outcome) for row in ledger_rows(client)])
        []
    """
    return _source(client).report(lambda reports: [_row(row) for row in reports.attempts()]) or []


def _source(client: LlamaClient | AsyncLlamaClient) -> CostSource:
    context = client._context
    if context.accounting.ledger is None:
        raise ConfigError(
            'ledger.enabled: is false, so no attempt is recorded; a ledger for tests is ledger = {"url": "memory"}',
            key="ledger.enabled",
        )
    return context.cost_source


def _row(row: Any) -> LedgerRow:
    from llama_client.costs.money import from_pico
    from llama_client.costs.queries import moment_of

    return LedgerRow(
        at=moment_of(row.at_us),
        request_id=row.request_id,
        number=row.number,
        route=row.route,
        target=row.target,
        provider=row.provider,
        model=row.model,
        tags=json.loads(row.tags),
        outcome=row.outcome,
        error=row.error,
        http_status=row.http_status,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cached_tokens=row.cached_tokens,
        reasoning_tokens=row.reasoning_tokens,
        usd=None if row.usd_pico is None else from_pico(row.usd_pico),
        cost_status=row.cost_status,
        cost_source=row.cost_source,
        latency_s=None if row.latency_us is None else row.latency_us / _US,
        ttft_s=None if row.ttft_us is None else row.ttft_us / _US,
    )
