"""What each request to a fault server gets: a fault of a plan, one drawn by chance, or a good answer. No I/O."""

from __future__ import annotations

import random
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from llama_client.testing.faults.answers import Asked
from llama_client.testing.faults.arguments import checked_name, checked_share
from llama_client.testing.faults.row import Fault
from llama_client.testing.faults.table import FAULTS, GOOD, fault
from llama_client.testing.loopback import Answer, as_json, cut, paced

# What is known of prompts is how often each was asked; the ones that were asked longest ago are forgotten.
_MOST_PROMPTS = 65_536
_MOST_PLANNED = 100_000
# Of the good streams that come by chance, those that do not say how many tokens they have.
_UNCOUNTED = 0.1
_SLOW_S = 0.1
_WORDS = ("llama", "alpaca", "vicuña", "guanaco", "hums", "spits", "überall", "よく", "\n", '"quoted"', "data:")
_NOT_FOR_DOOMED = ("StreamInterruptedError", "APITimeoutError")


@dataclass(frozen=True, slots=True)
class Rate:
    """Faults by chance.

    Attributes:
        share: Which share of the requests gets one.
        seed: Of the chance.
        names: Which are drawn; empty: all but the very long ones.
        slow: Which share of the good answers comes late and in pieces.
        failing_prompts: Prompts that begin so get one each time, and none that has to be waited for; None: none does.
    """

    share: float
    seed: int = 0
    names: Sequence[str] = ()
    slow: float = 0.0
    failing_prompts: str | None = None


@dataclass(frozen=True, slots=True)
class Dealt:
    """What a request gets.

    Attributes:
        name: The fault's name, or `GOOD`.
        text: The text of the good answer.
        answer: The answer.
    """

    name: str
    text: str
    answer: Answer


class FaultPlan:
    """Which fault is next. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: deque[str] = deque()
        self._always = GOOD
        self._rate: Rate | None = None
        self._asked: OrderedDict[tuple[str, str], int] = OrderedDict()

    def next(self, names: Sequence[str]) -> None:
        """The faults of the next chats, in the order in which they are read."""
        checked = [checked_name(name) for name in names]
        with self._lock:
            if len(self._next) + len(checked) > _MOST_PLANNED:
                raise ValueError(f"more than {_MOST_PLANNED:,} faults are planned: use always() or at_rate()")
            self._next.extend(checked)

    def always(self, name: str) -> None:
        """The fault of each chat that nothing else is planned for."""
        checked = checked_name(name)
        with self._lock:
            self._always, self._rate = checked, None

    def at_rate(self, rate: Rate) -> None:
        """The same, by chance."""
        checked_share(rate.share, "rate")
        checked_share(rate.slow, "slow")
        names = [fault(name).name for name in rate.names] or [name for name, each in FAULTS.items() if each.weight]
        with self._lock:
            self._always, self._rate = GOOD, replace(rate, names=names)
            self._asked.clear()

    def begin_anew(self) -> None:
        """Forgets what was asked how often, so that the same requests get the same again."""
        with self._lock:
            self._asked.clear()

    def deal(self, asked: Asked, named: str | None) -> Dealt:
        """What a request gets.

        Args:
            asked: The request.
            named: The fault that its address or its model's name asks for; None: neither does.
        """
        with self._lock:
            nth = self._count(asked) if asked.listing is None else 0
            rate = self._rate
            name = named or (self._next.popleft() if self._next and asked.listing is None else None)
        chance = random.Random(f"{rate.seed if rate else 0}/{asked.dialect.kind}/{asked.conversation}/{nth}")  # noqa: S311
        pieces = [f"{asked.dialect.kind} answers {asked.prompt} at try {nth}:"]
        pieces += [f" {word}" for word in chance.choices(_WORDS, k=chance.randrange(6))]
        if all(map(str.isascii, pieces)):
            pieces.append(" よく")  # what tears characters needs one
        asked = replace(asked, pieces=pieces, chance=chance)
        by_chance = name is None and rate is not None and asked.listing is None
        if by_chance:
            assert rate is not None
            name = _drawn(asked, rate)
        elif name is None:
            name = self._always if asked.listing is None else GOOD
        if name == GOOD:
            good = _varied(asked, rate) if by_chance and rate is not None else asked.good()
            return Dealt(GOOD, "".join(pieces), good)
        found = FAULTS[name]
        return Dealt(name, "".join(pieces) if found.text is None else found.text, _played(found, asked))

    def _count(self, asked: Asked) -> int:
        key = asked.dialect.kind, asked.conversation
        nth = self._asked.pop(key, 0) + 1
        self._asked[key] = nth
        if len(self._asked) > _MOST_PROMPTS:
            self._asked.popitem(last=False)
        return nth


def _played(found: Fault, asked: Asked) -> Answer:
    if found.fits(streams=asked.streams, kind=asked.dialect.kind):
        return found.answer(asked)
    if asked.listing is not None:
        return asked.good()
    if not found.fits(streams=asked.streams):
        wanted = "stream=true" if found.only == "stream" else "stream=false"
    else:
        wanted = f"the API of {' or '.join(found.kinds)}"
    return as_json({"error": {"message": f"the fault {found.name!r} needs {wanted}"}}, status=400)


def _drawn(asked: Asked, rate: Rate) -> str:
    is_doomed = rate.failing_prompts is not None and asked.prompt.startswith(rate.failing_prompts)
    if not is_doomed and asked.chance.random() >= rate.share:
        return GOOD
    known = [each for name in rate.names if (each := FAULTS[name]).fits(streams=asked.streams, kind=asked.dialect.kind)]
    if is_doomed:
        known = [each for each in known if each.errors and not any(name in _NOT_FOR_DOOMED for name in each.errors)]
    # What is never drawn by itself is drawn where it was named.
    weights = [each.weight or 1.0 for each in known]
    return asked.chance.choices(known, weights)[0].name if known else GOOD


def _varied(asked: Asked, rate: Rate) -> Answer:
    """A good answer as networks bring it: whole, event by event, in scraps, late."""
    answer = _counted(asked)
    if asked.chance.random() >= rate.slow:
        return answer
    # Late, and then in pieces, so that a hedge begins and streams are left in the middle.
    return paced(answer, _SLOW_S, first_s=_SLOW_S)


def _counted(asked: Asked) -> Answer:
    tokens = 1 + asked.chance.randrange(20), 1 + asked.chance.randrange(300)
    counts: dict[str, Any] = dict(zip(("prompt_tokens", "completion_tokens"), tokens, strict=True))
    usage = None if asked.dialect.is_ndjson else {**counts, "total_tokens": sum(tokens)}
    if not asked.streams:
        return asked.dialect.good(streams=False, text="".join(asked.pieces), usage=usage)
    pieces = [*asked.events(), *asked.dialect.ending()]
    if usage is not None and asked.chance.random() >= _UNCOUNTED:
        pieces.insert(-1, asked.dialect.counted(usage))
    answer = asked.stream(pieces)
    match asked.chance.randrange(10):
        case 0:  # in scraps, which end anywhere
            return Answer(cut(answer.content, asked.chance.randrange(20, 90)))
        case 1 | 2 | 3:  # event by event
            return answer
        case _:
            return Answer([answer.content])


def tally(names: Sequence[str]) -> dict[str, int]:
    """How often each name is there, the most frequent first."""
    return dict(Counter(names).most_common())
