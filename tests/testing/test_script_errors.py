"""Each error that a script can say comes out of a client as over a socket, in every dialect and mode."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from llama_client import AsyncLlamaClient, LlamaClient, errors
from llama_client.testing.clock import FakeClock
from llama_client.testing.dialects import DIALECTS, Dialect
from llama_client.testing.loopback import WireServer
from llama_client.testing.script.failures import Failing, fails
from llama_client.testing.script.fake_provider import FakeProvider
from llama_client.testing.script.replies import Reply

MESSAGES = [{"role": "user", "content": "Why do llamas hum?"}]
FAILURES = {
    kind.__name__: fails(kind)
    for kind in (
        errors.AuthenticationError,
        errors.PermissionDeniedError,
        errors.ModelNotFoundError,
        errors.ModelLoadError,
        errors.ContextLengthError,
        errors.RequestTooLargeError,
        errors.RateLimitError,
        errors.QuotaExceededError,
        errors.BadRequestError,
        errors.UnsupportedFeatureError,
        errors.GenerationFailedError,
        errors.OverloadedError,
        errors.ServerError,
        errors.InvalidResponseError,
    )
} | {
    "rate limit with a wait": fails(errors.RateLimitError, "Slow down.", retry_after_s=2.5),
    "overloaded with a wait": fails(errors.OverloadedError, retry_after_s=7),
    "bad gateway": fails(errors.ServerError, "Bad gateway", status=502),
    "an error itself": fails(errors.RateLimitError("Too fast", http_status=429, retry_after_s=3)),
    "own code": fails(errors.ServerError, code="oh_dear"),
}
failures = pytest.mark.parametrize("failing", FAILURES.values(), ids=FAILURES)
dialects = pytest.mark.parametrize("dialect", DIALECTS, ids=str)
MODES = ("sync", "sync stream", "async", "async stream")
modes = pytest.mark.parametrize("mode", MODES)


def failed(config: dict[str, Any], mode: str, **params: Any) -> BaseException:
    """What a call raises."""
    asked: dict[str, Any] = {"messages": MESSAGES, "stream": "stream" in mode, **params}

    async def awaited() -> None:
        async with AsyncLlamaClient(config) as client:
            made = await client.chat.completions.create(**asked)
            if asked["stream"]:
                async for _ in made:
                    pass

    def ran() -> None:
        if mode.startswith("async"):
            asyncio.run(awaited())
            return
        with LlamaClient(config) as client:
            made = client.chat.completions.create(**asked)
            if asked["stream"]:
                list(made)

    with pytest.raises(errors.LlamaClientError) as caught:
        ran()
    return caught.value


def facts(error: BaseException) -> dict[str, Any]:
    """What two errors that are the same have in common."""
    assert isinstance(error, errors.ProviderError)
    names = ("http_status", "provider_code", "retry_after_s", "retryable", "failover", "body")
    attempts = [(each.outcome, each.sent, each.error, each.http_status, each.reason) for each in error.attempts]
    cause = error.__cause__ if isinstance(error, errors.StreamInterruptedError) else None
    return {
        "class": type(error).__name__,
        "text": str(error),
        "cause": type(cause).__name__,
        "attempts": attempts,
        **{name: getattr(error, name) for name in names},
    }


def on_both(
    dialect: Dialect, mode: str, script: Callable[[FakeProvider], object], **params: Any
) -> list[BaseException]:
    """The error of a script in memory, and that of the same script over a socket."""
    with FakeProvider() as fake:
        script(fake)
        in_memory = failed(dialect.config("http://127.0.0.1:9", api_key="k"), mode)
    script(fake)
    fake.requests.clear()
    with WireServer(fake.play) as server:
        over_socket = failed(dialect.config(server.url, api_key="k"), mode)
    return [in_memory, over_socket]


@failures
@dialects
@modes
def test_a_scripted_error_is_what_a_server_with_that_answer_gives(
    failing: Failing, dialect: Dialect, mode: str
) -> None:
    in_memory, over_socket = on_both(dialect, mode, lambda fake: fake.says(failing))
    assert type(in_memory) is failing.error
    text = str(over_socket)
    assert facts(in_memory) == facts(over_socket) | {"text": str(in_memory)}
    assert str(in_memory).partition(" (")[0] == text.partition(" (")[0]
    assert isinstance(in_memory, errors.ProviderError)
    assert in_memory.retry_after_s == failing.retry_after_s
    assert failing.status in (None, in_memory.http_status)


@dialects
@modes
@pytest.mark.parametrize("breaks", ["reset", "cut", "error"])
def test_an_answer_breaks_as_over_a_socket(dialect: Dialect, mode: str, breaks: Any) -> None:
    in_memory, over_socket = on_both(dialect, mode, lambda fake: fake.says(Reply("Once upon", breaks=breaks)))
    assert facts(in_memory) == facts(over_socket)
    if "stream" in mode:
        assert isinstance(in_memory, errors.StreamInterruptedError)
        assert in_memory.partial is not None
        assert in_memory.partial.text == "Once upon"


@dialects
@modes
def test_a_stall_takes_the_time_of_the_fake_clock(dialect: Dialect, mode: str) -> None:
    clock = FakeClock()
    config = {**dialect.config("http://127.0.0.1:9"), "routing": {"retries": 0, "stall_s": 60, "deadline_s": 120}}
    with FakeProvider(clock=clock) as fake:
        fake.says(Reply("Once upon", breaks="stall"))
        error = failed(config, mode)
    expected = errors.StreamInterruptedError if "stream" in mode else errors.APITimeoutError
    assert type(error) is expected
    assert sum(clock.slept) >= 60


@dialects
@modes
@pytest.mark.parametrize("has_clock", [True, False], ids=["fake clock", "real clock"])
def test_a_timeout_is_one_with_and_without_a_clock(dialect: Dialect, mode: str, *, has_clock: bool) -> None:
    with FakeProvider(clock=FakeClock() if has_clock else None) as fake:
        fake.fails(errors.APITimeoutError)
        error = failed(dialect.config("http://127.0.0.1:9"), mode, timeout=20)
    assert type(error) is errors.APITimeoutError
    assert error.attempts[0].sent


@dialects
@modes
def test_a_server_that_is_not_there_was_sent_nothing(dialect: Dialect, mode: str) -> None:
    with FakeProvider() as fake:
        fake.fails(errors.APIConnectionError)
        error = failed(dialect.config("http://127.0.0.1:9"), mode)
    assert type(error) is errors.APIConnectionError
    assert "no connection" in str(error)
    assert not error.attempts[0].sent


@pytest.mark.parametrize(
    ("make", "kind", "told"),
    [
        (lambda: fails(errors.RateLimitError, status=404), ValueError, "is a ModelNotFoundError to the client"),
        (lambda: fails(errors.AuthenticationError, retry_after_s=2), ValueError, "leave out retry_after_s"),
        (lambda: fails(errors.StreamInterruptedError), ValueError, "Reply\\("),
        (lambda: fails(errors.AllTargetsFailedError), ValueError, "let each fail"),
        (lambda: fails(errors.APITimeoutError, status=408), ValueError, "is no answer"),
        (lambda: fails(errors.BudgetExceededError), TypeError, "before anything is sent"),  # type: ignore[arg-type]
        (lambda: fails(OSError), TypeError, "no error of a provider"),  # type: ignore[arg-type]
        (lambda: fails(errors.ProviderError), TypeError, "there are: AuthenticationError"),
        (lambda: fails(errors.ServerError, times=0), ValueError, "whole number above 0"),
    ],
    ids=["other class", "no wait", "interruption", "all", "timeout status", "budget", "os", "root", "times"],
)
def test_a_script_that_would_come_out_otherwise_is_refused(make: Any, kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told):
        make()
