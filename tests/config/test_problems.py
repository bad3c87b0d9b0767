"""Everything that is wrong is told at once, each thing once, where it stands."""

from __future__ import annotations

import sys
import zoneinfo
from typing import Any

import pytest

from llama_client.diagnostics.config_check import all_problems


def told(values: dict[str, Any]) -> dict[str, str]:
    return {problem.subject: problem.message for problem in all_problems(values)[1]}


def test_what_is_right_has_no_problems() -> None:
    config, problems = all_problems({"providers": {"gguf": {"n_ctx": 512}}, "timezone": "UTC"})
    assert (problems, config.timezone) == ([], "UTC")


def test_problems_of_different_depths_are_told_together() -> None:
    found = told(
        {
            "default_modell": "x",
            "local_only": "yes",
            "providers": {
                "laptop": {},
                "gguf": {"n_ctx": 1 << 24, "n_parallel": 256, "n_cxt": 1},
                "groq": {"api_key_env": "A", "api_key_file": "b", "timeout_s": "long"},
                "box": 5,
            },
            "routes": {"chat": {"targets": ["nobody/x", "groq/x", "neither/y"]}},
            "budgets": [{"usd": 0, "window": "day"}, {"usd": 1, "window": "day", "scope": "provider:grok"}],
            "prices": [{"target": "groq/x", "input_usd_per_mtok": 1}],
        }
    )
    assert set(found) == {
        "default_modell",
        "local_only",
        "providers.laptop.kind",
        "providers.gguf.n_cxt",
        "providers.gguf.n_ctx",
        "providers.groq.timeout_s",
        "providers.groq.api_key_file",
        "providers.box.kind",
        "routes.chat.targets[0]",
        "routes.chat.targets[2]",
        "budgets[0].usd",
        "budgets[1].scope",
        "prices[0].output_usd_per_mtok",
    }
    assert "did you mean 'n_ctx'" in found["providers.gguf.n_cxt"]


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        # What follows from a wrong value is not wrong as well.
        ({"providers": {"groq": {"api_key_command": []}}}, ["providers.groq.api_key_command"]),
        ({"providers": {"groq": {"base_url": "notaurl"}}}, ["providers.groq.base_url"]),
        ({"providers": {"groq": {"headers": {"A B": "x"}}}}, ["providers.groq.headers.A B"]),
        # A name that is not quite right is not missing as well, and what is wrong was there.
        ({"budgets": [{"usdd": 1, "window": "day"}]}, ["budgets[0].usdd"]),
        ({"budgets": [{"usd": -1, "window": "dy"}]}, ["budgets[0].usd", "budgets[0].window"]),
        ({"budgets": [{"window": "day"}]}, ["budgets[0].usd"]),
        # A route whose only target is wrong is not empty as well.
        ({"routes": {"r": {"targets": ["nobody/x"]}}}, ["routes.r.targets[0]"]),
        ({"routes": {"r": {"targets": []}}}, ["routes.r.targets"]),
        # Nobody is told that a provider is missing whose own table is wrong.
        ({"providers": {"x": {}}, "routes": {"r": {"targets": ["x/y"]}}}, ["providers.x.kind"]),
        ({"providers": {"a/b": {"kind": "gguf"}}}, ["providers"]),
        ({"providers": []}, ["providers"]),
        ({"routes": {"a/b": {"targets": ["groq/x"]}}}, ["routes.a/b"]),
        ({"providers": {"gguf": {"lora": [{"path": "a"}, {"pth": "b"}]}}}, ["providers.gguf.lora[1].pth"]),
    ],
    ids=str,
)
def test_one_mistake_is_one_problem(values: dict[str, Any], fields: list[str]) -> None:
    assert [problem.subject for problem in all_problems(values)[1]] == fields


@pytest.mark.parametrize("wrong", [3, ["certificates.pem"]])
def test_a_path_that_is_none_is_told_in_words_of_ours(wrong: object) -> None:
    (message,) = told({"providers": {"mistral": {"ca_file": wrong}}}).values()
    assert "must be a path, got" in message


def test_an_item_keeps_its_number_when_those_before_it_are_wrong() -> None:
    rows = [
        {"usd": -1, "window": "day"},
        {"usd": 1, "window": "day"},
        {"usd": 1, "window": "day", "scope": "provider:x"},
    ]
    problems = all_problems({"budgets": rows})[1]
    assert [problem.path for problem in problems] == [("budgets", 0, "usd"), ("budgets", 2, "scope")]


def test_no_secret_is_told() -> None:
    wrong: dict[str, Any] = {"api_key": "SECRET", "api_key_file": "x", "headers": "SECRET", "proxy": {"a": "SECRET"}}
    wrong |= {"base_url": "ftp://ann:SECRET@h", "api_kye": "SECRET", "api_key_command": [5, "SECRET"]}
    problems = all_problems({"providers": {"groq": wrong}, "ledger": {"url": "postgresql://ann:SEC/RET@h"}})[1]
    assert len(problems) >= 6
    assert not any("SEC" in problem.message for problem in problems)


def test_a_system_without_data_of_time_zones_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = zoneinfo.TZPATH
    # As in a slim image of a container.
    for name in {"tzdata", *(name for name in sys.modules if name.startswith("tzdata."))}:
        monkeypatch.setitem(sys.modules, name, None)
    zoneinfo.reset_tzpath(to=[])
    zoneinfo.ZoneInfo.clear_cache()
    try:
        found = told({"timezone": "Europe/Berlin"})
    finally:
        zoneinfo.reset_tzpath(to=before)
    assert "`pip install tzdata`" in found["timezone"]
