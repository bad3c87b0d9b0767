"""What is played: recorded answers by request, with their pauses, in bytes or piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from llama_client.testing import loopback
from llama_client.testing.cassettes.errors import UnrecordedRequestError
from llama_client.testing.cassettes.exchanges import Answer, Failure, HttpExchange
from llama_client.testing.cassettes.failures import raised
from llama_client.testing.cassettes.matching import Deck
from llama_client.testing.cassettes.scrubbing import Scrubber
from llama_client.testing.cassettes.tracks import content_of, pieces_to_play

if TYPE_CHECKING:
    from llama_client.testing.clock import FakeClock

# `at_once`: pauses are left out; `recorded`: they are as long as they were.
Timing = Literal["at_once", "recorded"]
# What was closed by its reader (another server was quicker, say) goes on being silent until the moment at which that
# happened and a little longer; then the reader is no longer the same.
_LATE_S = 0.25
_LONGEST_SILENCE_S = 2.0
# They are those of a body that is no longer framed and encoded as it was.
_OF_TRANSFER = ("content-length", "transfer-encoding", "content-encoding")


class Playback:
    """The answers of a cassette, for everything that asks.

    Args:
        timing: Whether their pauses are kept.
        missing: Called with each request that has no answer.

    Attributes:
        deck: The exchanges.
        clock: Whose time the pauses take; None: the real one.
        scrubber: Takes out of requests what it takes out of recordings.
        bases: The path of each provider's address.
        is_timed: Whether pauses are kept.
    """

    def __init__(
        self,
        deck: Deck,
        *,
        timing: Timing = "at_once",
        clock: FakeClock | None = None,
        missing: Callable[[UnrecordedRequestError], None] = lambda _: None,
    ) -> None:
        self.deck = deck
        self.clock = clock
        self.scrubber = Scrubber()
        self.bases: dict[str, str] = {}
        self.is_timed = timing == "recorded"
        self._missing = missing

    def found(self, provider: str, verb: str, place: str, content: Any) -> Any:
        """The recorded exchange that answers a request.

        Raises:
            UnrecordedRequestError: There is none.
        """
        try:
            return self.deck.take(provider, verb, place, content)
        except UnrecordedRequestError as error:
            self._missing(error)
            raise

    def recorded(self, provider: str, method: str, place: str, body: bytes, content_type: str) -> Answer:
        """The recorded answer to a request over HTTP.

        Raises:
            UnrecordedRequestError: There is none.
        """
        content = content_of(body, content_type, self.scrubber)
        found = self.found(provider, method, self.scrubber.text(place), content)
        assert isinstance(found, HttpExchange)
        return found.answer

    def silence_s(self, last_s: float, end_s: float) -> float:
        """How long an answer is silent that its reader broke off.

        Args:
            last_s: When its last piece came.
            end_s: When it was broken off.
        """
        return min(_LATE_S + (0.0 if self.is_timed else max(0.0, end_s - last_s)), _LONGEST_SILENCE_S)

    def broken_off(self) -> UnrecordedRequestError:
        """The end of an answer that its reader broke off, and that is read further now."""
        error = UnrecordedRequestError(
            "the recording ends here, as its reader closed the answer: record it anew with "
            'mode="refresh", or with llama-client record --refresh'
        )
        self._missing(error)
        return error

    def pauses(self, moments: Iterator[tuple[float, Any]]) -> Iterator[Any]:
        """What came at each moment, and before it the pause in seconds where pauses are kept."""
        now_s = 0.0
        for at_s, each in moments:
            if self.is_timed and at_s > now_s:
                yield at_s - now_s
                now_s = at_s
            if each is not None:
                yield each

    def sent(self, answer: Answer) -> loopback.Answer:
        """An answer in bytes, as any HTTP client reads it, and as `WireServer` sends it.

        Raises:
            Exception: The request did not get there.
        """
        end = answer.end
        if answer.status is None and isinstance(end, Failure) and end.kind in ("not_connected", "connect_timeout"):
            raise raised(end)
        return loopback.Answer(_Sent(self, answer), "keep")


class _Sent:
    """The pieces of an answer, which end as they did."""

    def __init__(self, playback: Playback, answer: Answer) -> None:
        self._playback = playback
        self._answer = answer

    def __iter__(self) -> Iterator[bytes | float]:
        answer = self._answer
        yield from self._playback.pauses(self._moments())
        if isinstance(answer.end, Failure):
            raise raised(answer.end)
        if answer.end == "closed":
            moments = [answer.head_s, *(line.at_s for line in answer.lines if line.at_s is not None)]
            yield self._playback.silence_s(moments[-1], answer.end_s or 0.0)
            raise self._playback.broken_off()
        yield b"0\r\n\r\n"

    def _moments(self) -> Iterator[tuple[float, bytes | None]]:
        answer = self._answer
        if answer.status is not None:
            headers = {name: value for name, value in answer.headers.items() if name not in _OF_TRANSFER}
            yield answer.head_s, loopback.head(answer.status, {**headers, "transfer-encoding": "chunked"})
            for at_s, data in pieces_to_play(answer):
                yield at_s, b"%x\r\n%b\r\n" % (len(data), data)
        end = answer.end
        yield (end.at_s if isinstance(end, Failure) else answer.end_s or 0.0), None
