"""Exact money, days in the user's time zone, and how tokens and time become a cost."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

from llama_client.costs.bills import MachineTime, MachineUse, Tokens, counted, total
from llama_client.costs.charts import money_column
from llama_client.costs.money import PICO_PER_USD, Calendar, from_pico, per_million, shown, to_pico
from llama_client.costs.prices import Origin, TokenPrice
from llama_client.types.completion import Cost, Usage


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


def test_a_total_with_an_unknown_part_is_unknown() -> None:
    assert total([Cost(), Cost(usd=Decimal(1), status="exact")]).status == "unknown"


def test_attempts_in_flight_share_the_time_of_a_machine() -> None:
    machine = MachineTime()
    first, second = MachineUse(machine), MachineUse(machine)
    first.start(0.0)
    second.start(10.0)
    assert (first.end(20.0), second.end(20.0)) == (15.0, 5.0)
    assert first.end(30.0) == 15.0
