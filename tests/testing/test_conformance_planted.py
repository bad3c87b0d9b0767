"""The suite finds each planted fault, by the case that is about it; the same provider without faults passes."""

from __future__ import annotations

from typing import Any

import pytest

from llama_client.testing.conformance import check
from llama_client.testing.conformance.bench import Mode
from tests.testing import planted
from tests.testing.planted import HumWire, Strings, row

_PATIENCE_S = 0.6
S: Mode = "stream-sync"
A: Mode = "stream-async"
CODECS: list[tuple[Any, str]] = [
    (planted.SwapsTokens, "usage"),
    (planted.CountsUnknownAsNothing, "usage-absent"),
    (planted.SwallowsErrors, "error-event-midway"),
    (planted.SwallowsErrorsAndEndsWell, "error-event-midway"),
    (planted.LosesPartsOfCalls, "tool-call-split-over-deltas"),
    (planted.MixesCalls, "two-tool-calls"),
    (planted.TearsCharacters, "utf8-cut-at-every-byte"),
    (planted.ReadsLinesAsTheyArrive, "cut-anywhere"),
    (planted.SaysEverythingTwice, "plain-reply"),
    (planted.DropsTheLastText, "many-pieces"),
    (planted.NeverEnds, "plain-reply"),
    (planted.TakesAnyEndForAnEnd, "ends-without-finish-reason"),
    (planted.OneClassForAllErrors, "status-401"),
    (planted.ForgetsTheWait, "status-429"),
    (planted.DropsParameters, "parameters-are-sent-or-refused"),
    (planted.DropsParameters, "what-it-cannot-is-refused"),
    (planted.SharesItsState, "concurrent-calls-do-not-mix"),
    (planted.ThinksAloud, "reasoning"),
    (planted.CallsEveryEndAStop, "finish-reason-length"),
]
PROVIDERS: list[tuple[Any, str]] = [
    (planted.TriesAgainByItself, "no-hidden-retry"),
    (planted.BlocksTheLoop, "event-loop-is-not-blocked"),
    (planted.ShowsTheKey, "the-key-is-shown-to-nobody"),
    (planted.LeavesAnswersOpen, "consumer-stops-early"),
    (planted.IgnoresThatItIsCancelled, "task-cancelled"),
    (planted.RaisesWhatItLikes, "no-foreign-exceptions"),
    (planted.ForgetsWhatItSent, "sent-once-sent"),
    (planted.SaysThatItSent, "not-sent-where-nobody-listens"),
    (planted.HasAllTheTime, "stall-is-a-timeout"),
    (planted.LeavesAThread, "nothing-left-open"),
]
PUPPETS: list[tuple[Any, str]] = [
    (planted.StutteringPuppet, "many-pieces"),
    (planted.PuppetWithoutAnEnd, "plain-reply"),
    (planted.ObligingPuppet, "parameters-are-sent-or-refused"),
    (planted.PuppetThatCannotStop, "consumer-stops-early"),
]


def named(faults: list[tuple[Any, str]]) -> pytest.MarkDecorator:
    ids = [f"{fault.__name__}-{case}" for fault, case in faults]
    return pytest.mark.parametrize(("fault", "case"), faults, ids=ids)


def failed_modes(found: Any) -> set[str]:
    return {each.mode for each in found.failures}


def test_a_codec_without_faults_passes() -> None:
    report = check(row(), HumWire())
    report.require()
    assert report.ran > 130


@pytest.mark.long
def test_something_around_a_provider_without_faults_passes() -> None:
    check(row(around=planted.Around), HumWire()).require()


def test_a_provider_without_a_wire_passes() -> None:
    strings = Strings()
    report = check(strings.row, strings)
    report.require()
    assert report.ran > 20


@named(CODECS)
def test_a_fault_of_a_codec_is_found(fault: Any, case: str) -> None:
    report = check(row(fault), HumWire(), cases=[case], modes=(S, A), patience_s=_PATIENCE_S)
    assert failed_modes(report) == {S, A}


@named(PROVIDERS)
def test_a_fault_of_a_provider_is_found(fault: Any, case: str) -> None:
    modes: tuple[Mode, ...] = (A,) if fault is planted.BlocksTheLoop or case == "task-cancelled" else (S, A)
    report = check(row(around=fault), HumWire(), cases=[case], modes=modes, patience_s=_PATIENCE_S)
    assert failed_modes(report) == set(modes)


@named(PUPPETS)
def test_a_fault_of_a_provider_without_a_wire_is_found(fault: Any, case: str) -> None:
    strings = Strings(fault)
    report = check(strings.row, strings, cases=[case], modes=(S, A), patience_s=_PATIENCE_S)
    assert failed_modes(report) == {S, A}
