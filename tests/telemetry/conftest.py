"""The program that the tests of telemetry run in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.telemetry.program import Program


@pytest.fixture(scope="session")
def only_program() -> Program:
    # OpenTelemetry's providers are set once in a process.
    return Program()


@pytest.fixture
def program(only_program: Program) -> Iterator[Program]:
    only_program.forget()
    yield only_program
    only_program.forget()
