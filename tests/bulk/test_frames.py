"""A job of a DataFrame gives it back with the answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from llama_client import AsyncLlamaClient, InvalidRequestError, LlamaClient
from llama_client.testing import FakeClock, FakeProvider
from tests.bulk.jobs import MODES


def _frame(mode: str, config: Any, rows: Any, **options: Any) -> Any:
    if mode == "sync":
        with LlamaClient(config) as client:
            return client.bulk(rows, **options).frame()

    async def asked() -> Any:
        async with AsyncLlamaClient(config) as client:
            return await client.bulk(rows, **options).frame()

    return asyncio.run(asked())


@pytest.mark.parametrize("mode", MODES)
def test_a_dataframe_comes_back_with_its_index_and_the_answers(mode: str) -> None:
    frame = pd.DataFrame({"text": ["a", "b", "c"], "n": [1, 2, 3], "answer": "gold"}, index=[7, 8, 9])
    with FakeProvider(clock=FakeClock()) as fake:
        fake.always(lambda request: f"answer to {request.text}")
        found = _frame(mode, fake.config(), frame, limit=2)
    assert list(found.index) == [7, 8]
    assert list(found.columns) == ["text", "n", "answer", "answer_2", "error", "usd", "target"]
    assert list(found["answer_2"]) == ["answer to a", "answer to b"]
    assert found["n"].dtype == frame["n"].dtype
    assert list(frame.columns) == ["text", "n", "answer"]


@pytest.mark.parametrize("mode", MODES)
def test_what_is_no_dataframe_gives_none_back_and_is_not_asked(mode: str) -> None:
    with FakeProvider(clock=FakeClock()) as fake:
        with pytest.raises(InvalidRequestError, match="the input is an iterable, and only a pandas DataFrame gives"):
            _frame(mode, fake.config(), ["a"])
        assert not fake.requests


@pytest.mark.parametrize("kind", ["period", "interval"])
def test_what_parquet_has_no_type_for_is_text_in_it(kind: str, tmp_path: Path) -> None:
    values = pd.period_range("2020", periods=2) if kind == "period" else pd.interval_range(0, 2)
    frame = pd.DataFrame({"text": ["a", "b"], "when": values})
    with FakeProvider() as fake, LlamaClient(fake.config()) as client:
        fake.always("x")
        client.bulk(frame).run(tmp_path / "out.parquet")
    assert pd.read_parquet(tmp_path / "out.parquet")["when"].tolist() == [str(each) for each in values]
