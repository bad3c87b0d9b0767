"""What the author of a provider describes: how the service writes its answers, or how to make an engine say them."""

from __future__ import annotations

import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from llama_client.testing.conformance.said import Feature, Refusal, Said
from llama_client.testing.loopback import Answer, Received, as_json
from llama_client.testing.wire_format import JSON, SSE, OpenAIFormat

ALL_FEATURES: frozenset[Feature] = frozenset(
    {
        "streams", "tools", "split tools", "reasoning", "usage", "cached tokens", "reasoning tokens", "length",
        "content filter", "n", "errors", "errors in a 200", "error events",
    }
)  # fmt: skip
"""Every `Feature`."""


_OTHER_NAMES = {
    "max_tokens": ("max_completion_tokens", "max_output_tokens", "max_new_tokens", "num_predict"),
    "stop": ("stop_sequences",),
    "repetition_penalty": ("repeat_penalty",),
    "tool_choice": ("tool_config",),
    "seed": ("random_seed",),
    "reasoning_effort": ("effort", "think"),
}


class Wire(ABC):
    """How a service writes its answers. Derive from it, and write `whole`; `pieces` too where the service streams.

    It is for every provider that takes a `base_url`: a codec, or a provider with HTTP of its own. A feature that is not
    in `can` is not asked for in an answer; what a request sets of it (tools, `n`) must then be refused.

    Attributes:
        can: What the service can say beyond one text.
        model: A model id.
        path: What `base_url` has behind the server's address.
        table: Further keys of the provider's table in the configuration, such as `options`.
        headers: Of whole answers.
        stream_headers: Of streams.
        malformed: A body that is not an answer.

    Example:
        class ParrotWire(Wire):
            can = frozenset({"usage", "errors"})

            def whole(self, said: Said) -> bytes:
                return json.dumps({"says": said.text, "tokens": said.counts and said.counts.completion}).encode()
    """

    can: frozenset[Feature] = frozenset()
    model: str = "conformance-model"
    path: str = ""
    table: Mapping[str, Any] = {}
    headers: Mapping[str, str] = JSON
    stream_headers: Mapping[str, str] = SSE
    malformed: bytes = b'{"broken": '

    @abstractmethod
    def whole(self, said: Said) -> bytes:
        """The body of a whole answer.

        Args:
            said: The answer; it never breaks off.
        """

    def pieces(self, said: Said) -> Sequence[bytes]:
        """The parts of a stream's body; by default the whole answer in one.

        Args:
            said: The answer.
        """
        return [self.whole(said)]

    def is_chat(self, received: Received) -> bool:
        """Whether a request asks for an answer; by default each `POST` does.

        Args:
            received: The request.
        """
        return received.method == "POST"

    def answer_other(self, received: Received) -> Answer:
        """The answer to a request that does not ask for one, such as that for a token; by default status 404.

        Args:
            received: The request.
        """
        return as_json({"error": "not found"}, status=404)

    def body_of(self, received: Received) -> bytes:
        """A request's body as texts are looked for in it; by default without gzip or deflate.

        Args:
            received: The request.
        """
        if received.headers.get("content-encoding") in {"gzip", "deflate"}:
            return zlib.decompress(received.body, wbits=zlib.MAX_WBITS | 32)
        return received.body

    def written(self, parameter: str, value: Any) -> Mapping[str, Any]:
        """The keys and values of a request's JSON that hold a parameter; one of them suffices, at any depth.

        Upper case, `_` and `-` in keys do not matter. By default the parameter's own name, and names that are usual.

        Args:
            parameter: Its name in `create`.
            value: Its value there.

        Example:
            def written(self, parameter: str, value: Any) -> Mapping[str, Any]:
                if parameter == "temperature":
                    return {"heat": f"{100 * value:.0f}%"}
                return super().written(parameter, value)
        """
        if parameter == "extra_body":
            return dict(value)
        return dict.fromkeys((parameter, *_OTHER_NAMES.get(parameter, ())), value)

    def malformed_piece(self) -> bytes:
        """A part of a stream that cannot be read."""
        return self.malformed

    def refusal(self, refusal: Refusal) -> bytes:
        """The body of an error; by default as OpenAI writes it.

        Args:
            refusal: The error.
        """
        return json.dumps(OpenAIFormat.error(refusal.message, "error")).encode()

    def error_event(self, message: str) -> bytes:
        """An error in the midst of a stream.

        Args:
            message: What the service says of it.
        """
        raise NotImplementedError("a wire that can say `error events` writes them in `error_event`")


class Engine(ABC):
    """A provider without a wire, such as a model in this process: a function makes it say something.

    Derive from it, and write `say`. The cases about bytes and connections do not apply.

    Attributes:
        can: What it can say beyond one text in parts.
        takes: The parameters of a request that it honours; it must refuse the others.
        model: A model id.
        table: Further keys of the provider's table in the configuration, such as `options`.
    """

    can: frozenset[Feature] = frozenset({"streams"})
    takes: frozenset[str] = frozenset()
    model: str = "conformance-model"
    table: Mapping[str, Any] = {}

    @abstractmethod
    def say(self, said: Said | Refusal) -> None:
        """Makes the provider answer all requests from now on with this.

        Args:
            said: The answer. Where it breaks off, the provider ends without a finish reason. A `Refusal` comes only
                where it can say `errors`.
        """

    def running(self) -> int:
        """How many answers it is generating now, so that one that goes on without a reader is found; by default 0."""
        return 0
