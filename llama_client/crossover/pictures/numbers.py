"""Amounts as a picture has room for: shorter than in a sentence."""

from __future__ import annotations

from decimal import Decimal

_USD = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def usd(amount: float) -> str:
    """US dollars with three digits, as on an axis; cents from one dollar to a thousand.

    Examples:
        >>> usd(0.88), usd(1.5), usd(12.29), usd(12_345), usd(-2e6), usd(0.0001), usd(0)
        ('$0.88', '$1.50', '$12.29', '$12.3k', '-$2M', '$0.0001', '$0')
    """
    size = _rounded(abs(amount))
    scale, unit = next(((scale, unit) for scale, unit in _USD if size >= scale), (1.0, ""))
    text = f"{abs(amount):.2f}".removesuffix(".00") if 1 <= size < 1000 else _plain(size / scale)
    if text.startswith("0.") and len(text) == 3:
        text += "0"  # $0.50
    return f"{'-' if amount < 0 and size else ''}${text}{unit}"


def times(ratio: float) -> str:
    """How many times as much.

    Examples:
        >>> times(1.004), times(1.5), times(12.34), times(1e6)
        ('1.004', '1.5', '12.3', '1000000')
    """
    return f"{ratio:.3f}" if 1 < ratio < 1.01 else _plain(_rounded(ratio))


def cut(text: str, length: int) -> str:
    """A text that fits, without characters that cannot be seen."""
    from llama_client.costs.stacks import readable

    text = readable(text)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _rounded(number: float) -> float:
    return float(f"{number:.2e}")


def _plain(number: float) -> str:
    text = f"{Decimal(f'{number:.2e}'):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
