"""The plan of attempts decides without doing anything, so it is tested without anybody to ask."""

from __future__ import annotations

from collections.abc import Generator
from typing import cast

import pytest

from llama_client import (
    AllTargetsFailedError,
    APITimeoutError,
    BadRequestError,
    ModelNotFoundError,
    ProviderError,
    ServerError,
    UnsupportedFeatureError,
)
from llama_client.clock import Clock, Deadline
from llama_client.providers.base import Provider
from llama_client.routing.plan import Lost, Try, Won, plan
from llama_client.routing.targets import Target

A, B, C = (Target("p", name, cast(Provider, None)) for name in "abc")


class FakeTime:
    def __init__(self) -> None:
        self.now = 100.0

    def deadline(self, timeout_s: float | None) -> Deadline:
        return Deadline(timeout_s, Clock(monotonic=lambda: self.now))


def play(
    targets: list[Target], outcomes: dict[str, ProviderError | str], deadline: Deadline
) -> tuple[list[str], object]:
    """Runs a plan against scripted outcomes: whom it tried, and what came of it."""
    steps: Generator[Try, Won[str] | Lost, str] = plan(targets, deadline)
    tried: list[str] = []
    try:
        step: Try = next(steps)
        while True:
            tried.append(step.target.model)
            outcome = outcomes[step.target.model]
            step = steps.send(Lost(outcome) if isinstance(outcome, ProviderError) else Won(outcome))
    except StopIteration as done:
        return tried, done.value
    except ProviderError as error:
        return tried, error


def test_the_first_who_answers_wins_and_nobody_else_is_asked() -> None:
    assert play([A, B], {"a": "answer"}, FakeTime().deadline(None)) == (["a"], "answer")


def test_a_target_that_fails_is_followed_by_the_next() -> None:
    assert play([A, B, C], {"a": ServerError("x"), "b": "answer"}, FakeTime().deadline(None)) == (["a", "b"], "answer")


def test_a_failure_that_no_other_target_could_mend_is_raised_at_once() -> None:
    refusal = BadRequestError("x")
    assert play([A, B], {"a": refusal}, FakeTime().deadline(None)) == (["a"], refusal)


def test_a_lone_targets_error_is_raised_itself() -> None:
    error = ModelNotFoundError("x")
    assert play([A], {"a": error}, FakeTime().deadline(None)) == (["a"], error)


def test_when_all_have_failed_the_error_holds_each_ones() -> None:
    first, second = ServerError("x"), ModelNotFoundError("y")
    tried, error = play([A, B], {"a": first, "b": second}, FakeTime().deadline(None))
    assert tried == ["a", "b"]
    assert isinstance(error, AllTargetsFailedError)
    assert error.errors == [first, second]
    assert error.__cause__ is second


def test_when_no_target_can_honour_a_parameter_the_error_names_it() -> None:
    refusals = [UnsupportedFeatureError("x", param="tools"), UnsupportedFeatureError("y", param="tools")]
    assert play([A, B], {"a": refusals[0], "b": refusals[1]}, FakeTime().deadline(None)) == (["a", "b"], refusals[1])


def test_each_try_gets_what_is_left_of_the_time() -> None:
    time = FakeTime()
    steps: Generator[Try, Won[str] | Lost, str] = plan([A, B], time.deadline(10.0))
    assert next(steps).timeout_s == 10.0
    time.now += 4.0
    assert steps.send(Lost(ServerError("x"))).timeout_s == 6.0


def test_nothing_is_tried_once_the_time_is_over() -> None:
    time = FakeTime()
    steps: Generator[Try, Won[str] | Lost, str] = plan([A, B], time.deadline(10.0))
    next(steps)
    time.now += 10.0
    with pytest.raises(AllTargetsFailedError) as caught:
        steps.send(Lost(ServerError("x")))
    assert [type(error) for error in caught.value.errors] == [ServerError, APITimeoutError]


def test_the_error_of_the_one_that_was_asked_is_raised_itself_beside_those_that_were_skipped() -> None:
    skipped, failed = UnsupportedFeatureError("no tools", param="tools"), ServerError("broke")
    outcomes: dict[str, ProviderError | str] = {"a": skipped, "b": failed, "c": UnsupportedFeatureError("no")}
    assert play([A, B, C], outcomes, FakeTime().deadline(None)) == (["a", "b", "c"], failed)
