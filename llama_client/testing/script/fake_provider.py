"""`FakeProvider`: plays every provider of the clients opened in its block, in memory, from a script."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, assert_never

from llama_client.providers.http.http1 import WireError
from llama_client.testing.loopback import Answer, Received
from llama_client.testing.script.asked import AskedRequest, Wanted, require_asked
from llama_client.testing.script.failures import Failing
from llama_client.testing.script.listings import Listings, config_of
from llama_client.testing.script.replies import Reply, Scripted
from llama_client.testing.script.script import Script, ScriptError, UnscriptedRequestError, called, failed
from llama_client.testing.script.spoken import spoken

if TYPE_CHECKING:
    from llama_client.testing.clock import FakeClock

# A function may give a function; more than that is a circle.
_MAX_DEPTH = 8
_HOW = 'script one with fake.says("...") or fake.always("...")'


class FakeProvider(Script):
    """Plays every provider of the clients that are opened in its block: Groq, Together, Ollama, GGUF files, any other.

    Each request, also that of an official client from `client.sdk`, gets the next reply of its target's script
    (`on("groq/openai/gpt-oss-20b")`), else of its provider's (`on("groq")`), else of this one, written as that provider
    writes it and read by the client's own code: costs, attempts, retries, fallbacks, budgets and circuit breakers are
    real. Nothing is connected to, and no key is read. Lists of models are answered, and images behind addresses are a
    small PNG.

    When the block ends, a request without a reply raises `UnscriptedRequestError`, whatever became of it before. A
    client that was opened before the block raises too. What is drawn by lot (waits, weighted targets) is the same in
    each run.

    Args:
        clock: A `FakeClock` for the clients: waits and pauses take no real time.

    Attributes:
        clock: The clock; None: the real one.
        requests: Every request for an answer, in order.
        faults: What raises when the block ends, in order: requests without a reply, and mistakes in the script. A test
            that expects one takes it out.

    Raises:
        TypeError: The clock is no `FakeClock`.

    Example:
        >>> from llama_client import LlamaClient
        >>> with FakeProvider().says("They do not know the words.") as fake:
        ...     with LlamaClient(fake.config()) as client:
        ...         print(client.ask("Why do llamas hum?").text)
        They do not know the words.
        >>> fake.requests[0].text
        'Why do llamas hum?'
    """

    def __init__(self, *, clock: FakeClock | None = None) -> None:
        super().__init__(threading.Lock(), "")
        if clock is not None and not hasattr(clock, "turn"):
            raise TypeError(f"clock: must be a FakeClock, got a {type(clock).__name__}")
        self.clock = clock
        self.requests: list[AskedRequest] = []
        self._scripts: dict[str, Script] = {}
        self._listings = Listings()
        self.faults: list[ScriptError] = []
        self._entered: ExitStack | None = None

    def on(self, name: str) -> Script:
        """The script of one provider or target, which comes before the general one.

        Args:
            name: `groq`, or `groq/openai/gpt-oss-20b`: a configured name, and the provider's own model id.
        """
        if not name.strip("/"):
            raise ValueError(f"name: must be a provider or provider/model, got {name!r}")
        with self._lock:
            self._listings.add(name)
            return self._scripts.setdefault(name, Script(self._lock, name))

    def serves(self, *targets: str) -> Self:
        """Adds models to what providers list as theirs; those of `on` and of known services are listed anyway.

        Args:
            *targets: Each as `provider/model`.

        Returns:
            The fake itself.
        """
        with self._lock:
            for target in targets:
                self._listings.add(target)
        return self

    def play(self, received: Received) -> Answer:
        """The answer to a request; also for a `WireServer`, so that any other client can be answered from the script.

        Args:
            received: The request.

        Raises:
            ScriptError: There is no reply, or it cannot be given.
        """
        listed = self._listings.answer(received)
        if listed is not None:
            return listed
        with self._lock:
            asked = AskedRequest.of(received, len(self.requests) + 1)
            self.requests.append(asked)
            said = self._said_to(asked)
        try:
            if said is None:
                raise UnscriptedRequestError(f"no reply is scripted for {asked}; {self._how()}", asked=asked)
            return self._answer(said, asked)
        except WireError:
            # A server that is not reached, as scripted.
            raise
        except ScriptError as error:
            self.faults.append(error)
            raise
        except Exception as error:
            why = f"the reply to {asked} cannot be given: {type(error).__name__}: {error}"
            fault = ScriptError(why, asked=asked)
            self.faults.append(fault)
            raise fault from error

    def _how(self) -> str:
        """What to do about a request without a reply; replies that wait for others are named."""
        with self._lock:
            waiting = [name for name, script in self._scripts.items() if script._has_more()]
        if not waiting:
            return _HOW
        names = " and ".join(f"on({name!r})" for name in waiting)
        return f"{_HOW}; there are replies for {names}: names are provider or provider/model, as configured"

    def _stranger(self, message: str) -> Exception:
        """Of a client that was opened before the block."""
        fault = ScriptError(message)
        self.faults.append(fault)
        return fault

    def _said_to(self, asked: AskedRequest) -> Scripted | None:
        for name in (asked.target, asked.provider):
            script = self._scripts.get(name)
            said = None if script is None else script._next()
            if said is not None:
                return said
        return self._next()

    def _answer(self, said: Scripted, asked: AskedRequest) -> Answer:
        for _ in range(_MAX_DEPTH):
            match said:
                case Answer():
                    return said
                case Reply() | Failing() if not asked.is_chat:
                    raise ScriptError(f"{asked} asks for no chat: only an Answer can be said to it", asked=asked)
                case Reply():
                    return spoken(said, asked, now=self._now())
                case Failing():
                    return failed(said, asked, waits=self.clock is not None)
                case _ if callable(said):
                    said = called(said, asked)
                case _:
                    assert_never(said)
        raise ScriptError(f"the function for {asked} returns functions without end", asked=asked)

    def _now(self) -> float:
        return time.time() if self.clock is None else self.clock.clock.wall()

    def assert_asked(
        self,
        text: str | re.Pattern[str] | None = None,
        *,
        target: str | None = None,
        system: str | None = None,
        tools: Sequence[str] | None = None,
        stream: bool | None = None,
        params: Mapping[str, object] | None = None,
        times: int | None = None,
    ) -> list[AskedRequest]:
        """Fails unless there was such a request; what is not said may be anything.

        Args:
            text: A part of the last message of the user, or a pattern that is found in it.
            target: A provider or `provider/model`.
            system: A part of the instructions.
            tools: The names of the declared tools, all of them.
            stream: Whether it is a stream.
            params: Fields of the body and their values, such as `{"temperature": 0}`.
            times: How many such requests there are; 0: none; None: at least one.

        Returns:
            The requests.

        Raises:
            AssertionError: There was none, or not so many. The message says what was asked instead.

        Example:
            >>> from llama_client import LlamaClient
            >>> with FakeProvider() as fake, LlamaClient(fake.config()) as client:
            ...     print(fake.says("Hello").left, client.ask("Do llamas hum?", temperature=0).text)
            1 Hello
            >>> [asked] = fake.assert_asked("llamas", target="groq", params={"temperature": 0}, times=1)
            >>> asked.target, asked.text
            ('groq/openai/gpt-oss-20b', 'Do llamas hum?')
        """
        wanted = Wanted(text, target, system, tools, stream, params)
        return require_asked(list(self.requests), wanted, times)

    def assert_said_everything(self) -> None:
        """Fails where replies are left in a queue.

        Raises:
            AssertionError: Names the scripts, and says what was asked.
        """
        left = {script._name: script.left for script in (self, *self._scripts.values()) if script.left}
        if left:
            unused = ", ".join(f"{count} for {name or 'any request'}" for name, count in left.items())
            asked = "\n".join(f"  {each}" for each in self.requests) or "  nothing"
            raise AssertionError(f"replies were never asked for: {unused}\nasked was:\n{asked}")

    def check(self) -> None:
        """Fails where a request had no reply, or a function of the script failed; called when the block ends.

        Raises:
            ScriptError: The first of them.
        """
        if self.faults:
            raise self.faults[0]

    def config(self, *targets: str) -> dict[str, Any]:
        """A small configuration for code that has none: these targets, the first as default, and a ledger in memory.

        Args:
            *targets: Each as `provider/model`; in their order they are the route `chat`. Without any:
                `groq/openai/gpt-oss-20b`.

        Raises:
            ValueError: One is no target.
        """
        return config_of(targets or ("groq/openai/gpt-oss-20b",))

    @contextmanager
    def playing(self) -> Iterator[Self]:
        """The block without the check at its end: see `check`."""
        from llama_client.testing.clock import SameEachTime
        from llama_client.testing.played import Played
        from llama_client.testing.seams import using

        clock = None if self.clock is None else self.clock.clock
        # What is played must not be counted, or limited, where real calls are.
        with using(
            clock=clock,
            chance=SameEachTime,
            interceptor=Played(self.play, self.clock),
            ledger_url="memory",
            strangers=self._stranger,
        ):
            yield self

    def __enter__(self) -> Self:
        if self._entered is not None:
            raise RuntimeError("the block of this FakeProvider is open already; another block needs a fake of its own")
        entered = ExitStack()
        entered.enter_context(self.playing())
        self.faults.clear()
        self._entered = entered
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._entered is not None:
            self._entered.close()
            self._entered = None
        self.explain(error)
        if error is None:
            self.check()

    def explain(self, error: BaseException | None) -> None:
        """Adds to a test's failure what the script had to do with it.

        Args:
            error: The failure; None: there is none.
        """
        if error is not None and self.faults and not isinstance(error, ScriptError):
            error.add_note(f"FakeProvider: {self.faults[0]}")

    def __repr__(self) -> str:
        left, asked = sum(script.left for script in (self, *self._scripts.values())), len(self.requests)
        replies, requests = "reply" if left == 1 else "replies", "request" if asked == 1 else "requests"
        return f"<FakeProvider: {left} {replies} left, {asked} {requests}>"
