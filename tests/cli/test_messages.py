"""What a newcomer reads when something is missing: what is wrong, who says so, and what to do next."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_client.providers.gguf.store import ModelStore
from llama_client.testing.loopback import WireServer, as_json
from tests.cli.conftest import Ran, run

GROQ = "groq/openai/gpt-oss-20b"
GROQ_KEYS, TOGETHER_KEYS = "https://console.groq.com/keys", "https://api.together.ai/settings/api-keys"
ANOTHER = "another target with -m (llama-client models lists them)"


def refused(status: int, error: object, *, headers: dict[str, str] | None = None, model: str = GROQ) -> Ran:
    """What is said where a provider answers with an error."""
    with WireServer(lambda _: as_json({"error": error}, status=status, headers=headers or {})) as server:
        env = {"GROQ_API_KEY": "gsk-x", "GROQ_BASE_URL": server.url, "OLLAMA_HOST": server.url}
        return run("chat", "-m", model, "hi", env={**env, "LLAMA_CLIENT_ROUTING__RETRIES": "0"})


def require(ran: Ran, code: int, *says: str) -> None:
    assert (ran.code, ran.out) == (code, "")
    assert all(said in ran.err for said in says), ran.err


@pytest.mark.parametrize(
    ("target", "variable", "page"),
    [(GROQ, "GROQ_API_KEY", GROQ_KEYS), ("together/x", "TOGETHER_API_KEY", TOGETHER_KEYS)],
)
def test_without_a_key_its_variable_and_where_it_is_made_are_told(target: str, variable: str, page: str) -> None:
    ran = run("chat", "-m", target, "hi")
    require(ran, 1, f"llama-client: {target}: no API key", f"set {variable} (keys are made at {page})")
    assert ran.err.count(page) == 1
    assert ran.err.endswith("Try: llama-client doctor\n")


@pytest.mark.parametrize(
    ("status", "error", "headers", "says", "step"),
    [
        (401, {"message": "Invalid API Key", "code": "invalid_api_key"}, {}, GROQ_KEYS, "llama-client doctor"),
        (403, {"message": "Not for you"}, {}, "Not for you", "llama-client doctor"),
        (404, {"message": "no `x`", "code": "model_not_found"}, {}, "no `x`", "llama-client models"),
        (402, {"message": "No credit"}, {}, "No credit", ANOTHER),
        (413, {"message": "Too large"}, {}, "Too large", f"a shorter prompt, a smaller --max-tokens, or {ANOTHER}"),
        (429, {"message": "Slow down"}, {"retry-after": "712"}, "Slow down", f"again in 12 min, or {ANOTHER}"),
        (503, {"message": "over capacity"}, {}, "over capacity", f"again in a minute, or {ANOTHER}"),
        (500, {"message": "broken"}, {}, "broken", f"again in a minute, or {ANOTHER}"),
    ],
    ids=["wrong key", "forbidden", "no model", "no money", "too large", "rate limit", "overloaded", "broken"],
)
def test_a_refusal_names_who_refused_and_what_to_do(
    status: int, error: object, headers: dict[str, str], says: str, step: str
) -> None:
    ran = refused(status, error, headers=headers)
    require(ran, 1, f"llama-client: {GROQ}: ", says)
    assert ran.err.splitlines()[-1] == f"Try: {step}"
    assert "gsk-x" not in ran.err


def test_a_model_that_ollama_lacks_is_pulled_by_its_own_command() -> None:
    ran = refused(404, "model 'llama3.1:8b' not found", model="ollama/llama3.1:8b")
    require(ran, 1, "run `ollama pull llama3.1:8b`")
    assert "Try:" not in ran.err


def test_an_ollama_that_is_not_running_is_started() -> None:
    require(run("chat", "-m", "ollama/llama3.1:8b", "hi"), 1, "Ollama is not running", "`ollama serve`", "OLLAMA_HOST")


def test_a_retired_model_is_told_with_its_end_and_what_replaces_it() -> None:
    error = {"message": "decommissioned", "code": "model_decommissioned"}
    ran = refused(400, error, model="groq/llama-3.1-70b-versatile")
    require(ran, 1, "retired llama-3.1-70b-versatile in January 2025", "its replacement there is openai/gpt-oss-120b")


def test_an_address_where_nothing_listens_is_told() -> None:
    env = {"GROQ_API_KEY": "gsk-x", "GROQ_BASE_URL": "http://127.0.0.1:1", "LLAMA_CLIENT_ROUTING__RETRIES": "0"}
    ran = run("chat", "-m", GROQ, "hi", env=env)
    require(ran, 1, "no server listens at http://127.0.0.1:1", "Try: llama-client doctor")
    assert "Errno" not in ran.err


def test_a_name_without_an_address_asks_whether_the_machine_is_online() -> None:
    env = {
        "GROQ_API_KEY": "gsk-x",
        "GROQ_BASE_URL": "http://no-such-host.invalid",
        "LLAMA_CLIENT_ROUTING__RETRIES": "0",
    }
    require(run("chat", "-m", GROQ, "hi", env=env), 1, "no-such-host.invalid cannot be resolved", "online?")


def test_where_every_target_failed_each_has_a_line_of_its_own() -> None:
    Path("llama-client.toml").write_text(
        f"default_model = 'chat'\n[routes.chat]\ntargets = ['{GROQ}', 'ollama/llama3.1:8b']\n", encoding="utf-8"
    )
    ran = run("chat", "hi")
    require(ran, 1)
    first, groq, ollama, last = ran.err.splitlines()
    assert (first, last) == ("llama-client: every target failed:", "Try: llama-client doctor")
    assert groq.startswith(f"  {GROQ}: no API key")
    assert ollama.startswith("  ollama/llama3.1:8b: no connection")


def test_a_steps_command_is_for_people_and_not_in_json() -> None:
    ran = run("chat", "-m", GROQ, "--json", "hi")
    assert ran.document["error"].keys() == {"type", "message", "attempts"}
    assert ran.err.endswith("Try: llama-client doctor\n")


def test_local_only_says_what_is_allowed(clean_home: Path) -> None:
    env = {"LLAMA_CLIENT_LOCAL_ONLY": "true", "GROQ_API_KEY": "gsk-x"}
    require(run("chat", "-m", GROQ, "hi", env=env), 1, "local_only is on", "Try: a model on this machine with -m")
    require(run("pull", "smollm2-135m", env=env), 1, "local_only is on", "Try: llama-client pull PATH.gguf")


BUDGET = f"""\
default_model = '{GROQ}'
[[prices]]
target = '{GROQ}'
input_usd_per_mtok = 1
output_usd_per_mtok = 1000
[[budgets]]
usd = 0.5
window = 'day'
"""


def test_a_budget_says_what_fits_and_when_it_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")
    Path("llama-client.toml").write_text(BUDGET, encoding="utf-8")
    ran = run("chat", "--max-tokens", "100000", "hi", env={"GROQ_API_KEY": "gsk-x"})
    require(ran, 1, "Try: --max-tokens 499, or again after ", " UTC, when the budget resets, or see llama-client costs")


def test_where_nothing_can_answer_models_says_what_to_do(store: ModelStore) -> None:
    ran = run("models")
    assert ran.code == 0
    assert "Nothing can answer yet.\nTry: llama-client pull smollm2-135m" in ran.err
    assert "gguf: reached, serves nothing" in ran.out


def test_where_something_can_answer_models_says_nothing_more(demo_pulled: ModelStore) -> None:
    assert run("models").err == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["costs", "--by", "user"], "--by: must be one of 'provider'"),
        (["costs", "--since", "yesterday"], "--since: must be an age such as '7d'"),
        (
            ["fit", "llama-3.3-70b", "--gpu", "rtx4090"],
            "--gpu: 'rtx4090' is not in the tables; did you mean 'rtx_4090'?",
        ),
        (["crossover", "lama-3.3-70b"], "MODEL: 'lama-3.3-70b' is not in the tables; did you mean 'llama-3.3-70b'?"),
        (["pull", "llama3.2:3b"], "NAME: unknown model 'llama3.2:3b' (give smollm2-135m (a tiny demo), "),
        (["pull", "smollm2-135m", "--name", "My Model"], "--name: must be lowercase letters"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_told_in_the_words_of_the_command_line(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")
    require(run(*arguments), 2, f"llama-client: {says}")


def test_an_empty_ledger_says_how_to_fill_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")
    assert 'llama-client chat "Why do llamas hum?"' in run("costs").out.replace("\n", " ")
    require(run("crossover", "llama-3.3-70b", "--from-ledger"), 2, "--from-ledger: no answered call", "give --volume")
