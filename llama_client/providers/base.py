"""What every provider is to the rest of the package: one verb in two colours, what it cannot do, and its codec."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from llama_client.errors import ProviderError, UnsupportedFeatureError
from llama_client.types.completion import ChatCompletionChunk

if TYPE_CHECKING:
    from llama_client.types.request import ChatRequest

# Never refused: they are ours, a second name, or (user, for a provider without abuse checks) change nothing in the
# answer.
_ALWAYS_HONOURED = frozenset(
    {"messages", "stream", "stream_options", "timeout", "tags", "user", "max_completion_tokens", "schema_in_words"}
)


@dataclass(slots=True, eq=False)
class AttemptFacts:
    """What a provider learns during one attempt beside the chunks; it writes each fact down as soon as it is known.

    Attributes:
        sent: Whether the request may have reached the model. Set before sending, never taken back.
        http_status: The status of the answer.
        provider_request_id: The provider's id of the request.
        rate_limit: What the provider said of its limits.
        load_s: Seconds that this attempt waited for the model to load.
        queue_s: Seconds that it waited for a free slot.
        total_s: Seconds that the answer took, where the provider measured that itself.
        tokens_per_s: The speed of the answer, where the provider measured that itself.
        warnings: What a careful user would want to know.
        bodies: The provider's own bodies, one a chunk, parsed or as bytes, for `ChatCompletion.raw`.
        body: The provider's own body, where the answer came as one.
        is_loading: Whether the model is still being loaded, so that silence is no fault.
        is_stopped: Whether somebody has ended the attempt from elsewhere.
        stop: Ends the attempt from another thread or task, while its own waits for the provider. None: cannot be.
    """

    sent: bool = False
    http_status: int | None = None
    provider_request_id: str | None = None
    rate_limit: dict[str, Any] | None = None
    load_s: float | None = None
    queue_s: float | None = None
    total_s: float | None = None
    tokens_per_s: float | None = None
    warnings: list[str] = field(default_factory=list)
    bodies: list[bytes | dict[str, Any]] = field(default_factory=list)
    body: dict[str, Any] | None = None
    is_loading: bool = False
    is_stopped: bool = False
    stop: Callable[[], None] | None = None

    def end(self) -> None:
        """Ends the attempt from another thread or task. What waits for the provider fails soon after."""
        self.is_stopped = True
        stop = self.stop
        if stop is not None:
            stop()

    def redact(self, without: Callable[[Any], Any]) -> None:
        """Takes secrets out of what the provider sent."""
        self.bodies[:] = [without(body) for body in self.bodies]
        self.body = without(self.body)
        self.provider_request_id = without(self.provider_request_id)
        self.warnings[:] = [without(warning) for warning in self.warnings]

    def warn(self, warning: str) -> None:
        """Adds a warning, once."""
        if warning not in self.warnings:
            self.warnings.append(warning)


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """One attempt, as a provider sees it.

    Attributes:
        request: The checked request.
        provider: The provider's name in the configuration.
        model: The provider's own model id.
        request_id: Ours.
        timeout_s: Seconds until the attempt must be over (a call) or have content (a stream); None: no limit.
        facts: Where the provider writes down what it learns.
        images: Images behind addresses, in base64, where the provider had to fetch them.
        first_content_s: Seconds until a stream must have content, where the model is not still being loaded; None: as
            `timeout_s`.
        stall_s: Seconds that a stream may pause between chunks; None: no limit.
        is_continuation: Whether the last message is the beginning of the answer.
    """

    request: ChatRequest
    provider: str
    model: str
    request_id: str
    timeout_s: float | None
    facts: AttemptFacts
    images: dict[str, str] = field(default_factory=dict)
    first_content_s: float | None = None
    stall_s: float | None = None
    is_continuation: bool = False

    @property
    def target(self) -> str:
        """`provider/model`."""
        return f"{self.provider}/{self.model}"

    def unsupported(self, param: str, why: str) -> UnsupportedFeatureError:
        """The error for a parameter that this target cannot honour."""
        return UnsupportedFeatureError(f"{self.target} cannot honour {param}: {why}", param=param, target=self.target)


class Provider(Protocol):
    """Somebody who answers. A whole reply is a stream of one chunk, so there is one verb in two colours.

    `require` comes first, and says no before anything is sent. Both generators raise `ProviderError`s only, free what
    they hold when closed early, and end only after a chunk with a finish reason for every choice: an end without one is
    taken for an interruption.
    """

    def is_free(self, model: str) -> bool:
        """Whether that model's answers are made on a machine of the user's own, so nobody is paid by the token."""
        ...

    def require(self, call: ProviderCall) -> None:
        """Refuses what it cannot honour, as far as that is known without asking anybody.

        Raises:
            UnsupportedFeatureError: Names the parameter.
            LocalOnlyError: The request would leave this machine.
        """
        ...

    def continues(self, model: str) -> bool:
        """Whether the model goes on from an assistant message at the end of the request."""
        ...

    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        """Answers, blocking."""
        ...

    def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        """Answers, on the event loop."""
        ...

    def close(self) -> None:
        """Frees everything; running answers end with an `APIConnectionError`."""
        ...

    async def aclose(self) -> None:
        """The same, without blocking the event loop."""
        ...

    def served_models(self) -> Sequence[ServedModel]:
        """The models that it serves now, asked of it."""
        ...

    async def aserved_models(self) -> Sequence[ServedModel]:
        """The same, on the event loop."""
        ...

    def cleaned(self, text: str) -> str:
        """What it says, without the secrets that were sent to it."""
        ...


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that a provider says it serves.

    Attributes:
        id: The provider's own id.
        context_tokens: The context that it is served with, where the provider says.
        size_bytes: The file's size, where the model is a file.
        is_loaded: Whether it is in memory now; None where that has no meaning or is not told.
        is_remote: Whether the provider hands its requests on to somebody else.
    """

    id: str
    context_tokens: int | None = None
    size_bytes: int | None = None
    is_loaded: bool | None = None
    is_remote: bool = False


@dataclass(frozen=True, slots=True)
class HttpCall:
    """What a codec makes of a request: where it goes below the provider's address, and what is sent.

    Attributes:
        path: Relative to the address, without a slash at its start.
        body: JSON.
        headers: Beside those of the provider's own client.
    """

    path: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """The head of an answer, and the whole body where it is no stream.

    Attributes:
        status: The HTTP status.
        headers: With lower-case names.
        body: The body's bytes.
        received_at: Unix time.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    received_at: float


class StreamDecoder(Protocol):
    """Turns the bytes of one stream into chunks. Raises `ProviderError`s only, each after the chunks before it."""

    @property
    def is_complete(self) -> bool:
        """Whether every choice has its finish reason, so that a connection that breaks now breaks nothing."""
        ...

    @property
    def is_done(self) -> bool:
        """Whether the provider said that nothing more comes."""
        ...

    def feed(self, data: bytes) -> Iterator[ChatCompletionChunk]:
        """The chunks that these bytes complete."""
        ...

    def end(self) -> Iterator[ChatCompletionChunk]:
        """What is left at the end of the bytes."""
        ...


class Codec(Protocol):
    """One provider's wire, without I/O: the same for both colours."""

    def require(self, call: ProviderCall) -> None:
        """Refuses what the target cannot honour, before anything is sent or fetched.

        Raises:
            UnsupportedFeatureError: Names the parameter.
        """
        ...

    def encode(self, call: ProviderCall) -> HttpCall:
        """Our request, which has passed `require`, as the provider's.

        Raises:
            UnsupportedFeatureError: Something in a message has no form there.
        """
        ...

    def decode(self, answer: HttpAnswer, call: ProviderCall) -> ChatCompletionChunk:
        """A whole answer as one chunk.

        Raises:
            ProviderError: It is an error, or none at all.
        """
        ...

    def stream(self, answer: HttpAnswer, call: ProviderCall) -> StreamDecoder:
        """A decoder for the stream that begins with this head."""
        ...

    def failure(self, answer: HttpAnswer, call: ProviderCall) -> ChatCompletionChunk | ProviderError:
        """An answer with an error status: our error, or the answer that could be rescued from it."""
        ...


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a target can honour.

    Attributes:
        parameters: The request parameters that it honours.
        why_not: For a parameter that some of the provider's models honour: why this one does not.
    """

    parameters: frozenset[str]
    why_not: dict[str, str] = field(default_factory=dict)

    def require(self, call: ProviderCall) -> None:
        """Refuses a request that the target cannot honour, before anything is sent.

        Raises:
            UnsupportedFeatureError: Names the first parameter, in alphabetical order.
        """
        for name in sorted(call.request.set_parameters - _ALWAYS_HONOURED):
            if name not in self.parameters or name in self.why_not:
                raise call.unsupported(name, self.why_not.get(name, f"{call.provider} has no such parameter"))
