"""How far a job is, in a line; what it did, in a few: for terminals and notebooks."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.costs.money import shown

if TYPE_CHECKING:
    from llama_client.bulk.receipt import BulkProgress, BulkReceipt


def progress_line(progress: BulkProgress) -> str:
    """As `120 of 1,000 rows, 2 failed, 41 rows/s, $0.012 of about $0.1, 21 s left`.

    Or `waiting for groq/m, no connection for 42 s; 120 of 1,000 rows` where there is none.
    """
    rows = f"{progress.done:,}" + (" rows" if progress.total is None else f" of {progress.total:,} rows")
    parts = [rows]
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if progress.waits_for is not None and progress.unreached_s is not None:
        waited = duration(progress.unreached_s)
        return f"waiting for {progress.waits_for}, no connection for {waited}; {', '.join(parts)}"
    if progress.rows_per_s is not None:
        parts.append(f"{progress.rows_per_s:,.0f} rows/s" if progress.rows_per_s >= 10 else _slow(progress.rows_per_s))
    if progress.usd:
        expected = progress.expected_usd
        parts.append(about(progress.usd) + ("" if expected is None else f" of about {about(expected)}"))
    if progress.left_s is not None:
        parts.append(f"{duration(progress.left_s)} left")
    return ", ".join(parts)


def receipt_lines(receipt: BulkReceipt) -> list[str]:
    """What a run did: rows, then what it cost."""
    if not receipt.has_begun:
        return ["not begun: no row was asked"]
    rows = [f"{receipt.rows:,} {'row' if receipt.rows == 1 else 'rows'}: {receipt.answered:,} answered"]
    if receipt.failed:
        rows.append(f"{receipt.failed:,} failed")
    if receipt.earlier:
        failed = f" ({receipt.earlier_failed:,} of them failed)" if receipt.earlier_failed else ""
        rows.append(f"{receipt.earlier:,} done by earlier runs{failed}")
    if receipt.usd is not None:
        cost = _usd(receipt.usd)
    else:
        cost = f"unknown, of which {_usd(receipt.known_usd)} known" if receipt.known_usd else "unknown"
    made = [f"cost {cost}", f"{receipt.calls:,} {'call' if receipt.calls == 1 else 'calls'}"]
    if receipt.prompt_tokens is not None and receipt.completion_tokens is not None:
        made.append(f"{receipt.prompt_tokens:,} tokens in, {receipt.completion_tokens:,} out")
    lines = [", ".join(rows), ", ".join([*made, duration(receipt.seconds)])]
    for venue, each in receipt.venues.items():
        if venue != "now" and each.saved_usd:
            paid = f"list price {_usd(each.list_usd or Decimal(0))}, paid {_usd(each.usd or Decimal(0))}"
            lines.append(f"{each.rows:,} by {venue}: {paid}, saved {_usd(each.saved_usd)}")
    if receipt.maybe_paid_twice:
        count = receipt.maybe_paid_twice
        lines.append(f"{count:,} {'call' if count == 1 else 'calls'} in flight at kills may have been paid twice")
    return lines


def duration(seconds: float) -> str:
    """In s, min or h.

    Examples:
        >>> duration(0.24), duration(71.6), duration(712), duration(90000)
        ('0.2 s', '72 s', '12 min', '25 h')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds <= 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds <= 6000 else f"{seconds / 3600:.0f} h"


def about(usd: Decimal) -> str:
    """An estimate: cents, or three digits of less.

    Examples:
        >>> about(Decimal("12.3456")), about(Decimal("0.00123456")), about(Decimal(0))
        ('$12.35', '$0.00123', '$0')
    """
    return _usd(usd.quantize(Decimal(1).scaleb(min(-2, usd.adjusted() - 2))))


def _slow(rows_per_s: float) -> str:
    """Less than ten a second; less than one, by the minute."""
    return f"{rows_per_s:.1f} rows/s" if rows_per_s >= 1 else f"{rows_per_s * 60:.1f} rows/min"


def _usd(amount: Decimal) -> str:
    return shown(amount) if amount else "$0"
