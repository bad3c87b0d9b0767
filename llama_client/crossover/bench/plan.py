"""What a measurement asks for, within its bounds, and the configuration that it is made with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llama_client.errors import InvalidRequestError

if TYPE_CHECKING:
    from llama_client.config.schema import Config

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
    """What is measured.

    Attributes:
        target: `provider/model`.
        concurrencies: How many requests are open at once, level after level.
        input_tokens: The length of prompts, about.
        output_tokens: The length of answers, at most.
        requests: How many a level; None: four for each that is open at once, at least eight, or where `seconds` was
            given as many as come to pass, at most 1,000.
        seconds: After so long a level starts no more; those under way may take as long again. None: 60.
        ignore_eos: Asks the server to go on where the model would stop (vLLM, SGLang and llama.cpp know `ignore_eos`).

    Raises:
        InvalidRequestError: One of them is out of its bounds.
    """

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
    """How long the first content of a target's first answer is waited for, in seconds.

    Args:
        config: One of `without_retries`.
        target: `provider/model`.
    """
    provider = target.partition("/")[0]
    table = config.providers.get(provider)
    if (provider if table is None else table.kind) in _SAY_THAT_THEY_LOAD:
        return config.routing.deadline_s
    return min(config.routing.deadline_s, config.routing.first_content_s)


def _wrong(param: str, rule: str, value: object) -> InvalidRequestError:
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else f"{value}"
    return InvalidRequestError(f"{param}: {rule}, got {shown or 'none'}", param=param)
