"""What a call costs in this client and in others, against one loopback server: each in an environment of its own.

Each takes turns with the others, in blocks of five calls of which the first is thrown away; the order rotates. Prints
medians and their ratio to the bare HTTP library, and writes them as JSON and as a picture. `--tables` measures nothing,
and writes the tables of README.md and docs/guides/performance.md from benchmarks/peers.json.

    python benchmarks/peers.py [--rounds 40] [--only httpx groq ...] [--json FILE] [--plot FILE] [--keep FOLDER]
    python benchmarks/peers.py --json benchmarks/peers.json && python benchmarks/peers.py --tables
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from http_calls import serve

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).with_name("peer_worker.py")
FIGURES = Path(__file__).with_name("peers.json")
PAGES = (ROOT / "README.md", ROOT / "docs" / "guides" / "performance.md")
TABLE = re.compile(r"(?<=<!-- benchmarks/peers.py --tables -->\n)(?:\|.*\n)+")
BLOCK = 5
# Of processes that get one answer.
COLD_ROUNDS = 15
# What is measured: the bare library that it is compared with, and the requests in flight.
MEASURED: Mapping[str, tuple[str, int]] = {
    "call": ("httpx", 1),
    "call over TLS": ("httpx", 1),
    "call, route of 1": ("httpx", 1),
    "call, route of 10": ("httpx", 1),
    "call, route of 100": ("httpx", 1),
    "stream, per chunk": ("httpx", 1),
    "async call, 1 in flight": ("httpx-aiohttp", 1),
    "async call, 32 in flight": ("httpx-aiohttp", 32),
    "async call, 200 in flight": ("httpx-aiohttp", 200),
}
# By name: what pip installs for it.
PEERS: Mapping[str, Sequence[str]] = {
    "httpx": ["httpx"],
    "httpx-aiohttp": ["httpx-aiohttp"],
    "aiohttp": ["aiohttp"],
    "llama_client": [str(ROOT)],
    "openai": ["openai"],
    "groq": ["groq"],
    "any-llm": ["any-llm-sdk[openai]"],
    "pydantic-ai": ["pydantic-ai-slim[openai]"],
    "langchain-openai": ["langchain-openai"],
    "litellm": ["litellm"],
    "litellm Router": ["litellm"],
}


@dataclass
class Worker:
    """One peer's process."""

    name: str
    process: subprocess.Popen[str]
    version: str
    ways: list[str]
    microseconds: dict[str, list[float]] = field(default_factory=dict)

    def run(self, way: str) -> None:
        """One block."""
        answer = self._ask({"way": way, "in_flight": MEASURED[way][1], "calls": BLOCK})
        self.microseconds.setdefault(way, []).extend(answer["microseconds"][1:])

    def _ask(self, question: object) -> dict[str, list[float]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with {self.process.wait()}")
        answer: dict[str, list[float]] = json.loads(line)
        return answer


def installed_mib(interpreter: Path) -> float:
    """What a peer's environment holds, without pip and setuptools."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([interpreter, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    folders = [each for each in Path(found).iterdir() if not each.name.startswith(("pip", "setuptools"))]
    files = [file for each in folders for file in ([each] if each.is_file() else each.rglob("*")) if file.is_file()]
    return sum(file.stat().st_size for file in files) / 2**20


def cold_ms(found: Sequence[Worker], addresses: str, folder: Path) -> dict[str, float]:
    """From the start of a process to its first answer; medians."""
    taken: dict[str, list[float]] = {}
    for turn in range(COLD_ROUNDS + 1):
        for worker in found:
            started = time.perf_counter()
            command = [str(python_of(worker.name, folder)), str(WORKER), worker.name, addresses, "once"]
            pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
            with subprocess.Popen(command, stdout=pipe, stderr=nowhere, env=variables()) as process:
                assert process.stdout is not None
                answered = process.stdout.readline()
                took_ms = (time.perf_counter() - started) * 1000
            if not answered:
                raise RuntimeError(f"{worker.name} gave no answer")
            if turn:
                taken.setdefault(worker.name, []).append(took_ms)
    return {name: statistics.median(times) for name, times in taken.items()}


def variables() -> dict[str, str]:
    """Of peers' processes: with compiled modules, as users have them."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    # LiteLLM's import waits for its prices from the network otherwise.
    return kept | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def python_of(name: str, folder: Path) -> Path:
    """The interpreter of a peer's environment, made where it is not there."""
    environment = folder / "-".join(PEERS[name][0].replace("/", " ").split())[-40:]
    interpreter = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not interpreter.exists():
        print(f"installing {' '.join(PEERS[name])}", file=sys.stderr)
        venv.create(environment, with_pip=True)
        subprocess.run([interpreter, "-m", "pip", "install", "--quiet", *PEERS[name]], check=True)
    return interpreter


@contextlib.contextmanager
def workers(names: Sequence[str], folder: Path) -> Iterator[tuple[str, list[Worker]]]:
    """The server's addresses as JSON, and the peers' processes, warm."""
    with contextlib.ExitStack() as stack:

        def started(*command: object) -> subprocess.Popen[str]:
            pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
            process = subprocess.Popen(
                [*map(str, command)], stdin=pipe, stdout=pipe, stderr=nowhere, text=True, env=variables()
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        server = started(sys.executable, __file__, "--serve", "--keep", folder)
        assert server.stdout is not None
        addresses = server.stdout.readline().strip()
        found = []
        for name in names:
            process = started(python_of(name, folder), WORKER, name, addresses)
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{name} cannot start: run {python_of(name, folder)} {WORKER} {name} ADDRESSES")
            found.append(Worker(name, process, **json.loads(line)))
        yield addresses, found


def serve_both(folder: Path) -> None:
    """The server of http_calls.py, and where there is an openssl program the same with TLS; prints their addresses."""
    listeners = [socket.create_server(("127.0.0.1", 0), backlog=1000) for _ in range(2)]
    plain, encrypted = (listener.getsockname()[1] for listener in listeners)
    addresses, tls = {"url": f"http://127.0.0.1:{plain}/v1"}, None
    openssl = shutil.which("openssl")
    if openssl is not None:
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=127.0.0.1"]
        subprocess.run([*command, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        addresses |= {"tls": f"https://127.0.0.1:{encrypted}/v1", "certificate": str(certificate)}
    print(json.dumps(addresses), flush=True)
    for listener, context in zip(listeners, (None, tls), strict=True):
        threading.Thread(target=serve, args=(listener, context)).start()


def measure(found: list[Worker], rounds: int) -> None:
    """All ways of all peers, in turns."""
    for way in MEASURED:
        able = [worker for worker in found if way in worker.ways]
        print(f"measuring {way}", file=sys.stderr)
        for turn in range(rounds + 1):
            for worker in able[turn % len(able) :] + able[: turn % len(able)]:
                worker.run(way)
                if not turn:
                    worker.microseconds[way].clear()


def report(found: list[Worker], cold: Mapping[str, float], mib: Mapping[str, float]) -> dict[str, object]:
    """The medians by way and peer, printed, and as a document."""
    rows: dict[str, dict[str, object]] = {}
    for way, (bare, _) in MEASURED.items():
        medians = {w.name: statistics.median(w.microseconds[way]) for w in found if way in w.microseconds}
        if not medians:
            continue
        base = medians.get(bare)
        print(way)
        for name, median in sorted(medians.items(), key=lambda pair: pair[1]):
            ratio = f"{median / base:6.2f} x" if base else ""
            print(f"  {name:18} {median:10.1f} us {ratio}")
        rows[way] = {"bare": bare, "microseconds": {name: round(median, 2) for name, median in medians.items()}}
    for title, values, unit in (("first answer of a process", cold, "ms"), ("installed", mib, "MiB")):
        print(title)
        for name, value in sorted(values.items(), key=lambda pair: pair[1]):
            print(f"  {name:18} {value:10.1f} {unit}")
    machine = {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}
    return {
        "machine": machine,
        "versions": {worker.name: worker.version for worker in found},
        "measured": rows,
        "first_answer_of_a_process_ms": {name: round(value, 1) for name, value in cold.items()},
        "installed_mib": {name: round(value, 1) for name, value in mib.items()},
    }


def table(document: Mapping[str, Any]) -> str:
    """The figures as a table in Markdown: a row for each peer."""
    measured, versions = document["measured"], document["versions"]
    titles = {
        "call": "a call",
        "call over TLS": "over TLS",
        "stream, per chunk": "a chunk of a stream",
        "async call, 1 in flight": "async, 1 in flight",
        "async call, 32 in flight": "32",
        "async call, 200 in flight": "200",
    }
    cold, mib = document["first_answer_of_a_process_ms"], document["installed_mib"]
    lines = [f"| | {' | '.join(titles.values())} | first answer of a process | installed |"]
    lines.append("|---" * (len(titles) + 3) + "|")
    order = sorted(versions, key=lambda name: (name != "llama_client", measured["call"]["microseconds"].get(name, 1e9)))
    for name in order:
        cells = []
        for way in titles:
            values = measured[way]["microseconds"]
            bare = measured[way]["bare"]
            if name == bare:
                cells.append(f"1 ({values[name]:.0f} us)")
            else:
                cells.append(f"{values[name] / values[bare]:.2f}" if name in values else "")
        shown = f"**{name}**" if name == "llama_client" else f"{name} {versions[name]}"
        lines.append(f"| {shown} | {' | '.join(cells)} | {cold[name] / 1000:.2f} s | {mib[name]:.0f} MiB |")
    return "\n".join(lines) + "\n"


def write_tables() -> None:
    """Into the pages that have a place for them."""
    made = table(json.loads(FIGURES.read_text(encoding="utf-8")))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        page.write_text(TABLE.sub(lambda _: made, text), encoding="utf-8")


def plot(document: Mapping[str, object], file: Path) -> None:
    """One panel for each way, bars by peer, on a logarithmic scale."""
    from matplotlib.figure import Figure

    measured: dict[str, dict[str, dict[str, float]]] = document["measured"]  # type: ignore[assignment]
    figure = Figure(figsize=(8, 2.6 * len(measured)), layout="constrained")
    for axes, (way, row) in zip(figure.subplots(len(measured), squeeze=False)[:, 0], measured.items(), strict=True):
        pairs = sorted(row["microseconds"].items(), key=lambda pair: -pair[1])
        colors = ["#1f77b4" if name == "llama_client" else "#b0b0b0" for name, _ in pairs]
        axes.barh([name for name, _ in pairs], [value for _, value in pairs], color=colors)
        axes.set(title=way, xlabel="microseconds", xscale="log")
    figure.savefig(file)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--keep", type=Path, help="where the environments are kept for the next run")
    parser.add_argument("--tables", action="store_true", help="write the pages' tables from benchmarks/peers.json")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve_both(arguments.keep)
        return
    if arguments.tables:
        write_tables()
        return
    with contextlib.ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        addresses, found = stack.enter_context(workers(arguments.only, folder.resolve()))
        measure(found, arguments.rounds)
        cold = cold_ms(found, addresses, folder.resolve())
        mib = {worker.name: installed_mib(python_of(worker.name, folder.resolve())) for worker in found}
        document = report(found, cold, mib)
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if arguments.plot:
        plot(document, arguments.plot)


if __name__ == "__main__":
    main()
