"""Figures as text: long in sentences and tables, short in plots."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

_TOKEN_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_USD_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))

_NAMES = {
    "tokens_per_second": "tokens a second",
    "slo_derate": "rate left by the limits of waiting",
    "max_utilisation": "planned utilisation",
    "peak_to_mean": "peak to mean",
    "gpu_usd_per_hour": "rent of a GPU-hour",
    "ops_usd_per_month": "staff a month",
    "spare": "spare replicas",
    "usd_per_gpu": "price of a GPU",
    "computer_usd": "price of a computer",
    "colocation_usd_per_kw": "a kilowatt's place in a data centre",
    "serverless_usd_per_gpu_second": "price of a serverless GPU",
    "residual_share": "worth at the end",
    "pue": "power usage effectiveness",
    "usd_per_kwh": "a kilowatt-hour",
    "gpus_per_computer": "GPUs of a computer",
    "tpot_limit_ms": "limit between two tokens",
    "ttft_limit_s": "limit to the first token",
    "idle_w": "power of an idle GPU",
    "load_w": "power of a GPU under load",
    "node_factor": "power of the computer for each watt of its GPUs",
    "yearly_interest": "interest a year",
    "months": "period of depreciation",
}


def in_words(name: str) -> str:
    """A figure's name for people."""
    return _NAMES.get(name, name.replace("_", " "))


def tokens(number: float) -> str:
    """Tokens in three digits: `440 M`, `7.41 G`."""
    for step, letter in _TOKEN_UNITS:
        if _rounded(number) >= step:
            return f"{_three(number / step)} {letter}"
    return _three(number) if number == 0 or number >= 0.1 else _plain(number)


def usd(amount: float) -> str:
    """US dollars: whole ones from a thousand on, cents below, three digits below a dollar."""
    sign, size = "-" if amount < 0 else "", abs(amount)
    if size == 0:
        return "$0"
    if size >= 999.995:  # from here on, cents would make it a thousand
        return f"{sign}${size:,.0f}"
    return f"{sign}${size:,.2f}" if size >= 1 else f"{sign}${_plain(size)}"


def share(part: float) -> str:
    """In percent; only exactly 0 and 1 are `0%` and `100%`."""
    percent = part * 100
    if 0 < percent < 1:
        return f"{percent:.2g}%"
    if 99 < percent < 100:
        return f"{min(percent, 99.9):.1f}%"
    return f"{percent:.0f}%"


def figure(value: float | str) -> str:
    """Any other figure, in four digits at most where it is no whole number."""
    if isinstance(value, str):
        return value
    is_whole = value == int(value) and abs(value) < 1e15
    return f"{value:,.0f}" if is_whole or abs(value) >= 1000 else f"{value:.4g}"


def short_usd(amount: float) -> str:
    """US dollars with three digits, as on an axis; cents from one dollar to a thousand."""
    size = _rounded(abs(amount))
    scale, unit = next(((scale, unit) for scale, unit in _USD_UNITS if size >= scale), (1.0, ""))
    text = f"{abs(amount):.2f}".removesuffix(".00") if 1 <= size < 1000 else _plain(size / scale)
    if text.startswith("0.") and len(text) == 3:
        text += "0"  # $0.50
    return f"{'-' if amount < 0 and size else ''}${text}{unit}"


def iso_day(day: date | None) -> str | None:
    """A day as JSON has it; None: not known."""
    return None if day is None else day.isoformat()


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def times(ratio: float) -> str:
    return f"{ratio:.3f}" if 1 < ratio < 1.01 else _plain(_rounded(ratio))


def cut(text: str, length: int) -> str:
    """A text of limited length, without invisible characters."""
    from llama_client.costs.charts import readable

    text = readable(text)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _rounded(number: float) -> float:
    return float(f"{number:.2e}")


def _three(number: float) -> str:
    digits = 0 if number >= 99.5 else 1 if number >= 9.95 else 2
    return _trimmed(f"{number:,.{digits}f}")


def _plain(number: float) -> str:
    return _trimmed(f"{Decimal(f'{number:.2e}'):f}")


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
