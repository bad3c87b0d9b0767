"""One ledger and one budget in PostgreSQL for a job whose calls several workers on Ray make."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from llama_client import BudgetExceededError
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import WireServer
from tests.bulk.jobs import run
from tests.bulk.ray_clusters import small_cluster
from tests.bulk.served import handed_out, serving

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(sys.platform == "win32", reason="Ray's own support for Windows is in beta"),
]
SPENT = "SELECT sum(usd_pico), count(*) FROM llama_client_attempts WHERE outcome = 'ok'"
ON_RAY: dict[str, Any] = {"engine": "ray", "ray_workers": 2, "params": {"max_tokens": 10}}


@pytest.fixture(scope="module")
def ledger(new_postgres: Callable[[], str]) -> Iterator[str]:
    """Its address has a password, so every node has it in a variable."""
    pytest.importorskip("ray")
    pytest.importorskip("pyarrow")
    url = new_postgres()
    with pytest.MonkeyPatch.context() as environment:
        # Any name does; those of the package are taken away around each test.
        environment.setenv("LEDGER_OF_THE_RAY_TESTS", url)
        with small_cluster():
            yield url


def configuration(url: str, ledger: str, **more: Any) -> dict[str, Any]:
    return {
        "default_model": "a/m",
        "providers": {"a": {"kind": "openai", "base_url": f"{url}/v1"}},
        "prices": [{"target": "a/m", "input_usd_per_mtok": 10, "output_usd_per_mtok": 10}],
        "routing": {"breaker_failures": 1_000_000},
        "ledger": {"url": ledger},
        **more,
    }


def rows_of(ledger: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(ledger) as connection:
        return connection.execute(query).fetchall()


def test_the_ledger_has_what_the_server_handed_out(ledger: str, tmp_path: Path) -> None:
    rows = [f"row {number}" for number in range(200)]
    with serving(faults=0.1, delay_s=0.01) as url:
        receipt = run("sync", configuration(url, ledger), rows, tmp_path / "out.jsonl", **ON_RAY)
        assert (receipt.answered, receipt.failed) == (len(rows), 0)
        answers = handed_out(url)["answers"]
        handed = Counter(number for numbers in answers.values() for number in numbers)
        query = "SELECT input_tokens FROM llama_client_attempts WHERE outcome = 'ok'"
        assert Counter(number for (number,) in rows_of(ledger, query)) == handed


def test_a_budget_holds_over_all_workers(ledger: str, tmp_path: Path) -> None:
    ((before, earlier),) = rows_of(ledger, SPENT)
    # Nine calls of two workers at their worst; it counts from its first call on.
    most = Decimal("0.05")
    with WireServer(lambda _: OPENAI.good(streams=False, text="fine")) as server:
        config = configuration(server.url, ledger, budgets=[{"usd": float(most), "window": "total"}])
        with pytest.raises(BudgetExceededError):
            run("sync", config, [f"row {number}" for number in range(2_000)], tmp_path / "out.jsonl", **ON_RAY)
        asked = len(server.requests)
    ((spent, calls),) = rows_of(ledger, SPENT)
    assert 0 < spent - (before or 0) <= most * 10**12
    assert rows_of(ledger, "SELECT settled_pico FROM llama_client_spending") == [(spent - (before or 0),)]
    assert 0 < calls - earlier == asked
