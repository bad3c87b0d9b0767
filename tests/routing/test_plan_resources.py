"""What an attempt needs before it is made: money of a budget, a slot of a provider; and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from llama_client import BudgetExceededError, OverloadedError, ServerError
from llama_client.costs.reservations import Order, Refused, Reservation, Reserved, Settlement
from llama_client.routing.plan import Reserve, Wait
from llama_client.waiting import Event
from tests.routing.planning import Play


class Purse:
    """A budget that grants or refuses as it is said to, and keeps its settlements."""

    def __init__(self, *refused: str, only_free: bool = False, warnings: tuple[str, ...] = ()) -> None:
        self._refused, self._only_free, self._warnings = refused, only_free, warnings
        self.orders: list[tuple[str, float]] = []
        self.granted: list[Reservation] = []
        self.settled: list[Settlement] = []
        self.on_order: Callable[[], None] = lambda: None

    def __call__(self, step: Reserve) -> Reserved | Refused:
        name = step.candidate.target.model
        self.orders.append((name, step.timeout_s))
        self.on_order()
        if name in self._refused:
            return Refused(BudgetExceededError(f"{name} is too dear", budget="all"), self._only_free)
        reservation = Reservation(Order(f"{len(self.orders)}", 1, []), self.settled.append)
        self.granted.append(reservation)
        step.keep(reservation)
        return Reserved(self._warnings)


def nothing_is_held(play: Play) -> bool:
    return all(health.in_flight == 0 and not health.queued for health in play.health.snapshot().values())


# Money


def test_money_is_set_aside_before_each_attempt_and_handed_to_it() -> None:
    purse = Purse()
    play = Play({"a": [ServerError("x"), "answer"], "b": [ServerError("y")]}, on_reserve=purse)
    assert play("a", "b", timeout_s=40) == "answer"
    assert play.story == ["a", "b", 0.5, "a"]
    assert [step.reservation for step in play.tries] == purse.granted
    # The worst case of a machine's time is that of the attempt.
    assert purse.orders == [(step.candidate.target.model, step.timeout_s) for step in play.tries]
    # What became of an attempt is its own to settle.
    assert purse.settled == []


def test_what_is_free_needs_no_money() -> None:
    purse = Purse()
    play = Play({"a": ["answer"]}, on_reserve=purse, free=frozenset("a"))
    assert play("a") == "answer"
    assert purse.orders == []
    assert [step.reservation for step in play.tries] == [None]


def test_a_target_that_a_budget_refuses_is_passed_over_with_the_reason() -> None:
    purse = Purse("a")
    play = Play({"b": [ServerError("x"), "answer"]}, on_reserve=purse)
    assert play("a", "b") == "answer"
    # It is not asked for again.
    assert play.story == ["-a", "b", 0.5, "b"]
    [skip] = play.skips
    assert (skip.reason, type(skip.error)) == ("a is too dear", BudgetExceededError)
    assert nothing_is_held(play)


def test_what_was_kept_for_a_refused_target_is_given_back_before_a_free_one_is_tried() -> None:
    purse = Purse("a")
    kept = Reservation(Order("1", 1, []), purse.settled.append)

    def refuse(step: Reserve) -> Reserved | Refused:
        step.keep(kept)
        return purse(step)

    play = Play({"b": ["answer"]}, on_reserve=refuse, free=frozenset("b"))
    assert play("a", "b") == "answer"
    assert [each.pico for each in purse.settled] == [0]
    assert [step.reservation for step in play.tries] == [None]


def test_the_refusal_of_a_lone_target_is_raised_itself() -> None:
    play = Play({}, on_reserve=Purse("a"))
    error = play("a")
    assert isinstance(error, BudgetExceededError)
    assert (str(error), play.story) == ("a is too dear", ["-a"])
    assert nothing_is_held(play)


def test_the_error_of_an_earlier_attempt_says_more_than_the_refusal_of_the_next() -> None:
    failed = ServerError("broke")
    purse = Purse()
    play = Play({"a": [failed]}, on_reserve=lambda step: (purse if not purse.orders else refusing)(step))
    refusing = Purse("a")
    assert play("a") is failed
    assert play.story == ["a", 0.5, "-a"]


def test_where_only_what_is_free_may_go_on_each_other_target_is_passed_over_once() -> None:
    play = Play({"c": [ServerError("x"), "answer"]}, on_reserve=Purse("a", only_free=True), free=frozenset("c"))
    assert play("a", "b", "c") == "answer"
    assert play.story == ["-a", "-b", "c", 0.5, "c"]
    assert [skip.reason for skip in play.skips] == ["a is too dear", "not free: a is too dear"]
    assert all(isinstance(skip.error, BudgetExceededError) for skip in play.skips)


def test_a_refusal_of_one_target_lets_other_priced_ones_try() -> None:
    purse = Purse("a")
    play = Play({"b": ["answer"]}, on_reserve=purse)
    assert play("a", "b") == "answer"
    assert [name for name, _ in purse.orders] == ["a", "b"]


def test_a_target_that_failed_keeps_its_error_where_a_budget_then_excludes_it() -> None:
    failed = ServerError("broke")
    play = Play({"b": [failed]}, on_reserve=Purse("a", only_free=True))
    # `a` is rate limited at first, so `b` goes before it.
    play.health.of("p/a", "p").limits.block(0.4, play.time.now)
    error = play("a", "b")
    assert error is failed
    assert [step.candidate.target.model for step in play.tries] == ["b"]
    assert play.story == ["-a", "b", 0.4, "-a", "-b"]


def test_a_budgets_warning_is_said_once_however_often_it_is_met() -> None:
    purse = Purse(warnings=("budget all: $1.00 exceeded", "budget all: $1.00 exceeded at noon"))
    play = Play({"a": [ServerError("x"), "answer"]}, on_reserve=purse)
    assert play("a") == "answer"
    assert play.tries[-1].candidate.warnings == list(purse._warnings)


def test_money_set_aside_for_an_attempt_that_is_not_made_is_given_back() -> None:
    """The caller goes away between the grant and the attempt."""
    from llama_client.routing.plan import Backoff, Plan

    purse = Purse()
    play = Play({"a": ["answer"]}, on_reserve=purse)
    plan: Plan[str] = Plan(
        play.candidates("a"), play.config.routing, play.time.deadline(10), Backoff(lambda low, high: high)
    )
    steps = plan.steps()
    step = next(steps)
    assert isinstance(step, Reserve)
    steps.close()
    plan.end()
    plan.end()
    assert nothing_is_held(play)


# Slots


def full(play: Play, name: str = "a") -> Callable[[], None]:
    """Takes the only slot; returns what frees it."""
    concurrency = play.health.of(f"p/{name}", "p").concurrency
    assert concurrency is not None
    slot = Event()
    concurrency.enter(slot)
    assert slot.is_set
    return lambda: concurrency.leave(slot)


def test_an_attempt_waits_for_a_slot_and_its_wait_is_counted() -> None:
    play = Play({"a": ["answer"]}, max_concurrency=1)
    free = full(play)

    def after_3_s(wait: Wait) -> None:
        assert wait.event is not None
        assert wait.seconds == 60.0
        play.time.now += 3
        free()

    play.on_wait = after_3_s
    assert play("a", timeout_s=60) == "answer"
    [step] = play.tries
    assert (step.waited_s, step.timeout_s) == (3.0, 57.0)
    assert nothing_is_held(play)


def test_all_waits_before_an_attempt_are_counted_together() -> None:
    play = Play({"a": [ServerError("x"), "answer"]}, max_concurrency=1)
    held: list[Callable[[], None]] = []

    def taken_meanwhile(wait: Wait) -> None:
        if wait.event is None:
            held.append(full(play))
        else:
            play.time.now += 3
            held.pop()()

    play.on_wait = taken_meanwhile
    assert play("a") == "answer"
    assert [step.waited_s for step in play.tries] == [0.0, 3.5]


def test_who_gets_no_slot_in_time_fails_with_the_provider_named_and_leaves_the_queue() -> None:
    play = Play({}, max_concurrency=1)
    full(play)
    error = play("a", timeout_s=60)
    assert isinstance(error, OverloadedError)
    assert str(error) == "p has reached max_concurrency; no request ended in time"
    assert (error.provider, error.target) == ("p", "p/a")
    assert play.story == [60.0, "-a"]
    assert play.skips[0].error is error
    assert all(not health.queued for health in play.health.snapshot().values())


def test_a_slot_is_waited_for_half_of_the_time_where_another_target_could_answer() -> None:
    play = Play({"b": ["answer"]}, max_concurrency=1)
    free = full(play)
    play.on_wait = lambda wait: free() if len(play.story) == 3 else None
    # Both share the provider, so the other waits too.
    assert play("a", "b", timeout_s=60) == "answer"
    assert play.story == [30.0, "-a", 30.0, "b"]


def test_a_late_attempt_gets_no_company_that_would_have_to_wait_for_a_slot() -> None:
    play = Play({"a": ["late"], "b": ["answer"]}, rules={"hedge_after_s": 2.0}, max_concurrency=2)
    full(play)
    original = play._perform

    def keeping_its_slot(step: object) -> object:
        outcome = original(step)  # type: ignore[arg-type]
        if play.story[-1:] == ["a"]:
            full(play)
        return outcome

    play._perform = keeping_its_slot  # type: ignore[method-assign, assignment]
    assert play("a", "b") == "the late one"
    assert play.story == ["a", "rest"]
    assert all(not health.queued for health in play.health.snapshot().values())


def test_who_queues_too_long_a_line_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    from llama_client.routing import concurrency

    monkeypatch.setattr(concurrency, "_MAX_QUEUED", 0)
    play = Play({}, max_concurrency=1)
    full(play)
    error = play("a")
    assert isinstance(error, OverloadedError)
    assert (error.provider, error.target, play.story) == ("p", "p/a", ["-a"])


def test_a_reservation_is_settled_once_and_at_nothing_where_no_attempt_was_made() -> None:
    settled: list[Settlement] = []
    reservation = Reservation(Order("1", 5, []), settled.append)
    reservation.release()
    reservation.settle(Decimal(1))
    assert [(each.id, each.pico) for each in settled] == [("1", 0)]
