"""A target within one call: the request in the form it gets, and how its attempts went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_client.errors import LlamaClientError, LocalOnlyError, UnsupportedFeatureError
from llama_client.providers.base import AttemptFacts, ProviderCall
from llama_client.providers.services import LIMIT_NAMES
from llama_client.routing.request_size import RequestSize
from llama_client.types.media import is_medium

if TYPE_CHECKING:
    from llama_client.routing.accumulator import Interrupted
    from llama_client.routing.health import Feature, Health
    from llama_client.routing.targets import Target
    from llama_client.types.request import ChatRequest

# For a check without an attempt.
_NO_FACTS = AttemptFacts()
# Sets of parameters remembered per target; programs that make up more have each checked anew.
_MAX_SUPPORTED = 64
# Of what a server said about a feature.
_MAX_WHY_CHARS = 200
_PLAIN_VALUES = (str, int, float, bool)
# Fields that the package chooses. Where a server refuses one by name, the same is said in another way, or not at all.
_CHOSEN_FIELDS = frozenset({"stream_options", *LIMIT_NAMES})
# Parameters that make no sense without another, and are dropped with it.
_DEPENDENT = {
    "tools": ("tool_choice", "parallel_tool_calls"),
    "logprobs": ("top_logprobs",),
    "max_tokens": ("max_completion_tokens",),
}


class Candidate:
    def __init__(
        self, target: Target, health: Health, request: ChatRequest, size: RequestSize, route: str | None = None
    ) -> None:
        self.target = target
        self.health = health
        self.route = route
        self.request = _with_defaults(request, target) if target.params else request
        self._is_as_given = self.request is request
        self.size = size if self._is_as_given else RequestSize(self.request)
        self._before_continuing = self.request
        self.continued: Interrupted | None = None
        self.warnings: list[str] = []
        # Of the fields that the package chooses, those that the target's server refuses.
        self.refused: frozenset[str] = frozenset()
        # Of its prompt, by the target's own count; None: it does not tell.
        self.counted_tokens: int | None = None
        # Whether the cache was asked for an answer to this request.
        self.is_looked_up = False
        self.is_budgeted = False
        self.is_free = False
        self.tries = 0
        self.ready_at = 0.0
        self.error: LlamaClientError | None = None
        self.is_excluded = False
        # Whether the attempts say already why it is skipped.
        self.is_reported = False
        # Whether its last attempt was lost with a connection that was used before.
        self.needs_new_connection = False
        # What its last attempt wrote for `parse`, and why it does not fit.
        self.misfit: tuple[str, str] | None = None
        self._is_checked = False

    def continuing(self, interrupted: Interrupted) -> Candidate:
        """The same target, with a request to continue an interrupted answer."""
        following = Candidate(self.target, self.health, self.request, self.size, self.route)
        following._before_continuing = self.request if self.continued is None else self._before_continuing
        following.request = _with_beginning(following._before_continuing, interrupted)
        following._is_as_given = False
        length = len(interrupted.answer.text)
        warning = f"{interrupted.target} was interrupted after {length} characters; {self.target.name} continued"
        following.warnings = [*self.warnings, warning]
        following.continued = interrupted
        following.is_looked_up = True
        following.is_budgeted, following.is_free = self.is_budgeted, self.is_free
        following.refused = self.refused
        return following

    @property
    def counts_tokens(self) -> bool:
        """Whether `count_tokens` has more to tell than what is known, which takes it a moment."""
        return self.counted_tokens is None and self.target.provider.counts_tokens(self.target.model)

    def count_tokens(self) -> None:
        """Asks the target how many tokens its prompt has."""
        target = self.target
        call = ProviderCall(self.request, target.provider_name, target.model, "", None, AttemptFacts())
        self.counted_tokens = target.provider.count_tokens(call)

    def exclude(self, error: LlamaClientError) -> None:
        self.error = error
        self.is_excluded = True

    def is_supported(self, *, may_drop: bool) -> bool:
        """Whether the target supports the request, checked before it is sent; if not, it is excluded."""
        if self._is_checked or self.is_excluded:
            return not self.is_excluded
        # Most calls of a program set the same parameters: check each set once.
        plain = self.size.plain_parameters if self._is_as_given else None
        if plain is not None and plain in self.health.supported and not self.health.refusals.by_feature:
            self._is_checked = True
        while not self._is_checked:
            target = self.target
            call = ProviderCall(self.request, target.provider_name, target.model, "", None, _NO_FACTS)
            try:
                target.provider.require(call)
                self._require_not_refused(call)
                self._is_checked = True
                if plain is not None and len(self.health.supported) < _MAX_SUPPORTED:
                    self.health.supported.add(plain)
            except (UnsupportedFeatureError, LocalOnlyError) as error:
                if isinstance(error, LocalOnlyError) or not (may_drop and self.drop_parameter(error)):
                    self.exclude(error)
                    return False
                plain = None
        return True

    def _require_not_refused(self, call: ProviderCall) -> None:
        """Refuses what the target itself has refused lately."""
        if not self.health.refusals.by_feature:
            return
        for (param, value), why in self.health.refusals.current(self.health.clock.monotonic()):
            if param in _CHOSEN_FIELDS:
                has_other_name = param in self.refused or self._goes_without(param, why)
                if not has_other_name and param in LIMIT_NAMES and self.request.max_tokens is not None:
                    raise call.unsupported("max_tokens", f"its server refuses both names of it ({why})")
            elif _feature(self.request, param, is_lasting=value is None or param == "messages") == (param, value):
                raise call.unsupported(param, f"it was refused within the last minutes ({why})")

    def goes_without(self, error: UnsupportedFeatureError) -> bool:
        """Whether the target can be asked again at once, without the field that its server has refused by name."""
        is_refusal = error.http_status is not None and error.param in _CHOSEN_FIELDS
        return is_refusal and self._goes_without(error.param or "", str(error))

    def _goes_without(self, field: str, why: str) -> bool:
        if field in self.refused:
            return False
        if field in LIMIT_NAMES:
            if self.request.max_tokens is None or LIMIT_NAMES[field] in self.refused:
                return False
        elif not self.request.stream or self.request.asks_for_usage is False:
            return False
        elif self.request.asks_for_usage:
            self.warnings.append(f"stream_options was left out: {why}")
        self.refused |= {field}
        return True

    def remember(self, error: UnsupportedFeatureError) -> None:
        """Keeps what the target's server has refused, so that the next call need not find out."""
        if error.param is None or error.http_status is None:
            return
        feature: Feature | None = (error.param, None)
        if error.param not in _CHOSEN_FIELDS:
            feature = _feature(self.request, error.param, is_lasting=error.is_lasting)
        if feature is not None:
            why = str(error)
            why = why if len(why) <= _MAX_WHY_CHARS else f"{why[:_MAX_WHY_CHARS]}…"
            self.health.refusals.add(feature, why, self.health.clock.monotonic())

    def drop_parameter(self, error: UnsupportedFeatureError) -> bool:
        """Drops the parameter that the target does not support; returns whether that is possible."""
        param = "max_tokens" if error.param in LIMIT_NAMES else error.param
        if param is None or param == "messages" or param not in self.request.set_parameters:
            return False
        names = (param, *_DEPENDENT.get(param, ()))
        self.request = self.request.model_copy(update=dict.fromkeys(names))
        self.is_looked_up = False
        self.warnings.append(f"{param} was left out: {error}")
        return True


def _feature(request: ChatRequest, param: str, *, is_lasting: bool) -> Feature | None:
    """What a request asks for with a parameter; None: nothing, or nothing that another request would ask for too."""
    if param == "messages":
        media = {part.type for part in request.parts if is_medium(part)}
        if not is_lasting or not media:
            return None
        # Who sees no images may yet read files, and the reverse.
        return param, None if media == {"image_url"} else ", ".join(sorted(media))
    if param not in request.set_parameters:
        return None
    value = getattr(request, param)
    if is_lasting:
        return param, None
    return (param, repr(value)) if type(value) in _PLAIN_VALUES and len(repr(value)) <= _MAX_WHY_CHARS else None


def _with_beginning(request: ChatRequest, interrupted: Interrupted) -> ChatRequest:
    """The request with the text that has arrived as the beginning of its answer, and `max_tokens` reduced by it."""
    from llama_client.types.messages import AssistantMessage

    beginning = AssistantMessage(role="assistant", content=interrupted.answer.text)
    changed: dict[str, object] = {"messages": (*request.messages, beginning)}
    for name in ("max_tokens", "max_completion_tokens"):
        most = getattr(request, name)
        if most is not None:
            # A piece of a stream is a token or a few.
            changed[name] = max(most - interrupted.answer.pieces, 1)
    return request.model_copy(update=changed)


def _with_defaults(request: ChatRequest, target: Target) -> ChatRequest:
    missing = {name: value for name, value in target.params.items() if getattr(request, name) is None}
    if request.tools is None:
        # Servers refuse it without tools.
        missing.pop("parallel_tool_calls", None)
    return request.model_copy(update=missing) if missing else request
