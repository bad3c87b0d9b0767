"""Measures a live target: concurrent requests, level after level, through the public client."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from llama_client.crossover.bench.levels import Level, Sample, level_of
from llama_client.errors import (
    AuthenticationError,
    InvalidRequestError,
    LlamaClientError,
    ModelNotFoundError,
    PermissionDeniedError,
    ProviderError,
    QuotaExceededError,
)

if TYPE_CHECKING:
    from llama_client.client import AsyncLlamaClient
    from llama_client.config.schema import Config
    from llama_client.errors import LlamaClientError
    from llama_client.streams import AsyncChatStream
    from llama_client.types.completion import ChatCompletion, Cost


MAX_LEVELS, MAX_CONCURRENCY, MAX_REQUESTS, MAX_SECONDS = 16, 512, 10_000, 3600.0
MAX_INPUT_TOKENS, MAX_OUTPUT_TOKENS = 1_000_000, 100_000
DEFAULT_CONCURRENCIES, DEFAULT_SECONDS = (1, 2, 4, 8, 16), 60.0
# Each place is taken four times, so that three rounds are left for the steady phase.
_ROUNDS, _LEAST_REQUESTS = 4, 8
# Where a time was asked for, and no number of requests.
_REQUESTS_IN_A_TIME = 1000
# A first request may have to wait until the model is loaded.
_LOADING_S = 600.0
# While these load a model, only the deadline holds.
_SAY_THAT_THEY_LOAD = ("gguf", "ollama")


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What is measured."""

    target: str
    concurrencies: tuple[int, ...] = DEFAULT_CONCURRENCIES
    input_tokens: int = 512
    output_tokens: int = 128
    requests: int | None = None
    seconds: float | None = None
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.concurrencies) <= MAX_LEVELS or len(set(self.concurrencies)) != len(self.concurrencies):
            raise _wrong("concurrency", f"must be 1 to {MAX_LEVELS} different numbers", self.concurrencies)
        for name, value, most in (
            *(("concurrency", each, MAX_CONCURRENCY) for each in self.concurrencies),
            ("input_tokens", self.input_tokens, MAX_INPUT_TOKENS),
            ("output_tokens", self.output_tokens, MAX_OUTPUT_TOKENS),
            ("requests", 1 if self.requests is None else self.requests, MAX_REQUESTS),
        ):
            if not 1 <= value <= most:
                raise _wrong(name, f"must be from 1 to {most:,}", value)
        if self.seconds is not None and not 0 < self.seconds <= MAX_SECONDS:
            raise _wrong("seconds", f"must be above 0 and at most {MAX_SECONDS:,.0f}", self.seconds)

    @property
    def seconds_a_level(self) -> float:
        """After so long a level starts no more requests."""
        return DEFAULT_SECONDS if self.seconds is None else self.seconds

    def requests_at(self, concurrency: int) -> int:
        """The most requests of a level."""
        if self.requests is not None:
            return max(self.requests, concurrency)
        return max(_LEAST_REQUESTS, _ROUNDS * concurrency) if self.seconds is None else _REQUESTS_IN_A_TIME

    @property
    def most_requests(self) -> int:
        """The most requests of all, the first one included, which only warms up."""
        return 1 + sum(self.requests_at(concurrency) for concurrency in self.concurrencies)


def without_retries(config: Config, plan: BenchPlan) -> Config:
    """The configuration for measuring: each request is one attempt, and may wait as long as its level lasts.

    What the user has set of `deadline_s` and `first_content_s` stays; defaults are too short for a model that has yet
    to be loaded.
    """
    patience_s = max(_LOADING_S, 2 * plan.seconds_a_level)
    rules = {
        "retries": 0,
        "breaker_failures": 1_000_000,
        "hedge_after_s": None,
        "on_interrupt": None,
        "deadline_s": patience_s,
        "first_content_s": patience_s,
    }
    own = config.routing.model_fields_set & {"deadline_s", "first_content_s"}
    rules = {name: value for name, value in rules.items() if name not in own}
    return config.model_copy(update={"routing": config.routing.model_copy(update=rules)})


def patience_s(config: Config, target: str) -> float:
    """How long the first content of a target's first answer is waited for, in seconds."""
    provider = target.partition("/")[0]
    table = config.providers.get(provider)
    if (provider if table is None else table.kind) in _SAY_THAT_THEY_LOAD:
        return config.routing.deadline_s
    return min(config.routing.deadline_s, config.routing.first_content_s)


def _wrong(param: str, rule: str, value: object) -> InvalidRequestError:
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else f"{value}"
    return InvalidRequestError(f"{param}: {rule}, got {shown or 'none'}", param=param)


# Each is one token, with the space before it, in the vocabularies of Llama 3 and GPT.
_WORDS = """
    time year people way day man thing woman life child world school state family student group country problem hand
    part place case week company system program question work government number night point home water room mother
    area money story fact month lot right study book eye job word business issue side kind head house service friend
    father power hour game line end member law car city community name president team minute idea body information
    back parent face others level office door health person art war history party result change morning reason
    research girl guy moment air teacher force education
"""
_TASK = "Tell a very long story in which each of these words comes up, one after the other, and do not stop:"
# The task, the mark before it and a template's own tokens, as far as they are alike.
_TOKENS_BESIDE = 60


class Prompts:
    """Makes prompts of about a number of tokens.

    Examples:
        >>> prompts = Prompts(100, random.Random(1))
        >>> first, second = prompts.next(), prompts.next()
        >>> first[:10] == second[:10]
        False
    """

    def __init__(self, input_tokens: int, chance: random.Random) -> None:
        self._input_tokens = input_tokens
        self._chance = chance
        self._known = _WORDS.split()
        self._words = max(input_tokens - _TOKENS_BESIDE, 1)

    def next(self) -> str:
        """Another one. It differs from its first word on, as caches go by beginnings."""
        mark = f"{self._chance.getrandbits(64):016x}"
        return f"{mark} {_TASK} {' '.join(self._chance.choices(self._known, k=self._words))}"

    def correct(self, counted_tokens: int) -> None:
        """Takes in how many tokens the last prompt really had."""
        # Whatever the tokenizer, a word has from one to three.
        tokens_a_word = min(max(counted_tokens / (self._words + _TOKENS_BESIDE), 1.0), 3.0)
        self._words = max(self._words + round((self._input_tokens - counted_tokens) / tokens_a_word), 1)


# Some servers count the sign that ends an answer, too.
_ENDING_TOKENS = 1
# Of English text, with the vocabularies of Llama 3 and GPT.
_BYTES_A_TOKEN = 4.0


class RequestTimer:
    """One request's times and tokens."""

    def __init__(self, started: float, most_tokens: int) -> None:
        self._started = started
        self._most_tokens = most_tokens
        self._first: float | None = None
        self._last: float | None = None
        self._pieces = 0
        self._has_reasoning = False

    def piece(self, *, is_reasoning: bool) -> None:
        """A piece with something to show has come."""
        self._last = time.perf_counter()
        self._first = self._last if self._first is None else self._first
        self._pieces += 1
        self._has_reasoning |= is_reasoning

    def answered(self, completion: ChatCompletion) -> Sample:
        """It came to a good end."""
        usage, is_estimated = completion.usage, False
        guessed = completion.attempts[-1].estimated_usage if completion.attempts else None
        if guessed is not None:
            usage, is_estimated = guessed, True
        told, counted = usage.completion_tokens, usage.completion_tokens
        is_overcounted = guessed is None and told is not None and told > self._most_tokens + _ENDING_TOKENS
        if is_overcounted:
            counted, is_estimated = max(round(_bytes(completion) / _BYTES_A_TOKEN), 1), True
        # Thinking that is not shown is over before the first piece.
        hidden = 0 if self._has_reasoning or is_overcounted else usage.reasoning_tokens or 0
        return Sample(
            self._started,
            time.perf_counter(),
            self._first,
            self._last,
            self._pieces,
            usage.prompt_tokens,
            counted,
            hidden,
            is_estimated,
            is_overcounted=is_overcounted,
            queue_s=completion.timing.queue_s,
        )

    def cut(self) -> Sample:
        """The level is over before it is."""
        return Sample(self._started, time.perf_counter(), self._first, self._last, self._pieces, is_cut=True)

    def failed(self, error: LlamaClientError) -> Sample:
        """It came to a bad end."""
        return Sample(self._started, time.perf_counter(), error=type(error).__name__)


def _bytes(completion: ChatCompletion) -> int:
    """Of all that was shown."""
    texts = [text for choice in completion.choices for text in (choice.message.content, choice.message.reasoning)]
    return sum(len(text.encode("utf-8", "replace")) for text in texts if text)


_WARM_UP_TOKENS = 16
_PAUSE_AFTER_ERROR_S, _LONGEST_PAUSE_S = 0.5, 5.0
# No next request fares better.
_HOPELESS = (AuthenticationError, PermissionDeniedError, ModelNotFoundError, QuotaExceededError)


@dataclass(frozen=True, slots=True)
class Step:
    """How far a measurement has come."""

    concurrency: int
    done: int
    planned: int


@dataclass(slots=True)
class BenchRun:
    """A measurement."""

    plan: BenchPlan
    levels: list[Level] = field(default_factory=list)
    stopped: str | None = None
    usd: Decimal = Decimal(0)
    unpriced_requests: int = 0
    is_free: bool = True

    def spent(self, cost: Cost | None) -> None:
        """Adds what a request cost; None: it was refused, which costs nothing."""
        if cost is None:
            return
        self.is_free &= cost.status == "free"
        if cost.usd is None:
            self.unpriced_requests += 1
        else:
            self.usd += cost.usd


async def measure(
    client: AsyncLlamaClient,
    plan: BenchPlan,
    *,
    progress: Callable[[Step], None] = lambda _: None,
    chance: random.Random | None = None,
) -> BenchRun:
    """Measures a target, after one request that warms it up and tells how long a prompt of so many words is."""
    run = BenchRun(plan)
    prompts = Prompts(plan.input_tokens, chance or random.SystemRandom())
    progress(Step(0, 0, 1))
    warm = await _warm_up(client, plan, prompts.next())
    run.spent(warm.cost)
    if warm.usage.prompt_tokens is not None:
        prompts.correct(warm.usage.prompt_tokens)
    for concurrency in plan.concurrencies:
        level = _LevelRun(client, run, prompts, concurrency, progress)
        run.levels.append(await level.run())
        run.stopped = level.stopped
        if run.stopped is not None:
            break
    return run


async def _warm_up(client: AsyncLlamaClient, plan: BenchPlan, prompt: str) -> ChatCompletion:
    most = min(plan.output_tokens, _WARM_UP_TOKENS)
    async with await client.chat.completions.create(
        model=plan.target, messages=_asking(prompt), max_tokens=most, extra_body=_extra(plan), stream=True
    ) as stream:
        async for _ in stream:
            pass
    return stream.completion


class _LevelRun:
    """One level: as many workers as requests are open at once, each asking again and again."""

    def __init__(
        self,
        client: AsyncLlamaClient,
        run: BenchRun,
        prompts: Prompts,
        concurrency: int,
        progress: Callable[[Step], None],
    ) -> None:
        self._client = client
        self._run = run
        self._plan = run.plan
        self._prompts = prompts
        self._concurrency = concurrency
        self._progress = progress
        self._planned = run.plan.requests_at(concurrency)
        self._started = 0
        self._samples: list[Sample] = []
        self._last_error: LlamaClientError | None = None
        self._is_hopeless = False
        self._until = 0.0

    @property
    def stopped(self) -> str | None:
        """Why no further level makes sense."""
        failures = sum(sample.error is not None for sample in self._samples)
        answers = sum(sample.is_answered for sample in self._samples)
        told = f"at {self._concurrency} at once"
        if self._last_error is not None and (self._is_hopeless or not answers):
            failed = f"all {failures}" if not answers else f"{failures}"
            last = f"{type(self._last_error).__name__}: {self._last_error}"
            return f"{told} {failed} request{'s' * (failures != 1)} failed, the last with {last}"
        if not answers:
            seconds = 2 * self._plan.seconds_a_level
            return f"{told} no request was answered within {seconds:g} s: give it more seconds, or ask for less output"
        return None

    async def run(self) -> Level:
        self._progress(Step(self._concurrency, 0, self._planned))
        self._until = time.perf_counter() + self._plan.seconds_a_level
        try:
            async with asyncio.timeout(2 * self._plan.seconds_a_level), asyncio.TaskGroup() as workers:
                for _ in range(self._concurrency):
                    workers.create_task(self._work())
        except TimeoutError:
            pass  # what was under way is written down as cut
        return level_of(self._concurrency, self._samples)

    async def _work(self) -> None:
        while self._may_start():
            self._started += 1
            error = await self._ask()
            self._progress(Step(self._concurrency, len(self._samples), self._planned))
            if error is not None:
                asked_s = error.retry_after_s if isinstance(error, ProviderError) else None
                await asyncio.sleep(min(asked_s or _PAUSE_AFTER_ERROR_S, _LONGEST_PAUSE_S))

    def _may_start(self) -> bool:
        if self._is_hopeless or self._started >= self._planned or time.perf_counter() >= self._until:
            return False
        failures = sum(sample.error is not None for sample in self._samples)
        return failures < max(self._concurrency, 3) or failures < len(self._samples)

    async def _ask(self) -> LlamaClientError | None:
        """Makes one request; returns its error."""
        watch = RequestTimer(time.perf_counter(), self._plan.output_tokens)
        stream: AsyncChatStream | None = None
        try:
            stream = await self._client.chat.completions.create(
                model=self._plan.target,
                messages=_asking(self._prompts.next()),
                max_tokens=self._plan.output_tokens,
                extra_body=_extra(self._plan),
                stream=True,
            )
            async with stream:
                async for chunk in stream:
                    if chunk.has_content:
                        watch.piece(is_reasoning=any(choice.delta.reasoning for choice in chunk.choices))
        except LlamaClientError as error:
            self._failed(watch, error)
            return error
        except asyncio.CancelledError:
            self._samples.append(watch.cut())
            if stream is not None:
                # Closed by now; what it cost is known, or guessed.
                self._run.spent(stream.partial.cost)
            else:
                self._run.unpriced_requests += 1
            raise
        self._samples.append(watch.answered(stream.completion))
        self._run.spent(stream.completion.cost)
        return None

    def _failed(self, watch: RequestTimer, error: LlamaClientError) -> None:
        self._samples.append(watch.failed(error))
        for attempt in error.attempts:
            self._run.spent(attempt.cost)
        self._last_error = error
        # What is no provider's error (a budget, say) is none of the moment.
        self._is_hopeless |= not isinstance(error, ProviderError) or isinstance(error, _HOPELESS)


def _asking(prompt: str) -> Sequence[dict[str, object]]:
    return [{"role": "user", "content": prompt}]


def _extra(plan: BenchPlan) -> dict[str, Any] | None:
    return {"ignore_eos": True} if plan.ignore_eos else None
