"""Chat completions, sync and async: arguments to requests, token counts and cost estimates before sending."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, get_args, get_overloads, overload

from pydantic import BaseModel

from llama_client.clock import Clock, Deadline, EventLoop
from llama_client.errors import InvalidRequestError
from llama_client.imports import ready
from llama_client.streams import AsyncChatStream, ChatStream, OfThisProcess
from llama_client.types.completion import ChatCompletion, Message

if TYPE_CHECKING:
    from llama_client.cache.answers import AnswerCache
    from llama_client.config.schema import Config
    from llama_client.costs.accounting import Accounting
    from llama_client.costs.api import CostSource
    from llama_client.providers.registry import Providers
    from llama_client.routing.billing import Reserver
    from llama_client.routing.candidate import Candidate
    from llama_client.routing.concurrency import ClosingEvent
    from llama_client.routing.drive import Call
    from llama_client.routing.plan import Backoff
    from llama_client.routing.recorder import CallRecord
    from llama_client.routing.router import Router
    from llama_client.routing.shortcut import Shortcut
    from llama_client.routing.targets import TargetList, TargetResolver
    from llama_client.structured import AnswerForm
    from llama_client.telemetry import Instrumentation
    from llama_client.types.report import CostEstimate, TokenCount
    from llama_client.types.request import ChatRequest

# What calls do with the cache: look and keep; keep what is asked anew; neither.
CacheMode = Literal["use", "refresh", "off"]
_REPORT = "llama_client.types.report"

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
ModelT = TypeVar("ModelT", bound=BaseModel)


def runs(body: Callable[..., Any]) -> Callable[[F], F]:
    """Lets `body` run what the decorated function only shows: its name, signature and docstring."""

    # `body` gets the given keywords alone, and any of them: so a wrong one gets our error with the nearest name.
    def shown(function: F) -> F:
        return cast(F, update_wrapper(body, function))

    return shown


def runs_overloads(body: F) -> F:
    """The same for overloads: the last one, which covers all of them, is shown."""
    return cast(F, update_wrapper(body, get_overloads(body)[-1], assigned=["__annotations__"]))


@dataclass(slots=True)
class DefaultModel:
    """The model of calls that name none: found once for a client and its views."""

    providers: Providers
    # The Ollama that must be asked for it; None: it is known without.
    ollama: str | None
    name_of: Callable[[str | None], str]
    _name: str | None = None

    def name(self) -> str:
        if self._name is None:
            # Two threads may both look for it; both find the same.
            self._name = self.name_of(self.providers.ollama_default(self.ollama) if self.ollama is not None else None)
        return self._name

    async def aname(self) -> str:
        if self._name is None:
            running = await self.providers.aollama_default(self.ollama) if self.ollama is not None else None
            self._name = self.name_of(running)
        return self._name


@dataclass(frozen=True, slots=True)
class CallContext(OfThisProcess):
    """What each call of a client, or of a view, needs."""

    config: Config
    providers: Providers
    resolver: TargetResolver
    clock: Clock
    router: Router
    accounting: Accounting
    reserver: Reserver | None
    cost_source: CostSource
    telemetry: Instrumentation | None
    backoff: Backoff
    closing: ClosingEvent
    loop: EventLoop
    default: DefaultModel
    model: str | Sequence[str] | None = None
    timeout: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    cache: AnswerCache | None = None
    cache_mode: CacheMode = "use"
    # None: each hit has to go the long way.
    shortcut: Shortcut | None = None

    def call(self, params: Mapping[str, Any], *, stream: bool, form: AnswerForm | None = None) -> Call:
        """Checks a call and finds its targets."""
        reaper = self.accounting.reaper
        if reaper.dropped or reaper.is_busy:
            # What a stream that was dropped held (a slot, a reservation) is there for this call.
            reaper.settle()
        return self._call(*self.checked(params, stream=stream, form=form), form)

    async def acall(self, params: Mapping[str, Any], *, stream: bool, form: AnswerForm | None = None) -> Call:
        """The same on an event loop; reading files and importing packages happens in a thread."""
        import asyncio

        await self.prepare(params.get("model"))
        if _has_parts(params.get("messages")):
            request, choices = await asyncio.to_thread(self.checked, params, stream=stream, form=form)
        else:
            request, choices = self.checked(params, stream=stream, form=form)
        if self.cache is not None:
            await self._identify(self.cache, choices)
        return await self._acall(request, choices, form)

    def call_or_answer(self, params: Mapping[str, Any], shortcut: Shortcut) -> Call | ChatCompletion:
        """The answer, where the cache has it in memory; else a call for it."""
        if self.cache_mode != "use":
            return self.call(params, stream=False)
        request, choices = self.checked(params, stream=False, form=None)
        found = shortcut.answer(request, choices, {**self.tags, **(request.tags or {})})
        if found is not None:
            return found
        reaper = self.accounting.reaper
        if reaper.dropped or reaper.is_busy:
            reaper.settle()
        return self._call(request, choices, None)

    async def acall_or_answer(self, params: Mapping[str, Any], shortcut: Shortcut) -> Call | ChatCompletion:
        if self.cache is None or self.cache_mode != "use" or _has_parts(params.get("messages")):
            return await self.acall(params, stream=False)
        await self.prepare(params.get("model"))
        request, choices = self.checked(params, stream=False, form=None)
        await self._identify(self.cache, choices)
        found = shortcut.answer(request, choices, {**self.tags, **(request.tags or {})})
        return await self._acall(request, choices, None) if found is None else found

    async def _acall(self, request: ChatRequest, choices: list[TargetList], form: AnswerForm | None) -> Call:
        reaper = self.accounting.reaper
        if reaper.dropped or reaper.is_busy:
            import asyncio

            await asyncio.to_thread(reaper.settle)
        if not self.router.has_prices_at_hand(choices):
            import asyncio

            await asyncio.to_thread(self.accounting.prices.load_package)
        return self._call(request, choices, form)

    async def _identify(self, cache: AnswerCache, choices: Sequence[TargetList]) -> None:
        """Lets targets look at their files in a thread, at their first call: that of a model may be on a slow disk."""
        targets = [target for choice in choices for target in choice.targets if target.name not in cache.identified]
        if targets:
            import asyncio

            await asyncio.to_thread(cache.identify, targets)

    async def prepare(self, model: object) -> None:
        """Finds the default model where one is needed, so that the checks that follow do not block."""
        self.loop.check()
        if model is None and self.model is None:
            await self.default.aname()

    async def in_thread(self, model: object, check: Callable[..., T], *arguments: object) -> T:
        """Runs a check of this context that may read files."""
        import asyncio

        await self.prepare(model)
        return await asyncio.to_thread(check, *arguments)

    def count_tokens(self, messages: object, model: object) -> TokenCount:
        ready(_REPORT)
        from llama_client.types.report import TokenCount

        params = {"messages": _as_messages(messages), "model": model}
        candidate = self._first_able(*self.checked(params, stream=False, form=None))
        counted, size = candidate.counted_tokens, candidate.size
        if counted is not None:
            return TokenCount(tokens=counted, most_tokens=counted, status="exact")
        return TokenCount(tokens=round(size.input_tokens), most_tokens=size.most_input_tokens)

    def estimate_cost(self, messages: object, model: object, max_tokens: int | None) -> CostEstimate:
        """What the call would cost at the first target of its list that can take it."""
        ready(_REPORT)
        from llama_client.routing.billing import longest_answer, most_prompt_tokens, worst_case
        from llama_client.types.report import CostEstimate

        params = {"messages": _as_messages(messages), "model": model, "max_tokens": max_tokens}
        request, choices = self.checked(params, stream=False, form=None)
        router, providers, rules = self.router, self.providers, self.config.routing
        candidate = self._first_able(request, choices)
        target, size = candidate.target, candidate.size
        now = self.clock.wall()
        price = router.prices.price(
            target.provider_name, target.model, now, is_free=target.is_free, service_tier=request.service_tier
        )
        longest = longest_answer(candidate, providers)
        timeout_s = rules.deadline_s if request.timeout is None else request.timeout
        context = providers.context_tokens(target.provider_name, target.model)
        prompt = candidate.counted_tokens or most_prompt_tokens(size, context)
        worst = worst_case(price, candidate.request, prompt, longest, timeout_s)
        known: dict[str, Any] = {}
        if price is not None and price.is_nothing:
            known = {"usd": Decimal(0), "most_usd": Decimal(0), "status": "free"}
        elif price is not None:
            most_usd = None if worst is None else worst.usd
            known = {"usd": router.expected_usd(candidate), "most_usd": most_usd, "status": "estimated"}
        return CostEstimate(
            target=target.name,
            input_tokens=candidate.counted_tokens or round(size.input_tokens),
            output_tokens=round(size.output_tokens(candidate.health.usual_output_tokens)),
            source=None if price is None else price.origin.source,
            **known,
        )

    def _first_able(self, request: ChatRequest, choices: list[TargetList]) -> Candidate:
        """The first target that can take a call, which has counted its prompt where it can."""
        candidates = self.router.candidates(choices, request)
        may_drop = self.config.routing.drop_unsupported
        candidate = next((each for each in candidates if each.is_supported(may_drop=may_drop)), candidates[0])
        if candidate.counts_tokens:
            candidate.count_tokens()
        return candidate

    def checked(
        self, params: Mapping[str, Any], *, stream: bool, form: AnswerForm | None
    ) -> tuple[ChatRequest, list[TargetList]]:
        """The request, and the targets of its model. It may read files, and look for the default model."""
        # Building the request's schema takes as long as importing all the rest, so it waits for the first call.
        from llama_client.types.request import check_request

        given = dict(params)
        model = given.pop("model", None)
        if given.get("timeout") is None:
            given["timeout"] = self.timeout
        request = check_request(given, stream=stream, answer_class=None if form is None else form.model)
        if model is None:
            model = self.model if self.model is not None else self.default.name()
        return request, self.resolver.choices(model)

    def _call(self, request: ChatRequest, choices: list[TargetList], form: AnswerForm | None) -> Call:
        from llama_client.routing.drive import Call
        from llama_client.routing.recorder import CallRecord

        ledger = self.accounting.ledger
        if ledger is not None and ledger.thread is None:
            ledger.open()
        rules, reserver = self.config.routing, self.reserver
        tags = {**self.tags, **(request.tags or {})}
        record = CallRecord(request, rules, self.clock, tags, self.accounting, form, reserver, self.telemetry)
        deadline = Deadline(rules.deadline_s if request.timeout is None else request.timeout, self.clock)
        candidates = self.router.candidates(choices, request)
        if reserver is not None:
            record.cover(candidates)
        if self.cache is not None and self.cache_mode != "off":
            self._look_up(record, tags, deadline)
        return Call(record, candidates, deadline, rules, self.backoff)

    def _look_up(self, record: CallRecord, tags: Mapping[str, str], deadline: Deadline) -> None:
        from llama_client.routing.cached import CachedCall, values_of

        assert self.cache is not None
        table, refreshes = self.config.cache, self.cache_mode == "refresh"
        values = values_of(tags, table.namespace_tags) if table.namespace_tags else ()
        record.cached = CachedCall(self.cache, record, table.namespace, values, refreshes, deadline.at)

    def with_options(
        self,
        *,
        tags: Mapping[str, str] | None,
        timeout: float | None,
        model: str | Sequence[str] | None,
        cache: CacheMode | None = None,
    ) -> CallContext:
        """The same with other defaults; None keeps what there is."""
        from llama_client.types.messages import MAX_TIMEOUT_S

        is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        if timeout is not None and not (is_number and 0 < timeout <= MAX_TIMEOUT_S):
            raise InvalidRequestError(f"timeout: must be a number of seconds above 0, got {timeout!r}", param="timeout")
        if cache not in (None, *get_args(CacheMode)):
            modes = ", ".join(map(repr, get_args(CacheMode)))
            raise InvalidRequestError(f"cache: must be one of {modes}, got {cache!r}", param="cache")
        return replace(
            self,
            cache_mode=self.cache_mode if cache is None else cache,
            tags={**self.tags, **checked_tags(tags)},
            timeout=self.timeout if timeout is None else timeout,
            model=self.model if model is None else model,
        )


def asked(prompt: object, params: dict[str, Any]) -> dict[str, Any]:
    """What `ask` was given as the parameters of `create`."""
    if isinstance(prompt, bytes | bytearray) or not isinstance(prompt, Sequence):
        given = f"got a value of type {type(prompt).__name__}"
        raise InvalidRequestError(f"prompt: must be text or a list of messages, {given}", param="prompt")
    if isinstance(prompt, str) and not prompt.strip():
        raise InvalidRequestError("prompt: must not be empty", param="prompt")
    if "messages" in params:
        raise InvalidRequestError("messages: unknown name; the prompt holds them", param="messages")
    _require_no_stream(params, "ask")
    messages: Sequence[object] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    system = params.pop("system", None)
    return {**params, "messages": messages if system is None else _with_system(system, messages)}


def _as_messages(prompt: object) -> object:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _with_system(system: object, messages: Sequence[object]) -> list[object]:
    if not isinstance(system, str):
        raise InvalidRequestError(f"system: must be text, got a value of type {type(system).__name__}", param="system")
    role = messages[0].get("role") if messages and isinstance(messages[0], Mapping) else None
    if role in ("system", "developer"):
        raise InvalidRequestError(
            f"system: the messages begin with a {role} message; leave out system, or that message", param="system"
        )
    return [{"role": "system", "content": system}, *messages]


def checked_tags(tags: object) -> dict[str, str]:
    if tags is None:
        return {}
    if not isinstance(tags, Mapping):
        raise InvalidRequestError("tags: must be a mapping of str to str", param="tags")
    for key, value in tags.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidRequestError(f"tags: {key!r} and its value must be text", param="tags")
    return dict(tags)


class Completions:
    """What `client.chat.completions` offers: answers, whole or as streams, and answers as objects."""

    def __init__(self, context: CallContext) -> None:
        self._context = context

    @overload
    def create(
        self,
        *,
        messages: Sequence[Mapping[str, object] | Message],
        model: str | Sequence[str] | None = None,
        stream: Literal[False] | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        max_tokens: int | None = None,
        max_completion_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        n: int | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        repetition_penalty: float | None = None,
        logit_bias: Mapping[str, float] | Mapping[int, float] | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        tools: Sequence[Mapping[str, object]] | None = None,
        tool_choice: str | Mapping[str, object] | None = None,
        parallel_tool_calls: bool | None = None,
        reasoning_effort: str | None = None,
        reasoning_format: str | None = None,
        service_tier: str | None = None,
        user: str | None = None,
        timeout: float | None = None,
        tags: Mapping[str, str] | None = None,
        extra_body: Mapping[str, object] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        response_format: Mapping[str, object] | None = None,
        stream_options: Mapping[str, object] | None = None,
    ) -> ChatCompletion: ...

    @overload
    def create(
        self,
        *,
        messages: Sequence[Mapping[str, object] | Message],
        model: str | Sequence[str] | None = None,
        stream: Literal[True],
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        max_tokens: int | None = None,
        max_completion_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        n: int | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        repetition_penalty: float | None = None,
        logit_bias: Mapping[str, float] | Mapping[int, float] | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        tools: Sequence[Mapping[str, object]] | None = None,
        tool_choice: str | Mapping[str, object] | None = None,
        parallel_tool_calls: bool | None = None,
        reasoning_effort: str | None = None,
        reasoning_format: str | None = None,
        service_tier: str | None = None,
        user: str | None = None,
        timeout: float | None = None,
        tags: Mapping[str, str] | None = None,
        extra_body: Mapping[str, object] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        response_format: Mapping[str, object] | None = None,
        stream_options: Mapping[str, object] | None = None,
    ) -> ChatStream: ...

    @overload
    def create(
        self,
        *,
        messages: Sequence[Mapping[str, object] | Message],
        model: str | Sequence[str] | None = None,
        stream: bool | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        max_tokens: int | None = None,
        max_completion_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        n: int | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        repetition_penalty: float | None = None,
        logit_bias: Mapping[str, float] | Mapping[int, float] | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        tools: Sequence[Mapping[str, object]] | None = None,
        tool_choice: str | Mapping[str, object] | None = None,
        parallel_tool_calls: bool | None = None,
        reasoning_effort: str | None = None,
        reasoning_format: str | None = None,
        service_tier: str | None = None,
        user: str | None = None,
        timeout: float | None = None,
        tags: Mapping[str, str] | None = None,
        extra_body: Mapping[str, object] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        response_format: Mapping[str, object] | None = None,
        stream_options: Mapping[str, object] | None = None,
    ) -> ChatCompletion | ChatStream: ...

    @runs_overloads
    def create(self, *, stream: bool | None = None, **params: Any) -> ChatCompletion | ChatStream:
        """Requests an answer. The parameters are OpenAI's; None means omitted.

        Args:
            messages: Dicts in OpenAI's shape, or the message objects of earlier replies.
            model: `provider/model-id`, a route, a catalogue name such as `llama-3.1-8b` (every provider that serves
                it), or a list of these as a fallback chain; omitted: the default.
            stream: True: returns once the first content has arrived, with a `ChatStream` to read on.
            temperature: Randomness, 0 to 2.
            top_p: Keep the likeliest tokens up to this share of probability, 0 to 1.
            top_k: Keep this many of the likeliest tokens; 0 keeps all.
            min_p: Drop tokens less likely than this share of the likeliest, 0 to 1.
            max_tokens: The longest answer in tokens.
            max_completion_tokens: The same under OpenAI's newer name.
            stop: A text, or several, at which the answer ends.
            seed: Makes sampling repeatable where the provider can.
            n: How many answers.
            frequency_penalty: -2 to 2.
            presence_penalty: -2 to 2.
            repetition_penalty: Above 0; 1 is none.
            logit_bias: Token id to bias, -100 to 100.
            logprobs: Whether to return the tokens' log probabilities.
            top_logprobs: How many candidates for each token, 0 to 20; needs `logprobs`.
            tools: Functions that the model may ask to be called, in OpenAI's shape.
            tool_choice: `auto`, `none`, `required`, or `{"type": "function", "function": {"name": ...}}`.
            parallel_tool_calls: Whether several tools may be called at once.
            reasoning_effort: How much thinking: `none`, `default`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`.
            reasoning_format: How thinking is returned: `parsed`, `raw`, `hidden`.
            service_tier: The provider's own word for how a request is served and billed.
            user: An id of the end user, for the provider's abuse checks.
            timeout: Seconds for the whole call; for a stream, until its first content.
            tags: Labels for logs, the ledger and budgets.
            extra_body: Fields for the provider's request body that have no parameter here.
            extra_headers: Headers for the provider.
            response_format: `{"type": "text" | "json_object"}` or `{"type": "json_schema", "json_schema": {...}}`;
                for a Pydantic model see `parse`.
            stream_options: `{"include_usage": True}` hands on the last chunk, which carries the usage.

        Returns:
            The answer, or the stream of it.

        Raises:
            InvalidRequestError: A parameter is wrong; nothing was sent.
            ConfigError: `model` is unknown.
            ProviderError: No target answered; `attempts` lists what was tried.

        Example:
            reply = client.chat.completions.create(
                model="gguf/smollm2-135m",
                messages=[{"role": "user", "content": "What is the capital of Japan?"}],
                temperature=0,
            )
            print(reply.choices[0].message.content)
        """
        context = self._context
        if context.shortcut is None or stream:
            call = context.call(params, stream=False if stream is None else stream)
        else:
            found = context.call_or_answer(params, context.shortcut)
            if isinstance(found, ChatCompletion):
                return found
            call = found
        with call.record.held() as held:
            try:
                opened = call.drive()
                if stream:
                    return ChatStream(opened, call, held)
                return call.record.won(opened.attempt)
            finally:
                # An error of an attempt may keep this frame, and must not keep the stream.
                del held

    def _parse(self, *, response_format: object = None, **params: Any) -> ChatCompletion[Any]:
        given, form = _with_form(params, response_format)
        call = self._context.call(given, stream=False, form=form)
        with call.record.held():
            return call.record.won(call.drive().attempt)

    @runs(_parse)
    def parse(
        self,
        *,
        messages: Sequence[Mapping[str, object] | Message],
        response_format: type[ModelT],
        model: str | Sequence[str] | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        max_tokens: int | None = None,
        max_completion_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        n: int | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        repetition_penalty: float | None = None,
        logit_bias: Mapping[str, float] | Mapping[int, float] | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        tools: Sequence[Mapping[str, object]] | None = None,
        tool_choice: str | Mapping[str, object] | None = None,
        parallel_tool_calls: bool | None = None,
        reasoning_effort: str | None = None,
        reasoning_format: str | None = None,
        service_tier: str | None = None,
        user: str | None = None,
        timeout: float | None = None,
        tags: Mapping[str, str] | None = None,
        extra_body: Mapping[str, object] | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> ChatCompletion[ModelT]:
        """Requests an answer as an object.

        The model's schema travels in whichever way the target supports: enforced by the server, or in words.

        Args:
            messages: Dicts in OpenAI's shape, or the message objects of earlier replies.
            response_format: A Pydantic model's class.
            model: `provider/model-id`, a route, a catalogue name such as `llama-3.1-8b` (every provider that serves
                it), or a list of these as a fallback chain; omitted: the default.
            temperature: Randomness, 0 to 2.
            top_p: Keep the likeliest tokens up to this share of probability, 0 to 1.
            top_k: Keep this many of the likeliest tokens; 0 keeps all.
            min_p: Drop tokens less likely than this share of the likeliest, 0 to 1.
            max_tokens: The longest answer in tokens.
            max_completion_tokens: The same under OpenAI's newer name.
            stop: A text, or several, at which the answer ends.
            seed: Makes sampling repeatable where the provider can.
            n: How many answers.
            frequency_penalty: -2 to 2.
            presence_penalty: -2 to 2.
            repetition_penalty: Above 0; 1 is none.
            logit_bias: Token id to bias, -100 to 100.
            logprobs: Whether to return the tokens' log probabilities.
            top_logprobs: How many candidates for each token, 0 to 20; needs `logprobs`.
            tools: Functions that the model may ask to be called, in OpenAI's shape.
            tool_choice: `auto`, `none`, `required`, or `{"type": "function", "function": {"name": ...}}`.
            parallel_tool_calls: Whether several tools may be called at once.
            reasoning_effort: How much thinking: `none`, `default`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`.
            reasoning_format: How thinking is returned: `parsed`, `raw`, `hidden`.
            service_tier: The provider's own word for how a request is served and billed.
            user: An id of the end user, for the provider's abuse checks.
            timeout: Seconds for the whole call; for a stream, until its first content.
            tags: Labels for logs, the ledger and budgets.
            extra_body: Fields for the provider's request body that have no parameter here.
            extra_headers: Headers for the provider.

        Returns:
            The answer; `choices[i].message.parsed` is an instance of the model, which type checkers know.

        Raises:
            GenerationFailedError: The answer does not validate.
            LlamaClientError: As `create`.

        Example:
            class Capital(BaseModel):
                city: str

            reply = client.chat.completions.parse(
                messages=[{"role": "user", "content": "What is the capital of Japan?"}],
                response_format=Capital,
                temperature=0,
            )
            print(reply.choices[0].message.parsed)
        """
        raise NotImplementedError


class AsyncCompletions:
    """`Completions` for an `AsyncLlamaClient`: the same calls, awaited."""

    def __init__(self, context: CallContext) -> None:
        self._context = context

    @overload
    async def create(
        self,
        *,
        messages: Sequence[Mapping[str, object] | Message],
        model: str | Sequence[str] | None = None,
        stream: Literal[False] | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        max_tokens: int | None = None,
        max_completion_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        n: int | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        repetition_penalty: float | None = None,
        logit_bias: Mapping[str, float] | Mapping[int, float] | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        tools: Sequence[Mapping[str, object]] | None = None,
        tool_choice: str | Mapping[str, object] | None = None,
        parallel_tool_calls: bool | None = None,
        reasoning_effort: str | None = None,
        reasoning_format: str | None = None,
        service_tier: str | None = None,
        user: str | None = None,
        timeout: float | None = None,
        tags: Mapping[str, str] | None = None,
        extra_body: Mapping[str, object] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        response_format: Mapping[str, object] | None = None,
        stream_options: Mapping[str, object] | None = None,
    ) -> ChatCompletion: ...

    @overload
    async def create(
        self,
        *,
        messages: Sequence[Mapping[str, object] | Message],
        model: str | Sequence[str] | None = None,
        stream: Literal[True],
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        max_tokens: int | None = None,
        max_completion_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        n: int | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        repetition_penalty: float | None = None,
        logit_bias: Mapping[str, float] | Mapping[int, float] | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        tools: Sequence[Mapping[str, object]] | None = None,
        tool_choice: str | Mapping[str, object] | None = None,
        parallel_tool_calls: bool | None = None,
        reasoning_effort: str | None = None,
        reasoning_format: str | None = None,
        service_tier: str | None = None,
        user: str | None = None,
        timeout: float | None = None,
        tags: Mapping[str, str] | None = None,
        extra_body: Mapping[str, object] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        response_format: Mapping[str, object] | None = None,
        stream_options: Mapping[str, object] | None = None,
    ) -> AsyncChatStream: ...

    @overload
    async def create(
        self,
        *,
        messages: Sequence[Mapping[str, object] | Message],
        model: str | Sequence[str] | None = None,
        stream: bool | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        max_tokens: int | None = None,
        max_completion_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        n: int | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        repetition_penalty: float | None = None,
        logit_bias: Mapping[str, float] | Mapping[int, float] | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        tools: Sequence[Mapping[str, object]] | None = None,
        tool_choice: str | Mapping[str, object] | None = None,
        parallel_tool_calls: bool | None = None,
        reasoning_effort: str | None = None,
        reasoning_format: str | None = None,
        service_tier: str | None = None,
        user: str | None = None,
        timeout: float | None = None,
        tags: Mapping[str, str] | None = None,
        extra_body: Mapping[str, object] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        response_format: Mapping[str, object] | None = None,
        stream_options: Mapping[str, object] | None = None,
    ) -> ChatCompletion | AsyncChatStream: ...

    @runs_overloads
    async def create(self, *, stream: bool | None = None, **params: Any) -> ChatCompletion | AsyncChatStream:
        """`Completions.create`, awaited. Cancelling the task stops the model."""
        context = self._context
        if context.shortcut is None or stream:
            call = await context.acall(params, stream=False if stream is None else stream)
        else:
            found = await context.acall_or_answer(params, context.shortcut)
            if isinstance(found, ChatCompletion):
                return found
            call = found
        with call.record.held() as held:
            try:
                opened = await call.adrive()
                if stream:
                    return AsyncChatStream(opened, call, held)
                return call.record.won(opened.attempt)
            finally:
                # An error of an attempt may keep this frame, and must not keep the stream.
                del held

    async def _parse(self, *, response_format: object = None, **params: Any) -> ChatCompletion[Any]:
        given, form = _with_form(params, response_format)
        call = await self._context.acall(given, stream=False, form=form)
        with call.record.held():
            return call.record.won((await call.adrive()).attempt)

    @runs(_parse)
    async def parse(
        self,
        *,
        messages: Sequence[Mapping[str, object] | Message],
        response_format: type[ModelT],
        model: str | Sequence[str] | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        max_tokens: int | None = None,
        max_completion_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        n: int | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        repetition_penalty: float | None = None,
        logit_bias: Mapping[str, float] | Mapping[int, float] | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        tools: Sequence[Mapping[str, object]] | None = None,
        tool_choice: str | Mapping[str, object] | None = None,
        parallel_tool_calls: bool | None = None,
        reasoning_effort: str | None = None,
        reasoning_format: str | None = None,
        service_tier: str | None = None,
        user: str | None = None,
        timeout: float | None = None,
        tags: Mapping[str, str] | None = None,
        extra_body: Mapping[str, object] | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> ChatCompletion[ModelT]:
        """`Completions.parse`, awaited."""
        raise NotImplementedError


class Chat:
    """`client.chat`."""

    def __init__(self, context: CallContext) -> None:
        self.completions: Completions = Completions(context)


class AsyncChat:
    """`client.chat` of an `AsyncLlamaClient`."""

    def __init__(self, context: CallContext) -> None:
        self.completions: AsyncCompletions = AsyncCompletions(context)


def _require_no_stream(params: Mapping[str, object], what: str) -> None:
    if "stream" in params:
        raise InvalidRequestError(f"stream: {what} returns whole answers; use chat.completions.create", param="stream")


def _with_form(params: dict[str, Any], model: object) -> tuple[dict[str, Any], AnswerForm]:
    # Imported here to keep `import llama_client` fast.
    ready("llama_client.structured")
    from llama_client.structured import AnswerForm

    _require_no_stream(params, "parse")
    if model is None:
        from llama_client.types.request import check_request

        # It may be there under a misspelled name.
        check_request(params, stream=False)
        message = "response_format: must be a Pydantic model's class, and is missing"
        raise InvalidRequestError(message, param="response_format")
    form = AnswerForm(model)
    return {**params, "response_format": form.response_format}, form


def _has_parts(messages: object) -> bool:
    """Whether a message has parts: of images, the check of the request may read the file, and encodes the bytes."""
    listed = messages if isinstance(messages, Sequence) else ()
    return any(isinstance(each, Mapping) and not isinstance(each.get("content"), str | None) for each in listed)
