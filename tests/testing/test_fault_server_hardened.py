"""A fault server and a wire server that are used wrongly: what is wrong is told, and the server lives on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from llama_client import testing
from llama_client.testing.faults import FAULTS, GOOD, FaultServer
from llama_client.testing.loopback import Answer, Received, WireServer, as_json, whole

SOON_S = 30.0
DEEP = b"[" * 200_000
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[bool, FaultServer]]:
    with FaultServer() as thread, FaultServer(process=True) as process:
        yield {False: thread, True: process}


@pytest.fixture
def server(servers: dict[bool, FaultServer], request: pytest.FixtureRequest) -> FaultServer:
    server = servers[getattr(request, "param", False)]
    server.always(GOOD)
    server.clear()
    return server


BOTH = pytest.mark.parametrize("server", [False, True], ids=["thread", "process"], indirect=True)


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(verify=False, trust_env=False, timeout=SOON_S) as client:
        yield client


def post(
    http: httpx.Client, server: FaultServer, prompt: str = "Why?", *, path: str = CHAT, **more: Any
) -> httpx.Response:
    return http.post(server.url + path, json={"messages": [{"role": "user", "content": prompt}], **more})


def raw(port: int, request: bytes) -> bytes:
    """All that a server sends until it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=SOON_S) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


@BOTH
@pytest.mark.parametrize(
    ("do", "words"),
    [
        (lambda server: server.next(["reset", "500"]), r"faults\[0\]: \['reset', '500'\] is not the name of a fault"),
        (lambda server: server.next(429), r"faults\[0\]: 429 is not the name"),
        (lambda server: server.always(None), "fault: None is not the name"),
        (lambda server: server.at_rate(0.5, faults="reset"), "faults: 'reset' is not a list of names"),
        (lambda server: server.at_rate(0.5, seed="x"), "seed: 'x' is not a whole number"),
        (lambda server: server.at_rate("0.5"), "rate: '0.5' is not a share"),
        (lambda server: server.at_rate(0.5, slow=2), "slow: 2 is not a share"),
        (lambda server: server.at_rate(0.5, failing_prompts=5), "failing_prompts: 5 is not the text"),
        (lambda server: server.wait_until_idle(float("inf")), "within_s: inf is not a number of seconds"),
        (lambda server: server.wait_until_idle(-1), "within_s: -1 is not"),
    ],
)
def test_a_wrong_argument_is_told_and_the_server_lives(
    do: Callable[[Any], object], words: str, server: FaultServer
) -> None:
    with pytest.raises(ValueError, match=words):
        do(server)
    assert server.report().chats == {}


def test_a_wrong_command_is_told_and_the_server_lives() -> None:
    lines = [
        '{"do": "next", "names": [5]}', '{"do": "always", "name": null}', '{"do": "at_rate"}', '{"do": "call"}',
        '{"do": "report", "x": 1}', '{"do": "wait_until_idle", "within_s": 1e12}', "[" * 100_000, "\xff",
    ]  # fmt: skip
    command = [sys.executable, "-m", "llama_client.testing.faults", "--commands"]
    written = "\n".join([*lines, '{"do": "at_rate", "share": 0.5}', '{"do": "close"}', ""])
    done = subprocess.run(command, input=written.encode("latin-1"), capture_output=True, timeout=SOON_S)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [next(iter(each)) for each in told] == ["url", *["error"] * len(lines), "result"]
    assert "share" in told[3]["error"]
    assert (done.returncode, done.stderr) == (0, b"")


@BOTH
def test_others_may_command_while_one_waits(server: FaultServer) -> None:
    idle: list[bool] = []
    with socket.create_connection(("127.0.0.1", server.port)):
        while not server.report().open_connections:
            pass
        waiting = threading.Thread(target=lambda: idle.append(server.wait_until_idle(SOON_S)))
        waiting.start()
        assert server.report().open_connections == 1
        assert waiting.is_alive()
    waiting.join()
    assert idle == [True]


@pytest.mark.parametrize("process", [False, True], ids=["thread", "process"])
def test_a_port_that_cannot_be_had_is_told(process: bool) -> None:
    with FaultServer() as other, pytest.raises(OSError, match=r"in use|only one usage|denied|forbidden"):
        FaultServer(process=process, port=other.port)
    with pytest.raises(ValueError, match="port: 99999 is not a whole number from 0 to 65535"):
        FaultServer(process=process, port=99_999)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
def test_a_fork_does_not_keep_the_server_alive() -> None:
    code = (
        "import os, signal\n"
        "from llama_client.testing.faults import FaultServer\n"
        "server = FaultServer(process=True)\n"
        "told, tell = os.pipe()\n"
        "fork = os.fork()\n"
        "if fork == 0:\n"
        "    try: server.report()\n"
        "    except RuntimeError as error: os.write(tell, str(error).encode())\n"
        "    signal.pause()\n"
        "said = os.read(told, 200).decode()\n"
        "process = server._backend._process\n"
        "process.stdin.close()\n"
        "code = process.wait(20)\n"
        "os.kill(fork, signal.SIGKILL)\n"
        "print(code, said)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("0 the fault server takes commands from the process that made it")


@pytest.mark.parametrize(
    "body",
    [b'{"messages": [{"role": "user", "content": "\\ud83d"}]}', b'{"model": "\\ud83d"}', DEEP, b"\xff\xfe"],
    ids=["half-a-character", "half-a-character-as-model", "deep", "no-text"],
)
@pytest.mark.parametrize("path", [CHAT, "/openai/v1/chat/completions", "/api/chat"])
def test_a_body_that_is_odd_gets_an_answer(path: str, body: bytes, server: FaultServer, http: httpx.Client) -> None:
    assert http.post(server.url + path, content=body).status_code in (200, 400)
    assert len(server.report().requests) == 1


def drawn(server: FaultServer, http: httpx.Client, chats: list[list[dict[str, str]]]) -> list[int]:
    server.at_rate(0.5, seed=7, faults=["500"])
    return [http.post(server.url + CHAT, json={"messages": chat}).status_code for chat in chats]


def test_a_rate_hangs_on_the_whole_conversation(server: FaultServer, http: httpx.Client) -> None:
    prefix = "You are a helpful assistant. " * 20
    chats = [[{"role": "user", "content": f"{prefix}question {number}"}] for number in range(12)]
    chats += [[{"role": "user", "content": f"{n}"}, {"role": "tool", "content": "ok"}] for n in range(12)]
    first = drawn(server, http, chats)
    assert len(set(first)) == 2
    assert [*reversed(drawn(server, http, chats[::-1]))] == first
    # `clear` begins anew too.
    server.clear()
    assert [http.post(server.url + CHAT, json={"messages": chat}).status_code for chat in chats] == first


@pytest.mark.parametrize("prompt", [f"p{number}" for number in range(8)])
def test_torn_utf8_tears_a_character(prompt: str, server: FaultServer) -> None:
    body = json.dumps({"stream": True, "messages": [{"content": prompt}]}).encode()
    head = f"POST /fault/torn-utf8{CHAT} HTTP/1.1\r\nConnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    _, _, chunked = raw(server.port, head.encode() + body).partition(b"\r\n\r\n")
    assert any(0x80 <= piece[0] < 0xC0 for piece in chunked.split(b"\r\n")[1::2] if piece)


@pytest.mark.parametrize(
    ("path", "asks", "fault", "counts"),
    [
        (CHAT, True, GOOD, True),
        (CHAT, False, GOOD, False),
        (CHAT, True, "no-usage", False),
        ("/openai/v1/chat/completions", False, GOOD, True),
        ("/openai/v1/chat/completions", True, "no-usage", False),
        ("/api/chat", False, GOOD, True),
        ("/api/chat", False, "no-usage", False),
    ],
)
def test_a_good_stream_counts_its_tokens_where_it_is_asked(
    path: str, asks: bool, fault: str, counts: bool, server: FaultServer, http: httpx.Client
) -> None:
    server.next(fault)
    more: dict[str, Any] = {"stream_options": {"include_usage": True}} if asks else {}
    text = post(http, server, path=path, stream=True, **more).text
    assert any(word in text for word in ('"usage":{', "prompt_eval_count")) is counts


def test_a_call_names_the_tool_that_is_asked_for(server: FaultServer, http: httpx.Client) -> None:
    schema = {"type": "object", "properties": {"herd": {"type": "integer"}, "mood": {"enum": ["calm"]}}}
    tools = [{"type": "function", "function": {"name": "count", "parameters": schema}}]
    server.next("good-tool-call", "tool-arguments-garbage")
    good, bad = [
        post(http, server, tools=tools).json()["choices"][0]["message"]["tool_calls"][0]["function"] for _ in range(2)
    ]
    assert (good["name"], json.loads(good["arguments"])) == ("count", {"herd": 1, "mood": "calm"})
    assert bad == {"name": "count", "arguments": "{no json"}


def test_a_fault_of_another_dialect_is_told(server: FaultServer, http: httpx.Client) -> None:
    answer = post(http, server, path=f"/fault/done-reason-load{CHAT}")
    assert (answer.status_code, "needs the API of ollama" in answer.text) == (400, True)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/responses", "/api/generate"])
def test_what_is_not_played_is_told(path: str, server: FaultServer, http: httpx.Client) -> None:
    answer = post(http, server, path=path)
    assert (answer.status_code, "this server plays chats" in answer.text) == (404, True)


@pytest.mark.parametrize(
    "head",
    [
        f"POST {CHAT} HTTP/1.1\r\nConnection: close",
        f"POST {CHAT} HTTP/1.0",
        f"\r\n\r\nPOST {CHAT} HTTP/1.1\r\nConnection: close",
        f"POST http://example.test{CHAT} HTTP/1.1\r\nConnection: close",
    ],
    ids=["close", "old", "line-ends-before", "whole-address"],
)
def test_a_request_of_an_odd_form_is_answered(head: str, server: FaultServer) -> None:
    answer = raw(server.port, f"{head}\r\ncontent-length: 2\r\n\r\n{{}}".encode())
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert len(server.report().requests) == 1


def test_head_has_no_body(server: FaultServer) -> None:
    answer = raw(server.port, b"HEAD /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")


def test_a_client_may_wait_to_be_told_to_continue(server: FaultServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=SOON_S) as connection:
        connection.sendall(f"POST {CHAT} HTTP/1.1\r\nExpect: 100-continue\r\ncontent-length: 2\r\n\r\n".encode())
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_html_is_called_so(server: FaultServer, http: httpx.Client) -> None:
    assert post(http, server, path=f"/fault/html-200{CHAT}").headers["content-type"] == "text/html"


def test_what_a_player_raises_is_answered_and_raised_at_the_end(http: httpx.Client) -> None:
    def play(received: Received) -> Answer:
        if received.path == "/bad":
            raise LookupError("no llama")
        return as_json({})

    with pytest.raises(LookupError, match="no llama"):  # noqa: PT012 - the end of the block raises it
        with WireServer(play) as wire:
            answer = http.get(f"{wire.url}/bad")
            assert (answer.status_code, "LookupError: no llama" in answer.text) == (500, True)
            assert http.get(wire.url).status_code == 200


def test_a_connection_whose_descriptor_is_high_is_watched() -> None:
    resource = pytest.importorskip("resource")
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1200:
        pytest.skip("few descriptors")
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with WireServer(lambda _: Answer((), "stall")) as wire:
            with socket.create_connection(("127.0.0.1", wire.port)) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                while not wire.requests:
                    pass
                connection.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    connection.recv(1)
            assert wire.closed_early.wait(SOON_S)
    finally:
        for each in held:
            os.close(each)


def test_a_large_body_in_pieces_comes_whole(http: httpx.Client) -> None:
    with WireServer(lambda received: whole(str(len(received.body)).encode())) as wire:
        assert http.post(wire.url, content=iter([b"x" * 1000] * 3000)).text == "3000000"
        assert http.post(wire.url, content=b"y" * 3_000_000).text == "3000000"


@pytest.mark.parametrize("name", ["FaultReport", "FaultRequest"])
def test_what_a_report_is_made_of_has_a_name_in_the_kit(name: str) -> None:
    assert name in testing.__all__
    assert getattr(testing, name).__name__ == name


def test_groq_names_the_event_of_an_error(server: FaultServer, http: httpx.Client) -> None:
    text = post(http, server, path="/fault/text-error/openai/v1/chat/completions", stream=True).text
    assert "event: error\ndata: " in text
    assert FAULTS["text-error"].errors == ("StreamInterruptedError",)
