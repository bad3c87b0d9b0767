"""A plan against scripted targets: which it tries, when, and the outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from llama_client.config.schema import Config, read_config
from llama_client.costs.reservations import Refused, Reserved
from llama_client.errors import LlamaClientError, LocalOnlyError, ProviderError, UnsupportedFeatureError
from llama_client.providers.base import Provider, ProviderCall
from llama_client.routing.candidate import Candidate
from llama_client.routing.health import HealthRegistry, Result
from llama_client.routing.plan import (
    AwaitRunning,
    Backoff,
    Late,
    Lost,
    Outcome,
    Plan,
    Reserve,
    Skip,
    Step,
    Try,
    Wait,
    Won,
)
from llama_client.routing.request_size import RequestSize
from llama_client.routing.targets import Target
from llama_client.testing.clock import FakeClock
from llama_client.types.request import check_request

# A plan that takes more steps runs on for ever.
MOST_STEPS = 200
# What a scripted target does: answers with a text, or fails.
Script = str | Exception


@dataclass
class Scripted:
    """A provider that can do what it is said to."""

    cannot: frozenset[str] = frozenset()
    is_remote: bool = False

    def require(self, call: ProviderCall) -> None:
        if self.is_remote:
            raise LocalOnlyError("local_only is on")
        for param in sorted(self.cannot & call.request.set_parameters):
            raise UnsupportedFeatureError(f"{call.target} has no {param}", param=param, target=call.target)

    def is_free(self, model: str) -> bool:
        return False


@dataclass
class Play:
    """Runs plans against scripts, in fake time.

    Attributes:
        scripts: What each target does in turn; the last for ever.
        params: The request's.
        rules: The table `[routing]`.
        max_concurrency: Of the provider of all targets.
        on_reserve: The budgets' answer to an order; None: no budget covers any target.
        free: Targets that cost nothing, so that no budget covers them.
        unanswered: Those failures that are the end of a connection that was used before.
        retries_failures: Whether the plan retries a target after a transient failure.
        answer_class: What `parse` asks for; None: the call is not one of `parse`.
        story: What happened: `a`, `-a` (skipped), `1.5` (waited so long), `late`.
    """

    scripts: Mapping[str, Sequence[Script]]
    params: dict[str, Any] = field(default_factory=dict)
    rules: dict[str, Any] = field(default_factory=dict)
    providers: dict[str, Scripted] = field(default_factory=dict)
    time: FakeClock = field(default_factory=FakeClock)
    takes_s: float = 0.0
    on_wait: Callable[[Wait], None] = lambda wait: None
    max_concurrency: int | None = None
    on_reserve: Callable[[Reserve], Reserved | Refused] | None = None
    free: frozenset[str] = frozenset()
    unanswered: Sequence[Exception] = ()
    retries_failures: bool = True
    answer_class: type[object] | None = None
    story: list[str | float] = field(default_factory=list)
    tries: list[Try] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)

    def __post_init__(self) -> None:
        tables: dict[str, Any] = {"routing": self.rules}
        if self.max_concurrency is not None:
            server = {"kind": "openai", "base_url": "http://127.0.0.1:1", "max_concurrency": self.max_concurrency}
            tables["providers"] = {"p": server}
        self.config: Config = read_config(tables, origin="test")
        self.health = HealthRegistry(self.config, self.time.clock)
        self._asked: dict[str, int] = {}

    def candidates(self, names: Sequence[str]) -> list[Candidate]:
        params = {"messages": [{"role": "user", "content": "hi"}], **self.params}
        request = check_request(params, stream=False, answer_class=self.answer_class)
        size = RequestSize(request)
        targets = [Target("p", name, cast(Provider, self.providers.get(name, Scripted()))) for name in names]
        found = [Candidate(target, self.health.of(target.name, "p"), request, size) for target in targets]
        for candidate in found:
            candidate.is_free = candidate.target.model in self.free
            candidate.is_budgeted = self.on_reserve is not None and not candidate.is_free
        return found

    def __call__(self, *names: str, timeout_s: float | None = 120.0) -> object:
        """Plays one call: its answer, or the error that it raised."""
        self.story, self.tries, self.skips = [], [], []
        backoff = Backoff(lambda low, high: high)
        rules, deadline = self.config.routing, self.time.deadline(timeout_s)
        plan: Plan[str] = Plan(self.candidates(names), rules, deadline, backoff, self.retries_failures)
        steps = plan.steps()
        try:
            step: Step = next(steps)
            while True:
                assert len(self.story) < MOST_STEPS, f"no end of it: {self.story[-10:]}"
                step = steps.send(self._perform(step))
        except StopIteration as done:
            return done.value
        except LlamaClientError as error:
            return error
        finally:
            plan.end()

    def _perform(self, step: Step) -> Outcome[str]:
        match step:
            case Try(candidate, lease):
                lease.start(candidate.size)
                name = candidate.target.model
                self.story.append(name)
                self.tries.append(step)
                turn = self._asked[name] = self._asked.get(name, 0) + 1
                script = self.scripts[name][min(turn, len(self.scripts[name])) - 1]
                self.time.now += self.takes_s
                lease.release(Result(script if isinstance(script, LlamaClientError) else None, latency_s=1.0))
                if isinstance(script, ProviderError | LocalOnlyError):
                    return Lost(candidate, script, script in self.unanswered)
                assert isinstance(script, str)
                return Late() if script == "late" else Won(script)
            case AwaitRunning():
                self.story.append("rest")
                return Won("the late one")
            case Wait(seconds, event):
                self.story.append(round(seconds, 3))
                self.on_wait(step)
                if event is None or not event.is_set:
                    self.time.now += seconds
            case Reserve():
                assert self.on_reserve is not None
                return self.on_reserve(step)
            case Skip(candidate):
                self.skips.append(step)
                self.story.append(f"-{candidate.target.model}")
        return None
