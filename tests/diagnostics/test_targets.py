"""What the doctor says of the default model and of routes, and of the targets that they name."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_client.providers.gguf.store import ModelStore
from llama_client.testing.loopback import WireServer, as_json
from tests.diagnostics.conftest import KEY, Doctor, compatible, listing, of
from tests.providers.gguf.conftest import write_gguf

GROQ = {"GROQ_API_KEY": KEY}


def test_a_default_model_that_is_served_is_well(doctor: Doctor) -> None:
    with WireServer(listing("a")) as server:
        report = doctor.says('default_model = "vllm/a"\n' + compatible("vllm", server.url))
    assert (of(report, "default_model").status, of(report, "default_model").message) == ("ok", "vllm/a")
    assert (of(report, "target").status, of(report, "target").facts) == ("ok", {"can_answer": True})


def test_without_any_model_it_is_said_how_to_get_one(doctor: Doctor) -> None:
    default = of(doctor.says(None), "default_model")
    assert default.status == "problem"
    assert "llama-client pull smollm2-135m" in str(default.remedy)


def test_without_a_configuration_the_pulled_model_is_the_default(doctor: Doctor, demo_pulled: ModelStore) -> None:
    report = doctor.says(None)
    assert of(report, "default_model").message == "not set, so it is gguf/smollm2-135m"
    assert report.status == "ok"


def test_a_default_model_that_names_nobody_is_a_problem(doctor: Doctor) -> None:
    default = of(doctor.says('default_model = "openai/gpt-oss-20b"\n'), "default_model")
    assert default.status == "problem"
    assert "did you mean 'groq/openai/gpt-oss-20b'?" in default.message


@pytest.mark.parametrize(("ids", "near"), [(["llama-3.1-8b"], "did you mean 'llama-3.1-8b'?"), (["x"], "")])
def test_a_model_that_a_compatible_server_does_not_list_is_doubtful(doctor: Doctor, ids: list[str], near: str) -> None:
    with WireServer(listing(*ids)) as server:
        report = doctor.says('default_model = "vllm/llama-3.1-9b"\n' + compatible("vllm", server.url))
    target = of(report, "target")
    assert target.status == "warning"
    assert near in target.message
    assert of(report, "default_model").status == "warning"


def test_a_model_that_groq_does_not_list_is_a_problem(doctor: Doctor) -> None:
    with WireServer(listing("openai/gpt-oss-20b")) as server:
        report = doctor.says('default_model = "groq/openai/gpt-oss-21b"\n', {**GROQ, "GROQ_BASE_URL": server.url})
    assert of(report, "target").status == "problem"
    assert of(report, "default_model").status == "problem"


def test_a_retired_model_names_what_replaces_it(doctor: Doctor) -> None:
    with WireServer(listing("openai/gpt-oss-20b")) as server:
        report = doctor.says('default_model = "groq/llama-3.1-8b-instant"\n', {**GROQ, "GROQ_BASE_URL": server.url})
    target = of(report, "target")
    assert target.status == "problem"
    assert "groq retired llama-3.1-8b-instant on 2026-08-16" in target.message
    assert target.remedy == "Name groq/openai/gpt-oss-20b instead of groq/llama-3.1-8b-instant."


def test_a_retired_model_that_this_account_keeps_is_well(doctor: Doctor) -> None:
    with WireServer(listing("llama-3.1-8b-instant")) as server:
        report = doctor.says('default_model = "groq/llama-3.1-8b-instant"\n', {**GROQ, "GROQ_BASE_URL": server.url})
    assert of(report, "target").status == "ok"


ROUTE = 'default_model = "chat"\n[routes.chat]\ntargets = ["vllm/a", "gguf/smollm2-135m"]\n'


def test_a_route_of_which_one_target_is_left_is_a_warning(doctor: Doctor, demo_pulled: ModelStore) -> None:
    report = doctor.says(ROUTE + compatible("vllm", "http://127.0.0.1:1"))
    route = of(report, "route", "routes.chat")
    assert route.status == "warning"
    assert route.message == "1 of 2 targets cannot answer: vllm/a (vllm was not reached)"
    assert of(report, "default_model").message == "chat, a route: some of its targets cannot answer"
    assert of(report, "target", "gguf/smollm2-135m").status == "ok"


def test_a_route_of_which_none_is_left_is_a_problem(doctor: Doctor) -> None:
    report = doctor.says(ROUTE + compatible("vllm", "http://127.0.0.1:1"))
    route = of(report, "route", "routes.chat")
    assert route.status == "problem"
    assert route.remedy == "Run `llama-client pull smollm2-135m`."


def test_a_file_that_is_missing_is_only_a_warning_where_another_target_answers(doctor: Doctor) -> None:
    with WireServer(listing("a")) as server:
        report = doctor.says(ROUTE + compatible("vllm", server.url))
    assert of(report, "target", "gguf/smollm2-135m").status == "warning"
    assert of(report, "route").status == "warning"


def test_the_model_that_is_asked_for_takes_the_place_of_the_default(doctor: Doctor) -> None:
    with WireServer(listing("a")) as server:
        report = doctor.says('default_model = "vllm/gone"\n' + compatible("vllm", server.url), model="vllm/a")
    assert of(report, "model", "vllm/a").status == "ok"
    assert not [finding for finding in report.findings if finding.check == "default_model"]


def test_an_ollama_model_that_was_not_pulled_says_how_to_pull_it(doctor: Doctor) -> None:
    with WireServer(lambda asked: as_json({"models": [{"name": "qwen:7b"}], "version": "1"})) as server:
        report = doctor.says(f'default_model = "ollama/llama3.2"\n[providers.ollama]\nbase_url = "{server.url}"\n')
    assert of(report, "target").remedy == "Run `ollama pull llama3.2`."


def test_an_ollama_model_is_found_with_or_without_its_latest(doctor: Doctor) -> None:
    with WireServer(lambda asked: as_json({"models": [{"name": "qwen:latest"}], "version": "1"})) as server:
        report = doctor.says(f'default_model = "ollama/qwen"\n[providers.ollama]\nbase_url = "{server.url}"\n')
    assert of(report, "target").status == "ok"


@pytest.mark.parametrize(
    ("adapters", "why"),
    [
        ("+formal", None),
        ("+formel", "no adapter is named 'formel'; did you mean 'formal'?"),
        ("+b", "(there are formal)"),
    ],
)
def test_a_target_with_an_adapter_is_examined(
    doctor: Doctor, demo_pulled: ModelStore, tmp_path: Path, adapters: str, why: str | None
) -> None:
    files = [write_gguf(tmp_path / f"{name}.gguf", file_type="adapter") for name in "ab"]
    lora = f"lora = [{{ path = '{files[0]}', name = 'formal' }}, {{ path = '{files[1]}' }}]\n"
    report = doctor.says(f"default_model = 'desk/default{adapters}'\n[providers.desk]\nkind = 'gguf'\n{lora}")
    target = of(report, "target")
    assert (target.status, target.subject) == ("ok" if why is None else "problem", f"desk/default{adapters}")
    assert why is None or (why in target.message and "providers.desk.lora" in str(target.remedy))


@pytest.mark.parametrize(
    ("model", "message", "remedy"),
    [
        ("+formal", "the name of the model is empty", "Name one of default, smollm2-135m."),
        (
            "default +formal",
            "no model is named 'default '; did you mean 'default'?",
            "Name one of default, smollm2-135m.",
        ),
        ("other+formal", "no model named 'other' has been pulled", "Run `llama-client pull other`."),
    ],
)
def test_a_target_without_a_model_is_told(
    doctor: Doctor, demo_pulled: ModelStore, tmp_path: Path, model: str, message: str, remedy: str
) -> None:
    path = write_gguf(tmp_path / "a.gguf", file_type="adapter")
    lora = f"lora = [{{ path = '{path}', name = 'formal' }}]\n"
    report = doctor.says(f"default_model = 'desk/{model}'\n[providers.desk]\nkind = 'gguf'\n{lora}")
    target = of(report, "target")
    assert (target.status, message in target.message, target.remedy) == ("problem", True, remedy)
