"""`python -m llama_client.testing.faults`: the fault server from a shell, for programs in any language."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from llama_client.testing.faults.arguments import checked_share, checked_wait
from llama_client.testing.faults.backend import Backend
from llama_client.testing.faults.batches import BatchPlay, BatchServer
from llama_client.testing.faults.batches.plays import BATCH_KINDS
from llama_client.testing.faults.server import KINDS, FaultServer
from llama_client.testing.faults.table import FAULTS, fault

# Between two looks for a signal, which a sleep does not end.
_LOOK_UP_S = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until it is interrupted, or with `--commands` until its input ends."""
    options = _parser().parse_args(arguments)
    if options.list:
        with suppress(BrokenPipeError):  # `--list | head`
            _list()
        return 0
    try:
        server = FaultServer(port=options.port) if options.batches is None else _batch_server(options)
    except (OSError, ValueError) as error:
        if options.commands:
            _say({"error": f"cannot listen at port {options.port}: {error}", "errno": getattr(error, "errno", None)})
            return 2
        sys.stderr.write(f"error: cannot listen at port {options.port}: {error}\n")
        return 2
    # Before the addresses are printed: a signal may follow at once. No event, whose lock the wait may hold just then.
    signals: list[int] = []
    if not options.commands:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda sent, _: signals.append(sent))
    with server:
        if options.fault or options.rate is not None:
            rate = 1.0 if options.rate is None else options.rate
            server.at_rate(rate, seed=options.seed, faults=options.fault or ())
        _say(
            {
                "url": server.url,
                "urls": {kind: server.url_for(kind) for kind in KINDS if options.batches in (None, kind)},
            }
        )
        if options.commands:
            _obey(server._backend)
        while not options.commands and not signals:
            time.sleep(_LOOK_UP_S)
    return 0


def _batch_server(options: argparse.Namespace) -> FaultServer:
    server = BatchServer(options.batches, port=options.port)
    server.every_batch(BatchPlay(takes_s=options.batch_takes))
    server.fails_at_rate(options.batch_rate, seed=options.seed)
    return server


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m llama_client.testing.faults",
        description="A server on loopback that fails as chat providers do. It prints its addresses as one line of JSON "
        "and serves until it is interrupted. A client chooses its fault by its base URL (URL/fault/NAME, then the path "
        "of its API) or by its model (fault/NAME).",
    )
    parser.add_argument("--port", type=_port, default=0, help="where to listen (default: a free port)")
    parser.add_argument("--fault", type=_name, nargs="+", action="extend", metavar="NAME", help="a fault for each chat")
    parser.add_argument("--rate", type=_share, help="which share of the chats gets one, by chance; 0 to 1 (default: 1)")
    parser.add_argument("--seed", type=_seed, default=0, help="of the chance (default: %(default)s)")
    parser.add_argument("--batches", choices=BATCH_KINDS, help="also play the batch API of this kind")
    parser.add_argument("--batch-takes", type=_seconds, default=0.0, metavar="SECONDS", help="how long a batch takes")
    parser.add_argument("--batch-rate", type=_share, default=0.0, help="which share of requests about batches fails")
    parser.add_argument("--list", action="store_true", help="list the faults and exit")
    parser.add_argument(
        "--commands",
        action="store_true",
        help='read commands from standard input, a JSON object a line ({"do": "next", "names": ["reset"]}, '
        '{"do": "report"}), and end with it',
    )
    return parser


def _name(text: str) -> str:
    try:
        return fault(text).name
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _share(text: str) -> float:
    try:
        return checked_share(float(text), "rate")
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to 1") from None


def _seconds(text: str) -> float:
    try:
        return checked_wait(float(text), "batch-takes")
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to a day") from None


def _seed(text: str) -> int:
    return _whole_number(text, "a seed")


def _port(text: str) -> int:
    return _whole_number(text, "a port")


def _whole_number(text: str, what: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}, which is a whole number") from None


def _list() -> None:
    width = max(map(len, FAULTS))
    for each in FAULTS.values():
        errors = " or ".join(each.errors) or "no error"
        kind = "" if each.only is None else f" [{each.only} only]"
        sys.stdout.write(f"{each.name:{width}}  {each.what}{kind} -> {errors}\n")
    sys.stdout.flush()


def _obey(backend: Backend) -> None:
    # A terminal's Ctrl-C reaches this process too; it ends with its parent, which may still want its report.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        try:
            command = _command(line)
            do = command.pop("do")
            if do == "close":
                return
            _say({"result": backend.call(do, **command)})
        except ValueError as error:
            _say({"error": str(error)})


def _command(line: bytes) -> dict[str, Any]:
    try:
        command = json.loads(line)
    except RecursionError:
        raise ValueError("a command is not nested so deep") from None
    if not isinstance(command, dict) or not isinstance(command.get("do"), str):
        raise ValueError('a command is a JSON object with "do": its name')
    return command


def _say(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()
