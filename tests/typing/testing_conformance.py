"""Calls of the test kit, as users type them. mypy and pyright read this; nothing runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import assert_type

from llama_client.testing.conformance import (
    ConformanceReport,
    Counts,
    Engine,
    Mode,
    OpenAIWire,
    Refusal,
    Result,
    Said,
    SaidCall,
    Wire,
    check,
    conformance_tests,
)


class ParrotWire(Wire):
    can = frozenset({"usage", "errors"})

    def whole(self, said: Said) -> bytes:
        return json.dumps({"says": said.text}).encode()


class Puppet(Engine):
    takes = frozenset({"temperature"})

    def say(self, said: Said | Refusal) -> None:
        return


def conformance() -> None:
    report = check("parrot", ParrotWire())
    assert_type(report, ConformanceReport)
    assert_type(report.failures, tuple[Result, ...])
    assert_type(report.table, str)
    report.require()
    modes: list[Mode] = ["call-sync"]
    check("groq", cases=["usage"], modes=modes, patience_s=1.0)
    check("acme", OpenAIWire())
    check("puppet", Puppet())
    assert_type(conformance_tests("parrot", ParrotWire()), Callable[..., None])
    said = Said(("Hi",), calls=(SaidCall("c", "f", ("{}",)),), counts=Counts(1, 2))
    assert_type(said.text, str)
