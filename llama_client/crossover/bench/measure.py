"""Measures a live target: several requests open at once, level after level, through the public client.

One request is one attempt: `bench_plan.without_retries` makes the configuration for that. Nothing is stored or printed
here.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from llama_client.crossover.bench.levels import Level, Sample, level_of
from llama_client.crossover.bench.plan import BenchPlan
from llama_client.crossover.bench.prompts import Prompts
from llama_client.crossover.bench.watch import Watch
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
    from llama_client.streams import AsyncChatStream
    from llama_client.types.completion import ChatCompletion
    from llama_client.types.cost import Cost

_WARM_UP_TOKENS = 16
_PAUSE_AFTER_ERROR_S, _LONGEST_PAUSE_S = 0.5, 5.0
# No next request fares better.
_HOPELESS = (AuthenticationError, PermissionDeniedError, ModelNotFoundError, QuotaExceededError)


@dataclass(frozen=True, slots=True)
class Step:
    """How far a measurement has come.

    Attributes:
        concurrency: Of the level; 0: it is warming up.
        done: Requests of the level that are over.
        planned: How many they may become.
    """

    concurrency: int
    done: int
    planned: int


@dataclass(slots=True)
class BenchRun:
    """A measurement.

    Attributes:
        plan: What was to be measured.
        levels: What was.
        stopped: Why it ended before its time; None: it did not.
        usd: What is known to have been spent, in US dollars.
        unpriced_requests: Requests whose cost nobody knows, so that `usd` holds nothing of them.
        is_free: Nobody is paid for any of it.
    """

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
    """Measures a target, after one request that warms it up and tells how long a prompt of so many words is.

    Args:
        client: Who asks; its configuration should be one of `without_retries`.
        plan: What is measured.
        progress: Told of each step.
        chance: Where the words of prompts come from; None: different ones each time.

    Returns:
        The levels that were measured. One in which nothing was answered is the last, as is one in which a budget ran
        out; `stopped` says why.

    Raises:
        LlamaClientError: The first request failed.
    """
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
        watch = Watch(time.perf_counter(), self._plan.output_tokens)
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

    def _failed(self, watch: Watch, error: LlamaClientError) -> None:
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
