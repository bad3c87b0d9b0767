"""The formats of strings, each as a pattern of texts that every reader of it accepts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

# Years of four digits; 29 February in leap years alone.
_LEAP = r"([1-9]\d(0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)"
_DAYS = r"((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))"
DATE = rf"([1-9]\d\d\d-{_DAYS}|{_LEAP}-02-29)"
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?"
_OFFSET = r"(Z|[+-](0\d|1[0-3]):[0-5]\d)"
TIME = rf"{_CLOCK}{_OFFSET}"
_IN_DAY = r"T(\d{1,2}H([0-5]?\dM)?([0-5]?\dS)?|\d{1,3}M([0-5]?\dS)?|\d{1,5}S)"
_DURATION = rf"P(\d{{1,4}}D({_IN_DAY})?|{_IN_DAY}|\d{{1,3}}W)"
_HEX = "[0-9a-f]"
_V4 = r"((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_GROUP = r"(0|[1-9a-f][0-9a-f]{0,3})"
_V6 = rf"(({_GROUP}:){{7}}{_GROUP}|({_GROUP}:){{1,5}}:{_GROUP}|::{_GROUP}|::)"
_BYTE = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_V4_NETWORK = rf"({_BYTE}\.0\.0\.0/8|{_BYTE}\.{_BYTE}\.0\.0/16|{_BYTE}\.{_BYTE}\.{_BYTE}\.0/24|{_V4}/32)"
_V6_NETWORK = rf"({_GROUP}:{_GROUP}::/32|{_GROUP}:{_GROUP}:{_GROUP}::/48|{_GROUP}:{_GROUP}:{_GROUP}:{_GROUP}::/64)"
_LABEL = r"[a-z0-9]{1,20}(-[a-z0-9]{1,20}){0,2}"
# The endings of longer than three letters hold those that stand for no host: `test`, `local`, `invalid` and others.
_TOP = "([a-z]{2,3}|info|name|museum|tech|shop|online|store|site|email)"
_HOST = rf"{_LABEL}(\.{_LABEL}){{0,4}}\.{_TOP}"
_LOCAL = r"[A-Za-z0-9]{1,20}([._+-][A-Za-z0-9]{1,20}){0,2}"
_MAIL = rf"{_LOCAL}@{_HOST}"
_AUTHORITY = rf"({_HOST}|localhost|{_V4})(:[1-9]\d{{0,3}})?"
_PATH_CHARS = r"([A-Za-z0-9._~!$&'()*+,;=:@-]|%[2-7][0-9A-F])"
_REST = rf"(/{_PATH_CHARS}{{0,40}}){{0,6}}(\?({_PATH_CHARS}|[/?]){{1,80}})?(#({_PATH_CHARS}|[/?]){{1,40}})?"
_URL = rf"(https?|ftp|wss?)://{_AUTHORITY}{_REST}"
_URI = rf"({_URL}|mailto:{_MAIL}|(urn|tag|tel):[A-Za-z0-9:._,+-]{{1,80}}|file:///({_PATH_CHARS}{{1,60}}/?){{1,5}})"


def _base64(high: str) -> str:
    """Of ASCII text, so that what takes text, and not bytes, is served as well: no byte has its highest bit."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789" + high

    def some(fits: Sequence[int]) -> str:
        return "[" + "".join("\\" + alphabet[i] if alphabet[i] in "-/+" else alphabet[i] for i in fits) + "]"

    first = some(range(32))
    second, last_second = some([i for i in range(64) if not i & 8]), some([0, 16, 32, 48])
    third, last_third = some([i for i in range(64) if not i & 2]), some(range(0, 64, 4))
    fourth = some(range(64))
    return f"({first}{second}{third}{fourth})*({first}{last_second}==|{first}{second}{last_third}=)?"


# Rust's `regex` and Python's `re` take these, and JavaScript.
_REGEX = r"\^?((\\[dwsDWS.]|\.|[A-Za-z0-9 _@%,;:/-]|\[[A-Za-z0-9 _]{1,20}\])([*+?]|\{[1-9]\})?){1,40}\$?"

PATTERNS = {
    "date": DATE,
    "date-time": rf"{DATE}T{TIME}",
    "time": TIME,
    "duration": _DURATION,
    "uuid": rf"{_HEX}{{8}}-{_HEX}{{4}}-[1-5]{_HEX}{{3}}-[89ab]{_HEX}{{3}}-{_HEX}{{12}}",
    **{f"uuid{n}": rf"{_HEX}{{8}}-{_HEX}{{4}}-{n}{_HEX}{{3}}-[89ab]{_HEX}{{3}}-{_HEX}{{12}}" for n in range(1, 9)},
    "email": _MAIL,
    "idn-email": _MAIL,
    "name-email": rf"({_MAIL}|[A-Za-z]{{1,20}}( [A-Za-z]{{1,20}}){{0,3}} <{_MAIL}>)",
    "hostname": _HOST,
    "idn-hostname": _HOST,
    "ipv4": _V4,
    "ipv6": _V6,
    "ipvanyaddress": f"({_V4}|{_V6})",
    "ipv4network": _V4_NETWORK,
    "ipv6network": _V6_NETWORK,
    "ipvanynetwork": f"({_V4_NETWORK}|{_V6_NETWORK})",
    "ipv4interface": rf"{_V4}/([12]?\d|3[0-2])",
    "ipv6interface": rf"{_V6}/([1-9]?\d|1[01]\d|12[0-8])",
    "ipvanyinterface": rf"({_V4}/([12]?\d|3[0-2])|{_V6}/([1-9]?\d|1[01]\d|12[0-8]))",
    "uri": _URI,
    "iri": _URI,
    "uri-reference": rf"({_URI}|/{_PATH_CHARS}{{1,60}}{_REST})",
    "iri-reference": rf"({_URI}|/{_PATH_CHARS}{{1,60}}{_REST})",
    "uri-template": _URI,
    "multi-host-uri": rf"[a-z]{{2,12}}://({_LOCAL}(:[A-Za-z0-9]{{1,20}})?@)?{_AUTHORITY}(/[A-Za-z0-9_-]{{1,40}})?",
    "json-pointer": r"(/([^~/\n]|~[01])*)*",
    "relative-json-pointer": r"(0|[1-9]\d{0,2})(#|(/([^~/\n]|~[01])*)*)",
    "base64": _base64("+/"),
    "byte": _base64("+/"),
    "base64url": _base64("-_"),
    "regex": _REGEX,
    "color": "#[0-9a-f]{6}",
    "mac-address": "([0-9a-f]{2}:){5}[0-9a-f]{2}",
}
# With and without a time zone; a text of neither kind is fit for who takes the other.
NAIVE_DATE_TIME = rf"{DATE}T{_CLOCK}"
NAIVE_TIME = _CLOCK
# Any text has these.
FREE = frozenset({"password", "path", "binary", "json-string"})


def url_of(schemes: Sequence[str]) -> str:
    """Addresses with one of these schemes, in small letters, digits, `+`, `-` and `.`."""
    names = "|".join(name.replace("+", r"\+").replace(".", r"\.") for name in schemes)
    rest = rf"/({_PATH_CHARS}{{1,60}}/?){{1,5}}" if list(schemes) == ["file"] else f"{_AUTHORITY}{_REST}"
    return f"({names})://{rest}"


@lru_cache(maxsize=1024)
def seconds_between(first: int, last: int) -> str:
    """Durations of so many whole seconds, both included, neither negative."""
    options = []
    for digits in range(len(str(first)), len(str(last)) + 1):
        low, high = max(first, 10 ** (digits - 1) if digits > 1 else 0), min(last, 10**digits - 1)
        options += _digits(str(low), str(high))
    return f"PT({'|'.join(options)})S"


@lru_cache(maxsize=1024)
def days_between(first: tuple[int, int, int], last: tuple[int, int, int]) -> str:
    """The days from one to another, both included, but 29 February."""
    options = []
    for year, low, high in _years(first, last):
        if low == (1, 1) and high == (12, 31):
            options.append(rf"{year}-{_DAYS}")
        else:
            options += [f"{year}-{each}" for each in _months(low, high)]
    return "(" + "|".join(options) + ")"


_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_Day = tuple[int, int]


def _years(first: tuple[int, int, int], last: tuple[int, int, int]) -> list[tuple[str, _Day, _Day]]:
    begin, end = (1, 1), (12, 31)
    low, high = first[1:], last[1:]
    if first[0] == last[0]:
        return [(f"{first[0]:04}", low, high)]
    parts = [(f"{first[0]:04}", low, end), (f"{last[0]:04}", begin, high)]
    if last[0] - first[0] > 1:
        parts.append((_year_range(first[0] + 1, last[0] - 1), begin, end))
    return parts


def _year_range(first: int, last: int) -> str:
    """Between two years of four digits."""
    return "(" + "|".join(_digits(f"{first:04}", f"{last:04}")) + ")"


def _digits(low: str, high: str) -> list[str]:
    if not low:
        return [""]
    if low == "0" * len(low) and high == "9" * len(high):
        return [rf"\d{{{len(low)}}}"]
    if low[0] == high[0]:
        return [low[0] + rest for rest in _digits(low[1:], high[1:])]
    options = [low[0] + rest for rest in _digits(low[1:], "9" * len(low[1:]))]
    if int(high[0]) - int(low[0]) > 1:
        middle = f"[{int(low[0]) + 1}-{int(high[0]) - 1}]"
        options.append(middle + (rf"\d{{{len(low) - 1}}}" if len(low) > 1 else ""))
    return options + [high[0] + rest for rest in _digits("0" * len(high[1:]), high[1:])]


def _months(low: _Day, high: _Day) -> list[str]:
    options = []
    for month in range(low[0], high[0] + 1):
        first = low[1] if month == low[0] else 1
        last = min(high[1] if month == high[0] else 31, _MONTH_DAYS[month - 1])
        if first <= last:
            options.append(f"{month:02}-({'|'.join(_digits(f'{first:02}', f'{last:02}'))})")
    return options
