"""The suite asks every provider of this package, and says in words what one does not do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from llama_client.providers.services import SERVICES, Service
from llama_client.testing.conformance import ConformanceError, Engine, OpenAIWire, Refusal, Said, SaidCall, check
from llama_client.testing.conformance.__main__ import main
from llama_client.testing.conformance.suite import CASES
from tests.lengths import values
from tests.nested import pytest_command
from tests.testing.hum import HumWire, row
from tests.testing.planted_codecs import SwapsTokens

OURS = ("groq", "together", "openai", "ollama")


@pytest.mark.parametrize("name", values(SERVICES, long=set(SERVICES) - set(OURS)))
def test_every_service_conforms(name: str) -> None:
    report = check(name)
    report.require()
    assert report.ran > 150


def test_a_failure_says_what_was_expected_what_came_and_why_it_matters() -> None:
    report = check(row(SwapsTokens), HumWire(), cases=["usage", "plain-reply"], modes=["call-sync"])
    assert not report.is_conforming
    with pytest.raises(ConformanceError) as raised:
        report.require()
    assert str(raised.value).splitlines() == [
        "hum fails 1 of 2 checks:",
        "usage (call-sync): expected the tokens (1234, 56, 1290), got (56, 1234, 1290). "
        "Counts come at the end, and costs and budgets are made of them.",
    ]
    assert raised.value.report is report
    lines = report.table.splitlines()
    assert [line.split() for line in lines[:3]] == [["hum", "call-sync"], ["usage", "FAILED"], ["plain-reply", "ok"]]
    assert lines[3] == str(report.failures[0])


def test_what_does_not_apply_is_told_and_why() -> None:
    class Shy(HumWire):
        can = frozenset()

    report = check(row(), Shy(), cases=["usage", "many-pieces", "error-in-a-200"], modes=["call-sync"])
    assert [(each.status, each.told) for each in report.results] == [
        ("does not apply", "the provider is declared unable to say: usage"),
        ("does not apply", "the provider is declared unable to say: streams"),
        ("does not apply", "the provider is declared unable to say: errors in a 200"),
    ]
    assert report.ran == 0


def test_a_wire_that_claims_more_than_its_provider_can_fails() -> None:
    class Boastful(HumWire):
        can = HumWire.can | {"n"}

    assert check(row(), Boastful(), cases=["several-choices"]).failures


def test_a_row_need_not_be_installed_and_is_forgotten_afterwards() -> None:
    given = Service(name="given-row", base_url="https://api.given.example/v1", key_variables=("GIVEN_API_KEY",))
    assert check(given, cases=["plain-reply"]).ran == 4
    with pytest.raises(ValueError, match="no provider is named 'given-row'"):
        check("given-row")


def test_a_wire_of_its_own_must_be_given() -> None:
    with pytest.raises(ValueError, match=r"hum is not OpenAI-compatible.*give a `Wire`"):
        check(row())


def test_an_unknown_case_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"no case is named 'usages': there are plain-reply, .*usage"):
        check("groq", cases=["usages"])


def test_the_command_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["groq", "--case", "plain-reply", "--case", "usage"]) == 0
    assert re.findall(r"^(\S+)\s+ok\s+ok\s+ok\s+ok$", capsys.readouterr().out, re.MULTILINE) == ["plain-reply", "usage"]
    assert main(["gorq"]) == 2
    assert "no provider is named 'gorq'" in capsys.readouterr().err


@pytest.mark.long
def test_the_command_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "llama_client.testing.conformance", "openai", "--case", "usage"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.split()[:6]) == (
        0,
        ["openai", "call-sync", "call-async", "stream-sync", "stream-async", "usage"],
    )


TESTS = """
from llama_client.testing.conformance import conformance_tests
from tests.testing.hum import HumWire, row
from tests.testing.planted_codecs import CallsEveryEndAStop

test_hum = conformance_tests(row(CallsEveryEndAStop), HumWire())
"""


def test_pytest_has_one_test_for_each_case_and_mode(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (tmp_path / "test_hum.py").write_text(TESTS, encoding="utf-8")
    done = subprocess.run(
        pytest_command("-k", "usage or finish", "test_hum.py"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    failed = set(re.findall(r"^FAILED test_hum.py::(\S+)", done.stdout, re.MULTILINE))
    modes = ("call-sync", "call-async", "stream-sync", "stream-async")
    assert {f"test_hum[finish-reason-length-{mode}]" for mode in modes[2:]} == failed, done.stdout
    assert "finish-reason-length (stream-sync): expected the finish reason 'length', got 'stop'" in done.stdout


def test_names_of_cases_are_stable_and_unique() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)
    assert all(case.why.endswith(".") for case in CASES)


def test_a_scripted_answer_is_plain_data() -> None:
    call = SaidCall("c", "weather", ('{"a"', ": 1}"))
    other = SaidCall("d", "clock", ("{}",))
    said = Said(("Hello ", "there"), calls=(call, other))
    assert said.text == "Hello there"
    assert [(number, part) for number, _, part, _ in said.call_parts] == [(0, '{"a"'), (1, "{}"), (0, ": 1}")]
    assert OpenAIWire().refusal(Refusal(400, "no")) == b'{"error": {"message": "no", "type": "error"}}'
    assert Engine.can == {"streams"}
