"""The suite finds each planted fault, by the case that is about it; the same provider without faults passes."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import Generator
from typing import Any

import pytest

from llama_client.providers.base import HttpCall, ProviderCall
from llama_client.providers.services import Service
from llama_client.testing.conformance import Said, Wire, check
from llama_client.testing.conformance.bench import Mode
from llama_client.types.completion import ChatCompletionChunk
from tests.testing import planted_codecs as codecs
from tests.testing import planted_providers as providers
from tests.testing import puppets
from tests.testing.hum import HumCodec, HumWire, row
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
    (codecs.OnlyTheLastMessage, "every-message-is-sent"),
    (codecs.OnlyTheLastMessage, "calls-and-results-of-tools-are-sent"),
    (codecs.SwapsParameters, "parameters-are-sent-or-refused"),
    (codecs.DropsSettings, "settings-are-sent-or-refused"),
    (codecs.CountsOfTheLastAnswer, "usage-of-its-own-answer"),
    (codecs.StripsTexts, "text-is-kept-as-it-is"),
    (codecs.SplitsAtAnyEndOfLine, "text-is-kept-as-it-is"),
    (codecs.LosesSpacesOfArguments, "text-with-a-call"),
    (codecs.LosesCallsWithoutArguments, "call-without-arguments"),
    (codecs.ForgetsToTryAtOnce, "status-429-try-at-once"),
    (codecs.Mistyped, "model-and-messages-are-sent"),
    (codecs.Mistyped, "the-key-is-not-shown"),
]
PROVIDERS: list[tuple[Any, str]] = [
    (providers.TriesAgainByItself, "no-hidden-retry"),
    (providers.BlocksTheLoop, "event-loop-is-not-blocked"),
    (providers.ShowsTheKey, "the-key-is-not-shown"),
    (providers.LeavesAnswersOpen, "consumer-stops-early"),
    (providers.IgnoresThatItIsCancelled, "task-cancelled"),
    (providers.RaisesWhatItLikes, "no-foreign-exceptions"),
    (providers.ForgetsWhatItSent, "sent-once-sent"),
    (providers.SaysThatItSent, "not-sent-where-nothing-listens"),
    (providers.HasAllTheTime, "stall-is-a-timeout"),
    (providers.IsBrokenByAnError, "next-answer-after-failures"),
    (providers.TriesAgainAfterATimeout, "stall-midway-is-a-timeout"),
    (providers.TakesBackThatItSent, "stall-is-a-timeout"),
    (providers.ShowsTheKeyInRaw, "the-key-is-not-shown"),
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


class ClosesBadly(providers.Around):
    def close(self) -> None:
        self.inner.close()
        raise RuntimeError("closed twice")


class TextualWire(HumWire):
    def whole(self, said: Said) -> Any:
        return super().whole(said).decode()


class BrokenWire(HumWire):
    def whole(self, said: Said) -> bytes:
        raise KeyError("says")


class AsksTwice(providers.Around):
    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        list(self.inner.chunks(call))
        yield from self.inner.chunks(call)


@pytest.mark.parametrize(
    ("given", "wire", "case", "said"),
    [
        (row(around=ClosesBadly), HumWire(), "plain-reply", r"RuntimeError: closed twice \(in close, test_conform"),
        (row(), TextualWire(), "plain-reply", "expected bytes of TextualWire.whole, got str"),
        (row(), BrokenWire(), "plain-reply", r"KeyError: 'says' \(in whole, test_conform"),
        (row(around=AsksTwice), HumWire(), "one-request-an-answer", "the number of requests 1, got 2"),
        (row(codecs.Mistyped), HumWire(), "every-message-is-sent", "bdoy"),
    ],
    ids=["close-raises", "wire-writes-text", "wire-raises", "two-requests", "encode-raises"],
)
def test_an_exception_in_a_case_is_a_failure_in_words(given: Service, wire: Wire, case: str, said: str) -> None:
    report = check(given, wire, cases=[case, "usage"], modes=["call-sync"], patience_s=_PATIENCE_S)
    assert {each.case for each in report.results} == {case, "usage"}
    assert re.search(said, next(str(each) for each in report.failures if each.case == case))


class ZippedCodec(HumCodec):
    def encode(self, call: ProviderCall) -> HttpCall:
        made = super().encode(call)
        return made._replace(body=gzip.compress(made.body), headers={**made.headers, "content-encoding": "gzip"})


def test_a_body_may_be_compressed() -> None:
    check(row(ZippedCodec), HumWire(), modes=["call-sync"]).require()


def test_the_environment_does_not_configure_the_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CLIENT_ROUTING__RETRIES", "1")
    check(row(), HumWire(), cases=["no-hidden-retry"], modes=["call-sync"]).require()


@pytest.mark.parametrize(
    ("wrong", "kind", "said"),
    [
        ({"modes": ["sync"]}, ValueError, "no mode is named 'sync': there are call-sync"),
        ({"modes": []}, ValueError, "`modes` names no mode"),
        ({"cases": []}, ValueError, "`cases` names no case"),
        ({"provider": HumCodec()}, TypeError, "the provider is an instance of HumCodec: give its name, or its row"),
        ({"wire": HumWire}, TypeError, r"the wire is the class HumWire.*write `HumWire\(\)`"),
        ({"provider": Service(name="groq")}, ValueError, "a built-in service is named 'groq'"),
    ],
    ids=["mode", "no-modes", "no-cases", "codec", "class", "built-in"],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        check(**{"provider": row(), "wire": HumWire(), **wrong})


def test_a_running_event_loop_is_refused() -> None:
    async def within() -> None:
        check(row(), HumWire())

    with pytest.raises(RuntimeError, match="the suite runs its own"):
        asyncio.run(within())
