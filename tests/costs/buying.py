"""Calls whose worst case is known to the cent, and processes that make them at once."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from llama_client import BudgetExceededError, LlamaClient, LlamaClientError
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer
from tests.routing.asking import config

ROOT = Path(__file__).parents[2]
MESSAGES: list[dict[str, object]] = [{"role": "user", "content": "Why do llamas hum?"}]
MAX_TOKENS = 3500
KEPT_PRICE = {"target": "a/m", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2}


def configuration(ledger_url: str, *servers: WireServer, **tables: Any) -> dict[str, Any]:
    """`paid/m` costs a dollar for a million tokens of its answers, and nothing for its prompts; `local/m` is free.

    So a call with `max_tokens=3500` costs $0.0035 at most.
    """
    names = ("paid", "local")
    providers = {
        name: {"kind": "ollama" if name == "local" else "openai", "base_url": server.url + ("/v1" * (name == "paid"))}
        for name, server in zip(names, servers, strict=False)
    }
    price = {"target": "paid/m", "input_usd_per_mtok": 0, "output_usd_per_mtok": 1}
    return {
        "default_model": "paid/m",
        "providers": providers,
        "prices": [price],
        "routing": {"retries": 0},
        "ledger": {"url": ledger_url},
        **tables,
    }


def kept(server: WireServer, url: str, **tables: Any) -> dict[str, Any]:
    """A configuration with one server, `a/m`, whose calls are written down."""
    return config(server, ledger={"url": url}, prices=[KEPT_PRICE], routing={"retries": 0}, **tables)


def file_in(folder: Path) -> str:
    """The address of a ledger there."""
    return f"sqlite:///{folder / 'ledger.db'}"


def spending(tokens: int) -> Any:
    """A server whose answers have that many tokens."""

    def answer(request: Received) -> Answer:
        usage = {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens}
        return OPENAI.good(streams=request.json.get("stream", False), usage=usage)

    return answer


def outcome(client: LlamaClient, **params: Any) -> str:
    """A call's cost, or the class of its error."""
    try:
        reply = client.chat.completions.create(messages=MESSAGES, **{"max_tokens": MAX_TOKENS, **params})
        return str(reply.cost.usd)
    except BudgetExceededError as error:
        return type(error).__name__


def in_processes(configuration: dict[str, Any], *, processes: int, calls: int, threads: int) -> list[str]:
    """Each process makes so many calls, so many at once: every call's outcome."""
    numbers = {"processes": processes, "calls": calls, "threads": threads}
    command = [sys.executable, "-m", "tests.costs.buying", json.dumps(numbers)]
    given = json.dumps(configuration)
    ran = subprocess.run(command, input=given, stdout=subprocess.PIPE, text=True, cwd=ROOT, timeout=120, check=True)
    outcomes: list[str] = json.loads(ran.stdout)
    return outcomes


def rows(url: str, query: str) -> Sequence[Any]:
    """What a query finds in a database, past the package."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            return connection.execute(query).fetchall()
    import psycopg

    with psycopg.connect(url) as postgres:
        return postgres.execute(query.encode()).fetchall()


def run_statements(url: str, statements: Sequence[str]) -> None:
    """Changes a database, past the package."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
            for statement in statements:
                connection.execute(statement)
        return
    import psycopg

    with psycopg.connect(url) as postgres:
        for statement in statements:
            postgres.execute(statement.encode())


@contextmanager
def no_other_writer(url: str) -> Iterator[Callable[[str], object]]:
    """Within it no other process writes to a database, or is about to; what is given runs a statement past the package."""
    if url.startswith("sqlite"):
        file = url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(file, timeout=60, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection.execute
            connection.execute("COMMIT")
        return
    import psycopg

    with psycopg.connect(url) as postgres:
        # What each transaction of the package writes to first.
        postgres.execute("LOCK TABLE llama_client_spending, llama_client_owners, llama_client_labels IN EXCLUSIVE MODE")
        yield lambda statement: postgres.execute(statement.encode())


def _made(configuration: dict[str, Any], calls: int, threads: int, ready: Any, results: Any) -> None:
    """A child: makes its calls when all are ready."""
    with LlamaClient(configuration) as client, ThreadPoolExecutor(threads) as pool:
        ready.wait()
        outcomes = list(pool.map(lambda _: outcome(client), range(calls)))
    results.put(outcomes)


def _import_all(ledger_url: str, folder: str) -> None:
    """What a call imports, by one that nobody answers; children that are forked need not, which takes a second each."""
    warm = {
        "providers": {"a": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}},
        "prices": [KEPT_PRICE],
        "budgets": [{"usd": 1, "window": "total"}],
        "routing": {"retries": 0},
        "ledger": {"url": file_in(Path(folder))},
    }
    with LlamaClient(warm) as client:
        with suppress(LlamaClientError):
            client.ask("hi", model="a/m", max_tokens=5)
        client.costs.report()
    if ledger_url.startswith("postgresql"):
        import psycopg  # noqa: F401


def main() -> None:
    numbers, configuration = json.loads(sys.argv[1]), json.load(sys.stdin)
    forks = sys.platform == "linux"
    if forks:
        with tempfile.TemporaryDirectory() as folder:
            _import_all(configuration["ledger"]["url"], folder)
    context: Any = multiprocessing.get_context("fork" if forks else "spawn")
    ready, results = context.Barrier(numbers["processes"]), context.SimpleQueue()
    arguments = (configuration, numbers["calls"], numbers["threads"], ready, results)
    children = [context.Process(target=_made, args=arguments) for _ in range(numbers["processes"])]
    for child in children:
        child.start()
    print(json.dumps([each for _ in children for each in results.get()]))
    for child in children:
        child.join()
        assert child.exitcode == 0


if __name__ == "__main__":
    main()
