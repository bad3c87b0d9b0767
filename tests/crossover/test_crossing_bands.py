"""The band of the crossing against the share of draws at many volumes: nothing outside it may contradict it."""

from typing import Any

import pytest

from llama_client.crossover import ApiPrice, Crossover, Scenario, SelfHost, Traffic, evaluate
from llama_client.crossover.report import report

# What is given; what is left out varies from draw to draw.
GIVEN: dict[str, dict[str, Any]] = {
    "rent": {"rent": 2.69},
    "all but the peak and the rent": {"tps": 2000.0, "ops": 600.0, "utilisation": 0.8},
    "all but the rent": {"tps": 2000.0, "ops": 600.0, "utilisation": 0.8, "peak": 2.0},
    "all but the staff": {"tps": 2000.0, "utilisation": 0.8, "peak": 2.0, "rent": 2.69},
    "all but the speed": {"ops": 600.0, "utilisation": 0.8, "peak": 2.0, "rent": 2.69},
    "all but the utilisation and the rent": {"tps": 2000.0, "ops": 600.0, "peak": 2.0},
}


def _found(usd: float, given: dict[str, Any], **of_api: Any) -> Crossover:
    tps = given.get("tps")
    return evaluate(
        Scenario(
            model="llama-3.3-70b",
            traffic=Traffic(peak_to_mean=given.get("peak")),
            self_host=SelfHost(
                gpu="h100_sxm",
                n_gpus=2,
                tokens_per_second=tps,
                slo_derate=0.8 if tps else None,
                ops_usd_per_month=given.get("ops"),
                gpu_usd_per_hour=given.get("rent"),
                max_utilisation=given.get("utilisation"),
            ),
            apis=[ApiPrice(input_usd_per_mtok=usd, output_usd_per_mtok=usd, **of_api)],
        ),
        draws=2000,
    )


@pytest.mark.parametrize("usd", [0.6, 0.88, 1.5])
@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_no_volume_outside_the_band_has_another_answer(usd: float, given: dict[str, Any]) -> None:
    """Each further replica makes self-hosting dearer by a step, so the share of draws rises like a saw."""
    found = _found(usd, given)
    band, size = found.crossing_band, found.replica_tokens_per_day
    assert band is not None
    volumes = [size * 0.01 * 1.009**place for place in range(1300)]
    volumes += [size * count * side for count in range(1, 60) for side in (1, 1 + 1e-6)]
    likely = {volume: found.probability_at(volume) or 0.0 for volume in volumes}
    low = band.low if band.low is not None else volumes[-1]
    # A draw or two of the 2,000 may be between the volumes that were looked at.
    assert max((share for volume, share in likely.items() if volume < low), default=0.0) <= 0.202
    assert max(likely.values()) <= band.highest_probability + 0.002
    if band.likely is not None:
        assert min(share for volume, share in likely.items() if volume > band.likely) >= 0.498
    if band.high is not None:
        assert min(share for volume, share in likely.items() if volume > band.high) >= 0.798


def test_a_band_begins_where_an_api_of_a_very_high_price_stops_to_be_cheaper() -> None:
    found = _found(1e6, {})
    band = found.crossing_band
    assert band is not None
    assert band.low is not None
    assert found.probability_at(band.low * 0.99) == pytest.approx(0.2, abs=0.03)
    assert found.probability_at(10.0) == 0.0
    assert "an API is cheaper up to" in report(found).sentence
