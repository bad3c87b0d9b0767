"""The base class for codecs of other packages: one JSON body each way, and no streams of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar

from llama_client.errors import InvalidResponseError, ProviderError
from llama_client.providers.base import Capabilities, HttpAnswer, HttpCall, ProviderCall, StreamDecoder
from llama_client.providers.wire.decoders import MAX_ANSWER_BYTES
from llama_client.providers.wire.errors import Failure, error_of
from llama_client.providers.wire.openai_codec import parsed
from llama_client.providers.wire.openai_response import ChunkReader
from llama_client.types.completion import ChatCompletionChunk


class PlainCodec(ABC):
    """A `Codec` whose answers come whole, so that a stream is one chunk. A subclass defines `encode` and `decode`.

    It also defines `stream` where the wire has streams, and `failure` where the status and the body of an error do not
    suffice.

    Attributes:
        parameters: The parameters of a request that `encode` writes, beside the messages. A request with another one is
            refused. None: nothing is refused, and `require` sees to it.
    """

    parameters: ClassVar[frozenset[str] | None] = None

    def require(self, call: ProviderCall) -> None:
        """Refuses parameters that are not in `parameters`.

        Args:
            call: The request.

        Raises:
            UnsupportedFeatureError: Names the parameter.
        """
        if self.parameters is not None:
            Capabilities(self.parameters).require(call)

    @abstractmethod
    def encode(self, call: ProviderCall) -> HttpCall:
        """The request in the provider's format.

        Args:
            call: The request.
        """

    @abstractmethod
    def decode(self, answer: HttpAnswer, call: ProviderCall) -> ChatCompletionChunk:
        """A whole answer as one chunk; see `chunk`.

        Args:
            answer: The whole response.
            call: The request.
        """

    def chunk(
        self, answer: HttpAnswer, call: ProviderCall, text: str, usage: Mapping[str, int] | None = None
    ) -> ChatCompletionChunk:
        """A whole answer that is one text.

        Args:
            answer: The whole response.
            call: The request.
            text: The answer's text.
            usage: `prompt_tokens`, `completion_tokens` and `total_tokens`, where known; without them the call has no
                price.
        """
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        reader = ChunkReader(answer, call, lambda choice, _: choice.get("logprobs"))
        return reader.whole({} if usage is None else {"usage": dict(usage)}, [choice])

    def stream(self, answer: HttpAnswer, call: ProviderCall) -> StreamDecoder:
        """A decoder that collects the bytes and decodes them at the end.

        Args:
            answer: The response; of a stream, its head.
            call: The request.
        """
        return _Gathered(self, answer, call)

    def failure(self, answer: HttpAnswer, call: ProviderCall) -> ChatCompletionChunk | ProviderError:
        """The error for the status and the body.

        Args:
            answer: The response; of a stream, its head.
            call: The request.
        """
        return error_of(Failure(answer.status, answer.headers, parsed(answer.body), answer.received_at))


class _Gathered:
    """See `StreamDecoder`."""

    is_done = False

    def __init__(self, codec: PlainCodec, answer: HttpAnswer, call: ProviderCall) -> None:
        self._codec = codec
        self._answer = answer
        self._call = call
        self._body = bytearray()
        self.is_complete = False

    def feed(self, data: bytes) -> Iterator[ChatCompletionChunk]:
        self._body += data
        if len(self._body) > MAX_ANSWER_BYTES:
            raise InvalidResponseError(f"the answer exceeds {MAX_ANSWER_BYTES >> 20} MiB; aborted")
        return iter(())

    def end(self) -> Iterator[ChatCompletionChunk]:
        chunk = self._codec.decode(self._answer._replace(body=bytes(self._body)), self._call)
        self.is_complete = True
        yield chunk
