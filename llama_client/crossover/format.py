"""Figures as text: long in sentences and tables, short in plots."""

from __future__ import annotations

from decimal import Decimal

_STEPS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def tokens(number: float) -> str:
    """Tokens in three digits: `440 M`, `7.41 G`.

    Examples:
        >>> tokens(439_628_891), tokens(7_411_083_437), tokens(950), tokens(0)
        ('440 M', '7.41 G', '950', '0')
    """
    for step, letter in _STEPS:
        if round(number, -len(str(int(number))) + 3 if number >= 1 else 0) >= step:
            return f"{_three(number / step)} {letter}"
    return _three(number)


def usd(amount: float) -> str:
    """US dollars: whole ones from a thousand on, cents below, three digits below a dollar.

    Examples:
        >>> usd(13383.4), usd(87.5), usd(0.2705), usd(-1200), usd(0)
        ('$13,383', '$87.50', '$0.271', '-$1,200', '$0')
    """
    sign, size = "-" if amount < 0 else "", abs(amount)
    if size == 0:
        return "$0"
    if size >= 1000:
        return f"{sign}${size:,.0f}"
    return f"{sign}${size:,.2f}" if size >= 1 else f"{sign}${size:.3g}"


def share(part: float) -> str:
    """A share in percent.

    Examples:
        >>> share(0.126), share(0.004), share(0.9915), share(0.9999), share(1.0)
        ('13%', '0.4%', '99.2%', '99.9%', '100%')
    """
    percent = part * 100
    if 0 < percent < 1:
        return f"{percent:.2g}%"
    if 99 < percent < 100:
        return f"{min(percent, 99.9):.1f}%"
    return f"{percent:.0f}%"


def figure(value: float | str) -> str:
    """Any other figure, in four digits at most where it is no whole number.

    Examples:
        >>> figure(0.2), figure(4205.0), figure(1234567.0), figure("fp8"), figure(2.69)
        ('0.2', '4,205', '1,234,567', 'fp8', '2.69')
    """
    if isinstance(value, str):
        return value
    if value == int(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _three(number: float) -> str:
    digits = 0 if number >= 99.5 else 1 if number >= 9.95 else 2
    text = f"{number:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


_USD = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def short_usd(amount: float) -> str:
    """US dollars with three digits, as on an axis; cents from one dollar to a thousand.

    Examples:
        >>> [short_usd(amount) for amount in (0.88, 1.5, 12.29, 12_345, -2e6, 0.0001, 0)]
        ['$0.88', '$1.50', '$12.29', '$12.3k', '-$2M', '$0.0001', '$0']
    """
    size = _rounded(abs(amount))
    scale, unit = next(((scale, unit) for scale, unit in _USD if size >= scale), (1.0, ""))
    text = f"{abs(amount):.2f}".removesuffix(".00") if 1 <= size < 1000 else _plain(size / scale)
    if text.startswith("0.") and len(text) == 3:
        text += "0"  # $0.50
    return f"{'-' if amount < 0 and size else ''}${text}{unit}"


def times(ratio: float) -> str:
    """A ratio.

    Examples:
        >>> times(1.004), times(1.5), times(12.34), times(1e6)
        ('1.004', '1.5', '12.3', '1000000')
    """
    return f"{ratio:.3f}" if 1 < ratio < 1.01 else _plain(_rounded(ratio))


def cut(text: str, length: int) -> str:
    """A text of limited length, without invisible characters."""
    from llama_client.costs.charts import readable

    text = readable(text)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _rounded(number: float) -> float:
    return float(f"{number:.2e}")


def _plain(number: float) -> str:
    text = f"{Decimal(f'{number:.2e}'):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
