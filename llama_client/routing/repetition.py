"""Keeps an answer that goes on from a given beginning from saying that beginning again. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llama_client.types.messages import TextPart

if TYPE_CHECKING:
    from llama_client.types.completion import ChatCompletionChunk, ChunkChoice
    from llama_client.types.request import ChatRequest

# A shorter beginning may well be followed by the same letters again.
_LEAST_CHARS = 4
# So much of the beginning said again, and then something else, is a new answer: this many characters, or of a short
# beginning fewer that are at least half of it.
_AGAIN_CHARS = 24
_LEAST_AGAIN_CHARS = 8


class BeganAnewError(Exception):
    """The model has begun its answer anew instead of going on; its argument is what it has said."""


@dataclass(slots=True)
class _Choice:
    held: str = ""
    is_decided: bool = False
    # Whether white space is left out, which the beginning ends with.
    skips_space: bool = False


class Repetition:
    """Takes a repeated beginning out of the chunks of one answer: llama.cpp's server repeats it in whole answers, and a
    model whose template closes the message says it again."""

    def __init__(self, beginning: str, *, is_continuation: bool) -> None:
        self._beginning = beginning.strip()
        self._ends_in_space = beginning[-1:].isspace()
        self._is_continuation = is_continuation
        self._choices: dict[int, _Choice] = {}

    @classmethod
    def of(cls, request: ChatRequest, *, is_continuation: bool) -> Repetition | None:
        """None: the request ends with no text of an assistant, or with one that proves nothing when it is repeated."""
        content = request.messages[-1].content
        if isinstance(content, tuple):
            content = "".join(part.text for part in content if isinstance(part, TextPart))
        text = (content or "").strip()
        is_telling = len(text) >= _LEAST_CHARS and any(sign.isalpha() for sign in text)
        if not is_telling or _is_refrain(text) or _is_refrain(f"{' '.join(text.split())} "):
            return None
        return cls(content or "", is_continuation=is_continuation)

    def remove(self, chunk: ChatCompletionChunk) -> None:
        """Changes a chunk's texts.

        Raises:
            BeganAnewError: The target was to continue an answer, and does not.
        """
        for choice in chunk.choices:
            state = self._choices.setdefault(choice.index, _Choice())
            if state.skips_space and choice.delta.content:
                choice.delta.content = choice.delta.content.lstrip()
                state.skips_space = not choice.delta.content
            elif not state.is_decided and (choice.delta.content or choice.finish_reason is not None):
                self._decide(choice, state)

    def _decide(self, choice: ChunkChoice, state: _Choice) -> None:
        text = state.held + (choice.delta.content or "")
        said = text.lstrip()
        if said.startswith(self._beginning):
            rest = said[len(self._beginning) :]
            choice.delta.content = rest.lstrip() if self._ends_in_space else rest
            state.skips_space = self._ends_in_space and not choice.delta.content
            state.is_decided = True
        elif choice.finish_reason is None and self._beginning.startswith(said):
            # It may become a repetition.
            state.held = text
            choice.delta.content = ""
        else:
            if self._is_continuation and self._is_said_again(said):
                raise BeganAnewError(text)
            state.is_decided = True
            if state.held:
                choice.delta.content = text

    def _is_said_again(self, said: str) -> bool:
        pairs = enumerate(zip(said, self._beginning, strict=False))
        length = next((at for at, (one, other) in pairs if one != other), min(len(said), len(self._beginning)))
        half = len(self._beginning) / 2
        return length >= _AGAIN_CHARS or (length >= _LEAST_AGAIN_CHARS and length >= half)


def _is_refrain(text: str) -> bool:
    """Whether a text is a shorter one again and again."""
    return text in (text + text)[1:-1]
