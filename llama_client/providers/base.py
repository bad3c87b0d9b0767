"""What a third party implements: a `Provider`, or a `Codec` (the wire alone, over the package's own HTTP)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from llama_client.errors import ProviderError, UnsupportedFeatureError
from llama_client.types.completion import ChatCompletionChunk, Source

if TYPE_CHECKING:
    from llama_client.types.request import ChatRequest

# Never refused: the package's own, a second name of one that is checked, or (`user`, for a provider without abuse
# checks) without effect on the answer.
_ALWAYS_HONOURED = frozenset(
    {
        "messages", "stream", "stream_options", "timeout", "tags", "user", "max_completion_tokens", "schema_in_words",
        "answer_class",
    }
)  # fmt: skip


class Charge(NamedTuple):
    """What a provider itself says that an answer costs.

    Attributes:
        usd: The whole charge in US dollars.
        source: Where it says so, such as `usage.cost`.
        is_estimated: Whether it calls the charge an estimate.
    """

    usd: Decimal
    source: str
    is_estimated: bool = False


@dataclass(slots=True, eq=False)
class AttemptFacts:
    """What a provider learns during one attempt, beside the chunks. Set each field as soon as it is known.

    The attempt's record is made from these at its end, however it ends. All times are in seconds.

    Attributes:
        sent: Whether the request may have reached the model, and so may be billed. Set before sending, never reset.
        http_status: The status of the response.
        provider_request_id: The provider's id of the request.
        rate_limit: The provider's rate limits: `{"requests": {"limit", "remaining", "reset_s"}, "tokens": {...}}`, each
            part where known.
        load_s: The time that this attempt waited for the model to load.
        queue_s: The time that it waited for a free slot.
        total_s: The duration of the answer, as measured by the provider.
        tokens_per_s: The speed of the answer, as measured by the provider.
        charge: What the provider itself says that the answer costs: it counts before any price list.
        sources: For `ChatCompletion.sources`.
        warnings: For `ChatCompletion.warnings`; see `warn`.
        request_warnings: Those of them that are about the request: each whole answer to it has them.
        bodies: The provider's own bodies, one a chunk, parsed or as bytes, for `ChatCompletion.raw`.
        body: The provider's own body, where the answer was a single one: parsed, or as bytes where it is long.
        is_loading: Whether the target is slow, not dead: its model is loading, or it reads a long prompt and shows
            that it lives. Then a timeout does not count as its failure.
        reason: What happened to the request on its way, for `Attempt.reason`: that it went over a new connection, say.
        is_unanswered: Whether a connection that was used before ended without a byte of the answer. That tells nothing
            of the target, so the attempt is made again at once.
        is_stopped: Whether the attempt was stopped from another thread or task; see `cancel`.
        stop: Stops the attempt from another thread or task, while the provider waits. None: nothing is waiting.

    Example:
        >>> facts = AttemptFacts()
        >>> facts.warn("top_k was rounded")
        >>> facts.warn("top_k was rounded")
        >>> facts.warnings
        ['top_k was rounded']
    """

    sent: bool = False
    http_status: int | None = None
    provider_request_id: str | None = None
    rate_limit: dict[str, Any] | None = None
    load_s: float | None = None
    queue_s: float | None = None
    total_s: float | None = None
    tokens_per_s: float | None = None
    charge: Charge | None = None
    sources: list[Source] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    request_warnings: list[str] = field(default_factory=list)
    bodies: list[bytes | dict[str, Any]] = field(default_factory=list)
    body: dict[str, Any] | bytes | None = None
    is_loading: bool = False
    reason: str | None = None
    is_unanswered: bool = False
    is_stopped: bool = False
    stop: Callable[[], None] | None = None

    def cancel(self) -> None:
        """Stops the attempt from another thread or task. The provider's wait fails soon after."""
        self.is_stopped = True
        stop = self.stop
        if stop is not None:
            stop()

    def redact(self, without: Callable[[Any], Any]) -> None:
        """Removes secrets from what the provider sent.

        Args:
            without: Returns a value of any shape with its secrets replaced.
        """
        self.bodies[:] = [without(body) for body in self.bodies]
        self.body = without(self.body)
        self.provider_request_id = without(self.provider_request_id)
        self.redact_words(without)
        self.reason = without(self.reason)

    def redact_words(self, without: Callable[[Any], Any]) -> None:
        """Removes secrets from what is told with an answer: warnings and sources.

        Args:
            without: As in `redact`.
        """
        self.warnings[:] = [without(warning) for warning in self.warnings]
        self.request_warnings[:] = [without(warning) for warning in self.request_warnings]
        self.sources[:] = [each.model_copy(update=without(each.model_dump())) for each in self.sources]

    def warn(self, warning: str, *, is_of_request: bool = False) -> None:
        """Adds a warning, unless it is there already.

        Args:
            warning: One sentence.
            is_of_request: Whether the next answer to the same request would have it too, and nothing is missing in the
                answer. The cache keeps no answer with another warning.
        """
        if warning not in self.warnings:
            self.warnings.append(warning)
        if is_of_request and warning not in self.request_warnings:
            self.request_warnings.append(warning)


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """One attempt, as a provider gets it.

    Attributes:
        request: The validated request.
        provider: The provider's name in the configuration.
        model: The provider's own model id.
        request_id: The package's id of the call, the same in all its attempts, logs and the ledger.
        timeout_s: Seconds until the attempt must be complete (a call) or have content (a stream); None: no limit.
        facts: Where the provider records what it learns.
        images: The fetched images by their address, in base64, where the provider accepts no addresses.
        first_content_s: Seconds until a stream must have content, unless `is_lone` or on the user's own server, as long
            as it shows signs of life; None: as `timeout_s`.
        stall_s: Seconds that a stream may pause between chunks; None: no limit.
        is_continuation: Whether the last message is the beginning of the answer.
        refused: Fields of a body that this package chooses (`stream_options`; `max_tokens` or `max_completion_tokens`)
            and that the target's server has refused by name lately.
        is_lone: Whether no other target could answer, so that to give up is to start anew at the same one.
        needs_new_connection: Whether the last attempt was lost with a connection that was used before.
        whole_timeout_s: Seconds for the whole call, of which `timeout_s` is a part; None: no limit.
        misfit: What the last attempt at this target wrote, and why it is not the answer that `parse` asked for; None:
            there was none.
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
    refused: frozenset[str] = frozenset()
    is_lone: bool = False
    needs_new_connection: bool = False
    whole_timeout_s: float | None = None
    misfit: tuple[str, str] | None = None

    @property
    def target(self) -> str:
        """`provider/model`."""
        return f"{self.provider}/{self.model}"

    def unsupported(self, param: str, why: str) -> UnsupportedFeatureError:
        """The error for a parameter that this target cannot honour.

        Args:
            param: The parameter.
            why: Why the target cannot honour it.
        """
        return UnsupportedFeatureError(f"{self.target} cannot honour {param}: {why}", param=param, target=self.target)


class Provider(Protocol):
    """Answers requests. A whole answer is a stream of one chunk, so there is one operation, sync and async.

    `require` is called first, and refuses before anything is sent. Both generators raise `ProviderError`s only, release
    what they hold when closed early, and end only after a chunk with a finish reason for every choice: an end without
    one counts as an interruption.

    Derive from it and write `chunks` and `achunks`; the other methods have the defaults of a provider that honours
    everything and has nothing to release.
    """

    def is_free(self, model: str) -> bool:
        """Whether the model runs on the user's own machine, so that tokens cost nothing.

        Args:
            model: The provider's own model id.
        """
        return False

    def require(self, call: ProviderCall) -> None:
        """Refuses what the provider cannot honour, as far as that is known without I/O.

        Args:
            call: The request.

        Raises:
            UnsupportedFeatureError: Names the parameter.
            LocalOnlyError: The request would leave this machine.
        """
        return

    def continues(self, model: str) -> bool:
        """Whether the model continues an assistant message at the end of the request.

        Args:
            model: The provider's own model id.
        """
        return False

    def model_identity(self, model: str) -> str | None:
        """What the answers of a model depend on beside the request, as a text: the key of `[cache]` has a digest of it.

        The address, the model's id, its file, options that are sent with every request. None: that is unknown, and
        answers are not kept. Asked with every call where the cache is on, without I/O beyond a look at local files.

        Args:
            model: The provider's own model id.
        """
        return None

    def counts_tokens(self, model: str) -> bool:
        """Whether `count_tokens` can tell the number of a prompt's tokens now, which takes it a moment.

        Args:
            model: The provider's own model id.
        """
        return False

    def count_tokens(self, call: ProviderCall) -> int | None:
        """The exact number of a prompt's tokens, as this machine can tell it; None: unknown. Blocks for a moment.

        Args:
            call: The request.
        """
        return None

    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        """The answer, blocking.

        Args:
            call: The request.

        Raises:
            ProviderError: Of any kind; `facts.sent` tells whether the request may have been sent.
        """

    def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        """The same as `chunks`, on the event loop.

        Args:
            call: The request.
        """

    def close(self) -> None:
        """Releases everything; running answers end with an `APIConnectionError`."""
        return

    async def aclose(self) -> None:
        """The same as `close`, without blocking the event loop."""
        self.close()

    def served_models(self) -> Sequence[ServedModel]:
        """The models that the provider serves now, as it lists them.

        Raises:
            ProviderError: It cannot be reached, or refuses.
        """
        return ()

    async def aserved_models(self) -> Sequence[ServedModel]:
        """The same as `served_models`, on the event loop."""
        return self.served_models()

    def cleaned(self, text: str) -> str:
        """A text from the provider, without the secrets that were sent to it.

        Args:
            text: The text.
        """
        return text


class ProviderSetup(Protocol):
    """What a provider factory is given: `factory(setup)` returns a `Provider`, once a client, at its first use."""

    @property
    def name(self) -> str:
        """The provider's name in the configuration."""

    @property
    def options(self) -> Mapping[str, Any]:
        """The `options` of its table, whatever the user wrote there."""

    @property
    def base_url(self) -> str | None:
        """The `base_url` of its table, else of its row; None: neither has one."""

    @property
    def local_only(self) -> bool:
        """Whether nothing may leave this machine. `over_http` sees to that; other connections are the factory's."""

    def over_http(self, codec: Codec) -> Provider:
        """A provider behind HTTP whose wire is that of a codec.

        The connections, the key, `local_only`, timeouts and cancellation are this package's; the codec does no I/O.

        Args:
            codec: The wire.
        """


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model in a provider's own list.

    Attributes:
        id: The provider's own id.
        context_tokens: The context that it is served with; None: unknown.
        size_bytes: The file's size, where the model is a file.
        is_loaded: Whether it is in memory now; None: unknown, or without meaning there.
        is_remote: Whether the provider forwards its requests to another server.
        abilities: Of `tools`, `vision`, `reasoning` and `json_schema`, as the provider lists them; None: it does not.
        is_chat: Whether it answers chats, which models for embeddings do not; None: unknown.
    """

    id: str
    context_tokens: int | None = None
    size_bytes: int | None = None
    is_loaded: bool | None = None
    is_remote: bool = False
    abilities: frozenset[str] | None = None
    is_chat: bool | None = None


class HttpCall(NamedTuple):
    """A request as a codec encoded it.

    Attributes:
        path: Relative to the provider's address, without a leading slash.
        body: JSON.
        headers: Added to those of the provider's own client.
    """

    path: str
    body: bytes
    headers: Mapping[str, str]


class HttpAnswer(NamedTuple):
    """The head of a response, and its body where it is not a stream.

    Attributes:
        status: The HTTP status.
        headers: With lower-case names.
        body: Empty for a stream.
        received_at: Unix time in seconds.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    received_at: float


class StreamDecoder(Protocol):
    """Decodes the bytes of one stream. Raises `ProviderError`s only, each after the chunks before it."""

    @property
    def is_complete(self) -> bool:
        """Whether every choice has its finish reason, so that a lost connection no longer matters."""

    @property
    def is_done(self) -> bool:
        """Whether the provider marked the end of the stream."""

    def feed(self, data: bytes) -> Iterator[ChatCompletionChunk]:
        """The chunks that these bytes complete.

        Args:
            data: The next bytes, cut at any place.
        """

    def end(self) -> Iterator[ChatCompletionChunk]:
        """The remaining chunks, after the last bytes."""


class Codec(Protocol):
    """One provider's wire format, the same for sync and async.

    A codec does no I/O and keeps no state between calls. Its results are what it returns and what it adds to
    `call.facts`: warnings, bodies, and the ids and times that a body contains. All it reads there is whether the
    headers had a request id already. The exchange, which does the I/O, sets all other facts. It decodes long answers in
    a thread, so that an event loop goes on.
    """

    def require(self, call: ProviderCall) -> None:
        """Refuses what the target cannot honour, before anything is sent or fetched.

        Args:
            call: The request.

        Raises:
            UnsupportedFeatureError: Names the parameter.
        """

    def encode(self, call: ProviderCall) -> HttpCall:
        """The request, which has passed `require`, in the provider's format.

        Args:
            call: The request.

        Raises:
            UnsupportedFeatureError: A part of a message cannot be expressed there.
        """

    def decode(self, answer: HttpAnswer, call: ProviderCall) -> ChatCompletionChunk:
        """A whole answer as one chunk.

        Args:
            answer: The whole response.
            call: The request.

        Raises:
            ProviderError: The body is an error, or not an answer.
        """

    def stream(self, answer: HttpAnswer, call: ProviderCall) -> StreamDecoder:
        """A decoder for the stream that begins with this head.

        Args:
            answer: The response; of a stream, its head.
            call: The request.
        """

    def failure(self, answer: HttpAnswer, call: ProviderCall) -> ChatCompletionChunk | ProviderError:
        """A response with an error status as our error, or as the answer that it contains.

        Args:
            answer: The response; of a stream, its head.
            call: The request.
        """


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a target can honour."""

    parameters: frozenset[str]
    # Parameters that it does not honour with this model or value, each with the reason.
    why_not: dict[str, str] = field(default_factory=dict)

    def require(self, call: ProviderCall) -> None:
        for name in sorted(call.request.set_parameters - _ALWAYS_HONOURED):
            if name not in self.parameters or name in self.why_not:
                raise call.unsupported(name, self.why_not.get(name, f"{call.provider} has no such parameter"))
