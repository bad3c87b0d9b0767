"""The ledger: a row an attempt, on disk soon, whatever becomes of the process; and never a call that fails for it."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llama_client import AsyncLlamaClient, ConfigError, LlamaClient, LocalOnlyError
from llama_client.costs import database as storage
from llama_client.costs import ledger as ledgers
from llama_client.testing.clock import FakeClock
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer
from tests.costs import version1
from tests.costs.buying import file_in, in_processes, kept, rows, run_statements
from tests.routing.asking import MODES, ask, ask_all, broken_after, config, failing, good, timed

COUNT = "SELECT count(*) FROM llama_client_attempts"
VERSION = "SELECT version FROM llama_client_schema"
PRICE = {"target": "a/m", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
SECRET = "the llama is in the barn"
SQLITE_SCHEMA = """SELECT m.name, c.* FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'
    UNION ALL SELECT m.name, c.*, NULL, NULL, NULL FROM sqlite_master m, pragma_index_info(m.name) c ORDER BY 1, 2"""
POSTGRES_SCHEMA = """SELECT table_name, ordinal_position, column_name, data_type, is_nullable, is_identity,
    identity_generation FROM information_schema.columns WHERE table_name LIKE 'llama_client%'
    UNION ALL SELECT indexname, NULL, indexdef, NULL, NULL, NULL, NULL FROM pg_indexes
    WHERE tablename LIKE 'llama_client%' ORDER BY 1, 2"""


# Rows


@pytest.mark.parametrize("mode", MODES)
def test_each_attempt_is_a_row(mode: str, ledger_url: str) -> None:
    with WireServer(lambda _: failing(503)) as down, WireServer(good()) as server:
        two = config(down, server, ledger={"url": ledger_url}, prices=[{**PRICE, "target": "b/m"}])
        reply = ask(two | {"routing": {"retries": 0}}, mode, tags={"user": "ann"})
    query = """SELECT number, route, provider, target, model, tags, request_id, outcome, error, http_status,
        input_tokens, output_tokens, usd_pico, input_usd_pico + cached_usd_pico + output_usd_pico, cost_status,
        cost_source, tokens_are_estimated
        FROM llama_client_attempts JOIN llama_client_labels ON llama_client_labels.id = label_id ORDER BY number"""
    same = ('{"user": "ann"}', reply.request_id)
    unknown = reply.usage.prompt_tokens is None
    tokens = (None, None) if unknown else (3, 2)
    first, second = (tuple(row) for row in rows(ledger_url, query))
    refused = ("error", "OverloadedError", 503, None, None, 0, 0, "exact", "it was refused", 0)
    assert first == (1, "chat", "a", "a/m", "m", *same, *refused)
    assert second[:10] == (2, "chat", "b", "b/m", "m", *same, "ok", None, 200)
    if not unknown:
        assert second[10:] == (*tokens, 7_000_000, 7_000_000, "exact", "the configuration", 0)
    else:
        assert second[14:] == ("estimated", "the configuration", 1)


def test_neither_what_was_asked_nor_answered_nor_a_key_is_written(tmp_path: Path) -> None:
    with WireServer(good(SECRET)) as server, WireServer(lambda _: failing(400)) as no:
        configuration = kept(server, file_in(tmp_path))
        configuration["providers"]["a"]["api_key"] = "sk-secret-key"
        configuration["providers"]["b"] = {"kind": "openai", "base_url": f"{no.url}/v1", "api_key": "sk-secret-key"}
        with LlamaClient(configuration) as client:
            client.ask(SECRET)
            with pytest.raises(Exception, match="not now"):
                client.ask(SECRET, model="b/m")
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"req_" in written
    for secret in (SECRET, "sk-secret", "not now"):
        assert secret.encode() not in written


def test_a_row_is_on_disk_soon_while_the_client_stays_open(tmp_path: Path) -> None:
    with WireServer(good()) as server, LlamaClient(kept(server, file_in(tmp_path))) as client:
        client.ask("hi")
        until = time.monotonic() + 10
        while time.monotonic() < until:
            if (tmp_path / "ledger.db").exists():
                try:
                    if rows(file_in(tmp_path), COUNT)[0][0] == 1:
                        break
                except sqlite3.OperationalError:
                    pass
            time.sleep(0.02)
        assert rows(file_in(tmp_path), COUNT)[0][0] == 1


@pytest.mark.parametrize("text", ["\0", "\ud800", "x" * 100_000, "'; DROP TABLE llama_client_attempts; --"])
def test_any_tag_and_model_can_be_written(text: str, ledger_url: str) -> None:
    with WireServer(good()) as server, LlamaClient(kept(server, ledger_url)) as client:
        for tags in ({"a": text}, {"b": "ok"}):
            try:
                client.ask("hi", tags=tags)
            except Exception as error:  # noqa: BLE001 - a request may refuse what is no text
                assert "tags" in str(error)
        client.ask("hi", tags={"b": "ok"})
        report = client.costs.report(by="tag:b")
    assert report.unrecorded_calls == 0
    assert {group.key: group.calls for group in report.groups}["ok"] == 2


@pytest.mark.parametrize("tokens", [10**12, 10**13, 2**63, 10**25])
def test_counts_that_nobody_can_have_are_written_all_the_same(tokens: int, ledger_url: str) -> None:
    usage = {"prompt_tokens": tokens, "completion_tokens": tokens, "total_tokens": 2 * tokens}

    def answer(request: Received) -> Any:
        return OPENAI.good(streams=False, usage=usage)

    with WireServer(answer) as server, LlamaClient(kept(server, ledger_url)) as client:
        for _ in range(3):
            client.ask("hi")
        report = client.costs.report()
        client.costs.report(by="day")
    assert (report.calls, report.unrecorded_calls) == (3, 0)


# Processes


def test_two_threads_and_eight_processes_write_to_one_database(ledger_url: str) -> None:
    with WireServer(good()) as server:
        configuration = kept(server, ledger_url)
        outcomes = in_processes(configuration, processes=8, calls=5, threads=2)
        with LlamaClient(configuration) as client:
            report = client.costs.report()
    assert len(outcomes) == report.calls == 40
    assert report.unrecorded_calls == 0


def test_a_program_that_ends_without_closing_loses_nothing(tmp_path: Path) -> None:
    script = f"""
import sys
from llama_client import LlamaClient
client = LlamaClient({{"providers": {{"a": {{"kind": "openai", "base_url": sys.argv[1] + "/v1"}}}},
    "ledger": {{"url": {file_in(tmp_path)!r}}}}})
for _ in range(7):
    client.ask("hi", model="a/m")
"""
    with WireServer(good()) as server:
        subprocess.run([sys.executable, "-c", script, server.url], check=True, timeout=60)
    assert rows(file_in(tmp_path), COUNT)[0][0] == 7


# Its connections are dropped with it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_client_that_was_dropped_writes_what_it_has_and_leaves_no_thread(tmp_path: Path) -> None:
    with WireServer(good()) as server:
        client = LlamaClient(kept(server, file_in(tmp_path)))
        client.ask("hi")
        del client
        gc.collect()
        _eventually(lambda: not [each for each in threading.enumerate() if each.name == "llama-client-ledger"])
    assert rows(file_in(tmp_path), COUNT)[0][0] == 1


def test_opening_the_database_again_and_again_keeps_nothing_of_it(ledger_url: str) -> None:
    def objects() -> int:
        gc.collect()
        return sum(str(type(each).__module__).startswith("sqlalchemy.") for each in gc.get_objects())

    with WireServer(good()) as server, LlamaClient(kept(server, ledger_url)) as client:
        client.ask("hi")
        client.costs.report()
        before = objects()
        for _ in range(5):
            # Each opens it anew, as a thread does after a failure.
            client.costs.report()
        # Its own connection may have been closed meanwhile.
        assert objects() - before < 100


def threads_since(before: list[threading.Thread]) -> list[threading.Thread]:
    """The package's own, but for those of clients that last for the whole run."""
    return [each for each in threading.enumerate() if each.name.startswith("llama-client-") and each not in before]


def test_closing_leaves_no_thread(tmp_path: Path) -> None:
    before = threading.enumerate()
    with WireServer(good()) as server:
        with LlamaClient(kept(server, file_in(tmp_path), budgets=[{"usd": 1, "window": "day"}])) as client:
            client.ask("hi", max_tokens=5)
            names = {each.name for each in threading.enumerate()}
            assert {"llama-client-ledger", "llama-client-budgets"} <= names
        assert not threads_since(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_writes_its_own_rows_and_none_of_its_parents(tmp_path: Path) -> None:
    with WireServer(good()) as server:
        client = LlamaClient(kept(server, file_in(tmp_path)))
        client.ask("hi", tags={"who": "parent"})
        child = os.fork()
        if child == 0:
            try:
                client.ask("hi", tags={"who": "child"})
                client.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        client.ask("hi", tags={"who": "parent"})
        report = client.costs.report(by="tag:who")
        client.close()
    assert {group.key: group.calls for group in report.groups} == {"parent": 2, "child": 1}


def _ask_in_child(client: LlamaClient) -> None:
    client.ask("hi", tags={"who": "child"})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_of_multiprocessing_that_ends_without_closing_loses_nothing(tmp_path: Path) -> None:
    with WireServer(good()) as server, LlamaClient(kept(server, file_in(tmp_path))) as client:
        child = multiprocessing.get_context("fork").Process(target=_ask_in_child, args=(client,))
        child.start()
        child.join(30)
        assert child.exitcode == 0
    assert rows(file_in(tmp_path), COUNT)[0][0] == 1


# What cannot be written


@pytest.mark.parametrize("mode", MODES)
def test_a_ledger_that_cannot_be_written_warns_once_and_fails_no_call(
    mode: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    with WireServer(good()) as server, caplog.at_level(logging.WARNING, "llama_client.ledger"):
        outcomes = ask_all(kept(server, f"sqlite:///{tmp_path / 'file' / 'ledger.db'}"), mode, 5)
    assert all(outcome.text == "Hello" for outcome in outcomes)
    assert [record.message.partition(" (")[0] for record in caplog.records] == ["the ledger cannot be written"]


def test_a_warning_holds_nothing_of_the_row_that_was_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with WireServer(good()) as server, LlamaClient(kept(server, file_in(tmp_path))) as client:
        client.ask("hi")
        client.costs.report()
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as database:
            for table in (storage.labels.name, storage.attempts.name):
                database.execute(
                    f"CREATE TRIGGER no_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'full up'); END"
                )
            database.commit()
        with caplog.at_level(logging.WARNING, "llama_client.ledger"):
            client.ask("hi", tags={"team": "the-tag"})
            client.costs.report()
    assert "full up" in caplog.text
    assert "the-tag" not in caplog.text


def test_rows_wait_while_another_process_holds_the_database_and_are_written_then(tmp_path: Path) -> None:
    with WireServer(good()) as server, LlamaClient(kept(server, file_in(tmp_path))) as client:
        client.ask("hi")
        client.costs.report()
        holder = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        for _ in range(5):
            client.ask("hi")
        time.sleep(0.2)
        holder.rollback()
        holder.close()
        assert client.costs.report().calls == 6


def test_what_does_not_fit_is_counted_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "MAX_QUEUED", 3)
    with WireServer(good()) as server, LlamaClient(kept(server, file_in(tmp_path))) as client:
        client.ask("hi")
        client.costs.report()
        holder = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        for _ in range(10):
            client.ask("hi")
        holder.rollback()
        holder.close()
        report = client.costs.report()
    assert (report.calls, report.unrecorded_calls) == (4, 7)
    # Told to everybody, not only here.
    with LlamaClient(kept(server, file_in(tmp_path))) as client:
        assert client.costs.report().unrecorded_calls == 7
        assert client.costs.report(since="1h").unrecorded_calls == 7


# Old and new versions


def test_many_open_a_new_database_at_once(ledger_url: str) -> None:
    with WireServer(good()) as server, ThreadPoolExecutor(12) as pool:

        def one(_: int) -> None:
            with LlamaClient(kept(server, ledger_url)) as client:
                client.ask("hi")

        list(pool.map(one, range(12)))
    assert rows(ledger_url, COUNT)[0][0] == 12
    assert [tuple(row) for row in rows(ledger_url, VERSION)] == [(storage.SCHEMA_VERSION,)]


def test_a_database_of_version_1_is_written_and_read_and_a_new_one_has_the_same_schema(
    ledger_url: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run_statements(ledger_url, version1.statements(ledger_url))
    with (
        WireServer(good()) as server,
        LlamaClient(kept(server, ledger_url, budgets=[{"usd": 1, "window": "day"}])) as client,
    ):
        client.ask("hi", max_tokens=5)
        assert client.costs.report().calls == 1
    if ledger_url.startswith("sqlite"):
        new, query = f"sqlite:///{tmp_path / 'new.db'}", SQLITE_SCHEMA
    else:
        new, query = request.getfixturevalue("new_postgres")(), POSTGRES_SCHEMA
    with WireServer(good()) as server, LlamaClient(kept(server, new)) as client:
        client.ask("hi")
    assert rows(new, query) == rows(ledger_url, query)


def test_a_newer_version_that_only_added_something_is_written_and_read(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WireServer(good()) as server, LlamaClient(kept(server, ledger_url)) as old:
        old.ask("hi")
        old.costs.report()
        added = ("ALTER TABLE llama_client_attempts ADD COLUMN mood TEXT",)
        with monkeypatch.context() as later:
            later.setattr(storage, "_MIGRATIONS", (*storage._MIGRATIONS, added))
            with LlamaClient(kept(server, ledger_url)) as new:
                new.ask("hi")
        assert rows(ledger_url, VERSION)[0][0] == storage.SCHEMA_VERSION + 1
        # Open all the while.
        old.ask("hi")
        assert old.costs.report().calls == 3
        with LlamaClient(kept(server, ledger_url)) as another:
            another.ask("hi")
            assert another.costs.report().calls == 4


@pytest.fixture
def short_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report does not wait long for rows that cannot be written."""
    monkeypatch.setattr(ledgers.Ledger.flush, "__defaults__", (0.2,))


@pytest.mark.usefixtures("short_flush")
def test_a_newer_version_that_changed_something_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = file_in(tmp_path)
    with WireServer(good()) as server:
        with monkeypatch.context() as later:
            later.setattr(storage, "_MIGRATIONS", (*storage._MIGRATIONS, ()))
            later.setattr(storage, "_OLDEST_THAT_UNDERSTANDS", storage.SCHEMA_VERSION + 1)
            with LlamaClient(kept(server, url)) as new:
                new.ask("hi")
        with LlamaClient(kept(server, url)) as old:
            assert old.ask("hi").text == "Hello"
            with pytest.raises(ConfigError, match=r"ledger\.url.*newer llama-client.*upgrade"):
                old.costs.report()
    assert "newer llama-client" in caplog.text
    assert rows(url, COUNT)[0][0] == 1


def test_a_migration_that_fails_changes_nothing(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ("ALTER TABLE llama_client_attempts ADD COLUMN mood TEXT", "SELECT nothing FROM nowhere")
    with WireServer(good()) as server:
        ask(kept(server, ledger_url), "call-sync")
        with monkeypatch.context() as later:
            later.setattr(storage, "_MIGRATIONS", (*storage._MIGRATIONS, broken))
            ask(kept(server, ledger_url), "call-sync")
        ask(kept(server, ledger_url), "call-sync")
    assert rows(ledger_url, VERSION)[0][0] == storage.SCHEMA_VERSION
    assert rows(ledger_url, COUNT)[0][0] == 2


def test_what_is_older_than_is_wanted_is_deleted(tmp_path: Path) -> None:
    fake = FakeClock()
    sync, _ = timed(fake)
    with WireServer(good()) as server:
        configuration = kept(server, file_in(tmp_path))
        configuration["ledger"]["retention_days"] = 30
        with sync(configuration) as client:
            client.ask("hi", tags={"when": "first"})
            fake.now += 20 * 86_400
            client.ask("hi", tags={"when": "second"})
            client.costs.report()
            fake.now += 15 * 86_400
            client.ask("hi", tags={"when": "third"})
            client.costs.report()
        with sync(configuration) as client:
            report = client.costs.report(by="tag:when")
    assert {group.key for group in report.groups} == {"second", "third"}
    # Tags may name people: they go with the rows that had them.
    tags = rows(file_in(tmp_path), "SELECT tags FROM llama_client_labels")
    assert {row[0] for row in tags} == {'{"when": "second"}', '{"when": "third"}'}


# Where it is


def test_by_default_it_is_in_the_users_data_folder(clean_home: Path) -> None:
    with WireServer(good()) as server:
        ask(config(server), "call-sync")
    [path] = clean_home.rglob("ledger.db")
    assert path.parent.name == "llama-client"


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    with WireServer(good()) as server, LlamaClient(kept(server, file_in(tmp_path))) as client:
        client.ask("hi")
        client.costs.report()
        assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}


def test_a_file_that_was_merely_found_cannot_send_the_ledger_elsewhere(
    clean_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in ("postgresql://u@evil.example/x", "sqlite:///../elsewhere.db", "sqlite:////tmp/elsewhere.db"):
        (clean_home / "work" / "llama-client.toml").write_text(f'ledger = {{ url = "{url}" }}\n')
        with pytest.raises(ConfigError, match=r"ledger\.url: a file found in the working directory may only name"):
            LlamaClient()
    (clean_home / "work" / "llama-client.toml").write_text('ledger = { url = "sqlite:///costs.db" }\n')
    LlamaClient().close()


@pytest.mark.parametrize("password", ["se%cret", "se/cret", "se@cret", "se[cret", "se cret"])
def test_a_password_that_is_not_encoded_is_refused_and_not_shown(password: str) -> None:
    with pytest.raises(ConfigError, match="write other characters of a user name or password as %XX") as error:
        LlamaClient({"ledger": {"url": f"postgresql://u:{password}@127.0.0.1:1/db"}})
    assert "cret" not in str(error.value)


def test_a_stream_that_is_open_when_its_client_is_closed_is_a_row(tmp_path: Path) -> None:
    def answer(_: Received) -> Answer:
        return Answer([*broken_after("Hel").pieces], "stall")

    before = threading.enumerate()
    with WireServer(answer) as server:
        client = LlamaClient(kept(server, file_in(tmp_path)))
        stream = client.chat.completions.create(messages=[{"role": "user", "content": "hi"}], stream=True)
        client.close()
        stream.close()
        _eventually(lambda: not threads_since(before))
    assert [row[0] for row in rows(file_in(tmp_path), "SELECT outcome FROM llama_client_attempts")] == ["cancelled"]


def test_a_file_that_was_deleted_is_begun_anew(tmp_path: Path) -> None:
    with WireServer(good()) as server, LlamaClient(kept(server, file_in(tmp_path))) as client:
        client.ask("hi")
        assert client.costs.report().calls == 1
        for path in tmp_path.iterdir():
            path.unlink()
        client.ask("hi")
        client.ask("hi")
        assert client.costs.report().calls == 2


def test_local_only_refuses_a_database_elsewhere() -> None:
    elsewhere = {"local_only": True, "ledger": {"url": "postgresql://u:hush@192.0.2.1/x"}}
    with pytest.raises(LocalOnlyError, match=r"192\.0\.2\.1 is neither this machine nor") as error:
        LlamaClient(elsewhere)
    assert "hush" not in str(error.value)
    LlamaClient({"local_only": True, "ledger": {"url": "postgresql://u:hush@127.0.0.1/x"}}).close()
    LlamaClient(elsewhere | {"privacy": {"allow_hosts": ["192.0.2.1"]}}).close()
    for nowhere in ("postgresql:///x", "postgresql://u@127.0.0.1/x?host=192.0.2.1", "postgresql://a,b/x"):
        with pytest.raises(LocalOnlyError, match="does not name one host") as nobody_knows:
            LlamaClient({"local_only": True, "ledger": {"url": nowhere}})
        assert nobody_knows.value.rule == "ledger"


@pytest.mark.usefixtures("short_flush")
def test_a_password_is_in_no_message(caplog: pytest.LogCaptureFixture, new_postgres: Callable[[], str]) -> None:
    url = new_postgres().replace("hum-hum-hum", "wrong-and-secret")
    with WireServer(good()) as server, LlamaClient(kept(server, url)) as client:
        assert client.ask("hi").text == "Hello"
        with pytest.raises(ConfigError, match="authentication failed") as error:
            client.costs.report()
        shown = repr(client._context.config)
    for text in (str(error.value), repr(error.value), caplog.text, shown):
        assert "wrong-and-secret" not in text


def test_an_event_loop_never_waits_for_the_database(tmp_path: Path) -> None:
    async def run() -> int:
        async with AsyncLlamaClient(kept(server, file_in(tmp_path))) as client:
            await client.ask("hi")
            await client.costs.report()
            holder = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
            holder.execute("BEGIN EXCLUSIVE")
            await asyncio.gather(*(client.ask("hi") for _ in range(20)))
            report = asyncio.create_task(client.costs.report())
            turns = 0
            while turns < 20:
                await asyncio.sleep(0.01)
                turns += 1
            assert not report.done()
            holder.rollback()
            holder.close()
            return (await report).calls

    with WireServer(good()) as server:
        assert asyncio.run(run()) == 21


def test_an_interrupted_stream_and_a_skipped_target_are_rows_too(tmp_path: Path) -> None:
    with WireServer(lambda _: broken_after("Hel")) as server:
        ask_all(kept(server, file_in(tmp_path)), "stream-sync", 1)
        with LlamaClient(kept(server, file_in(tmp_path), budgets=[{"usd": 0.001, "window": "day"}])) as client:
            with pytest.raises(Exception, match="may cost"):
                client.ask("hi", max_tokens=100_000)
            report = client.costs.report()
    found = rows(file_in(tmp_path), "SELECT outcome, error, cost_status FROM llama_client_attempts ORDER BY id")
    assert [tuple(row) for row in found] == [
        ("interrupted", "StreamInterruptedError", "estimated"),
        ("skipped", "BudgetExceededError", None),
    ]
    assert (report.calls, report.groups[0].errors) == (2, 1)


def _eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not holds() and time.monotonic() < until:
        time.sleep(0.02)
    assert holds()
