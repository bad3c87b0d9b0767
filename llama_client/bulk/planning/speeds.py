"""How fast rows are answered: by rate limits that targets have told, and by what was measured. It reads the ledger."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llama_client.errors import ConfigError

if TYPE_CHECKING:
    from llama_client.bulk.idle.targets import LocalTargets
    from llama_client.bulk.planning.measure import Group
    from llama_client.chat import CallContext
    from llama_client.costs.measured import MeasuredRate
    from llama_client.routing.targets import Target

logger = logging.getLogger("llama_client.bulk")

# With so many calls in flight a job begins; it finds out whether more are better.
_IN_FLIGHT = 16
# To read a token of a prompt takes so much of the time to write one.
_READING = 0.1


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast rows are asked at once.

    Attributes:
        rows_per_s: None: unknown.
        why: What that rests on.
        blocked_s: For how long none is answered before.
    """

    rows_per_s: float | None
    why: str
    blocked_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RowTime:
    """How long rows take at this machine.

    Attributes:
        row_s: By the rows that it answers in a long time.
        call_s: From the begin of one row's call to its end.
        calls: How many calls were measured.
    """

    row_s: float
    call_s: float
    calls: int


UNKNOWN = Speed(None, "how fast it answers is unknown")


class Speeds:
    """Estimates by a client's ledger, and by what it has seen of its targets.

    Args:
        context: The client's.
        locals_: Tells the targets of this machine.
        most: The most calls in flight.
    """

    def __init__(self, context: CallContext, locals_: LocalTargets, most: int) -> None:
        self._context = context
        self._locals = locals_
        self._most = most
        self._measured: dict[str, MeasuredRate | None] = {}

    def at_once(self, group: Group) -> Speed:
        """Of the first target that the router asks."""
        target, rows = group.at_once[0], max(group.now.rows, 1)
        context = self._context
        health = context.router.health.of(target.name, target.provider_name)
        tokens = max((group.input_tokens + group.output_tokens) / rows, 1.0)
        requests_per_s, tokens_per_s = (health.limits.permitted_per_s(kind) for kind in ("requests", "tokens"))
        known = [
            (requests_per_s, "by its limit of requests"),
            (None if tokens_per_s is None else tokens_per_s / tokens, "by its limit of tokens"),
            (self._rate(target, group), "by what was measured"),
        ]
        found = [(rate, why) for rate, why in known if rate is not None]
        if not found:
            return UNKNOWN
        rate, why = min(found)
        return Speed(rate, f"at {_shown(rate)}, {why}", health.limits.blocked_s(context.clock.monotonic()))

    def idle(self, group: Group) -> RowTime | None:
        """Of its target of this machine; None: unknown."""
        if group.local is None or not group.idle.rows:
            return None
        measured = self._of(group.local)
        if measured is None:
            return None
        share = self._work(group) / max(measured.output_tokens + measured.input_tokens * _READING, 1.0)
        return RowTime(max(measured.busy_s * share, 1e-6), max(measured.calls_s * share, 1e-6), measured.calls)

    def _rate(self, target: Target, group: Group) -> float | None:
        """Rows a second, as measured; None: nothing was."""
        measured, health = self._of(target), self._context.router.health.of(target.name, target.provider_name)
        share = self._work(group)
        rates: list[float] = []
        if measured is not None:
            whole = max(measured.output_tokens + measured.input_tokens * _READING, 1.0)
            rates.append(1 / max(measured.busy_s / whole * share, 1e-6))
        if self._locals.is_local(target):
            # More at once are not faster there.
            return rates[0] if rates else None
        now = self._context.clock.monotonic()
        rows = max(group.now.rows, 1)
        call_s = health.latency.expected_s(now, tokens=group.output_tokens / rows, streams=False)
        if call_s is None and measured is not None:
            call_s = measured.calls_s / measured.calls
        if call_s:
            table = self._context.config.providers.get(target.provider_name)
            limit = getattr(table, "max_concurrency", None) or _IN_FLIGHT
            rates.append(min(_IN_FLIGHT, limit, self._most) / call_s)
        return max(rates, default=None)

    def _work(self, group: Group) -> float:
        """Of a row: the tokens that it writes, and what those that it reads are worth."""
        rows = max(group.now.rows, 1)
        return (group.output_tokens + group.input_tokens * _READING) / rows

    def _of(self, target: Target) -> MeasuredRate | None:
        if target.name not in self._measured:
            self._measured[target.name] = self._read(target.name)
        return self._measured[target.name]

    def _read(self, name: str) -> MeasuredRate | None:
        if self._context.accounting.ledger is None:
            return None
        try:
            return self._context.cost_source.report(lambda reports: reports.measured(name))
        except ConfigError as error:
            # The job does without; its own calls say what is wrong with the ledger.
            logger.warning("how fast %s is cannot be read: %s", name, error)
            return None


def _shown(rows_per_s: float) -> str:
    if rows_per_s >= 1:
        return f"{rows_per_s:.3g} rows a second"
    if rows_per_s * 60 >= 1:
        return f"{rows_per_s * 60:.3g} rows a minute"
    return f"{rows_per_s * 3600:.3g} rows an hour"
