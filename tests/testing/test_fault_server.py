"""The fault server in its three forms, for any client: which fault a request gets, and what the report says of it."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psutil
import pytest

from llama_client import AuthenticationError, LlamaClient
from llama_client.testing.dialects import DIALECTS, Dialect
from llama_client.testing.faults import FAULTS, GOOD, FaultRequest, FaultServer, Kind
from llama_client.testing.faults.command import main
from llama_client.testing.faults.server import KINDS
from tests.asking import MODES, Asker

PROMPT = "Why do llamas hum?"
SOON_S = 30.0
FORMS = pytest.mark.parametrize("process", [False, True], ids=["thread", "process"])


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[bool, FaultServer]]:
    """One of each form."""
    with FaultServer() as thread, FaultServer(process=True) as process:
        yield {False: thread, True: process}


@pytest.fixture
def server(servers: dict[bool, FaultServer], process: bool) -> FaultServer:
    server = servers[process]
    server.always(GOOD)
    server.clear()
    return server


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    # Without certificates to load, a client is made in no time.
    with httpx.Client(verify=False, trust_env=False, timeout=SOON_S) as client:
        yield client


def post(http: httpx.Client, url: str, prompt: str = PROMPT, **fields: Any) -> httpx.Response:
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], **fields}
    return http.post(f"{url}/chat/completions", json=body)


def names(server: FaultServer) -> list[str]:
    return [request.fault for request in server.report().requests]


@FORMS
def test_next_ones_come_in_order_and_then_what_comes_always(server: FaultServer, http: httpx.Client) -> None:
    server.always("503")
    server.next("429 integer", GOOD, "500")
    url = server.url_for("openai")
    assert [post(http, url).status_code for _ in range(4)] == [429, 200, 500, 503]
    assert names(server) == ["429-integer", GOOD, "500", "503"]


@FORMS
def test_an_address_names_a_fault_before_a_model_does_and_a_model_before_a_plan(
    server: FaultServer, http: httpx.Client
) -> None:
    server.always("503")
    assert post(http, server.url_for("openai", fault="401"), model="fault/403").status_code == 401
    assert post(http, server.url_for("openai"), model="fault/403").status_code == 403
    assert post(http, server.url_for("openai")).status_code == 503


@FORMS
def test_a_report_holds_what_was_asked_and_what_it_got(server: FaultServer, http: httpx.Client) -> None:
    server.next("500")
    post(http, server.url_for("groq") + "/openai/v1", model="a/b", stream=True)
    answer = http.post(server.url_for("ollama") + "/api/chat", json={"model": "c", "messages": [], "stream": False})
    report = server.report()
    first, second = report.requests
    path = "/openai/v1/chat/completions"
    assert first == FaultRequest("groq", path, "a/b", PROMPT, True, "500", first.text)
    assert (second.dialect, second.streams, second.fault) == ("ollama", False, GOOD)
    assert answer.json()["message"]["content"] == second.text
    assert (report.chats, report.faults) == ({"groq": 1, "ollama": 1}, {"500": 1, GOOD: 1})
    assert (report.open_connections, report.malformed) == (1, 0)
    http.close()
    assert server.wait_until_idle()
    server.clear()
    emptied = server.report()
    assert (emptied.requests, emptied.chats, emptied.open_connections) == ([], {}, 0)


@FORMS
def test_a_report_counts_clients_that_leave_and_what_is_no_http(server: FaultServer, http: httpx.Client) -> None:
    with pytest.raises(httpx.ReadTimeout):
        http.post(server.url_for("openai", fault="stall") + "/chat/completions", json={}, timeout=0.1)
    with socket.create_connection(("127.0.0.1", server.port)) as stranger:
        stranger.sendall(b"\x16\x03\x01 a greeting of TLS")
        assert stranger.recv(100).startswith(b"HTTP/1.1 400")
    assert server.wait_until_idle()
    report = server.report()
    assert (report.closed_early, report.malformed, names(server)) == (1, 1, ["stall"])
    server.clear()
    emptied = server.report()
    assert (emptied.closed_early, emptied.malformed) == (0, 0)


@FORMS
def test_faults_at_a_rate_are_the_same_for_the_same_seed_in_any_order(server: FaultServer, http: httpx.Client) -> None:
    def drawn(seed: int, prompts: list[str]) -> dict[str, str]:
        server.at_rate(0.5, seed=seed, faults=["429", "500"])
        url = server.url_for("openai")
        for prompt in prompts:
            post(http, url, prompt)
        found = {request.prompt: request.fault for request in server.report().requests}
        server.clear()
        return found

    def of(run: int) -> list[str]:
        # How often a prompt was asked is part of the chance, so each run has prompts of its own.
        return [f"{number} {'again ' * run}" for number in range(60)]

    first, other = drawn(7, of(0)), drawn(8, of(1))
    assert set(first.values()) == {GOOD, "429", "500"}
    assert [*first.values()] != [*other.values()]
    with FaultServer() as fresh:
        fresh.at_rate(0.5, seed=7, faults=["429", "500"])
        for prompt in reversed(of(0)):
            post(http, fresh.url_for("openai"), prompt)
        assert {request.prompt: request.fault for request in fresh.report().requests} == first


@FORMS
@pytest.mark.parametrize(
    ("do", "words"),
    [
        (lambda server: server.next("429 intger"), "did you mean '429-integer'"),
        (lambda server: server.always("moonrise"), "FAULTS has all names"),
        (lambda server: server.at_rate(1.5), "rate: 1.5 is not a share from 0 to 1"),
        (lambda server: server.at_rate(0.5, faults=["moonrise"]), "no fault is called 'moonrise'"),
        (lambda server: server.url_for("bedrock"), "no kind is called 'bedrock'"),
        (lambda server: server.url_for("groq", fault="x"), "no fault is called 'x'"),
    ],
)
def test_what_is_wrong_is_said(server: FaultServer, do: Callable[[FaultServer], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        do(server)


@pytest.mark.parametrize("process", [False])
@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/fault/429-intger/v1/chat/completions", 400, "did you mean '429-integer'"),
        ("/v2/chat", 404, "nothing is at POST /v2/chat"),
        ("/v1/embeddings", 404, "nothing is at POST /v1/embeddings"),
        ("/fault/text-cut/v1/chat/completions", 400, "the fault 'text-cut' needs stream=true"),
    ],
)
def test_a_request_for_nothing_is_told_so(
    path: str, status: int, words: str, server: FaultServer, http: httpx.Client
) -> None:
    answer = http.post(server.url + path, json={"messages": []})
    assert (answer.status_code, words in answer.json()["error"]["message"]) == (status, True)


@pytest.mark.parametrize("process", [False])
def test_lists_of_models_are_good_and_name_the_faults(server: FaultServer, http: httpx.Client) -> None:
    server.always("500")
    listed = http.get(server.url_for("openai") + "/models").json()["data"]
    assert "fault/429-integer" in [model["id"] for model in listed]
    tags = http.get(server.url_for("ollama") + "/api/tags").json()["models"]
    assert [model["name"] for model in tags] == [model["id"] for model in listed]
    one = http.get(server.url_for("groq") + "/openai/v1/models/some/model").json()
    assert one["id"] == "some/model"
    assert http.get(server.url_for("openai", fault="503") + "/models").status_code == 503
    assert names(server) == []


@pytest.mark.parametrize("process", [False])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_our_client_recovers_from_what_is_planned(dialect: Dialect, mode: str, server: FaultServer) -> None:
    kind: Kind = dialect.kind  # type: ignore[assignment]
    config = dialect.config("", api_key="none")
    config["providers"]["x"]["base_url"] = server.url_for(kind)
    server.next("429-now", "429-milliseconds")
    reply = Asker(mode, config | {"routing": {"retries": 2}}, [])(PROMPT, model="x/some/model")
    assert [attempt.error for attempt in reply.attempts] == ["RateLimitError", "RateLimitError", None]
    assert reply.text == server.report().requests[-1].text


def test_the_fixture_is_a_server(fault_server: FaultServer) -> None:
    fault_server.always("401")
    url = fault_server.url_for("groq")
    with LlamaClient.for_provider("groq", api_key="none", base_url=url) as client:
        with pytest.raises(AuthenticationError):
            client.ask(PROMPT, model="llama-3.1-8b-instant", timeout=5)


def ask_openai(server: FaultServer, fault: str) -> None:
    openai = importlib.import_module("openai")
    with openai.OpenAI(api_key="none", base_url=server.url_for("openai", fault=fault), max_retries=0) as client:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": PROMPT}])


def ask_groq(server: FaultServer, fault: str) -> None:
    groq = importlib.import_module("groq")
    with groq.Groq(api_key="none", base_url=server.url_for("groq", fault=fault), max_retries=0) as client:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": PROMPT}])


def ask_ollama(server: FaultServer, fault: str) -> None:
    ollama = pytest.importorskip("ollama")
    with ollama.Client(host=server.url_for("ollama", fault=fault)) as client:
        client.chat(model="m", messages=[{"role": "user", "content": PROMPT}])


@pytest.mark.parametrize("process", [False])
@pytest.mark.parametrize(
    ("ask", "fault", "error"),
    [
        (ask_openai, "429-integer", "RateLimitError"),
        (ask_openai, "401", "AuthenticationError"),
        (ask_openai, "reset", "APIConnectionError"),
        (ask_groq, "429-integer", "RateLimitError"),
        (ask_groq, "502-html", "InternalServerError"),
        (ask_groq, "hangup", "APIConnectionError"),
        (ask_ollama, "404-model", "ResponseError"),
        (ask_ollama, "500", "ResponseError"),
        (ask_ollama, "short-body", "RemoteProtocolError"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_official_clients_raise_their_own_errors(
    ask: Callable[[FaultServer, str], None], fault: str, error: str, server: FaultServer
) -> None:
    ask(server, GOOD)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of several packages
        ask(server, fault)
    assert type(caught.value).__name__ == error
    assert names(server) == [GOOD, fault]


@pytest.mark.parametrize("process", [False])
@pytest.mark.parametrize(("fault", "code"), [("429-now", "429"), ("hangup", "000"), (GOOD, "200")])
def test_curl_is_a_client_too(fault: str, code: str, server: FaultServer) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl")
    url = server.url_for("openai", fault=fault) + "/chat/completions"
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": PROMPT}]})
    command = [curl, "-sS", "--noproxy", "*", "-o", os.devnull, "-w", "%{http_code}", "-d", body, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SOON_S)
    assert done.stdout == code
    assert names(server) == [fault]


@pytest.mark.parametrize("process", [False])
def test_a_good_stream_is_read_by_the_official_client(server: FaultServer) -> None:
    openai = importlib.import_module("openai")
    server.at_rate(0, seed=3)
    with openai.OpenAI(api_key="none", base_url=server.url_for("openai"), max_retries=0) as client:
        messages = [{"role": "user", "content": PROMPT}]
        chunks = [*client.chat.completions.create(model="m", messages=messages, stream=True)]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == server.report().requests[0].text


@pytest.mark.parametrize("process", [False, True], ids=["thread", "process"])
def test_closing_ends_what_is_under_way(process: bool) -> None:
    server = FaultServer(process=process)
    ended = threading.Event()

    def ask() -> None:
        with httpx.Client(verify=False, trust_env=False, timeout=SOON_S) as http, pytest.raises(httpx.TransportError):
            post(http, server.url_for("openai", fault="stall"))
        ended.set()

    asking = threading.Thread(target=ask)
    asking.start()
    while not server.report().requests:
        time.sleep(0.01)
    server.close()
    assert ended.wait(SOON_S)
    asking.join()
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
    server.close()


def test_a_server_process_that_was_killed_is_told() -> None:
    before = psutil.Process().children()
    with FaultServer(process=True) as server:
        (child,) = [each for each in psutil.Process().children() if each not in before]
        child.kill()
        with pytest.raises(RuntimeError, match="has ended"):
            server.report()


def test_a_server_process_ends_with_its_parent() -> None:
    code = (
        "import os, psutil\n"
        "from llama_client.testing.faults import FaultServer\n"
        "server = FaultServer(process=True)\n"
        "print(psutil.Process().children()[0].pid, flush=True)\n"
        "os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    pid, until = int(done.stdout), time.monotonic() + SOON_S
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.02)


def shell(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "llama_client.testing.faults", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["interrupted", "terminated"])
def test_a_shell_gets_its_addresses_as_a_line_and_ends_it_by_a_signal(number: int, http: httpx.Client) -> None:
    with shell("--port", "0", "--fault", "503", stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert [*told["urls"]] == [*KINDS]
        assert post(http, told["urls"]["together"]).status_code == 503
        process.send_signal(number)
        output, errors = process.communicate(timeout=SOON_S)
        assert (process.returncode, output, errors) == (0, "", "")


def test_any_program_may_command_it_by_lines(http: httpx.Client) -> None:
    with shell("--commands", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["urls"]["openai"]

        def say(line: str) -> Any:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(line + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        assert say('{"do": "next", "names": ["500"]}') == {"result": None}
        assert post(http, url).status_code == 500
        (request,) = say('{"do": "report"}')["result"]["requests"]
        assert request["fault"] == "500"
        for wrong in ("{", "[]", '{"do": "dance"}', '{"do": "next"}', '{"do": "next", "names": ["x"]}'):
            assert [*say(wrong)] == ["error"]
        process.communicate(timeout=SOON_S)
        assert process.returncode == 0


def test_the_list_names_every_fault() -> None:
    output, errors = shell("--list").communicate(timeout=SOON_S)
    assert [line.split()[0] for line in output.splitlines()] == [*FAULTS]
    assert errors == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--fault", "429-intger"), "did you mean '429-integer'"),
        (("--rate", "2"), "'2' is not a share from 0 to 1"),
        (("--rate", "x"), "'x' is not a share from 0 to 1"),
        (("--seed", "x"), "'x' is not a seed, which is a whole number"),
        (("--port", "-1"), "cannot listen at port -1"),
        (("--port", "99999"), "cannot listen at port 99999"),
    ],
)
def test_wrong_usage_is_told(arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    # As the module does that is run. Another exception would be a traceback.
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(main(arguments))
    assert (ended.value.code, words in capsys.readouterr().err) == (2, True)


def test_a_shell_is_told_of_wrong_usage_without_a_traceback() -> None:
    process = shell("--fault", "429-intger")
    _, errors = process.communicate(timeout=SOON_S)
    assert (process.returncode, "did you mean '429-integer'" in errors, "Traceback" in errors) == (2, True, False)


def test_a_taken_port_is_an_error() -> None:
    with FaultServer() as server, pytest.raises(OSError, match=r"in use|only one usage|denied|forbidden"):
        FaultServer(port=server.port)
