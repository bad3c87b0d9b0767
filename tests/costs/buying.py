"""Calls whose worst case is known to the cent, and processes that make them at once."""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from llama_client import BudgetExceededError, LlamaClient
from tests.routing.asking import config
from tests.wire.dialects import OPENAI
from tests.wire.server import Answer, Received, ReplayServer

ROOT = Path(__file__).parents[2]
MESSAGES: list[dict[str, object]] = [{"role": "user", "content": "Why do llamas hum?"}]
MAX_TOKENS = 3500
KEPT_PRICE = {"target": "a/m", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2}


def configuration(ledger_url: str, *servers: ReplayServer, **tables: Any) -> dict[str, Any]:
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


def kept(server: ReplayServer, url: str, **tables: Any) -> dict[str, Any]:
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
    command = [sys.executable, "-m", "tests.costs.buying", "--calls", str(calls), "--threads", str(threads)]
    with ExitStack() as stack:
        children = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
            )
            for _ in range(processes)
        ]
        for child in children:
            _tell(child, json.dumps(configuration))
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            _tell(child, "go")
        return [outcome for child in children for outcome in json.loads(child.communicate(timeout=60)[0])]


def _tell(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdin is not None
    child.stdin.write(line + "\n")
    child.stdin.flush()


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


def main() -> None:
    """A child: makes its calls when it is told to."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    with LlamaClient(json.loads(sys.stdin.readline())) as client, ThreadPoolExecutor(options.threads) as pool:
        print("ready", flush=True)
        sys.stdin.readline()
        outcomes = list(pool.map(lambda _: outcome(client), range(options.calls)))
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
