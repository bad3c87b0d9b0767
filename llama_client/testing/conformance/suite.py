"""Runs every case in four modes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from llama_client.providers.services import Service, service_of
from llama_client.testing.conformance import cases_of_answers, cases_of_failures, cases_of_life, cases_of_requests
from llama_client.testing.conformance.bench import MODES, Bench, Mode
from llama_client.testing.conformance.case import Case
from llama_client.testing.conformance.expectations import NotAskedError, UnmetError
from llama_client.testing.conformance.faults_of_authors import in_words
from llama_client.testing.conformance.known_wires import wire_of
from llama_client.testing.conformance.registration import registered
from llama_client.testing.conformance.report import ConformanceReport, Result
from llama_client.testing.conformance.wires import Engine, Wire

CASES: tuple[Case, ...] = (
    *cases_of_answers.CASES, *cases_of_failures.CASES, *cases_of_requests.CASES, *cases_of_life.CASES
)  # fmt: skip
"""All cases, in the order in which they run."""
_GGUF = Service(name="gguf", title="a model in this process", is_local=True, sdk="")
PATIENCE_S = 5.0
"""How long is waited for what should come at once. A provider that conforms does not take it."""


def check(
    provider: str | Service,
    wire: Wire | Engine | None = None,
    *,
    cases: Sequence[str] | None = None,
    modes: Sequence[Mode] = MODES,
    patience_s: float = PATIENCE_S,
) -> ConformanceReport:
    """Runs the suite for a provider. Not to be called within an event loop, since it runs its own.

    Args:
        provider: The name of a provider that is built in or that an installed package adds; or its row, which need
            not be installed.
        wire: How the service says things; None: it is OpenAI-compatible, or Ollama.
        cases: Names of cases; None: all.
        modes: The modes to ask in.
        patience_s: The longest wait in seconds for what should come at once.

    Returns:
        What became of each case. `require()` raises where one failed.

    Raises:
        ValueError: No provider, case or mode has such a name, there are none of them, or its wire is needed.
        TypeError: The provider is no name or row, or the wire is none.
        RuntimeError: An event loop runs in this thread.

    Example:
        >>> from llama_client.testing.conformance import check
        >>> report = check("groq", cases=["plain-reply", "usage"])
        >>> report.is_conforming, report.ran
        (True, 8)
    """
    row, spoken = given(provider, wire)
    chosen = _chosen(cases)
    _check_modes(modes)
    _refuse_in_a_loop()
    results = []
    with registered(row) as name:
        for mode in modes:
            with _opened(name, spoken, mode, patience_s) as bench:
                results += [run_case(case, bench) for case in chosen]
    return ConformanceReport(
        row.name, tuple(sorted(results, key=lambda each: [case.name for case in chosen].index(each.case)))
    )


def row_of(provider: str | Service) -> Service:
    """The row of a provider.

    Args:
        provider: Its name, or the row.

    Raises:
        ValueError: No provider has the name.
    """
    if provider == "gguf":
        return _GGUF
    if not isinstance(provider, str | Service):
        raise TypeError(
            f"the provider is {_kind(provider)}: give its name, or its row: "
            "`Service(name=..., factory=lambda setup: setup.over_http(YourCodec()))`"
        )
    row = service_of(provider) if isinstance(provider, str) else provider
    if row is None:
        raise ValueError(
            f"no provider is named {provider!r}: name a service that is built in or installed, or give its row"
        )
    return row


def given(provider: str | Service, wire: Wire | Engine | None) -> tuple[Service, Wire | Engine]:
    """The row of a provider, and its wire.

    Args:
        provider: Its name, or the row.
        wire: How the service says things; None: that of the row.

    Raises:
        ValueError: No provider has the name, or its wire is needed.
        TypeError: The provider is no name or row, or the wire is none.
    """
    row = row_of(provider)
    if wire is not None and not isinstance(wire, Wire | Engine):
        called = f": write `{wire.__name__}()`" if isinstance(wire, type) else ""
        raise TypeError(f"the wire is {_kind(wire)}, and must be an instance of `Wire` or `Engine`{called}")
    return row, wire if wire is not None else wire_of(row)


def run_case(case: Case, bench: Bench) -> Result:
    """What becomes of one case in the mode of a bench."""
    if (why_not := case.why_not(bench.wire, bench.mode)) is not None:
        return Result(case.name, bench.mode, "does not apply", why_not)
    bench.broken = None
    try:
        _run(case, bench)
    except NotAskedError as reason:
        return Result(case.name, bench.mode, "does not apply", str(reason))
    except UnmetError as unmet:
        return Result(case.name, bench.mode, "failed", str(unmet), case.why)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - of the author's code: the other cases still run
        return Result(case.name, bench.mode, "failed", in_words(error), case.why)
    return Result(case.name, bench.mode, "passed")


def _run(case: Case, bench: Bench) -> None:
    try:
        case.run(bench)
    finally:
        if bench.broken is not None:
            raise bench.broken


@contextmanager
def _opened(name: str, wire: Wire | Engine, mode: Mode, patience_s: float) -> Iterator[Bench]:
    bench = Bench(name, wire, mode, patience_s)
    try:
        yield bench
    finally:
        bench.close()


def _chosen(names: Sequence[str] | None) -> list[Case]:
    if names is None:
        return list(CASES)
    if not names:
        raise ValueError("`cases` names no case: leave it out to run all")
    known = {case.name: case for case in CASES}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no case is named {unknown[0]!r}: there are {', '.join(known)}")
    return [known[name] for name in names]


def _check_modes(modes: Sequence[str]) -> None:
    if unknown := [mode for mode in modes if mode not in MODES]:
        raise ValueError(f"no mode is named {unknown[0]!r}: there are {', '.join(MODES)}")
    if not modes:
        raise ValueError(f"`modes` names no mode: there are {', '.join(MODES)}")


def _refuse_in_a_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "an event loop runs in this thread, and the suite runs its own: use `asyncio.to_thread(check, ...)`"
    )


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"an instance of {type(value).__name__}"
