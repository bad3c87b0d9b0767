"""The script of some requests: a queue of replies, and what is said when it is empty."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Self

from llama_client.errors import APIConnectionError, ProviderError
from llama_client.providers.http.http1 import NotConnectedError, ReadTimeoutError
from llama_client.testing.loopback import Answer, silence
from llama_client.testing.script.asked import AskedRequest
from llama_client.testing.script.failures import Failing, fails, failure_answer, is_timeout
from llama_client.testing.script.replies import Reply, Says, Scripted, read


class ScriptError(ProviderError):
    """A script is wrong: a function in it failed, say. Neither retried nor answered by another target.

    Attributes:
        asked: The request.
    """

    failover_by_default = False

    def __init__(self, message: str = "", *, asked: AskedRequest | None = None) -> None:
        target = None if asked is None else asked.target
        super().__init__(message, provider=None if asked is None else asked.provider, target=target)
        self.asked = asked


class UnscriptedRequestError(ScriptError):
    """A request came for which nothing is scripted. It is raised again when the block ends."""


class Script:
    """What is said to some of the requests."""

    def __init__(self, lock: threading.Lock, name: str) -> None:
        self._lock = lock
        self._name = name
        self._queue: deque[Scripted] = deque()
        # How often the first of the queue was given.
        self._given = 0
        self._always: Scripted | None = None

    def says(self, *replies: Says) -> Self:
        """Puts replies at the end of the queue; each is given to one request.

        Args:
            *replies: Each is a text; a dict or Pydantic object, said as JSON; `tool_call(...)` or a list of these; a
                `Reply`; an error's class or `fails(...)`; an `Answer`, which is sent as it is; or a function of the
                request that returns one of these (it is called in the client's thread, so it must not wait).

        Returns:
            The script, so that more can be said.

        Raises:
            TypeError: A reply is none of these.

        Example:
            >>> from llama_client.testing import FakeProvider, tool_call
            >>> with FakeProvider() as fake:
            ...     print(fake.says("Hello", {"sides": 6}, tool_call("roll", sides=6), Reply("Hum.", pace_s=0.1)).left)
            4
        """
        read_replies = [read(each) for each in replies]
        with self._lock:
            self._queue.extend(read_replies)
        return self

    def fails(
        self,
        error: type[ProviderError] | ProviderError,
        message: str | None = None,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        times: int = 1,
    ) -> Self:
        """Puts a failure at the end of the queue: `says(fails(...))`.

        Args:
            error: See `fails`, as the others.
            message: The provider's words.
            status: The HTTP status.
            code: The provider's code.
            retry_after_s: The wait in seconds that it asks for.
            headers: Further headers of the response.
            times: How often it fails.

        Returns:
            The script, so that more can be said.
        """
        failing = fails(
            error, message, status=status, code=code, retry_after_s=retry_after_s, headers=headers, times=times
        )
        return self.says(failing)

    def always(self, reply: Says) -> Self:
        """What is said whenever the queue is empty.

        Args:
            reply: As of `says`.

        Returns:
            The script, so that more can be said.

        Raises:
            TypeError: It cannot be said.
            ValueError: It has a count (`times`).
        """
        always = read(reply)
        if _times(always) != 1:
            raise ValueError(f"times: of what is always said there is no count, got {_times(always)}")
        with self._lock:
            self._always = always
        return self

    @property
    def left(self) -> int:
        """How many requests the queue can answer still."""
        with self._lock:
            return sum(map(_times, self._queue)) - self._given

    def _has_more(self) -> bool:
        """Whether it can answer another request. Called with the lock held."""
        return bool(self._queue) or self._always is not None

    def _next(self) -> Scripted | None:
        """The next reply; None: there is none. Called with the lock held."""
        if not self._queue:
            return self._always
        first = self._queue[0]
        self._given += 1
        if self._given >= _times(first):
            self._queue.popleft()
            self._given = 0
        return first


def _times(said: Scripted) -> int:
    return said.times if isinstance(said, Reply | Failing) else 1


def called(function: Callable[[AskedRequest], Any], asked: AskedRequest) -> Scripted:
    """What a function of the script says to a request.

    Raises:
        ScriptError: It failed, or said what cannot be said.
    """
    try:
        return read(function(asked))
    except Exception as error:
        raise ScriptError(f"the function for {asked} failed: {type(error).__name__}: {error}", asked=asked) from error


def failed(failing: Failing, asked: AskedRequest, *, waits: bool) -> Answer:
    """What a request gets that is to fail: an answer, or a server that is not reached or silent.

    Args:
        failing: The failure.
        asked: The request.
        waits: Whether a silence may last, since it takes no real time.

    Raises:
        WireError: There is no answer.
    """
    if is_timeout(failing):
        if waits:
            return silence()
        raise ReadTimeoutError("the server was silent")
    if issubclass(failing.error, APIConnectionError):
        raise NotConnectedError("Connection refused") from ConnectionRefusedError("Connection refused")
    request_id = f"req_{asked.number}"
    return failure_answer(failing, model=asked.model, is_ollama=asked.is_ollama, request_id=request_id)
