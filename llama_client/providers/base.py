"""What every provider is to the rest of the package: one verb in two colours, and what it cannot do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from llama_client.errors import UnsupportedFeatureError
from llama_client.types.chunk import ChatCompletionChunk

if TYPE_CHECKING:
    from llama_client.types.request import ChatRequest

# Never refused: they are ours, or (user, for a provider without abuse checks) change nothing in the answer.
_ALWAYS_HONOURED = frozenset({"messages", "stream", "stream_options", "timeout", "tags", "user"})


@dataclass(slots=True)
class AttemptFacts:
    """What a provider learns during one attempt beside the chunks; it writes each fact down as soon as it is known.

    Attributes:
        sent: Whether the request may have reached the model. Set before sending, never taken back.
        http_status: The status of the answer.
        provider_request_id: The provider's id of the request.
        rate_limit: What the provider said of its limits.
        load_s: Seconds that this attempt waited for the model to load.
        queue_s: Seconds that it waited for a free slot.
        warnings: What a careful user would want to know.
        bodies: The provider's own bodies, one a chunk, for `ChatCompletion.raw`.
    """

    sent: bool = False
    http_status: int | None = None
    provider_request_id: str | None = None
    rate_limit: dict[str, Any] | None = None
    load_s: float | None = None
    queue_s: float | None = None
    warnings: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)


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
    """

    request: ChatRequest
    provider: str
    model: str
    request_id: str
    timeout_s: float | None
    facts: AttemptFacts

    @property
    def target(self) -> str:
        """`provider/model`."""
        return f"{self.provider}/{self.model}"


class Provider(Protocol):
    """Somebody who answers. A whole reply is a stream of one chunk, so there is one verb in two colours.

    Both generators raise `ProviderError`s only, free what they hold when closed early, and end only after a chunk with
    a finish reason for every choice: an end without one is taken for an interruption.
    """

    @property
    def is_local(self) -> bool:
        """Whether answers are made on this machine, so that nobody is paid by the token."""
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
                reason = self.why_not.get(name, f"{call.provider} has no such parameter")
                raise UnsupportedFeatureError(
                    f"{call.target} cannot honour {name}: {reason}", param=name, target=call.target
                )
