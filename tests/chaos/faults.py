"""Three targets on loopback that fail three times in ten, in a process of their own.

What each request gets hangs on the seed, the target, the call's marker and how often that call has asked this target,
and on nothing else: the same seed gives the same faults, in whichever order requests arrive. Everything that was read
is kept with its fault, so that a test can hold each attempt of the client's against what was done to it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from email.utils import formatdate
from pathlib import Path
from time import time
from types import TracebackType
from typing import Any, Self

from llama_client.testing.dialects import GROQ, OLLAMA, OPENAI, Dialect
from llama_client.testing.loopback import (
    Answer,
    Received,
    WireServer,
    as_json,
    cut,
    hangup,
    paced,
    silence,
    streamed,
    whole,
)

DIALECTS = {dialect.kind: dialect for dialect in (GROQ, OPENAI, OLLAMA)}
# A call whose marker begins so fails at every target, always.
DOOMED = "doomed"
_FAULTY = 0.3
# Of the good streams, those that do not say how many tokens they have.
_UNCOUNTED = 0.1
_SLOW_S = 0.1
_WORDS = ("llama", "alpaca", "vicuña", "guanaco", "hums", "spits", "überall", "よく", "\n", '"quoted"', "data:")
_ROOT = Path(__file__).parents[2]
_JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Ask:
    """One request as a fault sees it.

    Attributes:
        dialect: How the target talks.
        streams: Whether a stream was asked for.
        pieces: The answer that it would get.
        chance: This request's own.
    """

    dialect: Dialect
    streams: bool
    pieces: list[str]
    chance: random.Random

    def events(self) -> list[bytes]:
        """The answer's text as a stream, from its beginning."""
        return [self.dialect.preamble(), *(self.dialect.text(piece) for piece in self.pieces)]


@dataclass(frozen=True)
class Fault:
    """Something that a server does wrong.

    Attributes:
        answer: What it does.
        errors: The classes that the client may call it by.
        status: What the client may know as its HTTP status.
        weight: How often it happens, compared with the others.
        only: `stream` or `whole`, where it is none for the other.
        wait_s: The least and the most that the client is asked to wait; None: nothing is said.
    """

    answer: Callable[[Ask], Answer]
    errors: tuple[str, ...]
    status: tuple[int | None, ...]
    weight: float = 1.0
    only: str | None = None
    wait_s: tuple[float, float] | None = None


def _limited(headers: dict[str, str] | None = None, text: str = "slow down") -> Callable[[Ask], Answer]:
    body = {"error": {"message": text, "type": "requests", "code": "rate_limit_exceeded"}}
    return lambda ask: as_json(body, status=429, headers=headers)


def _in_a_second(*, with_date: bool) -> Callable[[Ask], Answer]:
    def answer(ask: Ask) -> Answer:
        now = time()
        headers = {"retry-after": formatdate(now + 1, usegmt=True)}
        if with_date:
            headers["date"] = formatdate(now, usegmt=True)
        return _limited(headers)(ask)

    return answer


def _short(ask: Ask) -> Answer:
    body = json.dumps(ask.dialect.whole("".join(ask.pieces))).encode()
    return whole(body[: len(body) // 2], headers=_JSON, content_length=len(body), then="close")


def _broken(end: Any, *more: bytes) -> Callable[[Ask], Answer]:
    """A stream that ends so before any content."""
    return lambda ask: streamed([ask.dialect.preamble(), *more], end, headers=ask.dialect.stream_headers)


def _broken_later(end: Any) -> Callable[[Ask], Answer]:
    """A stream that ends so after some of its content."""
    return lambda ask: _at_once(ask, streamed(ask.events(), end, headers=ask.dialect.stream_headers))


def _error_event(ask: Ask) -> bytes:
    return ask.dialect.event({"error": {"message": "the model went away", "type": "internal"}})


def _told(*, after_content: bool) -> Callable[[Ask], Answer]:
    """A stream that ends with an error in words."""

    def answer(ask: Ask) -> Answer:
        before = ask.events() if after_content else [ask.dialect.preamble()]
        return _at_once(ask, streamed([*before, _error_event(ask)], headers=ask.dialect.stream_headers))

    return answer


def _at_once(ask: Ask, answer: Answer) -> Answer:
    """Every other time in one piece, so that the content and the break may be read together."""
    return Answer([answer.content], answer.then) if ask.chance.random() < 0.5 else answer


def _garbage_event(ask: Ask) -> Answer:
    event = b"{no json\n" if ask.dialect.is_ndjson else b"data: {no json\n\n"
    return streamed([ask.dialect.preamble(), event], headers=ask.dialect.stream_headers)


# Waits of a second are rare, as each holds up a target for everybody.
_RATE, _BROKE, _LATE = ("RateLimitError",), ("APIConnectionError",), ("APITimeoutError",)
FAULTS: dict[str, Fault] = {
    "429": Fault(_limited(), _RATE, (429,)),
    "429 at once": Fault(_limited({"retry-after": "0"}), _RATE, (429,), wait_s=(0, 0)),
    "429 integer": Fault(_limited({"retry-after": "1"}), _RATE, (429,), weight=0.1, wait_s=(1, 1)),
    "429 decimal": Fault(_limited({"retry-after": "0.02"}), _RATE, (429,), wait_s=(0.02, 0.02)),
    "429 date": Fault(_in_a_second(with_date=True), _RATE, (429,), weight=0.1, wait_s=(1, 1)),
    # Dates know no fractions, and the two clocks are the same one.
    "429 date alone": Fault(_in_a_second(with_date=False), _RATE, (429,), weight=0.1, wait_s=(0, 1)),
    "429 milliseconds": Fault(_limited({"retry-after-ms": "20"}), _RATE, (429,), wait_s=(0.02, 0.02)),
    "429 reset": Fault(_limited({"x-ratelimit-reset-requests": "20ms"}), _RATE, (429,), wait_s=(0.02, 0.02)),
    "429 text": Fault(_limited(text="Please try again in 15ms."), _RATE, (429,), wait_s=(0.015, 0.015)),
    "500": Fault(lambda ask: as_json({"error": {"message": "oh"}}, status=500), ("ServerError",), (500,), weight=3),
    "502 html": Fault(
        lambda ask: whole(b"<html><h1>Bad gateway</h1></html>", status=502, headers={"content-type": "text/html"}),
        ("ServerError",), (502,), weight=3,
    ),
    "reset": Fault(lambda ask: hangup("reset"), _BROKE, (None,), weight=3),
    "hangup": Fault(lambda ask: hangup(), _BROKE, (None,), weight=3),
    # Each of these costs its call half of the time that is left.
    "stall": Fault(lambda ask: silence(), _LATE, (None,), weight=0.15),
    "garbage": Fault(lambda ask: whole(b"{no json", headers=_JSON), ("InvalidResponseError",), (200,), weight=2),
    "error in 200": Fault(
        lambda ask: as_json({"error": {"message": "oh", "type": "internal"}}), ("ServerError",), (200,)
    ),
    "short body": Fault(_short, _BROKE, (200,), weight=3, only="whole"),
    "preamble, cut": Fault(_broken("cut"), _BROKE, (200,), weight=2, only="stream"),
    "preamble, end": Fault(_broken("eof"), ("InvalidResponseError",), (200,), only="stream"),
    "preamble, reset": Fault(_broken("reset"), _BROKE, (200,), only="stream"),
    "preamble, stall": Fault(_broken("stall"), _LATE, (200,), weight=0.15, only="stream"),
    "preamble, error": Fault(_told(after_content=False), ("ServerError",), (200,), only="stream"),
    "garbage event": Fault(_garbage_event, ("InvalidResponseError",), (200,), only="stream"),
}  # fmt: skip
_INTERRUPTED = ("StreamInterruptedError",)
# Streams that break off after their content, which must not be retried. Where the connection itself breaks, the HTTP
# library may throw away what has not been read yet; then the attempt has failed before any content.
LATER: dict[str, Fault] = {
    "text, reset": Fault(_broken_later("reset"), (*_INTERRUPTED, *_BROKE), (200,)),
    "text, cut": Fault(_broken_later("cut"), (*_INTERRUPTED, *_BROKE), (200,)),
    "text, end": Fault(_broken_later("eof"), _INTERRUPTED, (200,)),
    "text, error": Fault(_told(after_content=True), _INTERRUPTED, (200,)),
    "text, stall": Fault(_broken_later("stall"), _INTERRUPTED, (200,), weight=0.2),
}
_LATER_SHARE = 0.02
GOOD = "good"


@dataclass(frozen=True, slots=True)
class Read:
    """A request that a server has read, and what came of it.

    Attributes:
        target: Which server.
        marker: The call's.
        fault: A name in `FAULTS` or `LATER`, or `GOOD`.
        text: The answer that it got, or would have got.
    """

    target: str
    marker: str
    fault: str
    text: str


class _Targets:
    """What the servers have in common: their chance, and the list of what they read, in order."""

    def __init__(self, seed: int, slow: float) -> None:
        self.reads: list[Read] = []
        self._seed = seed
        self._slow = slow
        self._asked: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._liveness = itertools.count()

    def answers(self, dialect: Dialect) -> Callable[[Received], Answer]:
        """What one of them does."""

        def answer(request: Received) -> Answer:
            if (request.method, request.path) != ("POST", dialect.path):
                # A silent Ollama is asked whether it is there: one that is may be loading, and is waited for longer.
                return as_json({"models": []}) if next(self._liveness) % 2 else as_json({"error": "no"}, status=404)
            body = request.json
            return self._answer(dialect, str(body["messages"][-1]["content"]), bool(body.get("stream")))

        return answer

    def _answer(self, dialect: Dialect, marker: str, streams: bool) -> Answer:
        with self._lock:
            self._asked[dialect.kind, marker] += 1
            nth = self._asked[dialect.kind, marker]
        chance = random.Random(f"{self._seed}/{dialect.kind}/{marker}/{nth}")
        pieces = [f"{dialect.kind} answers {marker} at try {nth}:"]
        pieces += [f" {word}" for word in chance.choices(_WORDS, k=chance.randrange(6))]
        ask = Ask(dialect, streams, pieces, chance)
        name = _drawn(ask, is_doomed=marker.startswith(DOOMED))
        self.reads.append(Read(dialect.kind, marker, name, "".join(pieces)))
        if name == GOOD:
            answer = _good(ask)
            if chance.random() >= self._slow:
                return answer
            # Late, and then in pieces, so that a hedge begins and streams are left in the middle.
            return paced(answer, _SLOW_S, first_s=_SLOW_S)
        return (FAULTS.get(name) or LATER[name]).answer(ask)


def _drawn(ask: Ask, *, is_doomed: bool) -> str:
    if not is_doomed:
        if ask.streams and ask.chance.random() < _LATER_SHARE:
            return ask.chance.choices([*LATER], [fault.weight for fault in LATER.values()])[0]
        if ask.chance.random() >= _FAULTY:
            return GOOD
    mode = "stream" if ask.streams else "whole"
    known = {name: fault.weight for name, fault in FAULTS.items() if fault.only in (None, mode)}
    if is_doomed:
        # These are asked nine times each; they need not be slow as well.
        known = {name: weight for name, weight in known.items() if "stall" not in name}
    return ask.chance.choices([*known], [*known.values()])[0]


def _good(ask: Ask) -> Answer:
    text, tokens = "".join(ask.pieces), (1 + ask.chance.randrange(20), 1 + ask.chance.randrange(300))
    counts: dict[str, Any] = dict(zip(("prompt_tokens", "completion_tokens"), tokens, strict=True))
    usage = None if ask.dialect.is_ndjson else {**counts, "total_tokens": sum(tokens)}
    if not ask.streams:
        return ask.dialect.good(streams=False, text=text, usage=usage)
    pieces = [*ask.events(), *ask.dialect.ending()]
    if usage is not None and ask.chance.random() >= _UNCOUNTED:
        pieces.insert(-1, ask.dialect.counted(usage))
    answer = streamed(pieces, headers=ask.dialect.stream_headers)
    wire = answer.content
    match ask.chance.randrange(10):
        case 0:  # in scraps, which end anywhere
            return Answer(cut(wire, ask.chance.randrange(20, 90)))
        case 1 | 2 | 3:  # event by event
            return answer
        case _:
            return Answer([wire])


class FaultServers:
    """The three servers, in their own process.

    Args:
        seed: Of their chance.
        slow: Which share of the good answers comes late.

    Attributes:
        urls: Their addresses, by kind.
    """

    def __init__(self, seed: int, *, slow: float = 0.0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.faults", "--seed", str(seed), "--slow", str(slow)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.urls: dict[str, str] = self._answer()

    def report(self) -> Report:
        """What they have seen since the last report. Waits a moment for every connection to be closed."""
        assert self._process.stdin is not None
        self._process.stdin.write("report\n")
        self._process.stdin.flush()
        told = self._answer()
        return Report([Read(**read) for read in told["reads"]], told["chats"], told["open"], told["malformed"])

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The end of its input ends it.
        try:
            self._process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


@dataclass(frozen=True, slots=True)
class Report:
    """What the servers have seen.

    Attributes:
        reads: Every chat, in the order in which they were read.
        chats: How many requests for a chat came in, by kind, as the connections counted them.
        open: How many connections are open still, by kind.
        malformed: How many requests were no HTTP.
    """

    reads: list[Read]
    chats: dict[str, int]
    open: dict[str, int]
    malformed: int


def _serve(seed: int, slow: float) -> None:
    targets = _Targets(seed, slow)
    with ExitStack() as stack:
        servers = {
            kind: stack.enter_context(WireServer(targets.answers(dialect))) for kind, dialect in DIALECTS.items()
        }
        _tell({kind: server.url for kind, server in servers.items()})
        for _ in sys.stdin:
            for server in servers.values():
                server.wait_until_idle()
            _tell(
                {
                    "reads": [asdict(read) for read in targets.reads],
                    "chats": {k: sum(r.method == "POST" for r in s.requests) for k, s in servers.items()},
                    "open": {kind: server.open_connections for kind, server in servers.items()},
                    "malformed": sum(len(server.malformed) for server in servers.values()),
                }
            )
            for seen in [targets.reads, *(each for s in servers.values() for each in (s.requests, s.malformed))]:
                seen.clear()


def _tell(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slow", type=float, default=0.0)
    options = parser.parse_args()
    _serve(options.seed, options.slow)
