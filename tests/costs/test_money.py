"""Exact money, days in the user's time zone, and how tokens and time become a cost."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from llama_client.costs.bills import (
    MachineTime,
    MachineUse,
    Tokens,
    cost_as_told,
    cost_of_time,
    cost_of_tokens,
    counted,
    total,
)
from llama_client.costs.charts import money_column
from llama_client.costs.money import PICO_PER_USD, Calendar, from_pico, per_million, shown, to_pico
from llama_client.costs.prices import FREE, HourPrice, Origin, TokenPrice
from llama_client.providers.base import Charge
from llama_client.types.completion import CompletionTokensDetails, Cost, PromptTokensDetails, Usage


def test_tokens_cost_whole_pico_dollars() -> None:
    assert per_million(500, Decimal("0.075")) == Decimal("0.0000375")
    assert to_pico(Decimal("0.0000000375")) == 37500
    price = TokenPrice(Origin("mine"), Decimal("0.15"), Decimal("0.60"), Decimal("0.075"))
    assert price.parts(1000, 100, 500).usd == Decimal("0.0001725")


def test_pico_dollars_are_written_without_trailing_zeros() -> None:
    assert str(from_pico(37500)) == "3.75E-8"
    assert f"{from_pico(5 * PICO_PER_USD):f}" == "5"


def test_money_is_shown_without_an_exponent_and_aligned_at_the_point() -> None:
    assert (shown(Decimal("3.75E-8")), shown(Decimal("12"))) == ("$0.0000000375", "$12.00")
    assert money_column([Decimal("12"), Decimal("0.0035")]) == ["$12.00  ", " $0.0035"]


def test_a_day_on_which_daylight_saving_time_begins_has_23_hours() -> None:
    calendar = Calendar("Europe/Berlin")
    noon = datetime(2026, 3, 29, 12, tzinfo=UTC).timestamp()
    assert calendar.day(noon) == date(2026, 3, 29)
    span = calendar.span("day", noon)
    assert span.end is not None
    assert (span.end - span.start) / 3600 == 23.0


def test_tokens_that_were_not_reported_are_estimated() -> None:
    assert not counted(Usage(prompt_tokens=10, completion_tokens=5), lambda: (0, 0)).are_estimated
    assert counted(None, lambda: (12.4, 3.6)) == Tokens(12, 4, are_estimated=True)


def reported(prompt: int | None, answer: int | None, whole: int | None, **details: Any) -> Usage:
    reasoning = details.pop("reasoning", None)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=answer,
        total_tokens=whole,
        prompt_tokens_details=PromptTokensDetails(**details) if details else None,
        completion_tokens_details=None if reasoning is None else CompletionTokensDetails(reasoning_tokens=reasoning),
    )


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        pytest.param(reported(10, 5, 15), Tokens(10, 5), id="all is said"),
        pytest.param(reported(100, 10, 150), Tokens(100, 50, are_estimated=True), id="the total has more"),
        pytest.param(reported(100, 10, 105), Tokens(100, 10), id="the total has less"),
        pytest.param(reported(100, None, 150), Tokens(100, 50), id="answer from the total"),
        pytest.param(reported(100, None, 101), Tokens(100, 1), id="answer of one token from the total"),
        pytest.param(reported(100, None, 100), Tokens(100, 20, are_estimated=True), id="nothing left for the answer"),
        pytest.param(reported(None, 30, 100), Tokens(70, 30), id="prompt from the total"),
        pytest.param(reported(None, 100, 100), Tokens(40, 100, are_estimated=True), id="nothing left for the prompt"),
        pytest.param(reported(None, None, 30), Tokens(30, 20, are_estimated=True), id="only a total, below the guess"),
        pytest.param(reported(None, None, 100), Tokens(40, 60, are_estimated=True), id="only a total, above the guess"),
        pytest.param(reported(None, 5, None), Tokens(40, 5, are_estimated=True), id="only an answer"),
        pytest.param(reported(10, None, None), Tokens(10, 20, are_estimated=True), id="only a prompt"),
        pytest.param(reported(10, 5, 15, reasoning=3), Tokens(10, 5, None, 3), id="reasoning"),
        pytest.param(
            reported(100, 5, 105, cached_tokens=60, cache_write_tokens=40),
            Tokens(100, 5, 60, cache_write_tokens=40),
            id="all of the prompt read or written",
        ),
        pytest.param(reported(100, 5, 105, cached_tokens=100), Tokens(100, 5, 100), id="all of the prompt read"),
        pytest.param(
            reported(100, 5, 105, cache_write_tokens=100),
            Tokens(100, 5, cache_write_tokens=100),
            id="all of the prompt written",
        ),
        pytest.param(
            reported(100, 5, 105, cached_tokens=80, cache_write_tokens=50),
            Tokens(100, 5, 80, are_estimated=True, cache_write_tokens=20),
            id="more read and written than there is",
        ),
        pytest.param(
            reported(100, 5, 105, cached_tokens=150),
            Tokens(100, 5, 100, are_estimated=True),
            id="more read than there is",
        ),
        pytest.param(
            reported(100, 5, 105, cache_write_tokens=150),
            Tokens(100, 5, are_estimated=True, cache_write_tokens=100),
            id="more written than there is",
        ),
    ],
)
def test_what_was_reported_is_kept_where_it_can_be(usage: Usage, tokens: Tokens) -> None:
    assert counted(usage, lambda: (40.2, 19.7)) == tokens


def test_tokens_that_were_counted_are_told_as_usage() -> None:
    assert Tokens(10, 5).as_usage() == reported(10, 5, 15)
    assert Tokens(10, 5, 4, 3).as_usage() == reported(10, 5, 15, cached_tokens=4, cache_write_tokens=None, reasoning=3)
    assert Tokens(10, 5, cache_write_tokens=6).as_usage() == reported(
        10, 5, 15, cached_tokens=None, cache_write_tokens=6
    )


@pytest.mark.parametrize(("is_estimated", "status"), [(False, "exact"), (True, "estimated")])
def test_what_a_provider_charges_is_the_cost(is_estimated: bool, status: Any) -> None:
    cost = cost_as_told(Charge(Decimal("0.25"), "usage.cost", is_estimated), "x")
    assert cost == Cost(usd=Decimal("0.25"), status=status, source="usage.cost of x")


@pytest.mark.parametrize(
    ("doubt", "are_estimated", "status"),
    [(None, False, "exact"), ("old", False, "estimated"), (None, True, "estimated")],
)
def test_the_cost_of_tokens_names_its_price_and_is_as_certain_as_it(
    doubt: str | None, are_estimated: bool, status: str
) -> None:
    day = date(2026, 1, 2)
    price = TokenPrice(Origin("mine", day, doubt), Decimal(4), Decimal(10), Decimal(1), Decimal(6))
    cost = cost_of_tokens(price, Tokens(1000, 100, 300, None, are_estimated, 200))
    # 700 not read from the cache at $4 a million, of which 200 written at $2 more; 300 read at $1; 100 made at $10.
    parts = (cost.usd, cost.input_usd, cost.cached_usd, cost.output_usd)
    assert parts == (Decimal("0.0045"), Decimal("0.0032"), Decimal("0.0003"), Decimal("0.001"))
    assert (cost.status, cost.source, cost.effective_from) == (status, "mine", day)
    assert cost_of_tokens(price, Tokens(1000, 100)).usd == Decimal("0.005")


def test_tokens_without_a_price_have_no_cost_and_free_ones_cost_nothing() -> None:
    assert cost_of_tokens(None, Tokens(10, 5)) == Cost()
    free = cost_of_tokens(FREE, Tokens(10, 5, are_estimated=True))
    assert (free.usd, free.status, free.source) == (Decimal(0), "free", "local")


@pytest.mark.parametrize(
    ("reading_share", "reading"), [(0.25, 2.5), (0.0, 0.0), (1.0, 10.0), (-1.0, 0.0), (2.0, 10.0)], ids=str
)
def test_the_cost_of_time_is_divided_into_reading_and_writing(reading_share: float, reading: float) -> None:
    cost = cost_of_time(HourPrice(Origin("the machine"), Decimal(3600)), 10.0, reading_share)
    assert cost == Cost(
        usd=Decimal(10),
        status="estimated",
        input_usd=Decimal(reading),
        cached_usd=Decimal(0),
        output_usd=Decimal(10) - Decimal(reading),
        source="the machine",
    )


def test_a_total_is_the_sum_of_its_parts() -> None:
    one = Cost(usd=Decimal(3), status="exact", input_usd=Decimal(1), cached_usd=Decimal(0), output_usd=Decimal(2))
    told = Cost(usd=Decimal(4), status="estimated", source="the last")
    both = Cost(usd=Decimal(7), status="estimated", source="the last")
    assert total([one, told]) == both
    assert total([one, one]) == Cost(
        usd=Decimal(6), status="exact", input_usd=Decimal(2), cached_usd=Decimal(0), output_usd=Decimal(4)
    )


def test_a_total_with_an_unknown_part_is_unknown() -> None:
    assert total([Cost(), Cost(usd=Decimal(1), status="exact")]).status == "unknown"


def test_attempts_in_flight_share_the_time_of_a_machine() -> None:
    machine = MachineTime()
    first, second = MachineUse(machine), MachineUse(machine)
    first.start(0.0)
    second.start(10.0)
    assert (first.end(20.0), second.end(20.0)) == (15.0, 5.0)
    assert first.end(30.0) == 15.0


def test_a_use_without_a_start_or_with_a_clock_that_went_back_takes_no_time() -> None:
    machine = MachineTime()
    never, back = MachineUse(machine), MachineUse(machine)
    assert never.end(5.0) == 0.0
    back.start(10.0)
    assert back.end(8.0) == 0.0
    alone = MachineUse(machine)
    alone.start(20.0)
    assert alone.end(23.0) == 3.0
