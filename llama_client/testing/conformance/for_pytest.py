"""The suite as tests of pytest's, one for each case and mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llama_client.providers.services import Service
from llama_client.testing.conformance.bench import MODES, Bench
from llama_client.testing.conformance.registration import registered
from llama_client.testing.conformance.suite import CASES, PATIENCE_S, given, run_case
from llama_client.testing.conformance.wires import Engine, Wire


def conformance_tests(
    provider: str | Service, wire: Wire | Engine | None = None, *, patience_s: float = PATIENCE_S
) -> Callable[..., None]:
    """A test function that pytest runs once for each case that applies, in each mode.

    What does not apply is no test: `check(...).table` shows it.

    Args:
        provider: The name of a provider that is built in or that an installed package adds; or its row.
        wire: How the service says things; None: it is OpenAI-compatible, or Ollama.
        patience_s: The longest wait in seconds for what should come at once.

    Example:
        test_groq = conformance_tests("groq")

    Raises:
        ValueError: No provider has the name, or its wire is needed.
        TypeError: The provider is no name or row, or the wire is none.
    """
    import pytest

    row, spoken = given(provider, wire)
    asked = [(case, mode) for case in CASES for mode in MODES if case.why_not(spoken, mode) is None]
    ids = [f"{case.name}-{mode}" for case, mode in asked]

    @pytest.mark.parametrize(("case", "mode"), asked, ids=ids)
    def test_conformance(case: Any, mode: Any) -> None:
        with _bench(row, spoken, mode, patience_s) as bench:
            result = run_case(case, bench)
        if result.status == "does not apply":
            pytest.skip(result.told)
        assert result.status == "passed", str(result)

    made: Callable[..., None] = test_conformance
    return made


@contextmanager
def _bench(row: Service, wire: Wire | Engine, mode: Any, patience_s: float) -> Iterator[Bench]:
    with registered(row) as name:
        bench = Bench(name, wire, mode, patience_s)
        try:
            yield bench
        finally:
            bench.close()
