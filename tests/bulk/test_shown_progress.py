"""How far a job is: what callbacks are told, and what a notebook shows."""

from __future__ import annotations

import sys
from decimal import Decimal
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from llama_client import BulkProgress, BulkReceipt, LlamaClient
from llama_client.bulk.progress_text import progress_line, receipt_lines
from llama_client.testing import FakeProvider
from tests.bulk.jobs import MODES, results

CONFIG = {"default_model": "desk/m", "providers": {"desk": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}}}
PRICES = [{"target": "desk/m", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2}]


class Notebook:
    """IPython in a kernel, as far as a job can tell; `shown` is what stands in the cell, after each change."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.displays = 0

    def display(self, thing: Any, *, display_id: bool) -> Notebook:
        assert display_id
        self.displays += 1
        self.update(thing)
        return self

    def update(self, thing: Any) -> None:
        self.shown.append(thing._repr_html_())

    def modules(self, kernel: object) -> ModuleType:
        module = ModuleType("IPython")
        vars(module).update(get_ipython=lambda: SimpleNamespace(kernel=kernel), display=self)
        return module


@pytest.mark.parametrize("mode", MODES)
def test_a_running_job_shows_itself_in_a_notebook(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook, told = Notebook(), list[BulkProgress]()
    monkeypatch.setitem(sys.modules, "IPython", notebook.modules(object()))
    with FakeProvider().always("Hello") as provider:
        results(mode, CONFIG, ["a", "b"], on_progress=told.append)
    assert len(provider.requests) == 2
    assert notebook.displays == 1
    assert notebook.shown[-1].startswith("<p>2 of 2 rows")
    assert told[-1].done == 2


def test_ipython_on_a_terminal_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = Notebook()
    monkeypatch.setitem(sys.modules, "IPython", notebook.modules(None))
    with FakeProvider().always("Hello"):
        results("sync", CONFIG, ["a"])
    assert notebook.shown == []


def test_a_job_as_the_last_line_of_a_cell_is_its_receipt() -> None:
    with FakeProvider().always("Hello"), LlamaClient({**CONFIG, "prices": PRICES}) as client:
        job = client.bulk(["a", "b"])
        assert "not begun" in job._repr_html_()
        assert len(list(job)) == 2
        assert "2 rows: 2 answered" in job._repr_html_()


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        pytest.param(BulkProgress(0, 0, 8, 10, None, Decimal(0), 0.1), "0 of 10 rows", id="early"),
        pytest.param(
            BulkProgress(7, 0, 1, 10, 5.0, Decimal(0), 50.0, waits_for="here/m", unreached_s=42.0),
            "waiting for here/m, no connection for 42 s; 7 of 10 rows",
            id="no connection",
        ),
        pytest.param(BulkProgress(7, 0, 8, None, None, Decimal(0), 0.1), "7 rows", id="no total"),
        pytest.param(
            BulkProgress(1200, 3, 8, 5000, 41.2, Decimal("0.0123"), 30.0, Decimal("0.05126"), 92.1),
            "1,200 of 5,000 rows, 3 failed, 41 rows/s, $0.0123 of about $0.0513, 92 s left",
            id="midway",
        ),
        pytest.param(
            BulkProgress(3, 0, 1, 50, 0.05, Decimal(0), 60.0, Decimal(0), 940.0),
            "3 of 50 rows, 3.0 rows/min, 16 min left",
            id="slow and free",
        ),
    ],
)
def test_the_line_says_how_far_it_is(progress: BulkProgress, line: str) -> None:
    assert progress_line(progress) == line


def test_an_unknown_cost_is_said_and_not_zero() -> None:
    known_usd = Decimal("0.5")
    receipt = BulkReceipt(2, answered=2, calls=2, usd=None, known_usd=known_usd, prompt_tokens=None, has_begun=True)
    assert receipt_lines(receipt)[1].startswith("cost unknown, of which $0.50 known, 2 calls, 0.0 s")


def test_the_rest_is_expected_at_the_cost_and_the_rate_of_the_rows_so_far() -> None:
    told: list[BulkProgress] = []
    with FakeProvider().always("Hello"), LlamaClient({**CONFIG, "prices": PRICES}) as client:
        job = client.bulk([f"row {number}" for number in range(40)], max_concurrency=1, on_progress=told.append)
        assert len(list(job)) == 40
    last = told[-1]
    assert (last.done, last.left_s, last.expected_usd) == (40, 0.0, last.usd)
    assert last.usd == job.receipt.usd
    assert last.usd > 0
