"""Cassettes as tests use them: blocks in which every client of the process is recorded or played to."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llama_client.config.environment import CASSETTE_VARIABLE
from llama_client.testing.cassettes.errors import CassetteError, UnrecordedRequestError
from llama_client.testing.cassettes.exchanges import Exchange
from llama_client.testing.cassettes.files import load, save
from llama_client.testing.cassettes.matching import Deck, wanted
from llama_client.testing.cassettes.playback import Timing
from llama_client.testing.cassettes.player import Player
from llama_client.testing.cassettes.recorder import Recorder
from llama_client.testing.cassettes.refreshing import Refresher
from llama_client.testing.cassettes.spool import CASSETTE, Spool
from llama_client.testing.seams import using

if TYPE_CHECKING:
    from llama_client.providers.http.interceptor import Interceptor
    from llama_client.testing.clock import FakeClock

# `replay`: only answers; `record`: all anew; `once`: records where there is no file; `refresh`: what is missing.
Mode = Literal["replay", "record", "once", "refresh"]
_MODES = ("replay", "record", "once", "refresh")


class Cassette:
    """A cassette in use.

    Attributes:
        path: The file.
        mode: `replay`, `record` or `refresh`.
        interceptor: What stands between clients and their providers; see `llama_client.testing.using`.
        recorded: The exchanges that were recorded anew, in order.
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
    ) -> None:
        self.path = path
        self.mode = mode
        self.missing: list[UnrecordedRequestError] = []
        self._ignore = tuple(ignore)
        self._found: list[tuple[float, Exchange]] = []
        self._lock = threading.Lock()
        before = load(path) if mode == "replay" or (mode == "refresh" and path.exists()) else []
        self.deck = Deck(before, ignore=ignore, repeat=repeat)
        recorder = Recorder(self._keep)
        player = Player(self.deck, timing=timing, clock=clock, missing=self._note)
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
        with self._lock:
            return [exchange for _, exchange in sorted(self._found, key=lambda pair: pair[0])]

    @property
    def unused(self) -> list[str]:
        """The recorded requests that nothing asked for, such as `groq: POST chat/completions`."""
        return [wanted(each).title for each in self.deck.unused]

    @property
    def changes(self) -> list[str]:
        """What `refresh` changes in the file: a line for each exchange that is dropped or recorded anew."""
        dropped = [f"- {wanted(each).title}" for each in self.deck.unused]
        return [*dropped, *(f"+ {wanted(each).title}" for each in self.recorded)]

    def assert_all_used(self) -> None:
        """Fails where a recorded exchange has answered nothing.

        Raises:
            AssertionError: Names them.
        """
        unused = self.unused
        assert not unused, f"{self.path}: {len(unused)} recorded exchanges were not asked for: {'; '.join(unused[:5])}"

    def raise_missing(self) -> None:
        """Raises the first request that had no answer, which the program may have caught.

        Raises:
            UnrecordedRequestError: As it was raised there.
        """
        if self.missing:
            raise self.missing[0]

    def save(self) -> None:
        """Writes what was recorded.

        Raises:
            CassetteError: The file cannot be written.
        """
        if self.mode == "record":
            save(self.path, self.recorded)
        elif self.mode == "refresh" and self.changes:
            save(self.path, [*self.deck.taken, *self.recorded])

    def _keep(self, order: float, exchange: Exchange) -> None:
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
            writes the file anew at the end, also where the block failed. `once` records where there is no file, else
            replays. `refresh` replays what fits, records the rest, and drops what was not asked for.
        timing: `at_once`, or `recorded`: with the pauses between the pieces of an answer as they were.
        clock: Whose time these pauses take; None: the real one. It also becomes the clients' own.
        ignore: Fields of requests that are not compared: `seed`, or `metadata.user` for one below another.
        repeat: Whether a request may be answered more often than it was recorded.

    Yields:
        The cassette in use.

    Raises:
        CassetteError: The file is missing, no cassette, or cannot be written; or `mode` is unknown.
        UnrecordedRequestError: At the end, where a request had no answer and the program has caught that.

    Example:
        with cassette("cassettes/chat.json", "once") as tape, LlamaClient() as client:
            print(client.ask("Why do llamas hum?", max_tokens=20).text)
        tape.assert_all_used()
    """
    file = Path(path)
    if mode not in _MODES:
        raise CassetteError(f"mode: must be one of {', '.join(_MODES)}, got {mode!r}", file=file)
    if mode == "once":
        mode = "replay" if file.exists() else "record"
    tape = Cassette(file, mode, timing=timing, clock=clock, ignore=ignore, repeat=repeat)
    own_clock = clock.clock if clock is not None else None
    try:
        with using(interceptor=tape.interceptor, clock=own_clock):
            yield tape
    except BaseException:
        # What was recorded until then was paid for.
        tape.save()
        raise
    tape.save()
    tape.raise_missing()


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


_of_environment: dict[str, Interceptor] = {}
_lock = threading.Lock()


def of_environment(environ: Mapping[str, str] = os.environ) -> Interceptor:
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
            _of_environment[value] = _made(value)
        return _of_environment[value]


def _made(value: str) -> Interceptor:
    mode, _, name = value.partition(":")
    path = Path(name)
    if mode not in ("replay", "record", "refresh") or not name or (mode != "replay" and not path.is_dir()):
        message = f"{CASSETTE_VARIABLE}: must be replay:FILE, as in replay:cassettes/chat.json"
        raise CassetteError(f"{message}; to record, run llama-client record --to FILE -- COMMAND")
    if not path.is_dir():
        return Player(Deck(load(path)))
    spool, file = Spool(path), path / CASSETTE
    recorder = Recorder(spool.exchange)
    if mode == "record":
        return recorder
    missing: Callable[[Any], None] = (lambda error: spool.missing(str(error))) if mode == "replay" else lambda _: None
    deck = Deck(load(file) if file.exists() else [], on_used=spool.used)
    player = Player(deck, missing=missing)
    return player if mode == "replay" else Refresher(player, recorder)
