"""A server on loopback that fails as providers do: one port, every dialect, each fault by its name, for any client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

from llama_client.testing.faults.arguments import (
    checked_name,
    checked_names,
    checked_port,
    checked_prefix,
    checked_seed,
    checked_share,
    checked_wait,
)
from llama_client.testing.faults.backend import Backend, ThreadBackend
from llama_client.testing.faults.plan import tally
from llama_client.testing.faults.process import ProcessBackend

Kind = Literal["groq", "together", "openai", "ollama"]
KINDS: tuple[Kind, ...] = ("groq", "together", "openai", "ollama")
# What the official client of each kind wants behind the host.
_BASES: Mapping[str, str] = {"groq": "", "together": "/v1", "openai": "/v1", "ollama": ""}


@dataclass(frozen=True, slots=True)
class FaultRequest:
    """A chat that the server has read.

    Attributes:
        dialect: `groq`, `openai` (Together's too) or `ollama`, by its path.
        path: Its path.
        model: The model's name, at most 200 characters of it.
        prompt: The text of its last message, at most 200 characters of it.
        streams: Whether a stream was asked for.
        fault: The fault that it got, or `good`.
        text: The text that it got, or would have got with a good answer.
    """

    dialect: str
    path: str
    model: str
    prompt: str
    streams: bool
    fault: str
    text: str


@dataclass(frozen=True, slots=True)
class FaultReport:
    """What a server has seen.

    Attributes:
        requests: The chats, in the order in which they were read: the last 100,000.
        chats: How many there were, by dialect, those that are not kept included.
        open_connections: How many connections neither side has closed.
        closed_early: How often a client closed its connection before the answer was over.
        malformed: How many requests were no HTTP: 10,000 at most.
    """

    requests: list[FaultRequest]
    chats: dict[str, int]
    open_connections: int
    closed_early: int
    malformed: int

    @property
    def faults(self) -> dict[str, int]:
        """How often each fault was played, the most frequent first."""
        return tally([request.fault for request in self.requests])


class FaultServer:
    """A server that fails as providers do. It listens on loopback, and answers well until a fault is set.

    Which fault a chat gets, the first that applies: the one that its address names (`http://HOST/fault/429-now/v1` as
    the base URL); the one that its model names (`fault/429-now`); `next`; `always` or `at_rate`, whichever was called
    last. Lists of models are good, but below an address that names a fault.

    Args:
        process: Serve from a process of its own, which ends with this one, instead of from threads.
        port: Where to listen; 0: at a free port.

    Attributes:
        url: Its address, without a path.

    Raises:
        OSError: The port is taken.
        ValueError: The port is none.
        RuntimeError: Its process cannot be started.

    Example:
        >>> from llama_client import LlamaClient
        >>> with FaultServer() as server:
        ...     server.next("429-now", "429-milliseconds")
        ...     with LlamaClient.for_provider("groq", api_key="none", base_url=server.url_for("groq")) as client:
        ...         reply = client.ask("Why do llamas hum?", model="llama-3.1-8b-instant")
        ...     [attempt.error for attempt in reply.attempts]
        ['RateLimitError', 'RateLimitError', None]
    """

    def __init__(self, *, process: bool = False, port: int = 0) -> None:
        checked_port(port)
        self._backend: Backend = ProcessBackend(port) if process else ThreadBackend(port)
        self.url = self._backend.url

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def url_for(self, kind: Kind, *, fault: str | None = None) -> str:
        """The base URL that the official client of a kind takes, and this package's.

        Args:
            kind: `groq`, `together`, `openai` (whatever is compatible with it) or `ollama`.
            fault: The fault that each request to this address gets; None: what is planned.

        Raises:
            ValueError: There is no such kind or fault.
        """
        if kind not in KINDS:
            raise ValueError(f"no kind is called {kind!r}: there are {', '.join(KINDS)}")
        return self.url + ("" if fault is None else f"/fault/{checked_name(fault)}") + _BASES[kind]

    def next(self, *faults: str) -> None:
        """Gives the next chats these faults, in the order in which they are read; further ones wait behind.

        Args:
            *faults: Their names; `GOOD` is a good answer.

        Raises:
            ValueError: There is no such fault.
        """
        self._backend.call("next", names=checked_names(faults))

    def always(self, fault: str) -> None:
        """Gives this fault to every chat from now on.

        Args:
            fault: Its name; `GOOD`: answers well.

        Raises:
            ValueError: There is no such fault.
        """
        self._backend.call("always", name=checked_name(fault))

    def at_rate(
        self,
        rate: float,
        *,
        seed: int = 0,
        faults: Sequence[str] = (),
        slow: float = 0.0,
        failing_prompts: str | None = None,
    ) -> None:
        """Gives faults by chance from now on; the good answers come whole, in pieces, or in scraps.

        What a chat gets depends on the seed, the dialect, its whole list of messages, how often that dialect was asked
        with the same messages since this call or `clear`, and on whether a stream was asked for, which some faults
        need. In whichever order different chats arrive, the same seed gives them the same faults; chats that are the
        same are counted in the order in which they arrive.

        Args:
            rate: Which share of the chats gets one, from 0 to 1.
            seed: Of the chance.
            faults: Which are drawn; empty: all but the very long ones, each by its weight.
            slow: Which share of the good answers comes late, and then in pieces.
            failing_prompts: Prompts that begin so get a fault each time; None: none does.

        Raises:
            ValueError: There is no such fault, or the rate is none.
        """
        self._backend.call(
            "at_rate",
            share=checked_share(rate, "rate"),
            seed=checked_seed(seed),
            names=checked_names(faults),
            slow=checked_share(slow, "slow"),
            failing_prompts=checked_prefix(failing_prompts),
        )

    def report(self) -> FaultReport:
        """What it has seen since it began, or since `clear`."""
        report: dict[str, Any] = self._backend.call("report")
        requests = [FaultRequest(**request) for request in report.pop("requests")]
        return FaultReport(requests=requests, **report)

    def clear(self) -> None:
        """Forgets what it has seen, and how often it was asked the same; what is planned stays."""
        self._backend.call("clear")

    def wait_until_idle(self, within_s: float = 5.0) -> bool:
        """Waits until clients have closed their connections.

        Args:
            within_s: The longest wait in seconds, from 0 to 86,400.

        Returns:
            Whether all are closed.

        Raises:
            ValueError: The wait is none.
        """
        return bool(self._backend.call("wait_until_idle", within_s=checked_wait(within_s)))

    def close(self) -> None:
        """Ends it, with whatever it is still sending."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
