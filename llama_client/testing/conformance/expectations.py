"""What came of a request, and what is demanded of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

from llama_client.errors import LlamaClientError, ProviderError
from llama_client.routing.drive import UNEXPECTED
from llama_client.types.completion import Attempt, ChatCompletion, ChatCompletionChunk


class UnmetError(Exception):
    """A provider does not do what a case demands; the message says what was expected and what came."""


class NotAskedError(Exception):
    """A case does not apply to what the provider or its wire turned out to do; the message says why."""


def expect(what: str, wanted: object, got: object) -> None:
    """Demands that two values are equal.

    Args:
        what: What they are.
        wanted: What is right.
        got: What came.

    Raises:
        UnmetError: They differ.
    """
    if wanted != got:
        raise UnmetError(f"expected {what} {_shown(wanted)}, got {_shown(got)}")


def demand(is_met: object, expected: str, got: object) -> None:
    """Demands that something holds.

    Args:
        is_met: Whether it does.
        expected: What is right.
        got: What came.

    Raises:
        UnmetError: It does not.
    """
    if not is_met:
        raise UnmetError(f"expected {expected}, got {got if isinstance(got, str) else _shown(got)}")


@dataclass(slots=True)
class Outcome:
    """What the caller got.

    Attributes:
        reply: The whole answer.
        chunks: The chunks of a stream.
        error: What was raised.
        partial: The attempts of a stream that was not read to its end.
        is_closed: Whether the service saw that it was given up, while the client was still open.
    """

    reply: ChatCompletion | None = None
    chunks: list[ChatCompletionChunk] = field(default_factory=list)
    error: BaseException | None = None
    partial: list[Attempt] = field(default_factory=list)
    is_closed: bool = False

    @property
    def text(self) -> str:
        """The text of the chunks of the first choice."""
        deltas = (choice.delta for chunk in self.chunks for choice in chunk.choices if choice.index == 0)
        return "".join(delta.content or "" for delta in deltas)

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts that were made."""
        if self.reply is not None:
            return list(self.reply.attempts)
        return list(self.error.attempts) if isinstance(self.error, LlamaClientError) else self.partial

    def answered(self) -> ChatCompletion:
        """The answer, which there must be."""
        if self.reply is None:
            self._failed("an answer")
        if self.chunks:
            expect("the text of the chunks to add up to that of the answer,", self.reply.text, self.text)
        return self.reply

    def refused(self, *kinds: type[LlamaClientError]) -> LlamaClientError:
        """The error, which must be of one of these classes."""
        names = " or ".join(kind.__name__ for kind in kinds)
        if not isinstance(self.error, kinds) or is_foreign(self.error):
            self._failed(names)
        return self.error

    def failed(self) -> ProviderError:
        """The error of any class that a provider may raise; there must be one."""
        if not isinstance(self.error, ProviderError) or is_foreign(self.error):
            self._failed("a ProviderError")
        return self.error

    def _failed(self, expected: str) -> NoReturn:
        raise UnmetError(f"expected {expected}, got {self.shown}")

    @property
    def shown(self) -> str:
        """What came, in words."""
        if self.error is None:
            return (
                f"the answer {_shown(self.reply.text)}" if self.reply is not None else "neither an answer nor an error"
            )
        return f"{type(self.error).__name__}: {self.error}"


def is_foreign(error: BaseException | None) -> bool:
    """Whether a provider raised what is no error of this package, which the client has wrapped."""
    while error is not None:
        if str(error).startswith(UNEXPECTED):
            return True
        error = error.__cause__
    return False


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:157]}..."
