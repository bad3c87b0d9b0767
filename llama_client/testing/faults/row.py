"""What is known of one fault. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llama_client.testing.faults.answers import Answering, Asked
from llama_client.testing.loopback import Answer, Received


@dataclass(frozen=True)
class Fault:
    """Something that a server does wrong, or does oddly.

    Attributes:
        name: Its name, such as `429-integer`.
        what: What the server does.
        errors: The error classes of `llama_client` that an attempt may fail with, by name; empty: the answer is good.
        statuses: The HTTP statuses that the client may see; None: it sees none.
        answer: What makes the answer.
        only: `stream` or `whole`, where it does not exist for the other.
        wait_s: The least and the most seconds that the client is asked to wait; None: nothing is said.
        weight: How often it is drawn, compared with others, where faults are drawn at a rate; 0: only where named.
        kinds: The dialects that it exists in; empty: all.
        text: The text of its answer; None: that of the good answer.
    """

    name: str
    what: str
    errors: tuple[str, ...]
    statuses: tuple[int | None, ...]
    answer: Answering
    only: Literal["stream", "whole"] | None = None
    wait_s: tuple[float, float] | None = None
    weight: float = 1.0
    kinds: tuple[str, ...] = ()
    text: str | None = None

    def __call__(self, received: Received) -> Answer:
        """The answer to a request.

        Args:
            received: The request.
        """
        return self.answer(Asked.of(received))

    def fits(self, *, streams: bool, kind: str | None = None) -> bool:
        """Whether it exists for streams, or for whole answers.

        Args:
            streams: Whether a stream is asked for.
            kind: The dialect, such as `groq`; None: any.
        """
        in_dialect = not self.kinds or kind is None or kind in self.kinds
        return in_dialect and self.only in (None, "stream" if streams else "whole")
