"""Measures a live target: requests in flight at once, level after level, through the public client."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.crossover.bench.levels import Level, Sample, level_of
from llama_client.crossover.scenario import invalid
from llama_client.errors import (
    AuthenticationError,
    LlamaClientError,
    ModelNotFoundError,
    PermissionDeniedError,
    ProviderError,
    QuotaExceededError,
)

if TYPE_CHECKING:
    from llama_client.client import AsyncLlamaClient
    from llama_client.config.schema import Config
    from llama_client.streams import AsyncChatStream
    from llama_client.types.completion import ChatCompletion, Cost

MAX_LEVELS, MAX_CONCURRENCY, MAX_REQUESTS, MAX_SECONDS = 16, 512, 10_000, 3600.0
MAX_INPUT_TOKENS, MAX_OUTPUT_TOKENS = 1_000_000, 100_000
DEFAULT_CONCURRENCIES, DEFAULT_SECONDS = (1, 2, 4, 8, 16), 60.0
# Four rounds, so that three are left for the steady phase.
_ROUNDS, _LEAST_REQUESTS = 4, 8
# Where a time is given, and no number of requests.
_REQUESTS_IN_A_TIME = 1000
# The first request may have to wait until the model is loaded.
_LOADING_S = 600.0
# While providers of these kinds load a model, only `deadline_s` holds.
_LOADING_KINDS = ("gguf", "ollama")


@dataclass(frozen=True, slots=True)
class BenchPlan:
    target: str
    concurrencies: tuple[int, ...] = DEFAULT_CONCURRENCIES
    input_tokens: int = 512
    output_tokens: int = 128
    requests: int | None = None
    seconds: float | None = None
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.concurrencies) <= MAX_LEVELS or len(set(self.concurrencies)) != len(self.concurrencies):
            shown = ",".join(map(str, self.concurrencies)) or "none"
            raise invalid("concurrency", f"must be 1 to {MAX_LEVELS} different numbers, got {shown}")
        for name, value, most in (
            *(("concurrency", each, MAX_CONCURRENCY) for each in self.concurrencies),
            ("input_tokens", self.input_tokens, MAX_INPUT_TOKENS),
            ("output_tokens", self.output_tokens, MAX_OUTPUT_TOKENS),
            ("requests", 1 if self.requests is None else self.requests, MAX_REQUESTS),
        ):
            if not 1 <= value <= most:
                raise invalid(name, f"must be from 1 to {most:,}, got {value}")
        if self.seconds is not None and not 0 < self.seconds <= MAX_SECONDS:
            raise invalid("seconds", f"must be above 0 and at most {MAX_SECONDS:,.0f}, got {self.seconds}")

    @property
    def seconds_a_level(self) -> float:
        """The time after which a level starts no more requests."""
        return DEFAULT_SECONDS if self.seconds is None else self.seconds

    def requests_at(self, concurrency: int) -> int:
        if self.requests is not None:
            return max(self.requests, concurrency)
        return max(_LEAST_REQUESTS, _ROUNDS * concurrency) if self.seconds is None else _REQUESTS_IN_A_TIME

    @property
    def most_requests(self) -> int:
        """Of all levels, and the warm-up."""
        return 1 + sum(self.requests_at(concurrency) for concurrency in self.concurrencies)


def without_retries(config: Config, plan: BenchPlan) -> Config:
    """The configuration for measuring: each request is one attempt, with as much time as its level."""
    # The user's own are kept; the defaults are too short for loading a model.
    timeout_s = max(_LOADING_S, 2 * plan.seconds_a_level)
    timeouts = dict.fromkeys({"deadline_s", "first_content_s"} - config.routing.model_fields_set, timeout_s)
    rules = {"retries": 0, "breaker_failures": 1_000_000, "hedge_after_s": None, "on_interrupt": None, **timeouts}
    return config.model_copy(update={"routing": config.routing.model_copy(update=rules)})


def first_content_timeout_s(config: Config, target: str) -> float:
    provider = target.partition("/")[0]
    table = config.providers.get(provider)
    if (provider if table is None else table.kind) in _LOADING_KINDS:
        return config.routing.deadline_s
    return min(config.routing.deadline_s, config.routing.first_content_s)


# Each word is one token, with the space before it, in the vocabularies of Llama 3 and GPT.
_WORDS = """
    time year people way day man thing woman life child world school state family student group country problem hand
    part place case week company system program question work government number night point home water room mother
    area money story fact month lot right study book eye job word business issue side kind head house service friend
    father power hour game line end member law car city community name president team minute idea body information
    back parent face others level office door health person art war history party result change morning reason
    research girl guy moment air teacher force education
"""
_TASK = "Tell a very long story in which each of these words comes up, one after the other, and do not stop:"
# About the tokens of the task, the mark before it and a chat template.
_FIXED_TOKENS = 60


class Prompts:
    def __init__(self, input_tokens: int) -> None:
        self._input_tokens = input_tokens
        self._rng = random.SystemRandom()
        self._words = max(input_tokens - _FIXED_TOKENS, 1)

    def next(self) -> str:
        """A new prompt. It differs from the first word on, as caches match prefixes."""
        mark = f"{self._rng.getrandbits(64):016x}"
        return f"{mark} {_TASK} {' '.join(self._rng.choices(_WORDS.split(), k=self._words))}"

    def calibrate(self, counted_tokens: int) -> None:
        # In any tokenizer a word has from one to three tokens.
        tokens_a_word = min(max(counted_tokens / (self._words + _FIXED_TOKENS), 1.0), 3.0)
        self._words = max(self._words + round((self._input_tokens - counted_tokens) / tokens_a_word), 1)


# Some servers count the end-of-sequence token, too.
_ENDING_TOKENS = 1
# Of English text, in the vocabularies of Llama 3 and GPT.
_BYTES_PER_TOKEN = 4.0


class RequestTimer:
    def __init__(self, max_tokens: int) -> None:
        self._started = time.perf_counter()
        self._max_tokens = max_tokens
        self._first: float | None = None
        self._last: float | None = None
        self._chunks = 0
        self._has_reasoning = False

    def chunk(self, *, is_reasoning: bool) -> None:
        self._last = time.perf_counter()
        self._first = self._last if self._first is None else self._first
        self._chunks += 1
        self._has_reasoning |= is_reasoning

    def answered(self, completion: ChatCompletion) -> Sample:
        guessed = completion.attempts[-1].estimated_usage if completion.attempts else None
        usage = guessed or completion.usage
        counted, is_estimated = usage.completion_tokens, guessed is not None
        is_overcounted = guessed is None and counted is not None and counted > self._max_tokens + _ENDING_TOKENS
        if is_overcounted:
            messages = [choice.message for choice in completion.choices]
            texts = [text for each in messages for text in (each.content, each.reasoning) if text]
            shown_bytes = sum(len(text.encode("utf-8", "replace")) for text in texts)
            counted, is_estimated = max(round(shown_bytes / _BYTES_PER_TOKEN), 1), True
        return replace(
            self.cut(),
            is_cut=False,
            input_tokens=usage.prompt_tokens,
            output_tokens=counted,
            # Reasoning that is not shown ends before the first chunk.
            hidden_tokens=0 if self._has_reasoning or is_overcounted else usage.reasoning_tokens or 0,
            are_estimated=is_estimated,
            is_overcounted=is_overcounted,
            queue_s=completion.timing.queue_s,
        )

    def cut(self) -> Sample:
        return Sample(self._started, time.perf_counter(), self._first, self._last, self._chunks, is_cut=True)

    def failed(self, error: LlamaClientError) -> Sample:
        return Sample(self._started, time.perf_counter(), error=type(error).__name__)


_WARM_UP_TOKENS = 16
_PAUSE_AFTER_ERROR_S, _LONGEST_PAUSE_S = 0.5, 5.0
# After one of these no further request can succeed.
_FATAL = (AuthenticationError, PermissionDeniedError, ModelNotFoundError, QuotaExceededError)


@dataclass(frozen=True, slots=True)
class Step:
    concurrency: int
    done: int
    planned: int


@dataclass(slots=True)
class BenchRun:
    plan: BenchPlan
    levels: list[Level] = field(default_factory=list)
    stopped: str | None = None
    usd: Decimal = Decimal(0)
    unpriced_requests: int = 0
    is_free: bool = True

    def add_cost(self, cost: Cost | None) -> None:
        """Adds the cost of a request; None: it was refused, which is free."""
        if cost is not None:
            self.is_free &= cost.status == "free"
            self.unpriced_requests += cost.usd is None
            self.usd += cost.usd or 0


async def measure(
    client: AsyncLlamaClient, plan: BenchPlan, *, progress: Callable[[Step], None] = lambda _: None
) -> BenchRun:
    """Measures a target, after one request that warms it up and calibrates the length of prompts."""
    run = BenchRun(plan)
    prompts = Prompts(plan.input_tokens)
    progress(Step(0, 0, 1))
    async with await _open(client, plan, prompts, min(plan.output_tokens, _WARM_UP_TOKENS)) as stream:
        async for _ in stream:
            pass
    run.add_cost(stream.completion.cost)
    if stream.completion.usage.prompt_tokens is not None:
        prompts.calibrate(stream.completion.usage.prompt_tokens)
    for concurrency in plan.concurrencies:
        level = _LevelRun(client, run, prompts, concurrency, progress)
        run.levels.append(await level.run())
        run.stopped = level.stopped
        if run.stopped is not None:
            break
    return run


async def _open(client: AsyncLlamaClient, plan: BenchPlan, prompts: Prompts, max_tokens: int) -> AsyncChatStream:
    messages = [{"role": "user", "content": prompts.next()}]
    extra = {"ignore_eos": True} if plan.ignore_eos else None
    return await client.chat.completions.create(
        model=plan.target, messages=messages, max_tokens=max_tokens, extra_body=extra, stream=True
    )


@dataclass(slots=True)
class _LevelRun:
    """One level: a worker for each request in flight, which sends one after another."""

    _client: AsyncLlamaClient
    _run: BenchRun
    _prompts: Prompts
    _concurrency: int
    _progress: Callable[[Step], None]
    _started: int = 0
    _samples: list[Sample] = field(default_factory=list)
    _last_error: LlamaClientError | None = None
    _is_fatal: bool = False
    _until: float = 0.0

    @property
    def _failures(self) -> int:
        return sum(sample.error is not None for sample in self._samples)

    @property
    def stopped(self) -> str | None:
        answers = sum(sample.is_answered for sample in self._samples)
        if self._last_error is not None and (self._is_fatal or not answers):
            failed = f"{'' if answers else 'all '}{self._failures} request{'s' * (self._failures != 1)}"
            last = f"{type(self._last_error).__name__}: {self._last_error}"
            return f"at {self._concurrency} at once {failed} failed, the last with {last}"
        if answers:
            return None
        return (
            f"at {self._concurrency} at once no request was answered within {2 * self._run.plan.seconds_a_level:g} s: "
            "give it more seconds, or ask for less output"
        )

    async def run(self) -> Level:
        self._report()
        seconds = self._run.plan.seconds_a_level
        self._until = time.perf_counter() + seconds
        # Requests in flight at the timeout are counted as cut.
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * seconds), asyncio.TaskGroup() as workers:
                for _ in range(self._concurrency):
                    workers.create_task(self._work())
        return level_of(self._concurrency, self._samples)

    def _report(self) -> None:
        self._progress(Step(self._concurrency, len(self._samples), self._run.plan.requests_at(self._concurrency)))

    async def _work(self) -> None:
        while self._may_start():
            self._started += 1
            error = await self._request()
            self._report()
            if error is not None:
                retry_after_s = error.retry_after_s if isinstance(error, ProviderError) else None
                await asyncio.sleep(min(retry_after_s or _PAUSE_AFTER_ERROR_S, _LONGEST_PAUSE_S))

    def _may_start(self) -> bool:
        is_done = self._started >= self._run.plan.requests_at(self._concurrency) or time.perf_counter() >= self._until
        is_failing = self._failures >= max(self._concurrency, 3) and self._failures >= len(self._samples)
        return not (self._is_fatal or is_done or is_failing)

    async def _request(self) -> LlamaClientError | None:
        plan = self._run.plan
        timer = RequestTimer(plan.output_tokens)
        stream: AsyncChatStream | None = None
        try:
            stream = await _open(self._client, plan, self._prompts, plan.output_tokens)
            async with stream:
                async for chunk in stream:
                    if chunk.has_content:
                        timer.chunk(is_reasoning=any(choice.delta.reasoning for choice in chunk.choices))
        except LlamaClientError as error:
            self._samples.append(timer.failed(error))
            for attempt in error.attempts:
                self._run.add_cost(attempt.cost)
            self._last_error = error
            # An error that is not a provider's (of a budget, say) does not pass.
            self._is_fatal |= not isinstance(error, ProviderError) or isinstance(error, _FATAL)
            return error
        except asyncio.CancelledError:
            self._samples.append(timer.cut())
            if stream is None:
                self._run.unpriced_requests += 1
            else:
                # Closed by now; its cost is known or estimated.
                self._run.add_cost(stream.partial.cost)
            raise
        self._samples.append(timer.answered(stream.completion))
        self._run.add_cost(stream.completion.cost)
        return None
