"""Four thousand calls over three targets that fail three times in ten: each ends as the rules say, is written down and
leaves nothing.

`python -m tests.chaos --calls 100000 --seed 7` is the long form.
"""

from __future__ import annotations

import pytest

from llama_client.testing.faults import GOOD
from tests.chaos.calls import MODES, run, said
from tests.chaos.faults import FAULTS, LATER, SURE_WEIGHT

CALLS = 4_000
SEED = 1


@pytest.mark.parametrize("mode", MODES)
def test_every_call_ends_as_the_rules_say_and_leaves_nothing(
    mode: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)
    # A line for each breaker that opens, which here is many.
    caplog.set_level("ERROR", "llama_client.routing")
    chaos = run(mode, CALLS // len(MODES), SEED)
    print(said(chaos))
    assert chaos.problems == []
    # That it has really happened; what is rare may be missing.
    answers = "stream" if mode.startswith("stream") else "whole"
    faults = {**FAULTS, **LATER} if answers == "stream" else FAULTS
    wanted = {
        name
        for name, fault in faults.items()
        if fault.fits(streams=answers == "stream") and fault.weight >= SURE_WEIGHT
    }
    assert wanted | {GOOD} <= set(chaos.faults)
    if answers == "stream":
        assert chaos.results["StreamInterruptedError"] > 10
    assert chaos.results["AllTargetsFailedError"] > 4
    assert chaos.results["ChatCompletion"] > 0.9 * chaos.calls
