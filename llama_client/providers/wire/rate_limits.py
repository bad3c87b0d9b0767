"""`Retry-After` in all its forms, and rate limits in headers. No I/O."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

# Go's durations, as Groq writes them: `2m59.56s`, `7.66s`, `172ms`, `1h2m`.
_GO_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_TRY_AGAIN = re.compile(r"try again in ((?:\d+(?:\.\d+)?(?:h|ms|m|s))+)", re.IGNORECASE)
_LIMITS = re.compile(r"^x-(?:ratelimit|tokenlimit)", re.MULTILINE)
# Hours, minutes, seconds and milliseconds, as factor and divisor: a thousandth has no exact float.
_UNITS = ((3600, 1), (60, 1), (1, 1), (1, 1000))
# Groq puts the kind behind `x-ratelimit-*`; Together counts tokens in `x-tokenlimit-*` and requests in `x-ratelimit-*`.
_LIMIT_HEADERS = (
    ("requests", ("x-ratelimit-{}-requests", "x-ratelimit-{}")),
    ("tokens", ("x-ratelimit-{}-tokens", "x-tokenlimit-{}")),
)


def retry_after_s(headers: Mapping[str, str], *, message: str, limit: str | None, now: float) -> float | None:
    """Seconds to wait before the next attempt."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is None and text is not None:
        seconds = _until(text, headers.get("date"), now)
    if seconds is not None:
        return seconds
    for name in (f"x-ratelimit-reset-{limit}", "x-ratelimit-reset"):
        reset = duration_s(headers.get(name))
        if reset is not None:
            return reset
    found = _TRY_AGAIN.search(message)
    return duration_s(found.group(1)) if found else None


def rate_limit(headers: Mapping[str, str]) -> dict[str, Any] | None:
    """The rate limits in the headers: `{"requests": {"limit", "remaining", "reset_s"}, "tokens": {...}}`."""
    # One search for all of them, since this runs for each response.
    if _LIMITS.search("\n".join(headers)) is None:
        return None
    found = {}
    for kind, names in _LIMIT_HEADERS:
        values = {
            "limit": _count(_first(headers, names, "limit")),
            "remaining": _count(_first(headers, names, "remaining")),
            "reset_s": duration_s(_first(headers, names, "reset")),
        }
        known = {key: value for key, value in values.items() if value is not None}
        if known:
            found[kind] = known
    return found or None


def duration_s(text: str | None) -> float | None:
    """A number of seconds, or a duration such as `2m59.56s`, in seconds."""
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    match = _GO_DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        return None
    parts = zip(match.groups(), _UNITS, strict=True)
    total = sum(float(part) * factor / divisor for part, (factor, divisor) in parts if part)
    return total if math.isfinite(total) else None


def _until(date: str, sent_at: str | None, now: float) -> float | None:
    """Seconds until a date, from the sender's own `Date` where it is given, since that clock set the date."""
    until, start = _timestamp(date), _timestamp(sent_at) if sent_at else None
    return max(until - (now if start is None else start), 0.0) if until is not None else None


def _timestamp(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _first(headers: Mapping[str, str], names: tuple[str, ...], what: str) -> str | None:
    return next((value for name in names if (value := headers.get(name.format(what))) is not None), None)


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _count(text: str | None) -> int | None:
    number = _number(text)
    return int(number) if number is not None else None
