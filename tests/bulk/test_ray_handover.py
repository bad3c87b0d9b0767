"""What goes to the workers of a job on Ray: no secret, and rows to each as they are wanted. Without Ray."""

from __future__ import annotations

import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from llama_client import ConfigError, InvalidRequestError, LlamaClient, RateLimitError
from llama_client.bulk.outages import Waiting
from llama_client.bulk.pending import PendingRow
from llama_client.bulk.planning.purse import Purse
from llama_client.bulk.rows import Row
from llama_client.config.load import load_config
from llama_client.ray.handover import with_secrets, without_secret_headers, without_secrets
from llama_client.ray.leases import Leases
from llama_client.ray.messages import lent_rows, packed, packed_error, unpacked, unpacked_error
from llama_client.ray.worker import ShardJob
from llama_client.testing import FakeProvider, completion

SECRET = "sk-very-secret"


def configuration(**provider: Any) -> Any:
    table = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", **provider}
    return load_config({"providers": {"a": table}, "ledger": {"url": "sqlite"}}, environ={})


@pytest.mark.parametrize(
    ("provider", "remedy"),
    [
        ({"api_key": SECRET}, "providers.a.api_key: .* api_key_env or api_key_file"),
        ({"headers": {"x-auth": SECRET}}, "providers.a.headers.x-auth: .* on every node"),
        ({"proxy": f"http://me:{SECRET}@127.0.0.1:8080"}, "providers.a.proxy: .* LLAMA_CLIENT_PROVIDERS__A__PROXY"),
    ],
    ids=["key", "header", "proxy"],
)
def test_a_secret_that_stands_in_the_configuration_does_not_leave(provider: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy) as refused:
        without_secrets(configuration(**provider), {})
    assert SECRET not in str(refused.value)


def test_a_secret_of_the_environment_is_read_where_it_is_used() -> None:
    whole = configuration(api_key=SECRET, headers={"x-team": "search"})
    sent, variables = without_secrets(whole, {"MY_KEY": SECRET})
    assert SECRET.encode() not in pickle.dumps((sent, variables))
    # What is none goes along.
    assert b"search" in pickle.dumps(sent)
    assert with_secrets(sent, variables, {"MY_KEY": SECRET}) == whole
    with pytest.raises(ConfigError, match=r"MY_KEY: not set at node .*; providers\.a\.api_key is read from it"):
        with_secrets(sent, variables, {})


def test_a_client_that_is_of_this_process_only_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with FakeProvider() as fake:
        with LlamaClient(fake.config()) as client:
            with pytest.raises(InvalidRequestError, match="each worker opens a client of its own"):
                client.bulk(["a row"], engine="ray").run(tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


SECRET_HEADERS = [("Authorization", "Basic me"), ("X-Api-Key", "k"), ("x-team", f"Bearer {SECRET}"), ("x-note", SECRET)]
SECRET_HEADERS += [("X-Session", "s1"), ("X-Pwd", "p1"), ("X-Signature", "s2"), ("x-jwt", "j1"), ("X-Passwd", "p2")]


@pytest.mark.parametrize(("name", "value"), SECRET_HEADERS)
def test_a_secret_header_of_a_call_does_not_leave(name: str, value: str) -> None:
    pytest.importorskip("ray")
    rows = [{"messages": "Hello", "extra_headers": {name: value}}, {"messages": "Hello", "extra_headers": {"x-a": "b"}}]
    made = [PendingRow(Row(n, row), "a/m") for n, row in enumerate(rows)]
    sent, [(refused, error)] = without_secret_headers(made)
    assert (sent, refused) == (made[1:], made[0])
    assert isinstance(error, InvalidRequestError)
    assert f"extra_headers.{name} of row 1" in str(error)
    assert value not in str(error)
    with LlamaClient(configuration()) as client:
        job = client.bulk(["a row"], model="a/m", engine="ray", params={"extra_headers": {name: value}})
        with pytest.raises(InvalidRequestError, match=f"extra_headers.{name} of params"):
            list(job)


@pytest.mark.parametrize(
    "params",
    [
        {"extra_headers": [["Authorization", "hunter22"]]},
        {"extra_headers": {"x-team": b"hunter22"}},
        {"extra_headers": {"x-team": SecretStr("hunter22")}},
        {"extra_headers": {"Authorization: Bearer hunter22": "x"}},
        {"extra_body": {"api_key": "hunter22"}},
        {"extra_body": {"servers": [{"headers": {"Authorization": "hunter22"}}]}},
        {"extra_body": {"note": "sk-hunter22hunter22"}},
        {"extra_body": {"login": {"client_secret": "hunter22"}}},
        {"tools": [{"type": "mcp", "headers": {"x-api-key": "hunter22"}}]},
    ],
)
def test_no_other_secret_of_a_call_leaves(params: dict[str, object]) -> None:
    made = PendingRow(Row(0, {"messages": "Hello", **params}), "a/m")
    sent, [(refused, error)] = without_secret_headers([made])
    assert (sent, refused) == ([], made)
    assert isinstance(error, InvalidRequestError)
    assert error.param == next(iter(params))
    assert "hunter22" not in str(error)


def test_what_is_no_secret_does() -> None:
    schema = {"type": "object", "properties": {"password": {"type": "string"}}, "required": ["password"]}
    params = {
        "messages": [{"role": "user", "content": "my api_key is sk-hunter22hunter22"}],
        "extra_headers": {"x-team": "blue"},
        "extra_body": {"prompt_cache_key": "a", "stop_token_ids": [1], "return_tokens": True},
        "tools": [{"type": "function", "function": {"name": "sign_in", "parameters": schema}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
        "max_tokens": 8,
        "extra_body_of_none": None,
    }
    made = PendingRow(Row(0, params), "a/m")
    assert without_secret_headers([made]) == ([made], [])


def test_columns_of_a_row_stay_here() -> None:
    row = Row(3, {"messages": "Hello"}, "a", {"api_key": "hunter22"}, "a.csv, line 3")
    [lent] = lent_rows([PendingRow(row, "a/m")])
    assert (lent.id, lent.params, lent.where) == (row.id, row.params, row.where)
    assert b"hunter22" not in pickle.dumps(lent)
    assert row.columns


def test_a_row_shows_no_header() -> None:
    row = Row(3, {"messages": "Hello", "extra_headers": {"x-a": "hunter22"}}, where="a.csv, line 3")
    assert "hunter22" not in repr(row)
    assert "Hello" in repr(row)


@pytest.mark.parametrize(("most", "shards"), [(3, 2), (7, 3), (8, 4), (1, 1), (5, 5)])
def test_workers_share_the_calls_in_flight(most: int, shards: int) -> None:
    job = ShardJob(None, None, None, most, shards, is_lasting=True)  # type: ignore[arg-type]
    each = [job.most_of(shard) for shard in range(shards)]
    assert sum(each) == most
    assert min(each) >= 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"engine": "spark"}, "engine: must be 'local' or 'ray'"),
        ({"ray_address": "auto"}, "ray_address: is of engine='ray'"),
        ({"engine": "ray", "idle": "22:00-06:00"}, "idle: is of engine='local'"),
        ({"engine": "ray", "ray_workers": 0}, "ray_workers: must be a whole number from 1"),
    ],
    ids=["engine", "address", "idle", "workers"],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], told: str) -> None:
    with LlamaClient({}) as client, pytest.raises(InvalidRequestError, match=told):
        client.bulk(["a row"], **options)


def pending(position: int) -> PendingRow:
    return PendingRow(Row(position, {"messages": []}), "a/m")


def leases(rows: int) -> Leases:
    made = Leases(2, rows)
    made.add([pending(n) for n in range(rows)], rows, is_end=True)
    assert made.opened("one", 0, 0.0) == made.opened("two", 1, 0.0) == []
    return made


def test_rows_of_a_worker_that_is_gone_are_lent_again_and_those_in_flight_told() -> None:
    lent = leases(40)
    mine = [each.row.position for each in lent.lend("one", 64)]
    lent.began("one", mine[:3])
    assert lent.recording("one", mine[0]) is not None
    assert lent.recording("one", mine[0]) is None, "it was recorded before"
    assert [row.position for row in lent.opened("again", 0, 1.0)] == mine[1:3]
    assert not lent.seen("one", 1.0)
    rest = [each.row.position for _ in range(9) for each in lent.lend("again", 64)]
    assert sorted(rest) == [n for n in range(40) if n != mine[0]]
    assert not lent.is_over


def test_a_silent_worker_is_gone() -> None:
    lent = leases(40)
    mine = lent.lend("one", 8)
    lent.began("one", [mine[0].row.position])
    lent.seen("two", 29.0)
    assert [row.position for row in lent.silent(31.0)] == [mine[0].row.position]
    assert lent.seen("two", 31.0)


def test_the_outage_that_lasts_longest_is_that_of_the_job() -> None:
    lent = leases(40)
    lent.waits("one", Waiting("a/m", 3.0))
    lent.waits("two", Waiting("b/m", 9.0))
    assert lent.waiting == ("b/m", 9.0)
    lent.waits("two", None)
    assert lent.waiting == ("a/m", 3.0)
    lent.closed("one")
    assert lent.waiting is None


def paid_leases(most: str, rows: int = 40) -> tuple[Leases, Purse]:
    """Each row costs up to 10."""
    purse = Purse(Decimal(most))
    made = Leases(2, rows, purse)
    priced = [PendingRow(Row(n, {"messages": []}), "a/m", worst_usd=Decimal(10)) for n in range(rows)]
    made.add(priced, rows, is_end=True)
    made.opened("one", 0, 0.0)
    made.opened("two", 1, 0.0)
    return made, purse


def in_dollars(purse: Purse) -> tuple[int, int]:
    """What is spent, and what is set aside."""
    return int(purse.spent_usd), int(purse.held_usd)


def test_rows_are_lent_only_as_far_as_the_money_goes() -> None:
    lent, purse = paid_leases("35")
    mine = [each.row.position for each in lent.lend("one", 64)]
    assert (len(mine), lent.lend("two", 64), lent.unaffordable()) == (3, [], None)
    lent.began("one", mine)
    for position in mine:
        pending = lent.recording("one", position)
        assert pending is not None
        lent.settle("one", pending, Decimal(9))
    assert in_dollars(purse) == (27, 0)
    # 8 are left, and nothing is under way.
    assert lent.lend("two", 64) == []
    assert lent.unaffordable() is not None


def test_a_row_that_is_tried_again_needs_money_again_and_its_tries_are_paid_once() -> None:
    lent, purse = paid_leases("25")
    first, second = (each.row.position for each in lent.lend("one", 64))
    lent.began("one", [first, second])
    assert [row.position for row in lent.withdrew("one", [(first, Decimal(6))])] == [first]
    assert in_dollars(purse) == (6, 10)
    missing = lent.unpaid("one", [first])
    assert missing is not None
    assert missing.row.position == first
    # The other call is in flight: it may leave money.
    assert not lent.is_stuck(["one"])
    pending = lent.recording("one", second)
    assert pending is not None
    lent.settle("one", pending, Decimal(1))
    assert lent.unpaid("one", [first]) is None
    lent.began("one", [first])
    pending = lent.recording("one", first)
    assert pending is not None
    # What all of its tries cost.
    lent.settle("one", pending, Decimal(13))
    assert in_dollars(purse) == (14, 0)


def test_a_lost_call_counts_as_its_worst_and_a_row_that_had_not_begun_costs_nothing() -> None:
    lent, purse = paid_leases("35")
    mine = [each.row.position for each in lent.lend("one", 64)]
    lent.began("one", mine[:1])
    lent.opened("again", 0, 1.0)
    assert in_dollars(purse) == (10, 0)


def test_outcomes_come_as_they_went() -> None:
    tried = pending(3)
    outcome, attempts = unpacked(packed((tried, completion("fine"))), tried.row)
    assert (getattr(outcome, "text", None), attempts) == ("fine", [])
    failed, _ = unpacked(packed((tried, RateLimitError("slow down", retry_after_s=7.0))), tried.row)
    assert isinstance(failed, RateLimitError)
    assert failed.retry_after_s == 7.0


def test_an_error_of_another_package_does_not_tell_its_text() -> None:
    assert "prompt" not in str(unpacked_error(packed_error(ValueError("a prompt in it"))))
    assert isinstance(unpacked_error(packed_error(ConfigError("a key"))), ConfigError)


def test_a_try_that_does_not_fit_waits_for_the_money_of_a_batch() -> None:
    lent, purse = paid_leases("50", rows=1)
    [mine] = lent.lend("one", 64)
    position = mine.row.position
    lent.began("one", [position])
    # A batch holds all that is left, and the row's failed try has cost something.
    purse.take_for_good(Decimal(40))
    lent.withdrew("one", [(position, Decimal(1))])
    assert lent.unpaid("one", [position]) is mine
    assert lent.is_held_elsewhere
    assert not lent.is_stuck(["one"]), "the batch may cost less"
    purse.settle(Decimal(40), Decimal(40))
    assert not lent.is_held_elsewhere
    assert lent.is_stuck(["one"])
    purse.spent_usd -= 1
    assert lent.unpaid("one", [position]) is None
    assert not lent.is_held_elsewhere
