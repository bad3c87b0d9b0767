"""The arithmetic below the answer: the charge for capital, the load above a capacity, and the return on a purchase."""

import pytest

from llama_client.crossover.economics import LoadCurve, Owned, internal_rate_per_year, payback_months


@pytest.mark.parametrize(("monthly_interest", "usd"), [(0.0, 1000), (0.01, 1196)])
def test_the_charge_for_capital_pays_off_the_price_in_even_months(monthly_interest: float, usd: int) -> None:
    owned = Owned(
        usd_per_gpu=36_000,
        months=36,
        residual_share=0,
        yearly_interest=(1 + monthly_interest) ** 12 - 1,
        idle_w=0,
        load_w=0,
        node_factor=1,
        pue=1,
        usd_per_kwh=0,
        colocation_usd_per_month=0,
        support_share_per_year=0,
    )
    assert round(owned.usd_per_gpu * owned.capital_share_per_month) == usd


@pytest.mark.parametrize(
    ("curve", "capacity", "share"),
    [
        (LoadCurve(peak_to_mean=2), 1.0, 0.25),
        (LoadCurve(hourly_tokens=(1, 3)), 1.0, 0.25),
        (LoadCurve(peak_to_mean=1), 0.4, 0.6),
    ],
)
def test_the_share_of_the_load_above_a_capacity(curve: LoadCurve, capacity: float, share: float) -> None:
    assert curve.share_above(capacity) == pytest.approx(share)


def test_a_price_is_paid_back_within_a_month_or_never() -> None:
    assert payback_months(1000, [400] * 12) == 2.5
    assert payback_months(1000, [-1] * 12) is None
    assert payback_months(1000, [400, 400]) is None


def test_the_internal_rate_is_the_interest_at_which_nothing_is_left() -> None:
    assert internal_rate_per_year([-1000, *[0] * 11, 1100]) == pytest.approx(0.1)
    assert internal_rate_per_year([-1000, 0]) is None
