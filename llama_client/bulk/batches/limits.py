"""What the batch APIs take: rows of data, with their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_MB = 1_000_000
_HOUR_S = 3600
_DAY_S = 24 * _HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """The limits of one batch API. All of them take chats; a file holds requests for one model.

    Attributes:
        title: Whose it is.
        max_lines: Requests of one file.
        max_bytes: Its size.
        windows_s: The shortest and the longest time that it may be given, in seconds.
        purpose: What files are uploaded for.
        has_metadata: Whether a batch carries words of ours, by which it is found again.
        source: Where this is from.
        checked_on: When it was compared with that.
    """

    title: str
    max_lines: int
    max_bytes: int
    windows_s: tuple[int, int]
    purpose: str
    has_metadata: bool
    source: str
    checked_on: str


# fmt: off
LIMITS: Mapping[str, BatchLimits] = {
    # Groq's page says 200 MB, its package 100 MB: the smaller one is safe. One file may hold several models there.
    "groq": BatchLimits(
        title="Groq's batch API", max_lines=50_000, max_bytes=100 * _MB, windows_s=(_DAY_S, 7 * _DAY_S),
        purpose="batch", has_metadata=True, source="console.groq.com/docs/batch; groq 1.7.0 (files.create, "
        "batches.create)", checked_on="2026-12-01"),
    # Without metadata a batch is found by its file, whose name is ours.
    "together": BatchLimits(
        title="Together's batch API", max_lines=50_000, max_bytes=100 * _MB, windows_s=(_DAY_S, _DAY_S),
        purpose="batch-api", has_metadata=False,
        source="docs.together.ai/docs/inference/batch/overview; together 3.1.1", checked_on="2026-12-01"),
    "openai": BatchLimits(
        title="OpenAI's batch API", max_lines=50_000, max_bytes=200 * _MB, windows_s=(_DAY_S, _DAY_S),
        purpose="batch", has_metadata=True, source="platform.openai.com/docs/api-reference/batch/create; "
        "openai 3.57.0 (batches.create)", checked_on="2026-12-01"),
}
# fmt: on


def window_name(seconds: float, limits: BatchLimits) -> tuple[str, int]:
    """The shortest window that an API offers for so much time, in its words and in seconds: `24h` to `7d`."""
    shortest, longest = limits.windows_s
    hours = max(-(-int(min(max(seconds, shortest), longest)) // _HOUR_S), 1)
    days, rest = divmod(hours, 24)
    return (f"{days}d" if days > 1 and not rest else f"{hours}h"), hours * _HOUR_S
