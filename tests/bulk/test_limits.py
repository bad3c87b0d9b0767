"""How many requests of a job are in flight, and how often they start, at servers in a time of their own."""

from __future__ import annotations

import math

import pytest

from llama_client.bulk.limits import AdaptiveLimits
from llama_client.errors import AllTargetsFailedError, LlamaClientError, OverloadedError, RateLimitError
from llama_client.types.completion import ChatCompletion
from tests.bulk.simulated import TARGET, Bucket, Capacity, Places, Server, Window, outcome, simulate, simulate_all

TELLS = {"rounded": lambda s: max(1.0, float(math.ceil(s))), "exact": lambda s: s, "absent": lambda s: None}


def limited(*, remaining: int, limit: int | None, reset_s: float, kind: str = "requests") -> ChatCompletion:
    answer = outcome(TARGET, None, 0.1)
    assert isinstance(answer, ChatCompletion)
    answer.attempts[-1].rate_limit = {kind: {"limit": limit, "remaining": remaining, "reset_s": reset_s}}
    return answer


def test_a_server_without_limits_gets_twice_as_many_each_time() -> None:
    assert simulate(AdaptiveLimits(), Capacity(10**6, 0.1), rows=256).ended_at <= 0.6


@pytest.mark.parametrize("spread", [0.0, 1.0], ids=["alike", "varied"])
@pytest.mark.parametrize("slots", [2, 30, 100])
def test_as_many_are_in_flight_as_make_a_server_answer_most(slots: int, spread: float) -> None:
    done = simulate(AdaptiveLimits(), Capacity(slots, 0.5, spread), seconds=60.0)
    assert done.rate() >= 0.9 * slots / 0.5


@pytest.mark.parametrize("slots", [1, 4])
def test_a_server_with_few_slots_gets_no_long_queue(slots: int) -> None:
    assert simulate(AdaptiveLimits(), Capacity(slots, 0.5, 0.5), seconds=120.0).most_in_flight <= 64


def test_a_number_in_flight_that_helps_no_more_is_given_up() -> None:
    limits = AdaptiveLimits()
    simulate(limits, Capacity(4, 0.02), seconds=60.0)
    assert limits.limit(TARGET) <= 12


def test_faults_do_not_lower_the_number_in_flight() -> None:
    done = simulate(AdaptiveLimits(), Capacity(64, 0.5, 0.5, fails=0.3), seconds=60.0)
    assert done.rate() >= 0.9 * 128.0


def test_overload_by_chance_does_not_lower_the_number_in_flight() -> None:
    done = simulate(AdaptiveLimits(), Capacity(64, 0.5, 0.5, fails=0.3, error=OverloadedError), seconds=60.0)
    assert done.rate() >= 0.9 * 128.0


def test_refusals_by_chance_after_which_may_be_asked_at_once_hold_no_others_back() -> None:
    def refusal(message: str) -> LlamaClientError:
        return RateLimitError(message, target=TARGET, retry_after_s=0.0)

    done = simulate(AdaptiveLimits(), Capacity(64, 0.5, 0.5, fails=0.06, error=refusal), seconds=60.0)
    assert done.rate() >= 0.85 * 128.0


@pytest.mark.parametrize("then", [16, 64])
def test_a_server_that_becomes_faster_or_slower_is_followed(then: int) -> None:
    changed = Capacity(32, 0.5, 0.3, changes_at=30.0, then=then)
    assert simulate(AdaptiveLimits(), changed, seconds=70.0).rate(50.0, 70.0) >= 0.9 * then / 0.5


def test_the_number_never_exceeds_the_most() -> None:
    assert simulate(AdaptiveLimits(3), Capacity(10**6, 0.1), rows=64).most_in_flight == 3


@pytest.mark.parametrize("tells", TELLS)
@pytest.mark.parametrize(("rate", "burst"), [(0.5, 1), (5, 1), (5, 5), (50, 1), (50, 50)], ids=str)
def test_a_server_that_permits_a_rate_is_asked_at_that_rate(rate: float, burst: float, tells: str) -> None:
    server = Bucket(rate, burst, tells=TELLS[tells])
    done = simulate(AdaptiveLimits(), server, seconds=300.0 if rate < 50 else 120.0)
    assert done.rate() >= (0.9 if rate < 50 else 0.85) * rate


def test_a_rate_whose_refusals_name_no_time_is_found() -> None:
    server = Bucket(20.0, 5.0, tells=lambda s: 0.0)
    done = simulate(AdaptiveLimits(), server, seconds=120.0)
    assert done.rate() >= 0.85 * 20.0
    assert server.refused <= 0.3 * len(done.answers)


@pytest.mark.parametrize("burst", [20, 200])
def test_few_are_refused_once_the_rate_is_known(burst: float) -> None:
    server, limits = Bucket(20.0, burst, tells=TELLS["exact"]), AdaptiveLimits()
    simulate(limits, server, seconds=60.0)
    server.refused = 0
    done = simulate(limits, server, since=60.0, seconds=180.0)
    assert server.refused <= 0.03 * len(done.answers)


@pytest.mark.parametrize(("admits", "window_s"), [(30, 60.0), (100, 10.0), (10, 1.0)], ids=str)
def test_a_window_is_used_up_and_its_end_waited_for(admits: int, window_s: float) -> None:
    server = Window(admits, window_s)
    done = simulate(AdaptiveLimits(), server, seconds=180.0)
    assert done.rate() >= 0.9 * admits / window_s


@pytest.mark.parametrize("retry_after_s", [None, 1.0], ids=["silent", "retry-after"])
@pytest.mark.parametrize("status", [OverloadedError, RateLimitError])
def test_a_server_that_refuses_by_the_number_in_flight_is_kept_full(
    status: type[OverloadedError] | type[RateLimitError], retry_after_s: float | None
) -> None:
    server, limits = Places(8, 0.5, status, retry_after_s), AdaptiveLimits()
    done = simulate(limits, server, seconds=180.0)
    assert done.rate() >= 0.9 * 16.0
    assert server.refused <= 0.03 * len(done.answers)
    assert limits.limit(TARGET) in (8, 9)


def test_targets_are_independent() -> None:
    servers: dict[str, Server] = {"a/m": Bucket(5.0, 1.0), "b/m": Capacity(32, 0.5)}
    done = simulate_all(AdaptiveLimits(), servers, seconds=60.0)
    assert done["a/m"].rate() >= 0.8 * 5.0
    assert done["b/m"].rate() >= 0.9 * 64.0


def test_rows_that_run_out_say_nothing_of_the_server() -> None:
    limits = AdaptiveLimits()
    simulate(limits, Capacity(10**6, 0.1), rows=256)
    before = limits.limit(TARGET)
    for turn in range(1, 50):
        simulate(limits, Capacity(10**6, 0.1), rows=3, since=float(turn))
    assert limits.limit(TARGET) == before


def test_a_refusal_holds_all_rows_back_for_as_long_as_it_says() -> None:
    limits = AdaptiveLimits()
    first, second = limits.started(TARGET, 0.0), limits.started(TARGET, 0.0)
    limits.ended(first, 1.0, outcome(TARGET, RateLimitError(target=TARGET, retry_after_s=7.0), 0.1))
    assert limits.wait_s(TARGET, 1.0) == 7.0
    assert limits.wait_s("b/m", 1.0) == 0.0
    limits.ended(second, 2.0, outcome(TARGET, None, 0.1))
    assert limits.wait_s(TARGET, 7.5) == 0.5


def test_a_call_that_was_cut_off_leaves_its_place() -> None:
    limits = AdaptiveLimits(1)
    flight = limits.started(TARGET, 0.0)
    assert limits.wait_s(TARGET, 0.0) is None
    limits.abandoned(flight)
    assert limits.wait_s(TARGET, 0.0) == 0.0


@pytest.mark.parametrize("kind", ["requests", "tokens"])
@pytest.mark.parametrize(
    ("remaining", "limit", "wait_s"), [(0, 10, 6.0), (0, None, 60.0), (1, 10, 0.0)], ids=["empty", "no-limit", "left"]
)
def test_an_answer_that_says_that_nothing_remains_holds_rows_back(
    remaining: int, limit: int | None, wait_s: float, kind: str
) -> None:
    limits = AdaptiveLimits()
    flight = limits.started(TARGET, 0.0)
    limits.ended(flight, 1.0, limited(remaining=remaining, limit=limit, reset_s=60.0, kind=kind))
    assert limits.wait_s(TARGET, 1.0) == wait_s


@pytest.mark.parametrize(
    ("errors", "wait_s"),
    [
        ([RateLimitError(target="a/m"), RateLimitError(target="b/m")], 3.0),
        ([RateLimitError(target="a/m"), LlamaClientError("broken")], 0.0),
    ],
    ids=["all-refuse", "one-fails"],
)
def test_rows_of_a_route_wait_where_all_its_targets_refuse(errors: list[LlamaClientError], wait_s: float) -> None:
    limits, route = AdaptiveLimits(), "a/m, b/m"
    failure = AllTargetsFailedError(errors=errors)
    failure.retry_after_s = 3.0
    flight = limits.started(route, 0.0)
    limits.ended(flight, 1.0, outcome("b/m", failure, 0.1))
    assert limits.wait_s(route, 1.0) == wait_s


def test_a_route_whose_next_target_answers_does_not_wait() -> None:
    limits, route = AdaptiveLimits(), "a/m, b/m"
    answer = outcome("b/m", None, 0.1)
    answer.attempts = [*outcome("a/m", RateLimitError(target="a/m"), 0.1).attempts, *answer.attempts]
    limits.ended(limits.started(route, 0.0), 1.0, answer)
    assert limits.wait_s(route, 1.0) == 0.0


def test_targets_that_are_asked_no_more_are_forgotten() -> None:
    limits = AdaptiveLimits(2)
    held = limits.started("held/m", 0.0)
    for number in range(5_000):
        limits.ended(limits.started(f"{number}/m", 0.0), 1.0, outcome(f"{number}/m", None, 0.1))
    assert len(limits._targets) <= 1_001
    limits.started("held/m", 1.0)
    assert limits.wait_s("held/m", 1.0) is None
    limits.abandoned(held)
