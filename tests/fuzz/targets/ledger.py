"""A ledger's file with any values of any type in any column, or damaged bytes: a report, or an error that says why."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from llama_client import LlamaClient, LlamaClientError
from llama_client.clock import Clock
from llama_client.config.schema import Config, read_config
from llama_client.costs.charts import terminal_chart
from llama_client.diagnostics.ledger import examine_ledger
from llama_client.local_only import ConnectionGuard
from tests.costs.filling import Spent, fill
from tests.fuzz.sandbox import sandbox
from tests.fuzz.target import Choices, Target, require
from tests.fuzz.targets.scripted_server import Server, scripted

_TABLES = ("attempts", "labels", "unrecorded", "spending", "reservations", "owners", "presumed", "schema")
_MAX_EDITS = 6
_TEXTS = (
    "", "x", "1", "-1", "ok", "error", "a/m", "{}", '{"team": 5}', '{"team": null}', "[]", "5", "null", '["all"]',
    '["all", "day"]', '["tag:team", "day", {}]', '{"llama_client": "bench"}', "\x00", "9" * 400, "2026-11-30",
    "[" * 3000,
)  # fmt: skip
_NUMBERS = (0, 1, -1, 2, 127, 10**12, 2**31, 2**53, 2**62, 2**63 - 1, -(2**63), 1_795_000_000, 1_795_000_000_000_000)
_REALS = (0.5, -0.5, 1e30, -1e300, float("inf"), float("-inf"))
_TAGS = {"team": "a"}
_ANSWER = json.dumps(
    {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}}
).encode()
_HTTP = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_ANSWER) + _ANSWER


def _value(choices: Choices) -> Any:
    kind = choices.number(7)
    match kind:
        case 0:
            return None
        case 1:
            return choices.among(_NUMBERS)
        case 2:
            return choices.signed()
        case 3:
            return choices.among(_REALS)
        case 4:
            return choices.among(_TEXTS)
        case 5:
            return choices.take(choices.number(8))
        case _:
            return choices.take(choices.number(8)).decode("latin-1")


class _Ledger:
    def __init__(self, server: Server, folder: Path) -> None:
        self._file = folder / "ledger.db"
        budgets = [{"usd": 5, "window": window, "scope": scope} for window in ("day", "total") for scope in _SCOPES]
        provider = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1"}
        price = {"target": "a/m", "input_usd_per_mtok": 1, "output_usd_per_mtok": 1}
        values: dict[str, Any] = {"default_model": "a/m", "providers": {"a": provider}, "prices": [price]}
        values |= {"ledger": {"url": f"sqlite:///{self._file}"}, "budgets": budgets, "routing": {"retries": 0}}
        self._config: Config = read_config(values, origin="fuzz")
        server.answers = [[_HTTP]]
        spent = [Spent("a/m", "0.5", tags=_TAGS), Spent("b/m", None, error="ServerError")]
        fill(self._file, [*spent, Spent("a/m", "0.1", day=date(2026, 10, 1))], lost_calls=2)
        with LlamaClient(self._config) as client:
            client.ask("hi", max_tokens=5, tags=_TAGS)
        with closing(sqlite3.connect(self._file)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
        self._typed = self._file.read_bytes()
        with closing(sqlite3.connect(self._file)) as connection, connection:
            self._columns = {table: _without_types(connection, f"llama_client_{table}") for table in _TABLES}
        self._untyped = self._file.read_bytes()

    def check(self, data: bytes) -> None:
        """The first byte chooses the form of the file; then come edits of it, and at last what is asked."""
        choices = Choices(data)
        form, ask = choices.number(4), choices.number(len(_ASKED))
        if form == 3:
            self._write(_damaged(self._typed, choices))
        else:
            self._write(self._typed if form == 0 else self._untyped)
            self._edit(choices)
        with contextlib.suppress(LlamaClientError), LlamaClient(self._config) as client:
            _ASKED[ask](client)
        if ask % 4 == 0:
            for finding in examine_ledger(self._config, ConnectionGuard(), Clock(), offline=True):
                require(finding.message, "a finding says something")

    def _write(self, content: bytes) -> None:
        for end in ("-wal", "-shm", "-journal"):
            self._file.with_name(f"{self._file.name}{end}").unlink(missing_ok=True)
        self._file.write_bytes(content)

    def _edit(self, choices: Choices) -> None:
        with closing(sqlite3.connect(self._file)) as connection, connection:
            for _ in range(_MAX_EDITS):
                if choices.is_spent:
                    return
                table = choices.among(_TABLES)
                column = choices.among(self._columns[table])
                with contextlib.suppress(sqlite3.Error, OverflowError):
                    if choices.number(2):
                        statement = f"UPDATE llama_client_{table} SET {column} = ?"
                    else:
                        statement = f"INSERT INTO llama_client_{table} ({column}) VALUES (?)"
                    connection.execute(statement, (_value(choices),))


_SCOPES = ("all", "tag:team")


def _without_types(connection: sqlite3.Connection, table: str) -> Sequence[str]:
    """Makes a table whose columns take any value; the names of its columns."""
    columns = [str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")]
    for statement in (
        f"CREATE TABLE any_values ({', '.join(columns)})",
        f"INSERT INTO any_values SELECT * FROM {table}",
        f"DROP TABLE {table}",
        f"ALTER TABLE any_values RENAME TO {table}",
    ):
        connection.execute(statement)
    return columns


def _damaged(content: bytes, choices: Choices) -> bytes:
    damaged = bytearray(content)
    while not choices.is_spent:
        at = int.from_bytes(choices.take(3), "little") % len(damaged)
        put = choices.take(choices.number(5))
        damaged[at : at + len(put)] = put
    return bytes(damaged)


def _days(client: LlamaClient) -> None:
    days = client.costs.timeline(by="tag:team")
    require(all(day.groups for day in days), "a day of a timeline has calls")
    list(terminal_chart(days, 80, ascii_only=True))


def _traffic(client: LlamaClient) -> None:
    report = client.costs.traffic()
    require(report.calls >= 0, "calls are not negative")
    report.model_dump_json()


def _traffic_of_a_model(client: LlamaClient) -> None:
    client.costs.traffic(model="m", since="30d").model_dump_json()


def _report(by: str, since: str | None = None) -> Callable[[LlamaClient], None]:
    def ask(client: LlamaClient) -> None:
        client.costs.report(by=by, since=since).model_dump_json()

    return ask


def _budgets(client: LlamaClient) -> None:
    for state in client.costs.budgets():
        state.model_dump_json()


def _call(client: LlamaClient) -> None:
    client.ask("hi", max_tokens=5, tags=_TAGS)


_ASKED: tuple[Callable[[LlamaClient], None], ...] = (
    _budgets,
    _report("target"),
    _report("day"),
    _days,
    _traffic,
    _report("tag:team"),
    _call,
    _report("route", "2026-11-01"),
    _traffic_of_a_model,
)


def _seeds() -> tuple[bytes, ...]:
    """For each thing that is asked, each column with a value of each type."""
    kinds = (b"\0", b"\1\11", b"\1\12", b"\2\0\0\0\0\0\0\0\x01", b"\3\2", b"\4\1", b"\4\6", b"\4\x0a", b"\5\3abc")
    seeds = [bytes((1, ask)) for ask in range(len(_ASKED))]
    for number in range(len(_TABLES)):
        for column in (0, 1, 3, 4):
            for place, kind in enumerate(kinds):
                ask = (number + column + place) % len(_ASKED)
                seeds.append(bytes((1, ask, number, column, 1)) + kind)
    seeds += [bytes((3, ask)) + bytes((16 * ask, 0, 0, 4, 255, 255, 0, 1)) for ask in range(len(_ASKED))]
    return tuple(seeds)


@st.composite
def _cases(draw: st.DrawFn) -> bytes:
    edit = st.tuples(st.integers(0, 7), st.integers(0, 21), st.integers(0, 1), st.integers(0, 6), st.binary(max_size=9))
    edits = b"".join(bytes(each[:4]) + each[4] for each in draw(st.lists(edit, min_size=1, max_size=3)))
    return bytes((draw(st.sampled_from([0, 1, 1, 1, 3])), draw(st.integers(0, len(_ASKED) - 1)))) + edits


@contextmanager
def opened() -> Iterator[Target]:
    with sandbox() as folder, scripted() as server:
        ledger = _Ledger(server, folder)
        yield Target("ledger", ledger.check, _seeds(), _cases(), lines=(200_000, 2000), max_bytes=100)
