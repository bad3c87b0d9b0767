"""How much of this package one warm call runs through: Python calls of its functions, and the files that they are in.

Everything is on: a route of two targets, prices, the ledger in a SQLite file, over HTTP to a loopback server.
Counted are the `call` events of the calling thread whose code is in llama_client/, a generator's resumptions too; what
other threads do (the writer of the ledger) is not. `--list` names the functions by file, in the order of first calls.

    python benchmarks/call_path.py [--list] [--most-calls 180] [--most-files 29]
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from http_calls import serve

import llama_client
from llama_client import LlamaClient

WARM_UP = 20
_PACKAGE = f"{Path(llama_client.__file__).parent}/"
_MESSAGES = [{"role": "user", "content": "hi"}]


def config(url: str, ledger: Path) -> dict[str, Any]:
    """A route of two targets with prices, and a ledger."""
    names = ("one", "two")
    return {
        "providers": {name: {"kind": "openai", "api_key": "some-key", "base_url": f"{url}/v1"} for name in names},
        "routes": {"route": {"targets": [f"{name}/m" for name in names]}},
        "prices": [{"target": f"{name}/m", "input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.4} for name in names],
        "ledger": {"url": f"sqlite:///{ledger}"},
    }


def counted(client: LlamaClient) -> Counter[tuple[str, str]]:
    """How often one call calls each function, by file and name, in the order of the first calls."""
    calls: Counter[tuple[str, str]] = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(_PACKAGE):
            calls[code.co_filename.removeprefix(_PACKAGE), code.co_qualname] += 1

    sys.setprofile(note)
    try:
        client.chat.completions.create(model="route", messages=_MESSAGES)
    finally:
        sys.setprofile(None)
    return calls


def main() -> None:
    """Counts, and says whether it is more than was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="name the functions, by file")
    parser.add_argument("--most-calls", type=int, help="fail where there are more")
    parser.add_argument("--most-files", type=int, help="fail where there are more")
    arguments = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.TemporaryDirectory() as folder:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with LlamaClient(config(url, Path(folder) / "ledger.db")) as client:
            for _ in range(WARM_UP):
                client.chat.completions.create(model="route", messages=_MESSAGES)
            calls = counted(client)
    files: dict[str, list[tuple[str, int]]] = {}
    for (file, function), times in calls.items():
        files.setdefault(file, []).append((function, times))
    if arguments.list:
        for file, functions in files.items():
            print(f"{file}  {sum(times for _, times in functions)}")
            for function, times in functions:
                print(f"  {times:4}  {function}")
    print(f"{calls.total()} calls of {len(calls)} functions in {len(files)} files")
    if calls.total() > (arguments.most_calls or calls.total()) or len(files) > (arguments.most_files or len(files)):
        sys.exit("more than was asked for")


if __name__ == "__main__":
    main()
