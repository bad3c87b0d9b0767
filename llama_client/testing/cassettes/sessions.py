"""Cassettes as tests use them: blocks in which every client of the process is recorded or played to."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from llama_client.client import Seams
from llama_client.config.environment import CASSETTE_VARIABLE
from llama_client.testing.cassettes.errors import CassetteError, UnrecordedRequestError
from llama_client.testing.cassettes.exchanges import Exchange
from llama_client.testing.cassettes.files import load, require_writable, save
from llama_client.testing.cassettes.leaping import LeapingTime
from llama_client.testing.cassettes.matching import Deck, described, wanted
from llama_client.testing.cassettes.playback import Playback, Timing
from llama_client.testing.cassettes.player import Player
from llama_client.testing.cassettes.recorder import Recorder
from llama_client.testing.cassettes.refreshing import Refresher
from llama_client.testing.cassettes.spool import CASSETTE, Spool
from llama_client.testing.cassettes.tracks import Order
from llama_client.testing.seams import has_clock, using

if TYPE_CHECKING:
    from llama_client.providers.http.interceptor import Interceptor
    from llama_client.testing.clock import FakeClock

# `replay`: only answers; `record`: all anew; `once`: records where there is no file; `refresh`: what is missing.
Mode = Literal["replay", "record", "once", "refresh"]
_MODES = get_args(Mode)


class Cassette:
    """A cassette in use.

    Attributes:
        path: The file.
        mode: `replay`, `record` or `refresh`.
        interceptor: What stands between clients and their providers; see `llama_client.testing.using`.
        missing: The requests that had no answer.
    """

    def __init__(
        self,
        path: Path,
        mode: Literal["replay", "record", "refresh"],
        *,
        timing: Timing = "at_once",
        clock: FakeClock | None = None,
        ignore: Sequence[str] = (),
        repeat: bool = False,
        is_once: bool = False,
    ) -> None:
        self.path = path
        self.mode = mode
        self._is_once = is_once
        self._has_failed = False
        self.missing: list[UnrecordedRequestError] = []
        self._found: list[tuple[Order, Exchange]] = []
        self._lock = threading.Lock()
        if mode != "replay":
            # Before anything is paid for.
            require_writable(path)
        self._before = load(path) if mode == "replay" or (mode == "refresh" and path.exists()) else []
        self.deck = Deck(self._before, ignore=ignore, repeat=repeat, is_refreshed=mode == "refresh")
        recorder = Recorder(self._keep)
        self._close = recorder.keeping.close
        player = Player(Playback(self.deck, timing=timing, clock=clock, missing=self._note))
        self.interceptor: Interceptor
        match mode:
            case "replay":
                self.interceptor = player
            case "record":
                self.interceptor = recorder
            case "refresh":
                self.interceptor = Refresher(player, recorder)

    @property
    def recorded(self) -> list[Exchange]:
        """The exchanges that were recorded anew, in the order in which their requests were sent."""
        with self._lock:
            return [exchange for _, exchange in sorted(self._found, key=lambda pair: pair[0])]

    @property
    def unused(self) -> list[str]:
        """The recorded requests that nothing asked for, such as `groq: POST chat/completions`."""
        return [wanted(each).title for each in self.deck.unused]

    @property
    def changes(self) -> list[str]:
        """What `refresh` changes in the file: a line for each exchange that is dropped or recorded anew."""
        dropped = [] if self._has_failed else [f"- {described(each)}" for each in self.deck.unused]
        return [*dropped, *(f"+ {described(each)}" for each in self.recorded)]

    def assert_all_used(self) -> None:
        """Fails where a recorded exchange has answered nothing.

        Raises:
            AssertionError: Names them.
        """
        unused = self.unused
        assert not unused, f"{self.path}: {len(unused)} recorded exchanges were not asked for: {'; '.join(unused[:5])}"

    def raise_missing(self) -> None:
        """Raises the first request that had no answer, which the program may have caught; once.

        Raises:
            UnrecordedRequestError: As it was raised there.
        """
        if self.missing and not self._has_failed:
            self._has_failed = True
            raise self.missing[0]

    def fail(self) -> None:
        """Says that the test has failed, so that what it did not ask for is not dropped: it may not have come to it."""
        self._has_failed = True

    def save(self) -> None:
        """Writes what was recorded, also of answers that are still being read.

        Raises:
            CassetteError: The file cannot be written.
        """
        self._close()
        recorded, has_failed = self.recorded, self._has_failed
        match self.mode:
            case "record" if not has_failed or (recorded and not self._is_once):
                save(self.path, recorded)
            case "refresh" if self.changes:
                save(self.path, [*(self._before if has_failed else self.deck.taken), *recorded])
            case _:
                pass

    def _keep(self, order: Order, exchange: Exchange) -> None:
        with self._lock:
            self._found.append((order, exchange))

    def _note(self, error: UnrecordedRequestError) -> None:
        with self._lock:
            if self.mode == "replay":
                self.missing.append(error)


@contextmanager
def cassette(
    path: str | os.PathLike[str],
    mode: Mode = "replay",
    *,
    timing: Timing = "at_once",
    clock: FakeClock | None = None,
    ignore: Sequence[str] = (),
    repeat: bool = False,
) -> Iterator[Cassette]:
    """Within it, every client of this process that is opened is recorded, or answered from a file.

    Args:
        path: The cassette; its folder is created.
        mode: `replay` answers from the file alone: no socket, no key, no model. `record` asks the real providers, and
            writes the file anew at the end; where the block failed, what it had asked until then. `once` records where
            there is no file, unless the block fails, and replays where there is one. `refresh` replays what fits,
            records the rest, and drops what was not asked for, unless the block fails. Costs go to the clients'
            ledger, but of a replay into one in memory, as it cost nothing.
        timing: `at_once`: without the pauses between the pieces of an answer, and without waits between attempts; or
            `recorded`: with the pauses as they were.
        clock: Whose time the pauses take; None: the real one. It also becomes the clients' own.
        ignore: Fields of requests that are not compared: `seed`, or `metadata.user` for one below another.
        repeat: Whether a request may be answered more often than it was recorded.

    Yields:
        The cassette in use.

    Raises:
        CassetteError: The file is missing, no cassette, or cannot be written; or an argument is wrong.
        UnrecordedRequestError: At the end, where a request had no answer and the program has caught that.

    Example:
        with cassette("cassettes/chat.json", "once") as tape, LlamaClient() as client:
            print(client.ask("Why do llamas hum?", max_tokens=20).text)
        tape.assert_all_used()
    """
    file = Path(path)
    _require_known("mode", mode, _MODES, file)
    _require_known("timing", timing, get_args(Timing), file)
    if isinstance(ignore, str):
        raise CassetteError(f"ignore: must be a list of names, as in [{ignore!r}], got {ignore!r}", file=file)
    is_once = mode == "once"
    if mode == "once":
        mode = "replay" if file.exists() else "record"
    tape = Cassette(file, mode, timing=timing, clock=clock, ignore=ignore, repeat=repeat, is_once=is_once)
    plays = tape.interceptor.plays
    own_clock = LeapingTime().clock if plays and timing == "at_once" and clock is None and not has_clock() else clock
    try:
        with using(interceptor=tape.interceptor, clock=own_clock, ledger_url="memory" if plays else None):
            yield tape
    except BaseException:
        # What was recorded until then was paid for.
        tape.fail()
        tape.save()
        raise
    tape.save()
    tape.raise_missing()


def _require_known(name: str, value: str, known: Sequence[str], file: Path) -> None:
    if value not in known:
        raise CassetteError(f"{name}: must be one of {', '.join(known)}, got {value!r}", file=file)


@contextmanager
def recording(path: str | os.PathLike[str]) -> Iterator[Cassette]:
    """Within it, all exchanges of every client that is opened are recorded: `cassette(path, "record")`.

    Args:
        path: The cassette, which is written at the end.

    Yields:
        The cassette in use.

    Raises:
        CassetteError: The file cannot be written.
    """
    with cassette(path, "record") as tape:
        yield tape


@contextmanager
def replaying(
    path: str | os.PathLike[str],
    *,
    timing: Timing = "at_once",
    clock: FakeClock | None = None,
    ignore: Sequence[str] = (),
    repeat: bool = False,
) -> Iterator[Cassette]:
    """Within it, every client that is opened is answered from a file: `cassette(path, "replay")`.

    Args:
        path: The cassette.
        timing: As of `cassette`.
        clock: As of `cassette`.
        ignore: As of `cassette`.
        repeat: As of `cassette`.

    Yields:
        The cassette in use.

    Raises:
        CassetteError: The file is missing, or no cassette.
        UnrecordedRequestError: At the end, where a request had no answer and the program has caught that.
    """
    with cassette(path, "replay", timing=timing, clock=clock, ignore=ignore, repeat=repeat) as tape:
        yield tape


_of_environment: dict[str, Seams] = {}
_lock = threading.Lock()


def of_environment(environ: Mapping[str, str] = os.environ) -> Seams:
    """What `LLAMA_CLIENT_CASSETTE` puts into each client of this process: `MODE:PATH`.

    `llama-client record` sets it. PATH is its folder, to which each process appends; or a cassette, with `replay`.

    Args:
        environ: The environment.

    Raises:
        CassetteError: The value is wrong, or the cassette cannot be read.
    """
    value = environ[CASSETTE_VARIABLE]
    with _lock:
        if value not in _of_environment:
            interceptor = _made(value)
            # What is replayed waits for nothing, and cost nothing.
            _of_environment[value] = (
                Seams(clock=LeapingTime().clock, interceptor=interceptor, ledger_url="memory")
                if interceptor.plays
                else Seams(interceptor=interceptor)
            )
        return _of_environment[value]


def _made(value: str) -> Interceptor:
    mode, _, name = value.partition(":")
    path = Path(name)
    if mode not in ("replay", "record", "refresh") or not name or (mode != "replay" and not path.is_dir()):
        message = f"{CASSETTE_VARIABLE}: must be replay:FILE, as in replay:cassettes/chat.json"
        raise CassetteError(f"{message}; to record, run llama-client record --to FILE -- COMMAND")
    if not path.is_dir():
        return Player(Playback(Deck(load(path))))
    spool, file = Spool(path), path / CASSETTE
    recorder = Recorder(spool.exchange)
    atexit.register(recorder.keeping.close)
    if mode == "record":
        return recorder
    missing: Callable[[Any], None] = (lambda error: spool.missing(str(error))) if mode == "replay" else lambda _: None
    before = load(file) if file.exists() else []
    deck = Deck(before, is_refreshed=mode == "refresh", on_used=spool.used)
    player = Player(Playback(deck, missing=missing))
    return player if mode == "replay" else Refresher(player, recorder)
