"""The size of a request, estimated before it is sent."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from llama_client.types.media import is_medium, texts_in, texts_in_extra
from llama_client.types.messages import ImagePart

if TYPE_CHECKING:
    from llama_client.types.request import ChatRequest

# English text and code have about four bytes a token with the vocabularies of Llama 3 and GPT; other scripts, whose
# letters have two or three bytes each, come out about right too.
BYTES_PER_TOKEN = 4.0
# No text of a language has more; only by this measure is a prompt refused as too long before it is sent.
_MOST_BYTES_A_TOKEN = 8.0
# The template's own tokens around each message.
_TOKENS_A_MESSAGE = 4
# A middling image, of 1024 x 1024 pixels, at OpenAI, Groq and in Llama 3.2 and 4.
_TOKENS_AN_IMAGE = 1600
# Upper bounds of a template: around each message, and around all of them (gpt-oss has a system prompt of its own, Llama
# 3.1 one for tools); and of an image, at the finest resolution of vision models.
_MOST_TOKENS_A_MESSAGE = 16
_MOST_TOKENS_A_TEMPLATE = 512
_MOST_TOKENS_AN_IMAGE = 16_384
# The length of an answer if unknown.
_USUAL_OUTPUT_TOKENS = 256.0
# Whether a target supports these depends on their names alone, not on their values.
_PLAIN_PARAMETERS = frozenset(
    {
        "messages", "stream", "timeout", "tags", "user", "temperature", "top_p", "top_k", "min_p", "seed",
        "max_tokens", "max_completion_tokens", "frequency_penalty", "presence_penalty", "repetition_penalty",
    }
)  # fmt: skip
# A request has messages, so that it is no set of parameters.
_NOT_FOUND_YET: frozenset[str] = frozenset()


class RequestSize:
    __slots__ = ("_known_text_bytes", "_plain_parameters", "_request")

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._known_text_bytes: int | None = None
        self._plain_parameters: frozenset[str] | None = _NOT_FOUND_YET

    @property
    def _text_bytes(self) -> int:
        # Not a `cached_property`, which takes a lock in Python 3.11.
        if self._known_text_bytes is None:
            text = self._text()
            tools = len(json.dumps(self._tools())) if self._request.tools else 0
            self._known_text_bytes = tools + (len(text) if text.isascii() else len(text.encode()))
        return self._known_text_bytes

    @property
    def _most_text_bytes(self) -> int:
        form, most = self._request.response_format, _most_bytes(self._text())
        forms = [] if form is None else [form.model_dump(mode="json")]
        # Templates write other letters as they are, or as JSON's escapes.
        for shown in (*([self._tools()] if self._request.tools else []), *forms):
            most += max(len(json.dumps(shown)), _most_bytes(json.dumps(shown, ensure_ascii=False)))
        return most

    def _tools(self) -> list[dict[str, Any]]:
        return [tool.model_dump(exclude_none=True) for tool in self._request.tools or ()]

    def _text(self) -> str:
        """All texts of the messages."""
        request = self._request
        texts = []
        for message in request.messages:
            if isinstance(message.content, str):
                texts.append(message.content)
            elif message.content is not None:
                texts += [text for part in message.content for text in texts_in(part)]
            if message.name is not None:
                texts.append(message.name)
            if message.__pydantic_extra__:
                texts += texts_in_extra(message)
            if message.role == "tool":
                texts.append(message.tool_call_id)
            elif message.role == "assistant":
                for call in message.tool_calls or ():
                    texts += [call.id, *texts_in_extra(call)]
                    if call.function is not None:
                        texts += [call.function.name, call.function.arguments]
        return "".join(texts)

    @property
    def plain_parameters(self) -> frozenset[str] | None:
        """The parameters that are set; None: support depends on their values, or messages have more than texts."""
        if self._plain_parameters == _NOT_FOUND_YET:
            names = self._request.set_parameters
            is_plain = names <= _PLAIN_PARAMETERS
            for message in self._request.messages:
                is_plain = is_plain and isinstance(message.content, str) and not message.__pydantic_extra__
            self._plain_parameters = names if is_plain else None
        return self._plain_parameters

    @property
    def _media(self) -> int:
        return sum(is_medium(part) for part in self._request.parts)

    @property
    def is_bounded(self) -> bool:
        """Whether the prompt has an upper bound: of a file or a video neither the bytes nor the pages are one."""
        return all(isinstance(part, ImagePart) or not is_medium(part) for part in self._request.parts)

    @property
    def input_tokens(self) -> float:
        own = _TOKENS_A_MESSAGE * len(self._request.messages) + _TOKENS_AN_IMAGE * self._media
        return self._text_bytes / BYTES_PER_TOKEN + own

    @property
    def most_input_tokens(self) -> int:
        """The upper bound of the prompt's tokens, where it `is_bounded`: a token has a byte or more."""
        own = _MOST_TOKENS_A_MESSAGE * len(self._request.messages) + _MOST_TOKENS_A_TEMPLATE
        return self._most_text_bytes + own + _MOST_TOKENS_AN_IMAGE * self._media

    @property
    def least_input_tokens(self) -> float:
        return self._text_bytes / _MOST_BYTES_A_TOKEN

    @property
    def reserved_tokens(self) -> float:
        """What a rate limit of tokens counts when the request is sent: at Groq the whole `max_tokens`."""
        return self.input_tokens + (self._request.max_tokens or 0)

    def output_tokens(self, usual: float | None) -> float:
        choices, most = self._request.n or 1, self._request.max_tokens
        if usual is None:
            usual = _USUAL_OUTPUT_TOKENS if most is None else float(most)
        return choices * (usual if most is None else min(usual, float(most)))


# Where marks follow a letter, the order of normal forms may put another of them into one character with it.
_MOST_BYTES_OF_A_MARK = 3


def _most_bytes(text: str) -> int:
    """An upper bound of a text's bytes, as it is and in NFC or NFKC, as vocabularies normalise it (Qwen's: NFC).

    By letters, since Python's own normalising of a long text takes too long for an event loop.
    """
    if text.isascii():
        return len(text)
    from unicodedata import combining, normalize

    most = 0
    for letter, count in Counter(text).items():
        longest = max(len(form.encode()) for form in (letter, normalize("NFC", letter), normalize("NFKC", letter)))
        most += count * (longest + (_MOST_BYTES_OF_A_MARK if combining(letter) else 0))
    return most
