"""Chat completions, sync and async: arguments to requests, token counts and cost estimates before sending."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, cast, overload

from llama_client.clock import Clock, Deadline, EventLoop
from llama_client.errors import InvalidRequestError
from llama_client.streams import AsyncChatStream, ChatStream
from llama_client.types.completion import ChatCompletion, Message
from llama_client.types.messages import MAX_TIMEOUT_S
from llama_client.types.report import CostEstimate, TokenCount
from llama_client.types.request import CallParams, ChatParams, ParseParams

if TYPE_CHECKING:
    from llama_client.routing.targets import TargetList
    from llama_client.types.request import ChatRequest


def token_count(request: ChatRequest) -> TokenCount:
    """How many tokens the prompt of a checked request has."""
    from llama_client.routing.request_size import RequestSize

    size = RequestSize(request)
    return TokenCount(tokens=round(size.input_tokens), most_tokens=size.most_input_tokens)


def cost_estimate(context: CallContext, request: ChatRequest, choices: list[TargetList]) -> CostEstimate:
    """What a checked request would cost with the first target that it would ask."""
    from llama_client.routing.billing import longest_answer, worst_case

    router, providers = context.router, context.providers
    candidates = router.candidates(choices, request)
    may_drop = context.config.routing.drop_unsupported
    candidate = next((each for each in candidates if each.is_supported(may_drop=may_drop)), candidates[0])
    target, size = candidate.target, candidate.size
    price = router.prices.price(
        target.provider_name,
        target.model,
        context.clock.wall(),
        is_free=target.is_free,
        service_tier=request.service_tier,
    )
    longest = longest_answer(candidate, providers.max_output_tokens, providers.context_tokens)
    timeout_s = context.config.routing.deadline_s if request.timeout is None else request.timeout
    worst = worst_case(price, candidate.request, size, longest, timeout_s)
    known: dict[str, Any] = {}
    if price is not None:
        known = {
            "usd": Decimal(0) if price.is_nothing else router.expected_usd(candidate),
            "most_usd": Decimal(0) if price.is_nothing else worst.usd if worst is not None else None,
            "status": "free" if price.is_nothing else "estimated",
            "source": price.origin.source,
        }
    return CostEstimate(
        target=target.name,
        input_tokens=round(size.input_tokens),
        output_tokens=round(size.output_tokens(candidate.health.usual_output_tokens)),
        **known,
    )


if TYPE_CHECKING:
    from pydantic import BaseModel

    from llama_client.config.schema import Config
    from llama_client.costs.accounting import Accounting
    from llama_client.costs.api import CostSource
    from llama_client.providers.registry import Providers
    from llama_client.routing.billing import Reservations
    from llama_client.routing.concurrency import ClosingEvent
    from llama_client.routing.drive import Call
    from llama_client.routing.plan import Backoff
    from llama_client.routing.policies import Router
    from llama_client.routing.targets import TargetList, TargetResolver
    from llama_client.structured import AnswerForm
    from llama_client.telemetry import Instrumentation
    from llama_client.types.report import CostEstimate, TokenCount
    from llama_client.types.request import ChatRequest

    ModelT = TypeVar("ModelT", bound=BaseModel)


class DefaultModel:
    """What `model` means where it is omitted: found out once for a client and its views."""

    def __init__(
        self,
        ollama: str | None,
        ask: Callable[[str], str | None],
        aask: Callable[[str], Awaitable[str | None]],
        name_of: Callable[[str | None], str],
    ) -> None:
        self._ollama = ollama
        self._ask = ask
        self._aask = aask
        self._name_of = name_of
        self._name: str | None = None

    def name(self) -> str:
        """The model."""
        if self._name is None:
            # Two threads may both ask; they hear the same.
            self._name = self._name_of(self._ask(self._ollama) if self._ollama is not None else None)
        return self._name

    async def aname(self) -> str:
        """The same on the event loop."""
        if self._name is None:
            self._name = self._name_of(await self._aask(self._ollama) if self._ollama is not None else None)
        return self._name


@dataclass(frozen=True, slots=True)
class CallContext:
    """What a client and its views hand to each call."""

    config: Config
    providers: Providers
    resolver: TargetResolver
    clock: Clock
    router: Router
    accounting: Accounting
    purchases: Reservations | None
    cost_source: CostSource
    telemetry: Instrumentation | None
    backoff: Backoff
    closing: ClosingEvent
    loop: EventLoop
    default: DefaultModel
    model: str | Sequence[str] | None = None
    timeout_s: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def begin(self, params: Mapping[str, Any], *, stream: bool, form: AnswerForm | None = None) -> Call:
        """Checks a call and finds who may answer it."""
        return self._call(*self._checked(params, stream=stream, form=form), form)

    async def abegin(self, params: Mapping[str, Any], *, stream: bool, form: AnswerForm | None = None) -> Call:
        """The same on an event loop: off it, where a file is read or a package is imported."""
        import asyncio

        await self.prepare(params.get("model"))
        if _reads_files(params.get("messages")):
            request, choices = await asyncio.to_thread(self._checked, params, stream=stream, form=form)
        else:
            request, choices = self._checked(params, stream=stream, form=form)
        await self._load_prices(choices)
        return self._call(request, choices, form)

    async def prepare(self, model: object) -> None:
        """Finds the default model, where it is needed, so that what follows has nothing to wait for."""
        self.loop.check()
        if model is None and self.model is None:
            await self.default.aname()

    def count_tokens(self, messages: object, model: object) -> TokenCount:
        """See `LlamaClient.count_tokens`."""

        request, _ = self._checked({"messages": messages, "model": model}, stream=False, form=None)
        return token_count(request)

    def estimate_cost(self, messages: object, model: object, max_tokens: int | None) -> CostEstimate:
        """See `LlamaClient.estimate_cost`."""

        params = {"messages": messages, "model": model, "max_tokens": max_tokens}
        return cost_estimate(self, *self._checked(params, stream=False, form=None))

    async def _load_prices(self, choices: list[TargetList]) -> None:
        import asyncio

        if not self.router.has_prices_at_hand(choices):
            await asyncio.to_thread(self.accounting.prices.load_package)

    def _checked(
        self, params: Mapping[str, Any], *, stream: bool, form: AnswerForm | None
    ) -> tuple[ChatRequest, list[TargetList]]:
        # Building the request's schema takes as long as importing all the rest, so it waits for the first call.
        from llama_client.types.request import check_request

        given = dict(params)
        model = given.pop("model", None)
        if given.get("timeout") is None:
            given["timeout"] = self.timeout_s
        request = check_request(given, stream=stream, schema_in_words=form is not None)
        if model is None:
            model = self.model if self.model is not None else self.default.name()
        return request, self.resolver.choices(model)

    def _call(self, request: ChatRequest, choices: list[TargetList], form: AnswerForm | None) -> Call:
        # So does what only a call needs.
        from llama_client.routing.drive import Call
        from llama_client.routing.recorder import CallRecord

        ledger = self.accounting.ledger
        if ledger is not None and not ledger.is_open:
            ledger.open()
        rules, purchases = self.config.routing, self.purchases
        tags = {**self.tags, **(request.tags or {})}
        record = CallRecord(request, rules, self.clock, tags, self.accounting, form, purchases, self.telemetry)
        deadline = Deadline(rules.deadline_s if request.timeout is None else request.timeout, self.clock)
        candidates = self.router.candidates(choices, request)
        if purchases is not None:
            record.cover(candidates)
        return Call(record, candidates, deadline, rules, self.backoff)

    def with_options(
        self, *, tags: Mapping[str, str] | None, timeout_s: float | None, model: str | Sequence[str] | None
    ) -> CallContext:
        """The same with other defaults; what is None stays as it is."""
        _check_timeout(timeout_s)
        return replace(
            self,
            tags={**self.tags, **checked_tags(tags)},
            timeout_s=self.timeout_s if timeout_s is None else timeout_s,
            model=self.model if model is None else model,
        )


def asked(prompt: str | Sequence[Mapping[str, object] | Message], params: CallParams) -> ChatParams:
    """What `ask` was given as the parameters of `create`."""
    if isinstance(prompt, bytes | bytearray):
        raise InvalidRequestError("prompt: must be text or a list of messages, got bytes", param="prompt")
    if isinstance(prompt, str) and not prompt.strip():
        raise InvalidRequestError("prompt: must not be empty", param="prompt")
    if "messages" in params:
        raise InvalidRequestError("messages: unknown name; the prompt holds them", param="messages")
    _require_no_stream(params, "ask")
    return {**params, "messages": [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt}


def checked_tags(tags: object) -> dict[str, str]:
    """A client's labels; None is none."""
    if tags is None:
        return {}
    if not isinstance(tags, Mapping):
        raise InvalidRequestError("tags: must be a table of names and texts", param="tags")
    for key, value in tags.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidRequestError(f"tags: {key!r} and its value must be text", param="tags")
    return dict(tags)


class Completions:
    """What `client.chat.completions` offers: answers, whole or as streams, and answers as objects."""

    def __init__(self, context: CallContext) -> None:
        self._context = context

    @overload
    def create(self, *, stream: Literal[False] | None = None, **params: Unpack[ChatParams]) -> ChatCompletion: ...

    @overload
    def create(self, *, stream: Literal[True], **params: Unpack[ChatParams]) -> ChatStream: ...

    @overload
    def create(self, *, stream: bool | None, **params: Unpack[ChatParams]) -> ChatCompletion | ChatStream: ...

    def create(self, *, stream: bool | None = None, **params: Unpack[ChatParams]) -> ChatCompletion | ChatStream:
        """Asks for an answer. `ChatParams` lists the parameters; they are OpenAI's, and None means omitted.

        Args:
            stream: True: returns once the first content has arrived, with a `ChatStream` to read on.
            **params: See `ChatParams`.

        Returns:
            The answer, or the stream of it.

        Raises:
            InvalidRequestError: A parameter is wrong; nothing was sent.
            ConfigError: `model` names nobody.
            ProviderError: No target answered; `attempts` tells the story.

        Example:
            reply = client.chat.completions.create(
                model="gguf/smollm2-135m",
                messages=[{"role": "user", "content": "What is the capital of Japan?"}],
                temperature=0,
            )
            print(reply.choices[0].message.content)
        """
        call = self._context.begin(params, stream=stream is not None and _flag(stream))
        opened = call.drive()
        if stream:
            return ChatStream(opened, call)
        return call.record.won(opened.attempt)

    def parse(self, *, response_format: type[ModelT], **params: Unpack[ParseParams]) -> ChatCompletion[ModelT]:
        """Asks for an answer as an object.

        The model's schema travels in whichever way the target supports: enforced by the server, or in words.

        Args:
            response_format: A Pydantic model's class.
            **params: As of `create`.

        Returns:
            The answer; `choices[i].message.parsed` is an instance of the model, which type checkers know.

        Raises:
            GenerationFailedError: The answer does not validate.
            LlamaClientError: As `create`.

        Example:
            class Capital(BaseModel):
                city: str

            reply = client.chat.completions.parse(
                messages=[{"role": "user", "content": "What is the capital of Japan?"}], response_format=Capital
            )
            print(reply.choices[0].message.parsed)
        """
        given, form = _with_form(params, response_format)
        call = self._context.begin(given, stream=False, form=form)
        return cast("ChatCompletion[ModelT]", call.record.won(call.drive().attempt))


class AsyncCompletions:
    """`Completions` for an `AsyncLlamaClient`: the same calls, awaited."""

    def __init__(self, context: CallContext) -> None:
        self._context = context

    @overload
    async def create(self, *, stream: Literal[False] | None = None, **params: Unpack[ChatParams]) -> ChatCompletion: ...

    @overload
    async def create(self, *, stream: Literal[True], **params: Unpack[ChatParams]) -> AsyncChatStream: ...

    @overload
    async def create(
        self, *, stream: bool | None, **params: Unpack[ChatParams]
    ) -> ChatCompletion | AsyncChatStream: ...

    async def create(
        self, *, stream: bool | None = None, **params: Unpack[ChatParams]
    ) -> ChatCompletion | AsyncChatStream:
        """`Completions.create`, awaited. Cancelling the task stops the model."""
        call = await self._context.abegin(params, stream=stream is not None and _flag(stream))
        opened = await call.adrive()
        if stream:
            return AsyncChatStream(opened, call)
        return call.record.won(opened.attempt)

    async def parse(self, *, response_format: type[ModelT], **params: Unpack[ParseParams]) -> ChatCompletion[ModelT]:
        """`Completions.parse`, awaited."""
        given, form = _with_form(params, response_format)
        call = await self._context.abegin(given, stream=False, form=form)
        return cast("ChatCompletion[ModelT]", call.record.won((await call.adrive()).attempt))


class Chat:
    """`client.chat`."""

    def __init__(self, context: CallContext) -> None:
        self.completions: Completions = Completions(context)


class AsyncChat:
    """`client.chat` of an `AsyncLlamaClient`."""

    def __init__(self, context: CallContext) -> None:
        self.completions: AsyncCompletions = AsyncCompletions(context)


def _flag(stream: object) -> bool:
    if isinstance(stream, bool):
        return stream
    raise InvalidRequestError(f"stream: must be true or false, got {stream!r}", param="stream")


def _check_timeout(timeout_s: object) -> None:
    seconds = timeout_s if isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool) else 0
    if timeout_s is not None and not 0 < seconds <= MAX_TIMEOUT_S:
        raise InvalidRequestError(
            f"timeout_s: must be a number of seconds above 0, got {timeout_s!r}", param="timeout_s"
        )


def _require_no_stream(params: Mapping[str, object], what: str) -> None:
    if "stream" in params:
        raise InvalidRequestError(f"stream: {what} returns whole answers; use chat.completions.create", param="stream")


def _with_form(params: ParseParams, model: type[BaseModel]) -> tuple[Mapping[str, object], AnswerForm]:
    # Imported with its first use, as every import of the package would pay for it.
    from llama_client.structured import AnswerForm

    _require_no_stream(params, "parse")
    form = AnswerForm(model)
    return {**params, "response_format": form.response_format}, form


def _reads_files(messages: object) -> bool:
    """Whether an image is given as a file, which is read when the request is checked."""
    for message in messages if isinstance(messages, Sequence) and not isinstance(messages, str) else ():
        content = message.get("content") if isinstance(message, Mapping) else None
        for part in content if isinstance(content, Sequence) and not isinstance(content, str) else ():
            image = part.get("image_url") if isinstance(part, Mapping) else None
            if isinstance(image, Mapping) and isinstance(image.get("url"), Path):
                return True
    return False
