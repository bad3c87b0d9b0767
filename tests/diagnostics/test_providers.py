"""What the doctor says of providers: their key, whether they are reached, how fast, and what is wrong."""

from __future__ import annotations

import itertools
import threading

import pytest

from llama_client.clock import Clock
from llama_client.testing.loopback import (
    Answer,
    Received,
    WireServer,
    as_json,
    endless,
    endless_head,
    garbage,
    hangup,
    paced,
    redirect,
    silence,
    whole,
)
from tests.diagnostics.conftest import KEY, Doctor, compatible, key_command, listing, of


def refusing(status: int) -> Answer:
    code = "invalid_api_key" if status == 401 else "forbidden"
    return as_json({"error": {"message": f"no: {KEY}", "type": "x", "code": code}}, status=status)


def test_a_provider_that_answers_is_reached_with_its_latency_and_its_key_s_source(doctor: Doctor) -> None:
    seconds = itertools.count()
    doctor.clock = Clock(monotonic=lambda: next(seconds) / 8)
    with WireServer(listing("a", "b")) as server:
        report = doctor.says(compatible("cloud", server.url, 'api_key_env = "A_KEY"'), {"A_KEY": KEY})
    reached = of(report, "provider_reachable", "cloud")
    assert (reached.status, reached.facts["models"], reached.facts["url"]) == ("ok", 2, server.url)
    latency_ms = reached.facts["latency_ms"]
    # The clock goes on by an eighth of a second each time that somebody reads it.
    assert isinstance(latency_ms, float)
    assert latency_ms % 125 == 0 < latency_ms
    key = of(report, "provider_key", "cloud")
    assert (key.status, key.facts) == ("ok", {"source": "$A_KEY"})


def test_only_the_list_of_models_is_asked_for(doctor: Doctor) -> None:
    with WireServer(listing("a")) as server:
        doctor.says('default_model = "cloud/a"\n' + compatible("cloud", server.url))
    assert {(request.method, request.path) for request in server.requests} == {("GET", "/models")}


@pytest.mark.parametrize(("status", "word"), [(401, "refused"), (403, "does not allow")])
def test_a_wrong_key_is_told_as_such_with_where_to_get_another(doctor: Doctor, status: int, word: str) -> None:
    with WireServer(lambda _: refusing(status)) as server:
        report = doctor.says("[providers.groq]\n", {"GROQ_API_KEY": KEY, "GROQ_BASE_URL": server.url})
    key = of(report, "provider_key", "groq")
    assert key.status == "problem"
    assert word in key.message
    assert key.remedy is not None
    assert "$GROQ_API_KEY" in key.remedy
    assert "https://console.groq.com/keys" in key.remedy
    assert of(report, "provider_reachable", "groq").status == "info"


def test_a_missing_key_names_the_variable_to_set(doctor: Doctor) -> None:
    report = doctor.says("[providers.together]\n")
    key = of(report, "provider_key", "together")
    assert (key.status, key.facts["source"]) == ("problem", None)
    assert key.remedy is not None
    assert "TOGETHER_API_KEY" in key.remedy
    assert "https://api.together.ai/settings/api-keys" in key.remedy


@pytest.mark.parametrize(
    ("table", "is_read"),
    [("[providers.ollama]\nbase_url = '{}'\n", False), ("[providers.ollama]\n", True), ("[providers.v]\n", False)],
)
def test_a_variable_that_is_not_read_at_that_address_is_no_source_of_a_key(
    doctor: Doctor, table: str, is_read: bool
) -> None:
    with WireServer(ollama) as server:
        kind = f"kind = 'openai'\nbase_url = '{server.url}'\n" if "providers.v" in table else ""
        environ = {"OLLAMA_HOST": server.url, "OLLAMA_API_KEY": KEY, "OPENAI_API_KEY": KEY}
        # The key would have api.openai.com asked, too.
        report = doctor.says(table.format(server.url) + kind, environ, offline=True)
    name = table[len("[providers.") : table.index("]")]
    told = [f for f in report.findings if f.check == "provider_key" and f.subject == name]
    assert any(f.facts["source"] for f in told) == is_read


@pytest.mark.parametrize(
    ("table", "source"),
    [
        ('api_key_env = "NOT_SET"', "NOT_SET is not set"),
        ('api_key_file = "there-is-none"', "cannot be read"),
        (key_command("raise SystemExit(1)"), "exit code 1"),
    ],
)
def test_a_source_without_a_key_is_a_problem_of_the_key(doctor: Doctor, table: str, source: str) -> None:
    key = of(doctor.says(compatible("cloud", "http://127.0.0.1:1", table)), "provider_key", "cloud")
    assert key.status == "problem"
    assert source in key.message


def test_groq_and_together_are_asked_where_their_key_is_there(doctor: Doctor) -> None:
    with WireServer(listing("a")) as server:
        report = doctor.says(None, {"GROQ_API_KEY": KEY, "GROQ_BASE_URL": server.url})
    subjects = [finding.subject for finding in report.findings if finding.check == "provider_reachable"]
    assert subjects == ["groq", "ollama"]


def test_a_server_that_is_down_says_what_to_start(doctor: Doctor) -> None:
    reached = of(doctor.says(compatible("vllm", "http://127.0.0.1:1/v1")), "provider_reachable", "vllm")
    assert (reached.status, reached.message) == ("problem", "connection refused at http://127.0.0.1:1/v1")
    assert reached.remedy == "Start the server, or correct providers.vllm.base_url."


def test_an_ollama_that_nobody_configured_and_that_does_not_run_is_no_problem(doctor: Doctor) -> None:
    assert of(doctor.says(None), "provider_reachable", "ollama").status == "info"


def test_an_ollama_that_is_configured_and_does_not_run_is_one(doctor: Doctor) -> None:
    reached = of(doctor.says('[providers.ollama]\nbase_url = "http://127.0.0.1:1"\n'), "provider_reachable", "ollama")
    assert reached.status == "problem"
    assert "ollama serve" in str(reached.remedy)


MISBEHAVING = {
    "silence": silence(),
    "garbage": garbage(),
    "hangs up": hangup("reset"),
    "headers without end": endless_head(),
    "a body without end": endless(b"x" * 65536),
    "a page": whole(b"<html>not here</html>", status=404),
    "a page with 200": whole(b"<html>hello</html>"),
    "a number": as_json(17),
    "an error": as_json({"error": {"message": "broken"}}, status=500),
    "a redirect": redirect("http://127.0.0.1:1/elsewhere"),
    "words in a byte at a time": paced(Answer([b"H"] * 1000, "stall"), 0.05),
}


@pytest.mark.parametrize("answer", MISBEHAVING.values(), ids=MISBEHAVING.keys())
def test_a_server_that_misbehaves_is_a_problem_and_nothing_more(doctor: Doctor, answer: Answer) -> None:
    with WireServer(lambda _: answer) as server:
        report = doctor.says(compatible("bad", server.url), timeout_s=2.0)
    assert of(report, "provider_reachable", "bad").status == "problem"
    assert of(report, "disk", "room for models").facts["free_bytes"] is not None


@pytest.mark.parametrize(
    ("kind", "wrong", "right"),
    [("ollama", "/v1", ""), ("ollama", "/api", ""), ("openai", "", "/v1"), ("openai", "/api", "/v1")],
)
@pytest.mark.parametrize(
    "answer",
    [whole(b"404 page not found", status=404), as_json({"error": "Unexpected endpoint or method. (GET /models)"})],
    ids=["Ollama", "LM Studio"],
)
def test_a_wrong_address_is_told_with_the_right_one(
    doctor: Doctor, answer: Answer, kind: str, wrong: str, right: str
) -> None:
    with WireServer(lambda _: answer) as server:
        report = doctor.says(f'[providers.mine]\nkind = "{kind}"\nbase_url = "{server.url}{wrong}"\n')
        reached = of(report, "provider_reachable", "mine")
        assert reached.remedy == f"Set providers.mine.base_url to {server.url}{right}."
    assert reached.status == "problem"


def test_one_that_does_not_answer_holds_up_no_other(doctor: Doctor) -> None:
    answered = threading.Event()

    def once_the_other_has_answered(_: Received) -> Answer:
        return hangup() if answered.wait(30) else silence()

    def good(asked: Received) -> Answer:
        answered.set()
        return listing("a")(asked)

    with WireServer(once_the_other_has_answered) as server, WireServer(good) as other:
        report = doctor.says(compatible("slow", server.url) + compatible("good", other.url))
    assert of(report, "provider_reachable", "slow").status == "problem"
    assert of(report, "provider_reachable", "good").status == "ok"


def test_a_list_of_nonsense_serves_nothing(doctor: Doctor) -> None:
    with WireServer(lambda _: as_json({"data": [17, {"id": None}, {"id": 3}, "x"]})) as server:
        report = doctor.says('default_model = "odd/a"\n' + compatible("odd", server.url))
    assert of(report, "provider_reachable", "odd").facts["models"] == 0
    assert of(report, "target", "odd/a").status == "info"


def test_a_command_for_the_key_that_hangs_is_left_behind(doctor: Doctor) -> None:
    table = compatible("cloud", "http://127.0.0.1:1", key_command("import time; time.sleep(60)"))
    report = doctor.says(table, timeout_s=0.5)
    assert "did not answer within 0.5 s" in of(report, "provider_reachable", "cloud").message


def test_what_it_may_not_ask_for_now_is_reached(doctor: Doctor) -> None:
    with WireServer(lambda _: as_json({"error": {"message": "slow down"}}, status=429)) as server:
        report = doctor.says(compatible("busy", server.url))
    assert of(report, "provider_reachable", "busy").status == "warning"


def ollama(asked: Received) -> Answer:
    tags = [{"name": "llama3.1:8b"}, {"name": "gpt-oss:120b-cloud", "remote_host": "https://ollama.com"}]
    return as_json(
        {
            "/api/tags": {"models": tags},
            "/api/ps": {"models": [{"name": "llama3.1:8b"}]},
            "/api/version": {"version": "0.33.1"},
        }.get(asked.path, {"data": []})
    )


def test_a_running_ollama_tells_its_version_what_is_loaded_and_what_its_cloud_answers(doctor: Doctor) -> None:
    with WireServer(ollama) as server:
        report = doctor.says(f'[providers.ollama]\nbase_url = "{server.url}"\n')
    engine = of(report, "ollama")
    assert (engine.status, engine.facts["version"], engine.facts["loaded"]) == ("ok", "0.33.1", ["llama3.1:8b"])
    assert of(report, "ollama_cloud_models").facts["models"] == ["gpt-oss:120b-cloud"]
    assert of(report, "default_model").message == "not set, so it is ollama/llama3.1:8b"
