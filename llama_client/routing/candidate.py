"""A target within one call: the request in the form it gets, and how its attempts went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_client.errors import LlamaClientError, LocalOnlyError, UnsupportedFeatureError
from llama_client.providers.base import AttemptFacts, ProviderCall
from llama_client.routing.request_size import RequestSize

if TYPE_CHECKING:
    from llama_client.routing.accumulator import Interrupted
    from llama_client.routing.health import Health
    from llama_client.routing.targets import Target
    from llama_client.types.request import ChatRequest


# A check sends nothing and learns nothing.
_NO_FACTS = AttemptFacts()
# Sets of parameters remembered per target; others are checked on each call.
_MAX_HONOURED = 64
# Parameters that are dropped together.
_GOES_WITH = {
    "tools": ("tool_choice", "parallel_tool_calls"),
    "logprobs": ("top_logprobs",),
    "max_tokens": ("max_completion_tokens",),
}


class Candidate:
    """A target within one call."""

    __slots__ = (
        "_before_continuing",
        "_is_as_asked",
        "_is_checked",
        "continued",
        "error",
        "health",
        "is_budgeted",
        "is_free",
        "is_out",
        "is_recorded",
        "ready_at",
        "request",
        "route",
        "size",
        "target",
        "tries",
        "warnings",
    )

    def __init__(
        self, target: Target, health: Health, request: ChatRequest, size: RequestSize, route: str | None = None
    ) -> None:
        self.target = target
        self.health = health
        self.request = _with_defaults(request, target) if target.params else request
        self._is_as_asked = self.request is request
        self.size = size if self._is_as_asked else RequestSize(self.request)
        self._before_continuing = self.request
        self.tries = 0
        self.ready_at = 0.0
        self.error: LlamaClientError | None = None
        self.is_out = False
        self.is_recorded = False
        self.warnings: list[str] = []
        self.continued: Interrupted | None = None
        self.route = route
        self.is_budgeted = False
        self.is_free = False
        self._is_checked = False

    def continuing(self, broken: Interrupted) -> Candidate:
        """This target, to continue an interrupted answer."""
        following = Candidate(self.target, self.health, self.request, self.size, self.route)
        following._before_continuing = self.request if self.continued is None else self._before_continuing
        following.request = _with_beginning(following._before_continuing, broken)
        following._is_as_asked = False
        following.warnings = [
            *self.warnings,
            f"{broken.target} was interrupted after {len(broken.answer.text)} characters; {self.target.name} continued",
        ]
        following.continued = broken
        following.is_budgeted, following.is_free = self.is_budgeted, self.is_free
        return following

    def refuse(self, error: LlamaClientError) -> None:
        self.error = error
        self.is_out = True

    def is_fit(self, *, may_drop: bool) -> bool:
        """Whether it supports the request; if not, it is out."""
        if self._is_checked or self.is_out:
            return not self.is_out
        # Most calls of a program set the same parameters: checked once.
        plain = self.size.plain_parameters if self._is_as_asked else None
        if plain is not None and plain in self.health.honours:
            self._is_checked = True
        while not self._is_checked:
            target = self.target
            call = ProviderCall(self.request, target.provider_name, target.model, "", None, _NO_FACTS)
            try:
                target.provider.require(call)
                self._is_checked = True
                if plain is not None and len(self.health.honours) < _MAX_HONOURED:
                    self.health.honours.add(plain)
            except UnsupportedFeatureError as error:
                if not (may_drop and self.drops(error)):
                    self.refuse(error)
                    return False
                plain = None
            except LocalOnlyError as error:
                self.refuse(error)
                return False
        return True

    def drops(self, error: UnsupportedFeatureError) -> bool:
        """Drops a parameter that the target does not support; returns whether that was possible."""
        param = error.param
        # Messages cannot be dropped.
        if param is None or param == "messages" or param not in self.request.set_parameters:
            return False
        names = (param, *_GOES_WITH.get(param, ()))
        self.request = self.request.model_copy(update=dict.fromkeys(names))
        self.warnings.append(f"{param} was left out: {error}")
        return True


def _with_beginning(request: ChatRequest, broken: Interrupted) -> ChatRequest:
    """The request with the partial answer as its last message, and fewer tokens left."""
    from llama_client.types.messages import AssistantMessage

    beginning = AssistantMessage(role="assistant", content=broken.answer.text)
    changed: dict[str, object] = {"messages": (*request.messages, beginning)}
    for name in ("max_tokens", "max_completion_tokens"):
        most = getattr(request, name)
        if most is not None:
            # A chunk of a stream is one token or a few.
            changed[name] = max(most - broken.answer.pieces, 1)
    return request.model_copy(update=changed)


def _with_defaults(request: ChatRequest, target: Target) -> ChatRequest:
    """The request with the target's `params` as defaults."""
    missing = {name: value for name, value in target.params.items() if getattr(request, name) is None}
    return request.model_copy(update=missing) if missing else request
