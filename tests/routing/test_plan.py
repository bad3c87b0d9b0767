"""The plan of attempts decides without doing anything, so it is tested without anybody to ask."""

from __future__ import annotations

from typing import Any

import pytest

from llama_client import (
    AllTargetsFailedError,
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    GenerationFailedError,
    LlamaClientError,
    LocalOnlyError,
    ModelNotFoundError,
    OverloadedError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
    UnsupportedFeatureError,
)
from llama_client.routing.health import Health, Lease, Result
from llama_client.routing.plan import Backoff, Late, Plan, Try, Wait
from tests.routing.planning import Play, Scripted


def limited(seconds: float) -> RateLimitError:
    return RateLimitError("slow down", retry_after_s=seconds)


def test_the_first_who_answers_wins_and_nobody_else_is_asked() -> None:
    play = Play({"a": ["answer"]})
    assert play("a", "b") == "answer"
    assert play.story == ["a"]


def test_a_target_that_fails_is_followed_by_the_next_at_once() -> None:
    play = Play({"a": [ServerError("x")], "b": ["answer"]})
    assert play("a", "b") == "answer"
    assert play.story == ["a", "b"]


def test_a_lone_target_is_asked_again_after_waits_that_double() -> None:
    play = Play({"a": [ServerError("x"), ServerError("y"), "answer"]})
    assert play("a") == "answer"
    assert play.story == ["a", 0.5, "a", 1.0, "a"]
    assert [step.waited_s for step in play.tries] == [0.0, 0.5, 1.0]


def test_waits_double_up_to_8_s() -> None:
    backoff = Backoff(lambda low, high: low + high)
    assert [backoff.wait_s(tries) for tries in (1, 2, 3, 4, 5, 6, 10_000)] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_a_lone_targets_last_error_is_raised_itself() -> None:
    errors = [ServerError("1"), ServerError("2"), OverloadedError("3")]
    play = Play({"a": errors})
    assert play("a") is errors[2]
    assert len(play.tries) == 3


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("x"), QuotaExceededError("x"), ModelNotFoundError("x"), ContextLengthError("x"),
        RequestTooLargeError("x"), UnsupportedFeatureError("x", http_status=400),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_what_cannot_pass_is_not_asked_again_and_moves_on(error: ProviderError) -> None:
    play = Play({"a": [error], "b": ["answer"]})
    assert play("a", "b") == "answer"
    assert play.story == ["a", "b"]
    assert play("a") is error
    assert play.story == ["a"]


def test_a_failure_that_no_other_target_could_mend_is_raised_at_once() -> None:
    refusal = BadRequestError("x")
    play = Play({"a": [refusal], "b": ["answer"]})
    assert play("a", "b") is refusal
    assert play.story == ["a"]


def test_a_bad_generation_is_asked_for_again_at_once_and_there() -> None:
    play = Play({"a": [GenerationFailedError("x"), "answer"], "b": ["other"]})
    assert play("a", "b") == "answer"
    assert play.story == ["a", "a"]


@pytest.mark.parametrize("failure", [RateLimitError("x", retry_after_s=1.0), ServerError("x")], ids=["429", "500"])
def test_a_failure_whose_retries_are_the_callers_goes_on_to_the_next_target_or_ends_the_call(
    failure: LlamaClientError,
) -> None:
    play = Play({"a": [failure, "answer"], "b": ["other"]}, retries_failures=False)
    assert play("a", "b") == "other"
    assert play.story == ["a", "b"]
    alone = Play({"a": [failure, "answer"]}, retries_failures=False)
    assert alone("a") is failure
    assert alone.story == ["a"]


def test_a_bad_generation_is_asked_for_again_in_the_same_call_all_the_same() -> None:
    play = Play({"a": [GenerationFailedError("x"), "answer"]}, retries_failures=False)
    assert play("a") == "answer"


@pytest.mark.parametrize(
    ("answer_class", "text", "misfit"),
    [
        (dict, "{", ("{", "no JSON")),
        (dict, "", None),
        (dict, None, None),
        (dict, {"of": "the server"}, None),
        (None, "{", None),
    ],
    ids=["a text", "nothing", "not told", "no text", "not of parse"],
)
def test_what_was_written_in_place_of_the_answer_is_kept_for_the_next_attempt(
    answer_class: type[object] | None, text: Any, misfit: tuple[str, str] | None
) -> None:
    failed = GenerationFailedError("no JSON", failed_generation=text)
    play = Play({"a": [failed, "answer"]}, answer_class=answer_class)
    assert play("a") == "answer"
    assert play.tries[-1].candidate.misfit == misfit


def test_when_all_have_failed_the_error_holds_each_ones_last() -> None:
    first, second = ServerError("x"), ModelNotFoundError("y")
    play = Play({"a": [first], "b": [second]}, rules={"retries": 0})
    error = play("a", "b")
    assert isinstance(error, AllTargetsFailedError)
    assert error.errors == [first, second]
    assert error.__cause__ is second
    assert str(error) == "every target failed: p/a: ServerError: x; p/b: ModelNotFoundError: y"
    assert (error.provider, error.target, error.retry_after_s) == ("p", "p/b", None)


def test_when_all_have_failed_the_soonest_of_their_waits_is_told() -> None:
    play = Play({"a": [limited(50)], "b": [limited(40)], "c": [ServerError("x")]}, rules={"retries": 0})
    error = play("a", "b", "c", timeout_s=30)
    assert isinstance(error, AllTargetsFailedError)
    assert error.retry_after_s == 40


def test_a_target_that_is_excluded_does_not_keep_others_from_being_waited_for() -> None:
    play = Play({"a": [AuthenticationError("no key")], "b": [ServerError("x"), "answer"]})
    assert play("a", "b") == "answer"
    assert play.story == ["a", "b", 0.5, "b"]


def test_half_a_second_is_enough_for_an_answer() -> None:
    play = Play({"a": ["answer"]})
    assert play("a", timeout_s=0.5) == "answer"
    assert [step.timeout_s for step in play.tries] == [0.5]


def test_without_a_deadline_a_try_has_no_limit_and_waits_are_waited_for() -> None:
    play = Play({"a": [limited(1000), "answer"]})
    assert play("a", timeout_s=None) == "answer"
    assert play.story == ["a", 1000.0, "a"]
    assert [step.timeout_s for step in play.tries] == [None, None]


def test_without_a_deadline_nobody_waits_for_what_is_over() -> None:
    failed = AuthenticationError("no key")
    play = Play({"a": [failed]})
    assert play("a", timeout_s=None) is failed
    assert play.story == ["a"]


def test_a_target_that_is_ready_at_this_very_moment_could_still_answer() -> None:
    play = Play({"a": [ServerError("x"), "answer"], "b": [ServerError("y")]})
    assert play("a", "b", timeout_s=40) == "answer"
    # Both are ready again after half a second.
    assert [step.timeout_s for step in play.tries] == [20.0, 40.0, 19.75]


def test_each_target_gets_its_retries_in_turn_after_the_first_round() -> None:
    play = Play({"a": [ServerError("x")], "b": [ServerError("y")]})
    assert isinstance(play("a", "b"), AllTargetsFailedError)
    assert [step.candidate.target.model for step in play.tries] == ["a", "b", "a", "b", "a", "b"]


def test_a_servers_own_wait_is_kept_to_the_moment() -> None:
    play = Play({"a": [limited(2.5), "answer"]})
    assert play("a") == "answer"
    assert play.story == ["a", 2.5, "a"]


def test_a_wait_that_another_target_makes_pointless_moves_on_at_once() -> None:
    play = Play({"a": [limited(2.5)], "b": ["answer"]})
    assert play("a", "b") == "answer"
    assert play.story == ["a", "b"]


def test_a_wait_that_does_not_fit_the_deadline_is_raised_at_once() -> None:
    error = limited(90)
    play = Play({"a": [error]})
    assert play("a", timeout_s=60) is error
    assert play.story == ["a"]


def test_a_target_that_asked_to_be_left_alone_is_left_alone_by_the_next_call() -> None:
    play = Play({"a": [limited(90), "answer"], "b": ["other"]})
    play("a", "b")
    assert play("a", "b") == "other"
    assert play.story == ["-a", "b"]
    play.time.now += 90
    assert play("a", "b") == "answer"


def test_a_lone_target_that_asked_to_be_left_alone_is_waited_for_by_the_next_call_where_that_fits() -> None:
    play = Play({"a": [limited(5), "answer"]}, rules={"retries": 0})
    play("a")
    assert play("a") == "answer"
    assert play.story == [5.0, "a"]


def test_who_has_no_time_to_wait_asks_it_all_the_same_and_once() -> None:
    play = Play({"a": [limited(90)]})
    play("a", timeout_s=10)
    assert isinstance(play("a", timeout_s=10), RateLimitError)
    assert play.story == ["a"]


def test_nothing_is_tried_once_the_time_is_over() -> None:
    play = Play({"a": [ServerError("x")], "b": ["answer"]}, takes_s=10.0)
    error = play("a", "b", timeout_s=10)
    assert play.story == ["a"]
    assert isinstance(error, AllTargetsFailedError)
    assert [type(each) for each in error.errors] == [ServerError, APITimeoutError]


def test_a_try_leaves_time_for_the_others() -> None:
    gone = ModelNotFoundError("x")
    play = Play({"a": [gone], "b": [gone], "c": ["answer"]}, takes_s=4.0)
    play("a", "b", "c", timeout_s=40)
    assert [step.timeout_s for step in play.tries] == [20.0, 18.0, 32.0]


def test_a_lone_target_has_all_the_time() -> None:
    play = Play({"a": ["answer"]})
    play("a", timeout_s=40)
    assert [step.timeout_s for step in play.tries] == [40.0]


@pytest.mark.parametrize("why", ["cannot", "goes without", "open", "both can"])
def test_who_could_not_answer_is_left_no_time(why: str) -> None:
    no_seed = {"b": Scripted(frozenset({"seed"}))} if why in ("cannot", "goes without") else {}
    rules = {"retries": 0, "drop_unsupported": why == "goes without"}
    play = Play({"a": ["answer"], "b": [ServerError("x")]}, {"seed": 1}, rules, no_seed)
    for _ in range(3 if why == "open" else 0):
        play("b")
    play("a", "b", timeout_s=40)
    assert [step.timeout_s for step in play.tries] == [20.0 if why in ("both can", "goes without") else 40.0]


def test_a_target_is_alone_while_no_other_is_or_will_be_ready() -> None:
    play = Play({"a": [ServerError("x"), "answer"], "b": [AuthenticationError("no key")]})
    assert play("a", "b") == "answer"
    # The first waits while the second is asked.
    assert [(step.candidate.target.model, step.is_lone) for step in play.tries] == [
        ("a", False), ("b", False), ("a", True),
    ]  # fmt: skip
    assert play("a") == "answer"
    assert [step.is_lone for step in play.tries] == [True]


def test_company_of_one_in_flight_is_not_alone_whatever_became_of_the_other_meanwhile() -> None:
    play = Play({}, rules={"hedge_after_s": 2.0})
    plan: Plan[str] = Plan(
        play.candidates(["a", "b"]), play.config.routing, play.time.deadline(60), Backoff(lambda low, high: high)
    )
    first = next(steps := plan.steps())
    play.health.of("p/a", "p").limits.block(90, play.time.now)
    second = steps.send(Late())
    assert isinstance(first, Try)
    assert isinstance(second, Try)
    assert (second.candidate.target.model, second.is_lone) == ("b", False)
    for step in (first, second):
        step.lease.release(None)


def test_a_lost_connection_that_was_used_before_is_made_anew_once_and_not_counted() -> None:
    lost = APIConnectionError("closed")
    play = Play({"a": [lost, "answer"]}, rules={"retries": 0}, unanswered=[lost])
    assert play("a") == "answer"
    assert play.story == ["a", "a"]
    assert play.tries[-1].candidate.needs_new_connection
    play = Play({"a": [lost]}, rules={"retries": 0}, unanswered=[lost])
    assert play("a") is lost
    assert play.story == ["a", "a"]
    play = Play({"a": [lost]}, rules={"retries": 0})
    assert play("a") is lost
    assert play.story == ["a"]


def test_a_rate_limit_that_will_end_does_not_keep_who_is_left_alone_from_being_asked() -> None:
    play = Play({"a": [limited(5), "answer"], "b": [ServerError("x")] * 3 + ["back"]}, rules={"retries": 0})
    play("a")
    for _ in range(3):
        play("b")
    assert play("a", "b") == "back"
    assert play.story == ["b"]


def test_a_target_that_fails_again_and_again_is_left_alone_then_tried_once() -> None:
    play = Play({"a": [APIConnectionError("x")] * 4 + ["back"], "b": ["answer"]}, rules={"retries": 0})
    for _ in range(3):
        play("a", "b")
        assert play.story == ["a", "b"]
    play("a", "b")
    assert play.story == ["-a", "b"]
    play.time.now += 30
    play("a", "b")
    assert play.story == ["a", "b"]
    play("a", "b")
    assert play.story == ["-a", "b"]
    play.time.now += 30
    assert play("a", "b") == "back"
    assert play.health.snapshot()["p/a"].breaker == "closed"


@pytest.mark.parametrize("error", [BadRequestError("x"), RateLimitError("x"), GenerationFailedError("x")])
def test_a_target_that_says_no_is_there(error: ProviderError) -> None:
    down = APIConnectionError("x")
    play = Play({"a": [down, down, error, down, down, "answer"]}, rules={"retries": 0})
    for _ in range(5):
        play("a")
    assert play.health.snapshot()["p/a"].breaker == "closed"
    assert play("a") == "answer"


def test_a_lone_target_is_asked_also_while_it_is_left_alone() -> None:
    play = Play({"a": [ServerError("x")] * 5 + ["answer"]}, rules={"retries": 0})
    for _ in range(5):
        play("a")
        assert play.story == ["a"]
    assert play.health.snapshot()["p/a"].breaker == "open"
    assert play("a") == "answer"
    assert play.health.snapshot()["p/a"].breaker == "closed"


def test_who_is_left_alone_is_asked_where_all_others_have_failed() -> None:
    play = Play({"a": [ServerError("x")] * 3 + ["back"], "b": [AuthenticationError("no key")]}, rules={"retries": 0})
    for _ in range(3):
        play("a")
    assert play("a", "b") == "back"
    assert play.story == ["-a", "b", "a"]


def trial_of(health: Health) -> Lease:
    """The half-open trial of another call."""
    lease = Lease(health)
    assert health.grants_trial(lease)
    return lease


def test_another_calls_trial_is_waited_for_and_its_failure_shared() -> None:
    play = Play({"a": [ServerError("x")]}, rules={"retries": 0})
    for _ in range(3):
        play("a")
    trial = trial_of(play.health.of("p/a", "p"))

    def end(wait: Wait) -> None:
        trial.release(Result(ServerError("still down"), latency_s=0.1))

    play.on_wait = end
    error = play("a")
    assert isinstance(error, ServerError)
    assert str(error) == "still down"
    assert play.tries == []
    assert play.story[-1] == "-a"
    assert play.skips[-1].reason == "the half-open trial by another call failed: still down"
    # The error is each call's own, as its attempts are.
    assert play.skips[-1].error is error


def test_another_calls_trial_that_went_well_lets_everybody_in() -> None:
    play = Play({"a": [ServerError("x")] * 3 + ["answer"]}, rules={"retries": 0})
    for _ in range(3):
        play("a")
    trial = trial_of(play.health.of("p/a", "p"))
    play.on_wait = lambda wait: trial.has_content()
    assert play("a") == "answer"


@pytest.mark.parametrize("went_well", [True, False])
def test_another_calls_trial_that_ends_while_this_one_looks_lets_it_in(
    went_well: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Play({"a": [ServerError("x")] * 3 + ["answer"]}, rules={"retries": 0})
    for _ in range(3):
        play("a")
    health = play.health.of("p/a", "p")
    trial = trial_of(health)
    look = Health.grants_trial

    def look_and_lose_it(self: Health, lease: Lease) -> bool:
        found = look(self, lease)
        if went_well:
            trial.has_content()
        else:
            trial.release(Result(ServerError("still down"), latency_s=0.1))
        return found

    monkeypatch.setattr(Health, "grants_trial", look_and_lose_it)
    assert play("a") == "answer"
    assert play.story == ["a"]


@pytest.mark.parametrize("went_well", [True, False])
def test_another_calls_trial_is_waited_for_the_moment_that_this_one_is_ready_again(went_well: bool) -> None:
    play = Play({"a": [ServerError("x")] * 3 + ["answer"]}, rules={"retries": 1})
    play("a")
    trials: list[Lease] = []

    def tried_meanwhile(wait: Wait) -> None:
        if not trials:
            trials.append(trial_of(play.health.of("p/a", "p")))
        elif went_well:
            trials[0].has_content()
        else:
            trials[0].release(Result(ServerError("still down"), latency_s=0.1))

    play.on_wait = tried_meanwhile
    # Its own failure and that of the trial are two tries.
    outcome = play("a", timeout_s=60)
    assert (outcome == "answer") == went_well
    assert play.story == ["a", 0.5, 59.5, "a" if went_well else "-a"]


def test_when_no_target_can_honour_a_parameter_the_error_names_it_before_anybody_is_asked() -> None:
    no_seed = Scripted(frozenset({"seed"}))
    play = Play({}, params={"seed": 1}, providers={"a": no_seed, "b": no_seed})
    error = play("a", "b")
    assert isinstance(error, UnsupportedFeatureError)
    assert error.param == "seed"
    assert play.story == ["-a", "-b"]
    assert [skip.reason for skip in play.skips] == ["p/a has no seed", "p/b has no seed"]
    assert [skip.error for skip in play.skips] == [skip.candidate.error for skip in play.skips]
    assert error is play.skips[-1].error


def test_what_a_target_cannot_honour_is_left_out_where_that_is_wanted() -> None:
    play = Play(
        {"a": ["answer"]},
        params={"logprobs": True, "top_logprobs": 3, "seed": 1},
        rules={"drop_unsupported": True},
        providers={"a": Scripted(frozenset({"logprobs", "seed"}))},
    )
    assert play("a") == "answer"
    [step] = play.tries
    assert step.candidate.request.set_parameters == {"messages", "stream"}
    assert [warning.partition(" was left out")[0] for warning in step.candidate.warnings] == ["logprobs", "seed"]


def test_what_a_server_cannot_honour_is_left_out_where_that_is_wanted() -> None:
    refusal = UnsupportedFeatureError("no thinking", param="reasoning_effort", http_status=400)
    play = Play(
        {"a": [refusal, "answer"]}, params={"reasoning_effort": "low"}, rules={"drop_unsupported": True, "retries": 0}
    )
    assert play("a") == "answer"
    assert play.story == ["a", "a"]


def test_what_was_left_out_counts_as_no_try() -> None:
    refusal = UnsupportedFeatureError("no thinking", param="reasoning_effort", http_status=400)
    failed = ServerError("x")
    for retries, outcome in ((1, "answer"), (0, failed)):
        play = Play(
            {"a": [refusal, failed, "answer"]},
            params={"reasoning_effort": "low"},
            rules={"drop_unsupported": True, "retries": retries},
        )
        assert play("a") == outcome


def test_a_wait_that_ends_with_the_deadline_does_not_fit_it() -> None:
    error = limited(10)
    play = Play({"a": [error]})
    assert play("a", timeout_s=10) is error
    assert play.story == ["a"]


def test_who_is_left_alone_is_asked_only_where_no_other_is_ready_in_time() -> None:
    # It is ready again half a second after its failure.
    for timeout_s, story in ((0.5, ["a", "b"]), (0.6, ["a", 0.5, "a"])):
        play = Play({"a": [ServerError("x"), "answer"], "b": [ServerError("y")] * 4 + ["answer"]}, rules={"retries": 1})
        for _ in range(2):
            play("b")
        assert play.health.snapshot()["p/b"].breaker == "open"
        assert play("a", "b", timeout_s=timeout_s) == "answer"
        assert play.story == story


def test_the_error_of_the_one_that_was_asked_is_raised_itself_beside_those_that_were_skipped() -> None:
    failed = AuthenticationError("broke")
    no_seed = Scripted(frozenset({"seed"}))
    play = Play({"b": [failed]}, params={"seed": 1}, providers={"a": no_seed, "c": no_seed})
    assert play("a", "b", "c") is failed
    assert play.story == ["-a", "b", "-c"]


def test_local_only_is_raised_where_nobody_is_local() -> None:
    remote = Scripted(is_remote=True)
    play = Play({}, providers={"a": remote, "b": remote})
    assert isinstance(play("a", "b"), LocalOnlyError)


def test_a_late_first_gets_company() -> None:
    play = Play({"a": ["late"], "b": ["answer"], "c": ["other"]}, rules={"hedge_after_s": 2.0})
    assert play("a", "b", "c") == "answer"
    assert [step.late_after_s for step in play.tries] == [2.0, None]


def test_where_its_company_fails_too_the_late_one_is_waited_for() -> None:
    play = Play({"a": ["late"], "b": [ServerError("x")], "c": ["other"]}, rules={"hedge_after_s": 2.0})
    assert play("a", "b", "c") == "the late one"
    assert play.story == ["a", "b", "rest"]


def test_a_lone_target_has_nobody_to_be_hedged_with() -> None:
    play = Play({"a": ["answer"]}, rules={"hedge_after_s": 2.0})
    play("a")
    assert [step.late_after_s for step in play.tries] == [None]


def test_a_plan_that_is_closed_lets_go_of_what_it_holds() -> None:
    play = Play({"a": ["answer"]})
    plan: Plan[str] = Plan(
        play.candidates("a"), play.config.routing, play.time.deadline(10), Backoff(lambda low, high: high)
    )
    step = next(steps := plan.steps())
    steps.close()
    step.lease.release(None)  # type: ignore[union-attr]
    assert play.health.snapshot()["p/a"].in_flight == 0
