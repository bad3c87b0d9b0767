"""The questions of `llama-client crossover` without a model, on a terminal: the few that the answer depends on most."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from llama_client.cli.terminal import printable, say
from llama_client.crossover.fitting.machines import Machine
from llama_client.crossover.parallelism import require_degree
from llama_client.crossover.resolve import served_as
from llama_client.crossover.scenario import SelfHost, Traffic
from llama_client.errors import InvalidRequestError

if TYPE_CHECKING:
    from llama_client.crossover.tables import Architecture, Tables

_USUAL_MODEL = "llama-3.3-70b"
_LEDGER, _MINE = "ledger", "mine"
_MACHINE = re.compile(r"(?:(?P<count>\d+)\s*x\s*)?(?P<gpu>.+)", re.IGNORECASE)
# Option of each answer, in the order of the command that says the same.
_OPTIONS = {
    "tokens_per_day": "--volume",
    "from_ledger": "--from-ledger",
    "peak_to_mean": "--peak-to-mean",
    "gpu": "--gpu",
    "n_gpus": "--gpus",
    "usd_per_gpu": "--buy",
}
_UNITS = ((1e9, "G"), (1e6, "M"))
Answers = dict[str, Any]


def ask(tables: Tables, tokens: Callable[[str], float], machine: Machine) -> Answers:
    """Asks for model, traffic and machine; the answers by the names of the command's parameters.

    An answer that cannot be is told and asked for again. Ends with the command that asks nothing.
    """
    answers: Answers = {"model": _asked("Which model", lambda text: tables.model(text).name, default=_USUAL_MODEL)}
    answers |= _asked(
        f"Tokens a day, in and out, as in 500M or 1.2G ({_LEDGER}: as in your own calls; empty: any)",
        lambda text: _traffic(text, tokens),
    )
    if "from_ledger" not in answers:
        answers |= _asked(
            "The busiest hour over the mean one (1: batches, 1.3: users all over the world, 2.5: office hours; "
            "empty: not known)",
            _peak,
        )
    mine = _mine(machine)
    at_hand = f"; {_MINE}: {machine.gpus[0].title} of this machine, bought" if mine else ""
    answers |= _asked(
        f"Which GPUs, as in h100_sxm or 2 x rtx_4090{at_hand} (empty: the cheapest to rent)",
        lambda text: _machine(text, tables, tables.model(answers["model"]), mine),
    )
    say(f"The same without questions: {command_of(answers)}\n")
    return answers


def command_of(answers: Answers) -> str:
    """The command that says the same as the answers."""
    words = ["llama-client", "crossover", answers["model"]]
    for name, option in _OPTIONS.items():
        value = answers.get(name)
        if value is True:
            words.append(option)
        elif value is not None:
            words += [option, value if isinstance(value, str) else _short(value)]
    return shlex.join(words)


def _short(number: float) -> str:
    step, unit = next(((step, unit) for step, unit in _UNITS if number >= step), (1.0, ""))
    return f"{number / step:.15g}{unit}"


def _asked(question: str, read: Callable[[str], Any], *, default: str = "") -> Any:
    def checked(text: str) -> Any:
        try:
            return read(text.strip())
        except InvalidRequestError as error:
            raise click.UsageError(printable(str(error).partition(": ")[2])) from error

    return click.prompt(question, default=default, show_default=bool(default), value_proc=checked, err=True)


def _traffic(text: str, tokens: Callable[[str], float]) -> Answers:
    if text.lower() == _LEDGER:
        return {"from_ledger": True}
    if not text:
        return {}
    return {"tokens_per_day": Traffic(tokens_per_day=tokens(text)).tokens_per_day}


def _peak(text: str) -> Answers:
    if not text:
        return {}
    try:
        peak = float(text)
    except ValueError:
        peak = 0.0
    if not 1 <= peak <= 10_000:
        raise click.UsageError(f"must be a number from 1 to 10,000, got {printable(text)!r}")
    return {"peak_to_mean": peak}


def _machine(text: str, tables: Tables, model: Architecture, mine: Answers) -> Answers:
    if not text:
        return {}
    if mine and text.lower() == _MINE:
        return mine
    match = _MACHINE.fullmatch(text)
    assert match is not None
    gpu = tables.gpu(match["gpu"])
    found: Answers = {"gpu": gpu.name}
    if match["count"] is not None:
        host = SelfHost(gpu=gpu.name, n_gpus=int(match["count"]))
        assert host.n_gpus is not None
        _, engine = served_as(host, None, model, gpu, host.n_gpus, ())
        require_degree(model, engine, host.n_gpus)
        found["n_gpus"] = host.n_gpus
    if not tables.rents(gpu.name):
        # No rent is known, so it is bought.
        if tables.purchase(gpu.name) is None:
            raise click.UsageError(
                f"neither a rent nor a price of the {gpu.title} is known; "
                "ask without questions, with --gpu-usd-per-hour or --buy"
            )
        found["usd_per_gpu"] = 0.0
    return found


def _mine(machine: Machine) -> Answers:
    """The GPUs of this machine, at their known price; nothing where the tables do not have them."""
    if not machine.gpus_are_alike or machine.gpus[0].row is None:
        return {}
    return {"gpu": machine.gpus[0].row, "n_gpus": len(machine.gpus), "usd_per_gpu": 0.0}
