"""The suite finds each planted fault, by the case that is about it; the same provider without faults passes."""

from __future__ import annotations

from typing import Any

import pytest

from llama_client.testing.conformance import check
from llama_client.testing.conformance.bench import Mode
from tests.testing import planted_codecs as codecs
from tests.testing import planted_providers as providers
from tests.testing import puppets
from tests.testing.hum import HumWire, row
from tests.testing.puppets import Strings

_PATIENCE_S = 0.6
S: Mode = "stream-sync"
A: Mode = "stream-async"
CODECS: list[tuple[Any, str]] = [
    (codecs.SwapsTokens, "usage"),
    (codecs.CountsUnknownAsNothing, "usage-absent"),
    (codecs.SwallowsErrors, "error-event-midway"),
    (codecs.SwallowsErrorsAndEndsWell, "error-event-midway"),
    (codecs.LosesPartsOfCalls, "tool-call-split-over-deltas"),
    (codecs.MixesCalls, "two-tool-calls"),
    (codecs.TearsCharacters, "utf8-cut-at-every-byte"),
    (codecs.ReadsLinesAsTheyArrive, "cut-anywhere"),
    (codecs.SaysEverythingTwice, "plain-reply"),
    (codecs.DropsTheLastText, "many-pieces"),
    (codecs.NeverEnds, "plain-reply"),
    (codecs.TakesAnyEndForAnEnd, "ends-without-finish-reason"),
    (codecs.OneClassForAllErrors, "status-401"),
    (codecs.ForgetsTheWait, "status-429"),
    (codecs.DropsParameters, "parameters-are-sent-or-refused"),
    (codecs.DropsParameters, "what-it-cannot-is-refused"),
    (codecs.SharesItsState, "concurrent-calls-do-not-mix"),
    (codecs.ThinksAloud, "reasoning"),
    (codecs.CallsEveryEndAStop, "finish-reason-length"),
]
PROVIDERS: list[tuple[Any, str]] = [
    (providers.TriesAgainByItself, "no-hidden-retry"),
    (providers.BlocksTheLoop, "event-loop-is-not-blocked"),
    (providers.ShowsTheKey, "the-key-is-shown-to-nobody"),
    (providers.LeavesAnswersOpen, "consumer-stops-early"),
    (providers.IgnoresThatItIsCancelled, "task-cancelled"),
    (providers.RaisesWhatItLikes, "no-foreign-exceptions"),
    (providers.ForgetsWhatItSent, "sent-once-sent"),
    (providers.SaysThatItSent, "not-sent-where-nobody-listens"),
    (providers.HasAllTheTime, "stall-is-a-timeout"),
    (providers.LeavesAThread, "nothing-left-open"),
]
PUPPETS: list[tuple[Any, str]] = [
    (puppets.StutteringPuppet, "many-pieces"),
    (puppets.PuppetWithoutAnEnd, "plain-reply"),
    (puppets.ObligingPuppet, "parameters-are-sent-or-refused"),
    (puppets.PuppetThatCannotStop, "consumer-stops-early"),
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
    check(row(around=providers.Around), HumWire()).require()


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
    modes: tuple[Mode, ...] = (A,) if fault is providers.BlocksTheLoop or case == "task-cancelled" else (S, A)
    report = check(row(around=fault), HumWire(), cases=[case], modes=modes, patience_s=_PATIENCE_S)
    assert failed_modes(report) == set(modes)


@named(PUPPETS)
def test_a_fault_of_a_provider_without_a_wire_is_found(fault: Any, case: str) -> None:
    strings = Strings(fault)
    report = check(strings.row, strings, cases=[case], modes=(S, A), patience_s=_PATIENCE_S)
    assert failed_modes(report) == {S, A}
