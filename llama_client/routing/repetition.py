"""Keeps an answer that goes on from a given beginning from saying that beginning again. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llama_client.types.messages import TextPart

if TYPE_CHECKING:
    from llama_client.types.completion import ChatCompletionChunk, ChunkChoice
    from llama_client.types.request import ChatRequest

# So much of a beginning, said again as a whole, is no chance.
_PROOF_CHARS = 40
# Of a beginning that broke off within a line also a shorter one, of so many words: "New York, New York" has two.
_LEAST_CHARS = 12
_LEAST_WORDS = 3
# So much of its start said again, and then something else, is a new answer.
_AGAIN_CHARS = 80
# More white space before a text is held back no longer.
_MAX_LEADING_CHARS = 64
_NUMBER = re.compile(r"\d+")


class BeganAnewError(Exception):
    """The model has begun its answer anew instead of going on."""


@dataclass(slots=True)
class _Choice:
    held: list[str] = field(default_factory=list)
    leading_chars: int = 0
    # Whether a line ended before the first other character.
    has_new_line: bool = False
    # How much of the beginning has been said again.
    said_chars: int = 0
    is_decided: bool = False
    # Whether white space is left out, which the beginning ends with.
    skips_space: bool = False


class Repetition:
    """Takes a repeated beginning out of the chunks of one answer: a model whose template closes the message says it
    again. Lists, logs and songs say the same again too, so what does not prove a repetition stays."""

    def __init__(self, beginning: str, *, is_continuation: bool) -> None:
        self._beginning = beginning.strip()
        self._ends_in_space = beginning[-1:].isspace()
        self._is_continuation = is_continuation
        # Where it has one line, the same line may follow it.
        self._has_lines = "\n" in self._beginning
        self._choices: dict[int, _Choice] = {}

    @classmethod
    def of(cls, request: ChatRequest, *, is_continuation: bool) -> Repetition | None:
        """None: the request ends with no text of an assistant, or with one that proves nothing when it is repeated.

        `is_continuation`: the text is what has arrived of an interrupted stream, and not the caller's own."""
        content = request.messages[-1].content
        if isinstance(content, tuple):
            content = "".join(part.text for part in content if isinstance(part, TextPart))
        content = content or ""
        return cls(content, is_continuation=is_continuation) if _is_telling(content, is_continuation) else None

    def remove(self, chunk: ChatCompletionChunk) -> bool:
        """Changes a chunk's texts; whether the beginning was said again, and has now been taken out.

        Raises:
            BeganAnewError: The target was to continue an answer, and does not.
        """
        is_removed = False
        for choice in chunk.choices:
            state = self._choices.setdefault(choice.index, _Choice())
            if state.skips_space and choice.delta.content:
                choice.delta.content = choice.delta.content.lstrip()
                state.skips_space = not choice.delta.content
            elif not state.is_decided and (choice.delta.content or choice.finish_reason is not None):
                is_removed |= self._decide(choice, state)
        return is_removed

    def _decide(self, choice: ChunkChoice, state: _Choice) -> bool:
        # Only the new piece is looked at: a long beginning may come again in single characters.
        piece = choice.delta.content or ""
        said = piece if state.said_chars else piece.lstrip()
        if not state.said_chars:
            leading = piece[: len(piece) - len(said)]
            state.leading_chars += len(leading)
            state.has_new_line |= "\n" in leading
        left = len(self._beginning) - state.said_chars
        equal = said[:left] == self._beginning[state.said_chars : state.said_chars + len(said)]
        may_repeat = (self._has_lines or not state.has_new_line) and state.leading_chars <= _MAX_LEADING_CHARS
        if may_repeat and equal and len(said) >= left:
            rest = said[left:]
            choice.delta.content = rest.lstrip() if self._ends_in_space else rest
            state.skips_space = self._ends_in_space and not choice.delta.content
            state.is_decided = True
            state.held.clear()
            return True
        if may_repeat and equal and choice.finish_reason is None:
            # It may become a repetition.
            state.said_chars += len(said)
            state.held.append(piece)
            choice.delta.content = ""
            return False
        if may_repeat and self._is_continuation:
            pairs = zip(said, self._beginning[state.said_chars :][: len(said)], strict=False)
            more = next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(said), left))
            if state.said_chars + more >= _AGAIN_CHARS:
                raise BeganAnewError
        state.is_decided = True
        if state.held:
            choice.delta.content = "".join([*state.held, piece])
            state.held.clear()
        return False


def _is_telling(content: str, is_continuation: bool) -> bool:
    """Whether a text that is followed by itself was repeated, rather than continued."""
    text = content.strip()
    is_long = len(text) >= _PROOF_CHARS
    if not is_long and not (is_continuation and len(text) >= _LEAST_CHARS):
        return False
    if not any(sign.isalpha() for sign in text) or _is_refrain(text) or _is_refrain(f"{' '.join(text.split())} "):
        return False
    lines = [_NUMBER.sub("0", line.strip()) for line in text.splitlines() if line.strip()]
    if len(lines) == 1:
        # A whole line may be followed by the same line.
        ends_line = "\n" in content[len(content.rstrip()) :]
        words = sum(any(sign.isalpha() for sign in word) for word in text.split())
        return not ends_line and (is_long or words >= _LEAST_WORDS)
    return is_long and not _are_alike(lines[0], lines[-1])


def _are_alike(one: str, other: str) -> bool:
    """Whether two lines begin alike, as those of lists, tables and logs; the last one may have broken off."""
    length = min(len(one), len(other))
    same = next((at for at in range(length) if one[at] != other[at]), length)
    return same * 2 >= length


def _is_refrain(text: str) -> bool:
    """Whether a text is a shorter one again and again."""
    return text in (text + text)[1:-1]
