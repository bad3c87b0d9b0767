"""Which recorded exchange answers a request: the same provider, method, path and content, whatever its spelling."""

from __future__ import annotations

import difflib
import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from llama_client.testing.cassettes.errors import UnrecordedRequestError
from llama_client.testing.cassettes.exchanges import Asked, EngineExchange, Exchange
from llama_client.testing.cassettes.scrubbing import MARK

_MAX_SHOWN_LINES = 24
_MAX_SHOWN_CHARS = 120
_MAX_TITLE_CHARS = 40
# Longer texts are compared by what they begin with, as comparing takes the square of their length.
_MAX_COMPARED_LINES = 2000


class Wanted(NamedTuple):
    """A request as it is matched.

    Attributes:
        provider: The configured name.
        verb: The method, or `chat` for a provider in this process.
        place: The path, or the model there.
        content: The canonical content.
    """

    provider: str
    verb: str
    place: str
    content: Any

    @property
    def key(self) -> str:
        return json.dumps([*self], sort_keys=True, ensure_ascii=False)

    @property
    def title(self) -> str:
        return f"{self.provider}: {self.verb} {self.place}"


def canonical(value: Any) -> Any:
    """A JSON value in one spelling: without what is None, and 1.0 is 1."""
    match value:
        case dict():
            return {name: canonical(below) for name, below in value.items() if below is not None}
        case list() | tuple():
            return [canonical(each) for each in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


def wanted(exchange: Exchange, ignore: Iterable[str] = ()) -> Wanted:
    """What a recorded exchange answers."""
    if isinstance(exchange, EngineExchange):
        asked = exchange.asked
        return asking(exchange.provider, "chat", asked.model, asked.params, ignore)
    request = exchange.request
    return asking(exchange.provider, request.method, request.path, request.body, ignore)


def described(exchange: Exchange) -> str:
    """What a recorded exchange answers, for a reader who has many of them: with the model and the last message."""
    asked = wanted(exchange)
    content = asked.content if isinstance(asked.content, dict) else {}
    messages = content.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    text = last.get("content") if isinstance(last, dict) else None
    words = [asked.title, *([content["model"]] if isinstance(content.get("model"), str) else ())]
    if isinstance(text, str):
        words.append(json.dumps(text[:_MAX_TITLE_CHARS] + "…" * (len(text) > _MAX_TITLE_CHARS), ensure_ascii=False))
    return " ".join(words)


def asking(provider: str, verb: str, place: str, content: Any, ignore: Iterable[str] = ()) -> Wanted:
    """What a request asks.

    Args:
        provider: The configured name.
        verb: The method, or `chat`.
        place: The path, or the model.
        content: The JSON value of the body.
        ignore: Fields without meaning, such as `seed` or `metadata.user`.
    """
    content = canonical(content)
    for name in ignore:
        content = _without(content, name.split("."))
    return Wanted(provider, verb, place, content)


class Deck:
    """The exchanges of a cassette, each of which answers once. Safe to share between threads.

    Args:
        exchanges: In the order in which they were recorded.
        ignore: Fields that are not compared.
        repeat: Whether the last answer to a request is given again and again.
        is_refreshed: Whether an answer that its reader broke off is asked for anew: it may be read further now.
        on_used: Called with the number of each exchange that answers.
    """

    def __init__(
        self,
        exchanges: Sequence[Exchange],
        *,
        ignore: Sequence[str] = (),
        repeat: bool = False,
        is_refreshed: bool = False,
        on_used: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._on_used = on_used
        self._exchanges = exchanges
        self._ignore = tuple(ignore)
        self._repeat = repeat
        self._lock = threading.Lock()
        self._wanted = [wanted(each, self._ignore) for each in exchanges]
        self._left: dict[str, deque[int]] = {}
        # Where a secret stood: anything may stand there now.
        self._masked: list[int] = []
        for number, each in enumerate(self._wanted):
            if is_refreshed and _is_closed(exchanges[number]):
                continue
            if MARK in each.key:
                self._masked.append(number)
            self._left.setdefault(each.key, deque()).append(number)
        self._used: set[int] = set()

    def take(self, provider: str, verb: str, place: str, content: Any) -> Exchange:
        """The recorded exchange that answers a request.

        Raises:
            UnrecordedRequestError: There is none.
        """
        found = self.find(asking(provider, verb, place, content, self._ignore))
        if isinstance(found, UnrecordedRequestError):
            raise found
        return found

    def find(self, asked: Wanted) -> Exchange | UnrecordedRequestError:
        with self._lock:
            number = self._number(asked)
            if number is None:
                return self._unrecorded(asked)
            self._used.add(number)
            self._on_used(number)
            return self._exchanges[number]

    def engine(self, provider: str, model: str) -> Asked | None:
        """What is known of a model of a provider in this process."""
        for each in self._exchanges:
            if isinstance(each, EngineExchange) and (each.provider, each.asked.model) == (provider, model):
                return each.asked
        return None

    def models(self, provider: str) -> list[str]:
        """The models of a provider in this process that answered."""
        engines = (each for each in self._exchanges if isinstance(each, EngineExchange))
        return list(dict.fromkeys(each.asked.model for each in engines if each.provider == provider))

    @property
    def unused(self) -> list[Exchange]:
        """The exchanges that have answered nothing yet."""
        with self._lock:
            return [each for number, each in enumerate(self._exchanges) if number not in self._used]

    @property
    def taken(self) -> list[Exchange]:
        """The exchanges that have answered, in the order in which they were recorded."""
        with self._lock:
            return [self._exchanges[number] for number in sorted(self._used)]

    def _number(self, asked: Wanted) -> int | None:
        same = self._left.get(asked.key)
        numbers = list(same or ()) or [number for number in self._masked if _fits(self._wanted[number], asked)]
        left = [number for number in numbers if number not in self._used]
        if same and left:
            while same and same[0] in self._used:
                same.popleft()
        if left:
            return left[0]
        if self._repeat and numbers:
            return numbers[-1]
        return None

    def _unrecorded(self, asked: Wanted) -> UnrecordedRequestError:
        if not self._exchanges:
            return _error(asked, "the cassette holds no exchange", ())
        near = [number for number, each in enumerate(self._wanted) if each[:3] == asked[:3]]
        spent = [number for number in near if _fits(self._wanted[number], asked)]
        if spent:
            times = f"{len(spent)} time{'s' if len(spent) > 1 else ''}"
            return _error(
                asked, f"it was recorded {times}, and each has answered already (repeat=True allows more)", ()
            )
        if not near:
            known = dict.fromkeys(each.title for each in self._wanted)
            return _error(asked, f"recorded are: {'; '.join(list(known)[:5])}", ())
        nearest = min(near, key=lambda number: (number in self._used, _distance(self._wanted[number], asked)))
        difference = _difference(self._wanted[nearest].content, asked.content)
        return _error(asked, f"the nearest recorded request is exchanges[{nearest}]:", difference)


def _error(asked: Wanted, why: str, difference: tuple[str, ...]) -> UnrecordedRequestError:
    lines = "".join(f"\n  {line}" for line in difference)
    remedy = 'Record it with mode="refresh", or with llama-client record --refresh.'
    message = f"no recorded answer to {asked.title}: {why}{lines}\n{remedy}"
    target = f"{asked.provider}/{asked.place}" if asked.verb == "chat" else None
    return UnrecordedRequestError(message, provider=asked.provider, target=target, difference=difference)


def _is_closed(exchange: Exchange) -> bool:
    answered = exchange.produced if isinstance(exchange, EngineExchange) else exchange.answer
    return answered.end == "closed"


def _without(value: Any, path: Sequence[str]) -> Any:
    if not isinstance(value, dict) or path[0] not in value:
        return value
    if len(path) == 1:
        return {name: below for name, below in value.items() if name != path[0]}
    return {**value, path[0]: _without(value[path[0]], path[1:])}


def _fits(recorded: Wanted, asked: Wanted) -> bool:
    return recorded[:3] == asked[:3] and _same(recorded.content, asked.content)


def _same(recorded: Any, asked: Any) -> bool:
    """Whether two values are equal, but for what a mark stands for."""
    if isinstance(recorded, str) and isinstance(asked, str):
        return recorded == asked or (MARK in recorded and _has_parts(asked, recorded.split(MARK)))
    if isinstance(recorded, dict) and isinstance(asked, dict):
        return recorded.keys() == asked.keys() and all(_same(below, asked[name]) for name, below in recorded.items())
    if isinstance(recorded, list) and isinstance(asked, list):
        return len(recorded) == len(asked) and all(map(_same, recorded, asked))
    return bool(recorded == asked) and isinstance(recorded, bool) == isinstance(asked, bool)


def _has_parts(text: str, parts: Sequence[str]) -> bool:
    """Whether a text has these parts in order, begins with the first and ends with the last; in linear time."""
    first, *middle, last = parts
    if not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return at <= end


def _distance(recorded: Wanted, asked: Wanted) -> int:
    one, other = set(_shown(recorded.content)), set(_shown(asked.content))
    return len(one ^ other)


def _shown(content: Any) -> list[str]:
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
    return text.splitlines()[:_MAX_COMPARED_LINES]


def _difference(recorded: Any, asked: Any) -> tuple[str, ...]:
    """The lines that differ, `-` as recorded and `+` as asked."""
    lines = difflib.unified_diff(_shown(recorded), _shown(asked), "recorded", "asked", n=1, lineterm="")
    changed = [line for line in lines if not line.startswith("@@")]
    shown = [line if len(line) <= _MAX_SHOWN_CHARS else f"{line[:_MAX_SHOWN_CHARS]}…" for line in changed]
    if len(shown) > _MAX_SHOWN_LINES:
        shown = [*shown[:_MAX_SHOWN_LINES], f"… and {len(shown) - _MAX_SHOWN_LINES} more lines"]
    return tuple(shown)
