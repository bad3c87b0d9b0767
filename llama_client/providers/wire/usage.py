"""Token counts and charges, wherever a server tells them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from llama_client.providers.base import Charge

# 10^12: more tokens than any prompt or answer has, and sums of smaller counts fit into any database's integers.
LARGEST_COUNT = 10**12
# More than any answer costs.
_LARGEST_USD = Decimal(1_000_000)
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_ONLY_COUNTS = frozenset(_COUNTS)
# Where the cached part of the prompt is told: OpenAI's place, Together's, Mistral's, DeepSeek's, Anthropic's.
_CACHED: tuple[tuple[str, str | None], ...] = (
    ("prompt_tokens_details", "cached_tokens"),
    ("cached_tokens", None),
    ("num_cached_tokens", None),
    ("prompt_cache_hit_tokens", None),
    ("cache_read_input_tokens", None),
    ("input_tokens_details", "cached_tokens"),
)
# What of the prompt was written to a cache: OpenRouter's and Anthropic's names.
_WRITTEN: tuple[tuple[str, str | None], ...] = (
    ("prompt_tokens_details", "cache_write_tokens"),
    ("prompt_tokens_details", "cache_creation_tokens"),
    ("cache_creation_input_tokens", None),
    ("cache_write_tokens", None),
)
_REASONING: tuple[tuple[str, str | None], ...] = (
    ("completion_tokens_details", "reasoning_tokens"),
    ("reasoning_tokens", None),
    ("output_tokens_details", "reasoning_tokens"),
)


def count(value: object) -> int | None:
    """A value as a count; None where it is not one."""
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if not isinstance(whole, int) or isinstance(whole, bool):
        return None
    return whole if 0 <= whole <= LARGEST_COUNT else None


def below(value: object, *path: str) -> object:
    """The value at a path of nested JSON objects; None: there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def usage_of(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """An answer's counts, as a `Usage` has them; None: there are none."""
    usage = usage_in(body)
    if usage is None:
        return None
    read: dict[str, Any] = {}
    for name in _COUNTS:
        value = usage.get(name)
        read[name] = value if type(value) is int and 0 <= value <= LARGEST_COUNT else count(value)
    if usage.keys() <= _ONLY_COUNTS:
        return None if list(read.values()) == [None, None, None] else read
    cached, written, reasoning = _first(usage, _CACHED), _first(usage, _WRITTEN), _first(usage, _REASONING)
    if read["completion_tokens"] is None:
        read["completion_tokens"] = count(usage.get("output_tokens"))
    if read["prompt_tokens"] is None:
        read["prompt_tokens"] = count(usage.get("input_tokens"))
        if read["prompt_tokens"] is not None and "cache_read_input_tokens" in usage:
            # Anthropic counts what came from a cache, or went to one, beside the input.
            read["prompt_tokens"] = count(read["prompt_tokens"] + (cached or 0) + (written or 0))
    if cached is not None or written is not None:
        read["prompt_tokens_details"] = {"cached_tokens": cached, "cache_write_tokens": written}
    if reasoning is not None:
        read["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    if list(read.values()) == [None, None, None]:
        return None
    prompt, answer, total = (read[name] for name in _COUNTS)
    if prompt is not None and answer is not None and total is not None and total > prompt + answer:
        if reasoning and total == prompt + answer + reasoning:
            # xAI counts reasoning separately; it is billed as part of the answer.
            read["completion_tokens"] = answer + reasoning
        elif total == prompt + answer + (cached or 0) + (written or 0):
            # What came from a cache, or went to one, is counted beside the prompt.
            read["prompt_tokens"] = total - answer
    return read


def usage_in(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    usage = body.get("usage")
    if not isinstance(usage, dict):
        usage = below(body, "x_groq", "usage")
    return usage if isinstance(usage, dict) else None


def later(before: Mapping[str, Any] | None, usage: dict[str, Any]) -> dict[str, Any]:
    """Counts that came after others of the same answer: what they do not tell, or tell as 0, is that of before."""
    if before is None:
        return usage
    merged: dict[str, Any] = {}
    for name in {**before, **usage}:
        old, new = before.get(name), usage.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            merged[name] = {key: new.get(key) or old.get(key, new.get(key)) for key in {**old, **new}}
        else:
            merged[name] = new or (new if old is None else old)
    prompt, answer, total = (merged.get(name) for name in _COUNTS)
    if prompt is not None and answer is not None and (total is None or total < prompt + answer):
        merged["total_tokens"] = prompt + answer
    return merged


def _first(usage: Mapping[str, Any], places: Iterable[tuple[str, str | None]]) -> int | None:
    """The largest count at any of the places: gateways tell one as 0 and another rightly."""
    largest = None
    for name, inner in places:
        value = usage.get(name)
        if inner is not None:
            value = value.get(inner) if isinstance(value, dict) else None
        if value is not None:
            value = count(value)
            largest = value if largest is None else max(largest, value or 0)
    return largest


# Where a charge in US dollars is told in `usage`, and by how many units of it a dollar is: OpenRouter's and
# LiteLLM's `cost`, Perplexity's and DeepInfra's, xAI's.
_CHARGES: tuple[tuple[tuple[str, ...], int, bool], ...] = (
    (("cost", "total_cost"), 1, False),
    (("cost",), 1, False),
    (("total_cost",), 1, False),
    (("cost_in_usd_ticks",), 10**10, False),
    (("estimated_cost",), 1, True),
)
_CHARGE_NAMES = frozenset(path[0] for path, _, _ in _CHARGES)


def charge_in(body: Mapping[str, Any]) -> Charge | None:
    """What the provider says that the answer costs; None: nothing."""
    usage = usage_in(body)
    if usage is None or _CHARGE_NAMES.isdisjoint(usage):
        return None
    for path, units, is_estimated in _CHARGES:
        usd = _usd(below(usage, *path), units)
        if usd is None:
            continue
        if usage.get("is_byok") is True:
            # With a key of one's own, OpenRouter's charge is its fee alone.
            upstream = _usd(below(usage, "cost_details", "upstream_inference_cost"), 1)
            if upstream is None:
                return None
            usd += upstream
        return Charge(usd, f"usage.{'.'.join(path)}", is_estimated)
    return None


def _usd(value: object, units: int) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        # A float as it is written, not as it is stored.
        usd = Decimal(repr(value) if isinstance(value, float) else value) / units
    except (ArithmeticError, ValueError):
        return None
    return usd if usd.is_finite() and 0 <= usd <= _LARGEST_USD else None
