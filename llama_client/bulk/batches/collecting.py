"""Reads the files of a part that is over, line by line, and hands on the result of each row with its cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llama_client.bulk.batches.kept_rows import KeptRows
from llama_client.bulk.batches.lines import AnswerLine, answer_line, lines_of
from llama_client.bulk.batches.parts import Part
from llama_client.bulk.batches.requests import TIER, Decoded, Requests
from llama_client.bulk.results import BulkResult
from llama_client.costs.bills import cost_of_tokens, nothing_charged
from llama_client.costs.money import added
from llama_client.costs.prices import FREE, HourPrice
from llama_client.types.completion import Attempt, ChatCompletion, Cost, Timing, Usage, unchecked

if TYPE_CHECKING:
    from llama_client.bulk.rows import Row
    from llama_client.costs.prices import Price
    from llama_client.costs.spending import Spending

_NO_ANSWER = "the batch has no line for it"
_UNDONE = "the batch was over before it"


class Receiver(Protocol):
    """Takes what comes of a batch, in the thread that drives it.

    A part that was interrupted while it was read is read again: a row may come twice, with the same result.
    """

    def answered(self, result: BulkResult) -> None:
        """A row has an answer, or an error of its own. When this returns, it is kept."""

    def unanswered(self, row: Row, why: str) -> None:
        """A row has neither, costs nothing, and may be asked elsewhere."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the lines of a part are read with.

    Attributes:
        requests: Those of its target.
        spending: Where each line's cost goes.
        tags: The labels of its rows in the ledger.
        receiver: Who takes the results.
    """

    requests: Requests
    spending: Spending
    tags: Mapping[str, str]
    receiver: Receiver

    def collect(self, part: Part, rows_path: Path, paths: tuple[Path, ...], tag: str) -> None:
        """Reads the files of a part, and puts the counts and the cost into it."""
        at = part.created_at or 0.0
        price = self.requests.price(at)
        usd: Decimal | None = Decimal(0)
        part.answered = part.failed = part.unanswered = part.stray = 0
        rows = KeptRows(rows_path)
        try:
            for line in _lines(paths):
                row_id = line.custom_id.removeprefix(tag) if line is not None and line.custom_id.startswith(tag) else ""
                row = rows.take(row_id) if line is not None else None
                if line is None or row is None:
                    part.stray += 1
                elif line.is_undone:
                    part.unanswered += 1
                    self.receiver.unanswered(row, _UNDONE)
                else:
                    usd = _sum(usd, self._read(part, line, row, price, at))
            for row in rows.left():
                part.unanswered += 1
                self.receiver.unanswered(row, part.why or _NO_ANSWER)
        finally:
            rows.close()
        part.usd = None if usd is None else str(usd)
        # A row of the ledger that is still in memory would be lost with this process, and the part not read again.
        self.spending.flush()

    def _read(self, part: Part, line: AnswerLine, row: Row, price: Price | None, at: float) -> Decimal | None:
        decoded = self.requests.decode(line, row, at)
        cost, request_id = _cost(decoded, price), _request_id(line.custom_id, at)
        attempt = _attempt(part, line, decoded, cost)
        self.spending.record(request_id, attempt, decoded.tokens, tags=self.tags, at=at)
        completion = None
        if decoded.error is None:
            part.answered += 1
            completion = _completion(part, decoded, request_id, attempt, cost)
        else:
            part.failed += 1
            decoded.error.attempts = [attempt]
        self.receiver.answered(BulkResult(row, completion, decoded.error, venue="batch", usd=cost.usd))
        return cost.usd


def _lines(paths: tuple[Path, ...]) -> Iterator[AnswerLine | None]:
    for path in paths:
        if path.exists():
            yield from map(answer_line, lines_of(path))


def _cost(decoded: Decoded, price: Price | None) -> Cost:
    if decoded.tokens is None:
        return nothing_charged("local" if price is FREE else "it was refused")
    if isinstance(price, HourPrice):
        # What a batch has of the machine's time is not known here.
        return Cost()
    if price is not None and price.origin.doubt is not None:
        decoded.facts.warn(f"cost: {price.origin.doubt}")
    return cost_of_tokens(price, decoded.tokens)


def _attempt(part: Part, line: AnswerLine, decoded: Decoded, cost: Cost) -> Attempt:
    error, tokens = decoded.error, decoded.tokens
    return unchecked(
        Attempt,
        {
            "target": part.target,
            "outcome": "ok" if error is None else "error",
            "sent": True,
            "error": None if error is None else type(error).__name__,
            "http_status": line.status,
            "reason": None if error is None else str(error),
            "provider_request_id": line.request_id,
            "latency_s": None,
            "ttft_s": None,
            "usage": decoded.answer.usage,
            "estimated_usage": tokens.as_usage() if tokens is not None and tokens.are_estimated else None,
            "cost": cost,
            "rate_limit": None,
            "waited_s": None,
            "saved_usd": None,
        },
    )


def _completion(part: Part, decoded: Decoded, request_id: str, attempt: Attempt, cost: Cost) -> ChatCompletion:
    first, facts = decoded.answer.first, decoded.facts
    assert first is not None
    times = dict.fromkeys(("total_s", "ttft_s", "tokens_per_s", "load_s", "queue_s"))
    values: dict[str, Any] = {
        "id": first.id,
        "object": "chat.completion",
        "created": first.created,
        "model": first.model,
        "choices": decoded.answer.choices(),
        "usage": decoded.answer.usage or Usage(),
        "system_fingerprint": first.system_fingerprint,
        "service_tier": TIER,
        "target": part.target,
        "provider": part.target.partition("/")[0],
        "request_id": request_id,
        "cost": cost,
        "attempts": [attempt],
        "timing": unchecked(Timing, times),
        "sources": facts.sources,
        "warnings": list(facts.warnings),
    }
    return unchecked(ChatCompletion, values, {"_raw": facts.body, "_raw_chunks": ()})


def _request_id(custom_id: str, at: float) -> str:
    """The same in each reading, so that its row of the ledger is written once."""
    return f"req_{int(at) & 0xFFFFFFFF:08x}{blake2b(custom_id.encode(), digest_size=8).hexdigest()}"


def _sum(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return None if one is None or other is None else added(one, other)
