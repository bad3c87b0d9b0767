"""The file that `config init` writes loads, whatever was chosen and whichever examples are switched on."""

from __future__ import annotations

import itertools
import re
import tomllib
from decimal import Decimal

import pytest

from llama_client import load_config
from llama_client.config.toml_write import NewConfig, config_text

TARGETS = ("groq/openai/gpt-oss-20b", 'together/a model\'s "id"', "ollama/llama3.1:8b", "gguf/smollm2-135m")
CHOSEN = [
    NewConfig(targets, budget_usd=usd, demo=TARGETS[3], free=targets[2:])
    for count in range(1, 5)
    for targets in itertools.combinations(TARGETS, count)
    for usd in (None, Decimal("0.5"))
]


def examples(text: str) -> list[list[int]]:
    """The numbers of lines that are switched off, as far as they stand together."""
    numbers = [number for number, line in enumerate(text.splitlines()) if re.match("#[^ #]", line)]
    return [
        [number for _, number in run]
        for _, run in itertools.groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    ]


def switched_on(text: str, numbers: list[int]) -> str:
    return "\n".join(line[1:] if number in numbers else line for number, line in enumerate(text.splitlines()))


@pytest.mark.parametrize("choices", CHOSEN, ids=lambda choices: f"{choices.providers}, {choices.budget_usd}")
def test_every_example_loads_when_it_is_switched_on(choices: NewConfig) -> None:
    text = config_text(choices)
    runs = examples(text)
    assert len(runs) > 15
    for numbers in (*runs, [number for run in runs for number in run]):
        load_config(tomllib.loads(switched_on(text, numbers)), environ={})


@pytest.mark.parametrize("choices", CHOSEN, ids=lambda choices: f"{choices.providers}, {choices.budget_usd}")
def test_what_was_chosen_holds(choices: NewConfig) -> None:
    config = load_config(tomllib.loads(config_text(choices)), environ={})
    assert config.default_model == choices.default_model
    assert list(config.providers) == choices.providers
    assert [row.target for route in config.routes.values() for row in route.targets] in ([], list(choices.targets))
    assert [budget.usd for budget in config.budgets] == ([] if choices.budget_usd is None else [choices.budget_usd])
    assert not config.local_only


def test_each_example_says_something_of_its_own() -> None:
    text = config_text(CHOSEN[0])
    everything = tomllib.loads(switched_on(text, [number for run in examples(text) for number in run]))
    assert {"routes", "budgets", "prices", "ledger", "routing", "privacy", "telemetry", "models"} <= set(everything)
    assert everything["local_only"] is False


@pytest.mark.parametrize("choices", CHOSEN[-2:], ids=["no budget", "a budget"])
def test_it_fits_a_terminal(choices: NewConfig) -> None:
    assert [line for line in config_text(choices).splitlines() if len(line) > 80] == []
