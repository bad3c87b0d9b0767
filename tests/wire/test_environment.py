"""What the environment, files and options around a call decide: keys, addresses, proxies, clients."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import groq
import httpx
import openai
import pytest

from llama_client import (
    AsyncLlamaClient,
    AuthenticationError,
    ChatCompletion,
    ConfigError,
    InvalidRequestError,
    LlamaClient,
    LlamaClientError,
    load_config,
)
from llama_client.testing.dialects import GROQ, OLLAMA, OPENAI, TOGETHER, Dialect
from llama_client.testing.loopback import Answer, Received, WireServer, as_json, closed_port, whole
from tests.asking import MODES, Asker
from tests.wire import sending
from tests.wire.asking import KEY, PLENTY_S, PROMPT
from tests.wire.sending import MODEL, forget_variables

each_mode = pytest.mark.parametrize("mode", MODES)
calls = pytest.mark.parametrize("mode", ["call-sync", "call-async"])
FOREIGN = "leaked-value-of-openai"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_variables(monkeypatch)


def good(request: Received) -> Answer:
    """An answer to whatever a provider of any kind is asked."""
    for dialect in (GROQ, OLLAMA, OPENAI):
        if request.path.endswith(dialect.path):
            return dialect.good(streams=bool(request.json.get("stream")))
    return as_json({"object": "list", "data": []})


@pytest.fixture
def there() -> Iterator[WireServer]:
    """A server that answers every kind of provider."""
    with WireServer(good) as server:
        yield server


@pytest.fixture
def proxy() -> Iterator[WireServer]:
    """A proxy that answers in the place of plain servers, and refuses tunnels."""

    def answer(request: Received) -> Answer:
        return whole(b"", status=403, then="close") if request.method == "CONNECT" else good(request)

    with WireServer(answer) as server:
        yield server


ADDRESSES = {"near.test": ["127.0.0.1"]}


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that somebody asked the system for; those of the tests have the addresses above."""
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def resolved(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        asked.append(host)
        if host in ADDRESSES:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, int(port))) for address in ADDRESSES[host]]
        return resolve(host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    return asked


def ask(mode: str, config: Mapping[str, Any], model: Any, prompt: Any = PROMPT) -> ChatCompletion:
    return Asker(mode, config, [])(prompt, model=model, timeout=PLENTY_S)


def of(kind: str, **table: Any) -> dict[str, Any]:
    return {"providers": {kind: table}}


def seen(request: Received) -> str:
    return f"{request.method} {request.path} {request.headers} {request.body!r}"


# OpenAI's environment is for OpenAI alone.

OPENAIS_OWN = {
    "OPENAI_ORG_ID": FOREIGN,
    "OPENAI_PROJECT_ID": FOREIGN,
    "OPENAI_API_KEY": f"sk-{FOREIGN}",
    "OPENAI_ADMIN_KEY": f"sk-admin-{FOREIGN}",
    "OPENAI_WEBHOOK_SECRET": FOREIGN,
    "OPENAI_BASE_URL": f"http://{FOREIGN}.test/v1",
    "OPENAI_CUSTOM_HEADERS": f"X-Gateway: {FOREIGN}\nx-two:{FOREIGN}\nAuthorization: Bearer {FOREIGN}",
}


@pytest.fixture
def openais_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OPENAIS_OWN.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("openais_environment")
@pytest.mark.parametrize("kind", ["together", "openai"])
@each_mode
def test_nothing_of_openais_environment_reaches_another_server(kind: str, mode: str, there: WireServer) -> None:
    ask(mode, of(kind, api_key=KEY, base_url=f"{there.url}/v1"), f"{kind}/{MODEL}")
    (request,) = there.requests
    assert FOREIGN not in seen(request)
    assert not [name for name in request.headers if name.startswith("openai-")]
    assert request.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.usefixtures("openais_environment")
@each_mode
def test_a_compatible_server_without_a_key_is_sent_none(mode: str, there: WireServer) -> None:
    ask(mode, of("openai", base_url=f"{there.url}/v1"), f"openai/{MODEL}")
    (request,) = there.requests
    assert "authorization" not in request.headers
    assert FOREIGN not in seen(request)


@pytest.mark.parametrize("spelled", ["Authorization", "authorization", "AUTHORIZATION"])
@calls
def test_a_custom_header_of_openai_never_takes_the_place_of_the_key(
    spelled: str, mode: str, there: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"{spelled}: Bearer {FOREIGN}")
    ask(mode, of("together", api_key=KEY, base_url=f"{there.url}/v1"), f"together/{MODEL}")
    assert there.requests[0].headers["authorization"] == f"Bearer {KEY}"


@calls
def test_a_header_of_the_table_stays_where_openais_custom_headers_name_it_too(
    mode: str, there: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"x-team: {FOREIGN}")
    table = {"api_key": KEY, "base_url": f"{there.url}/v1", "headers": {"X-Team": "llamas"}}
    ask(mode, of("together", **table), f"together/{MODEL}")
    assert there.requests[0].headers["x-team"] == "llamas"


@pytest.mark.parametrize("header", ["Content-Type", "User-Agent"])
@calls
def test_openais_custom_headers_take_no_header_of_ours_away(
    header: str, mode: str, there: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = of("together", api_key=KEY, base_url=f"{there.url}/v1")
    ask(mode, config, f"together/{MODEL}")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"{header}: {FOREIGN}")
    ask(mode, config, f"together/{MODEL}")
    first, second = there.requests
    assert first.headers == second.headers


@pytest.mark.usefixtures("openais_environment")
@pytest.mark.parametrize("kind", ["together", "openai"])
def test_nothing_of_openais_environment_is_sent_by_the_official_client(kind: str, there: WireServer) -> None:
    with LlamaClient(of(kind, api_key=KEY, base_url=f"{there.url}/v1")) as client:
        sdk = client.sdk(kind)
        sdk.models.list()
        sdk.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": PROMPT}])
        sdk.with_options(max_retries=0).models.list()
    assert len(there.requests) == 3
    for request in there.requests:
        assert FOREIGN not in seen(request)
        assert request.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.usefixtures("openais_environment")
@pytest.mark.parametrize("kind", ["together", "openai"])
def test_nothing_of_openais_environment_is_sent_by_the_official_async_client(kind: str, there: WireServer) -> None:
    async def use() -> None:
        async with AsyncLlamaClient(of(kind, api_key=KEY, base_url=f"{there.url}/v1")) as client:
            await client.sdk(kind).models.list()

    asyncio.run(use())
    assert FOREIGN not in seen(there.requests[0])
    assert there.requests[0].headers["authorization"] == f"Bearer {KEY}"


@each_mode
def test_without_an_address_the_kind_is_openai_with_its_own_environment(
    mode: str, there: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{there.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway: g1")
    ask(mode, of("openai"), f"openai/{MODEL}")
    headers = there.requests[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-1", "proj-1")
    assert headers["x-gateway"] == "g1"


def test_without_an_address_and_variables_openai_is_asked_at_its_own() -> None:
    with sending.caught(assert_all_called=True) as router:
        route = router.post("https://api.openai.com/v1/chat/completions").respond(json=OPENAI.whole())
        ask("call-sync", of("openai", api_key=KEY), f"openai/{MODEL}")
        assert route.called


# Each provider's own environment.


@pytest.mark.parametrize(
    ("dialect", "variables"),
    [
        (GROQ, {"GROQ_API_KEY": KEY, "GROQ_BASE_URL": "{url}"}),
        (TOGETHER, {"TOGETHER_API_KEY": KEY, "TOGETHER_BASE_URL": "{url}/v1"}),
        (OLLAMA, {"OLLAMA_API_KEY": KEY, "OLLAMA_HOST": "{url}"}),
    ],
    ids=str,
)
@each_mode
def test_a_provider_without_a_table_has_key_and_address_from_its_variables(
    dialect: Dialect, variables: dict[str, str], mode: str, there: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(url=there.url))
    ask(mode, {}, f"{dialect.kind}/{MODEL}")
    (request,) = there.requests
    assert (request.path, request.headers["authorization"]) == (dialect.path, f"Bearer {KEY}")


@pytest.mark.parametrize("variable", ["GROQ_BASE_URL", "TOGETHER_BASE_URL", "OLLAMA_HOST"])
@calls
def test_the_address_of_the_table_wins_over_the_variables(
    variable: str, mode: str, there: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://elsewhere.test")
    kind = variable.partition("_")[0].lower()
    ask(mode, of(kind, api_key=KEY, base_url=f"{there.url}/v1"), f"{kind}/{MODEL}")
    assert len(there.requests) == 1


@calls
def test_groqs_custom_headers_are_sent_to_groq_and_to_nobody_else(
    mode: str, there: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_CUSTOM_HEADERS", "X-Gateway: g1\nX-Two: g2")
    for kind, base in (("groq", ""), ("together", "/v1"), ("openai", "/v1"), ("ollama", "")):
        ask(mode, of(kind, api_key=KEY, base_url=there.url + base), f"{kind}/{MODEL}")
    first, *others = there.requests
    assert (first.headers["x-gateway"], first.headers["x-two"]) == ("g1", "g2")
    assert not [request for request in others if "x-gateway" in request.headers]


HOSTS = {
    "": "http://127.0.0.1:11434",
    "gpu.test": "http://gpu.test:11434",
    "  gpu.test ": "http://gpu.test:11434",
    "gpu.test:8080": "http://gpu.test:8080",
    "gpu.test:8080/": "http://gpu.test:8080",
    ":8080": "http://127.0.0.1:8080",
    "10.0.0.7": "http://10.0.0.7:11434",
    "http://gpu.test": "http://gpu.test",
    "https://gpu.test": "https://gpu.test",
    "https://gpu.test:8443": "https://gpu.test:8443",
    "http://gpu.test/behind/": "http://gpu.test/behind",
    "0.0.0.0": "http://127.0.0.1:11434",
    "0.0.0.0:9": "http://127.0.0.1:9",
    "http://0.0.0.0:9": "http://127.0.0.1:9",
    "[::1]": "http://[::1]:11434",
    "[::1]:9": "http://[::1]:9",
    "[::]:9": "http://[::1]:9",
}


@pytest.mark.parametrize(("host", "address"), HOSTS.items())
def test_ollamas_host_may_be_a_name_a_name_and_port_or_an_address(
    host: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", host)
    with sending.caught(assert_all_called=True) as router:
        router.post(f"{address}/api/chat").respond(json=OLLAMA.whole())
        assert ask("call-sync", {}, f"ollama/{MODEL}").text == "Hello"
        assert str(router.calls.last.request.url) == f"{address}/api/chat"


@pytest.mark.parametrize(
    ("table", "variables", "is_sent"),
    [
        ({}, {}, False),
        ({"base_url": "http://10.0.0.7:11434"}, {}, False),
        ({"base_url": "https://ollama.com"}, {}, True),
        ({}, {"OLLAMA_HOST": "https://ollama.com"}, True),
        ({}, {"OLLAMA_HOST": "gpu.test"}, True),
        ({"base_url": "http://10.0.0.7:11434"}, {"OLLAMA_HOST": "gpu.test"}, False),
        ({"base_url": "https://ollama.com.evil.test"}, {}, False),
    ],
)
def test_ollamas_key_goes_to_its_cloud_and_to_the_host_that_is_named_beside_it(
    table: dict[str, Any], variables: dict[str, str], is_sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"OLLAMA_API_KEY": KEY, **variables}.items():
        monkeypatch.setenv(name, value)
    with sending.caught(assert_all_called=True) as router:
        router.post(path="/api/chat").respond(json=OLLAMA.whole())
        ask("call-sync", of("ollama", **table), f"ollama/{MODEL}")
        assert ("authorization" in router.calls.last.request.headers) is is_sent


# Keys.

MISSING = [("groq", "GROQ_API_KEY"), ("together", "TOGETHER_API_KEY"), ("openai", "OPENAI_API_KEY")]


@pytest.mark.parametrize(("kind", "variable"), MISSING)
@pytest.mark.parametrize("value", [None, ""])
@each_mode
def test_without_a_key_the_error_names_the_variable_and_nothing_is_sent(
    kind: str, variable: str, value: str | None, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is not None:
        monkeypatch.setenv(variable, value)
    with sending.caught() as router:
        router.route()
        with pytest.raises(AuthenticationError, match=variable) as caught:
            ask(mode, of(kind), f"{kind}/{MODEL}")
        assert not router.calls
    assert [attempt.sent for attempt in caught.value.attempts] == [False]


@calls
def test_without_a_key_the_next_target_is_asked(mode: str, there: WireServer) -> None:
    config = of("ollama", base_url=there.url)
    reply = ask(mode, config, [f"groq/{MODEL}", f"ollama/{MODEL}"])
    assert (reply.provider, [attempt.error for attempt in reply.attempts]) == ("ollama", ["AuthenticationError", None])


def from_variable(monkeypatch: pytest.MonkeyPatch, text: str) -> dict[str, Any]:
    monkeypatch.setenv("MY_KEY", text)
    return {"api_key_env": "MY_KEY"}


def from_file(monkeypatch: pytest.MonkeyPatch, text: str) -> dict[str, Any]:
    Path("key.txt").write_text(text, encoding="utf-8")
    return {"api_key_file": "key.txt"}


def from_command(monkeypatch: pytest.MonkeyPatch, text: str) -> dict[str, Any]:
    return {"api_key_command": [sys.executable, "-c", f"import sys; sys.stdout.buffer.write({text.encode()!r})"]}


def from_table(monkeypatch: pytest.MonkeyPatch, text: str) -> dict[str, Any]:
    return {"api_key": text}


Source = Callable[[pytest.MonkeyPatch, str], dict[str, Any]]
each_source = pytest.mark.parametrize("source", [from_table, from_variable, from_file, from_command])


@each_source
@pytest.mark.parametrize("kind", ["groq", "together", "openai", "ollama"])
@calls
def test_a_key_is_read_from_where_the_table_says(
    source: Source, kind: str, mode: str, there: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "sk-another-key")
    base = there.url + ("" if kind in ("groq", "ollama") else "/v1")
    ask(mode, of(kind, base_url=base, **source(monkeypatch, KEY)), f"{kind}/{MODEL}")
    assert there.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("source", [from_file, from_command])
def test_the_line_end_after_a_key_is_no_part_of_it(
    source: Source, there: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask("call-sync", of("groq", base_url=there.url, **source(monkeypatch, f"{KEY}\r\n")), f"groq/{MODEL}")
    assert there.requests[0].headers["authorization"] == f"Bearer {KEY}"


BAD_KEYS = {
    "two lines": "sk-secret\nX-Evil: 1",
    "a carriage return": "sk-secret\rX-Evil",
    "no ASCII": "sk-secret-ключ",
    "two words": "sk-secret and more",
    "a control character": "sk-secret\x1bmore",
    "blanks": "  \n",
}


@each_source
@pytest.mark.parametrize("text", BAD_KEYS.values(), ids=BAD_KEYS)
@calls
def test_what_can_be_no_key_is_a_configuration_error_that_does_not_show_it(
    source: Source, text: str, mode: str, there: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError) as caught:
        ask(mode, of("groq", base_url=there.url, **source(monkeypatch, text)), f"groq/{MODEL}")
    told = f"{caught.value} {caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert "sk-secret" not in told
    assert not there.requests


@calls
def test_a_bad_key_in_a_providers_own_variable_names_that_variable(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "sk-secret\nX-Evil: 1")
    with sending.caught(assert_all_called=True), pytest.raises(ConfigError, match="GROQ_API_KEY") as caught:
        ask(mode, {}, f"groq/{MODEL}")
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"api_key_env": "NOT_THERE"}, "NOT_THERE"),
        ({"api_key_file": "not-there.txt"}, "api_key_file"),
        ({"api_key_command": ["not-a-program-of-this-machine"]}, "api_key_command"),
        ({"api_key_command": [sys.executable, "-c", "print('sk-secret'); raise SystemExit(3)"]}, "api_key_command"),
    ],
)
@calls
def test_a_source_that_holds_no_key_is_named(table: dict[str, Any], named: str, mode: str) -> None:
    with sending.caught(assert_all_called=True), pytest.raises(ConfigError, match=named) as caught:
        ask(mode, of("groq", **table), f"groq/{MODEL}")
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "pair", [("api_key", "api_key_env"), ("api_key_file", "api_key_command"), ("api_key_env", "api_key_file")]
)
def test_two_sources_of_a_key_are_one_too_many(pair: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match=pair[0]):
        LlamaClient(of("groq", **dict.fromkeys(pair, "X")))


@pytest.mark.skipif(os.name == "nt", reason="there are no file modes")
def test_a_key_file_that_may_not_be_read_is_a_configuration_error() -> None:
    file = Path("key.txt")
    file.write_text(KEY, encoding="utf-8")
    file.chmod(0)
    if os.access(file, os.R_OK):
        pytest.skip("this user may read every file")
    with pytest.raises(ConfigError, match="api_key_file"):
        ask("call-sync", of("groq", api_key_file=str(file)), f"groq/{MODEL}")
    file.chmod(stat.S_IRUSR | stat.S_IWUSR)


# The official clients.

SDKS: list[tuple[Dialect, Any, Any]] = [
    (GROQ, groq.Groq, groq.AsyncGroq),
    (TOGETHER, openai.OpenAI, openai.AsyncOpenAI),
    (OPENAI, openai.OpenAI, openai.AsyncOpenAI),
]
each_sdk = pytest.mark.parametrize(("dialect", "kind", "async_kind"), SDKS, ids=["groq", "together", "openai"])


each_wire = pytest.mark.parametrize(("wire", "connections"), [("builtin", 2), ("httpx", 1)])


@each_wire
@each_sdk
def test_the_official_client_works_beside_ours(
    dialect: Dialect, kind: Any, async_kind: Any, there: WireServer, wire: str, connections: int
) -> None:
    config = dialect.config(there.url, api_key=KEY, headers={"X-Team": "llamas"})
    with LlamaClient(config | {"http": {"wire": wire}}) as client:
        client.ask(PROMPT, timeout=PLENTY_S)
        sdk = client.sdk("x")
        assert isinstance(sdk, kind)
        assert list(sdk.models.list().data) == []
        answer = sdk.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": PROMPT}])
        assert answer.choices[0].message.content == "Hello"
        client.ask(PROMPT, timeout=PLENTY_S)
    assert there.accepted == connections
    assert [request.path for request in there.requests[:2]] == [
        dialect.path,
        dialect.path.replace("chat/completions", "models"),
    ]
    for request in there.requests:
        assert (request.headers["authorization"], request.headers["x-team"]) == (f"Bearer {KEY}", "llamas")


@each_wire
@each_sdk
def test_the_official_async_client_works_beside_ours(
    dialect: Dialect, kind: Any, async_kind: Any, there: WireServer, wire: str, connections: int
) -> None:
    async def use() -> None:
        async with AsyncLlamaClient(dialect.config(there.url, api_key=KEY) | {"http": {"wire": wire}}) as client:
            await client.ask(PROMPT, timeout=PLENTY_S)
            sdk = client.sdk("x")
            assert isinstance(sdk, async_kind)
            assert list((await sdk.models.list()).data) == []
            await client.ask(PROMPT, timeout=PLENTY_S)

    asyncio.run(use())
    assert there.accepted == connections
    assert [request.headers["authorization"] for request in there.requests] == [f"Bearer {KEY}"] * 3


@each_sdk
def test_the_official_client_streams(dialect: Dialect, kind: Any, async_kind: Any, there: WireServer) -> None:
    with LlamaClient(dialect.config(there.url, api_key=KEY)) as client:
        messages = [{"role": "user", "content": PROMPT}]
        with client.sdk("x").chat.completions.create(model=MODEL, messages=messages, stream=True) as stream:
            assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Hello"


def test_the_official_client_is_made_once(there: WireServer) -> None:
    with LlamaClient(of("groq", base_url=there.url, api_key=KEY)) as client:
        assert client.sdk("groq") is client.sdk("groq")


def test_the_official_client_of_a_server_without_a_key_works(there: WireServer) -> None:
    # The official client cannot be without a key; what it sends is none.
    with LlamaClient(of("openai", base_url=f"{there.url}/v1")) as client:
        client.sdk("openai").models.list()
    assert there.requests[0].headers["authorization"] == "Bearer none"


@pytest.mark.parametrize("name", ["ollama", "gguf"])
@pytest.mark.parametrize("kind", [LlamaClient, AsyncLlamaClient])
def test_there_is_no_official_client_of_what_has_none(
    name: str, kind: type[LlamaClient] | type[AsyncLlamaClient]
) -> None:
    client = kind({})
    with pytest.raises(InvalidRequestError, match=name):
        client.sdk(name)
    close(client)


def close(client: LlamaClient | AsyncLlamaClient) -> None:
    if isinstance(client, LlamaClient):
        client.close()
    else:
        asyncio.run(client.aclose())


@pytest.mark.parametrize("kind", [LlamaClient, AsyncLlamaClient])
def test_there_is_no_official_client_of_a_provider_that_is_not_there(
    kind: type[LlamaClient] | type[AsyncLlamaClient],
) -> None:
    client = kind({})
    with pytest.raises(ConfigError, match=r"grok.*did you mean 'groq'"):
        client.sdk("grok")
    close(client)


@pytest.mark.parametrize("kind", [LlamaClient, AsyncLlamaClient])
def test_an_official_client_without_a_key_is_our_error(kind: type[LlamaClient] | type[AsyncLlamaClient]) -> None:
    client = kind({})
    with pytest.raises(AuthenticationError, match="GROQ_API_KEY"):
        client.sdk("groq")
    close(client)


# The user's own HTTP client.


class Mocked:
    """Answers inside the process, and remembers the requests."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        dialect = OLLAMA if request.url.path.endswith("/api/chat") else OPENAI
        return httpx.Response(200, json=dialect.whole())


MIXED: dict[str, Any] = {
    "providers": {"groq": {"api_key": KEY}, "vllm": {"kind": "openai", "base_url": "http://v.test/v1"}}
}
MIXED_MODELS = [f"groq/{MODEL}", f"vllm/{MODEL}", f"ollama/{MODEL}"]
MIXED_HOSTS = ["api.groq.com", "v.test", "127.0.0.1"]


def test_an_http_client_of_the_users_is_used_for_all_and_left_open() -> None:
    mocked = Mocked()
    with httpx.Client(transport=httpx.MockTransport(mocked), headers={"X-Mine": "1"}) as mine:
        with LlamaClient(MIXED, http_client=mine) as client:
            for model in MIXED_MODELS:
                client.ask(PROMPT, model=model)
            client.sdk("groq").chat.completions.create(model=MODEL, messages=[{"role": "user", "content": PROMPT}])
        assert not mine.is_closed
    assert [request.url.host for request in mocked.requests] == [*MIXED_HOSTS, "api.groq.com"]
    assert {request.headers["x-mine"] for request in mocked.requests} == {"1"}


def test_an_async_http_client_of_the_users_is_used_for_all_and_left_open() -> None:
    mocked = Mocked()

    async def use() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(mocked)) as mine:
            async with AsyncLlamaClient(MIXED, http_client=mine) as client:
                for model in MIXED_MODELS:
                    await client.ask(PROMPT, model=model)
            assert not mine.is_closed

    asyncio.run(use())
    assert [request.url.host for request in mocked.requests] == MIXED_HOSTS


def test_an_http_client_of_the_users_serves_one_provider_too() -> None:
    mocked = Mocked()
    with httpx.Client(transport=httpx.MockTransport(mocked)) as mine:
        with LlamaClient.for_provider("together", api_key=KEY, http_client=mine) as client:
            client.ask(PROMPT, model=MODEL)
    assert [request.url.host for request in mocked.requests] == ["api.together.ai"]


@pytest.mark.parametrize("wrong", ["http://proxy.test", 5, httpx.Client, object()])
def test_what_is_no_http_client_is_refused_before_anything_is_sent(wrong: Any, there: WireServer) -> None:
    def use() -> None:
        with LlamaClient(of("groq", base_url=there.url, api_key=KEY), http_client=wrong) as client:
            client.ask(PROMPT, model=f"groq/{MODEL}")

    with pytest.raises(InvalidRequestError, match="http_client"):
        use()
    assert not there.requests


@pytest.mark.parametrize("kind", [LlamaClient, AsyncLlamaClient])
def test_what_is_no_http_client_is_refused_by_the_constructor(kind: Any) -> None:
    with pytest.raises(InvalidRequestError, match="http_client"):
        kind({}, http_client=object())


def test_an_async_http_client_for_blocking_calls_is_refused(there: WireServer) -> None:
    mine: Any = httpx.AsyncClient()

    def use() -> None:
        with LlamaClient(of("groq", base_url=there.url, api_key=KEY), http_client=mine) as client:
            client.ask(PROMPT, model=f"groq/{MODEL}")

    try:
        with pytest.raises(InvalidRequestError, match="http_client"):
            use()
    finally:
        asyncio.run(mine.aclose())
    assert not there.requests


def test_a_blocking_http_client_for_async_calls_is_refused(there: WireServer) -> None:
    mine: Any = httpx.Client()

    async def use() -> None:
        async with AsyncLlamaClient(of("groq", base_url=there.url, api_key=KEY), http_client=mine) as client:
            await client.ask(PROMPT, model=f"groq/{MODEL}")

    with mine, pytest.raises(InvalidRequestError, match="http_client"):
        asyncio.run(use())
    assert not there.requests


@pytest.mark.parametrize("option", [{"proxy": "http://proxy.test:1"}, {"ca_file": "ca.pem"}])
def test_an_http_client_of_the_users_has_its_own_proxy_and_certificates(option: dict[str, str]) -> None:
    with httpx.Client() as mine, LlamaClient(of("groq", api_key=KEY, **option), http_client=mine) as client:
        with pytest.raises(ConfigError, match="http_client"):
            client.ask(PROMPT, model=f"groq/{MODEL}")


# A configuration that was found in the working directory.

ELSEWHERE = "http://evil.test"
FORBIDDEN: dict[str, str] = {
    "groq's address": f'[providers.groq]\nbase_url = "{ELSEWHERE}"',
    "groq's address under another name": f'[providers.fast]\nkind = "groq"\nbase_url = "{ELSEWHERE}"',
    "groq's address with a key of its own": f'[providers.groq]\nbase_url = "{ELSEWHERE}"\napi_key = "sk-its-own"',
    "groq's host without TLS": '[providers.groq]\nbase_url = "http://api.groq.com"',
    "a host that begins like groq's": '[providers.groq]\nbase_url = "https://api.groq.com.evil.test"',
    "a host that ends like groq's": '[providers.groq]\nbase_url = "https://evil-api.groq.com"',
    "groq's proxy": f'[providers.groq]\nproxy = "{ELSEWHERE}"',
    "groq's certificates": '[providers.groq]\nca_file = "ca.pem"',
    "together's address": f'[providers.together]\nbase_url = "{ELSEWHERE}"',
    "together's proxy": f'[providers.together]\nproxy = "{ELSEWHERE}"',
    "groq's key to a compatible server": (
        f'[providers.x]\nkind = "openai"\nbase_url = "{ELSEWHERE}"\napi_key_env = "GROQ_API_KEY"'
    ),
    "together's key to an Ollama": (
        f'[providers.x]\nkind = "ollama"\nbase_url = "{ELSEWHERE}"\napi_key_env = "TOGETHER_API_KEY"'
    ),
    "OpenAI's key to a compatible server": (
        f'[providers.x]\nkind = "openai"\nbase_url = "{ELSEWHERE}"\napi_key_env = "OPENAI_API_KEY"'
    ),
    "Ollama's key to an Ollama": (f'[providers.ollama]\nbase_url = "{ELSEWHERE}"\napi_key_env = "OLLAMA_API_KEY"'),
    "OpenAI's key, named, through a proxy": (
        f'[providers.openai]\napi_key_env = "OPENAI_API_KEY"\nproxy = "{ELSEWHERE}"'
    ),
    "a command": '[providers.groq]\napi_key_command = "cat /etc/passwd"',
    "a command for a provider of its own": (
        f'[providers.x]\nkind = "openai"\nbase_url = "{ELSEWHERE}"\napi_key_command = ["cat", "x"]'
    ),
    "a file above": f'[providers.x]\nkind = "openai"\nbase_url = "{ELSEWHERE}"\napi_key_file = "../key"',
    "a file of the home": f'[providers.x]\nkind = "openai"\nbase_url = "{ELSEWHERE}"\napi_key_file = "~/.ssh/id_rsa"',
    "a file anywhere": f'[providers.x]\nkind = "openai"\nbase_url = "{ELSEWHERE}"\napi_key_file = "/etc/passwd"',
    "OpenAI's proxy": f'[providers.openai]\nproxy = "{ELSEWHERE}"',
    "OpenAI's certificates": '[providers.openai]\nca_file = "ca.pem"',
    "Ollama's cloud through a proxy": f'[providers.ollama]\nbase_url = "https://ollama.com"\nproxy = "{ELSEWHERE}"',
    "Ollama's cloud without TLS": '[providers.ollama]\nbase_url = "http://ollama.com"',
    "the proxy of OLLAMA_HOST": f'[providers.ollama]\nproxy = "{ELSEWHERE}"',
    "OpenAI's key to groq": '[providers.groq]\napi_key_env = "OPENAI_API_KEY"',
    "OpenAI's key to groq, by its address": (
        '[providers.groq]\napi_key_env = "OPENAI_API_KEY"\nbase_url = "https://api.groq.com"'
    ),
    "groq's key to OpenAI": '[providers.openai]\napi_key_env = "GROQ_API_KEY"',
    "OpenAI's admin key to a compatible server": (
        f'[providers.x]\nkind = "openai"\nbase_url = "{ELSEWHERE}"\napi_key_env = "OPENAI_ADMIN_KEY"'
    ),
}
each_forbidden = pytest.mark.parametrize(
    "text",
    [
        *(pytest.param(text, id=name) for name, text in FORBIDDEN.items()),
    ],
)


@each_forbidden
def test_a_file_found_in_the_working_directory_may_not_take_keys_elsewhere(text: str) -> None:
    Path("llama-client.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="working directory") as caught:
        LlamaClient()
    assert (caught.value.key or "").startswith("providers.")


def test_a_pyproject_found_in_the_working_directory_may_not_take_keys_elsewhere() -> None:
    Path("pyproject.toml").write_text(f'[tool.llama-client.providers.groq]\nbase_url = "{ELSEWHERE}"', encoding="utf-8")
    with pytest.raises(ConfigError, match="working directory"):
        LlamaClient()


def as_argument(file: Path, monkeypatch: pytest.MonkeyPatch) -> LlamaClient:
    return LlamaClient(str(file))


def as_path(file: Path, monkeypatch: pytest.MonkeyPatch) -> LlamaClient:
    return LlamaClient(Path(file.name))


def as_variable(file: Path, monkeypatch: pytest.MonkeyPatch) -> LlamaClient:
    monkeypatch.setenv("LLAMA_CLIENT_CONFIG", file.name)
    return LlamaClient()


@pytest.mark.parametrize("chosen", [as_argument, as_path, as_variable])
@pytest.mark.parametrize("text", FORBIDDEN.values(), ids=FORBIDDEN)
def test_the_same_file_may_do_so_where_the_user_chose_it(
    text: str, chosen: Callable[[Path, pytest.MonkeyPatch], LlamaClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path("llama-client.toml")
    file.write_text(text, encoding="utf-8")
    chosen(file.resolve(), monkeypatch).close()


def test_the_same_file_may_do_so_in_the_users_own_folder(clean_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    folder = clean_home / "config"
    folder.mkdir()
    (folder / "llama-client.toml").write_text(f'[providers.groq]\nbase_url = "{ELSEWHERE}"', encoding="utf-8")
    monkeypatch.setattr(platformdirs, "user_config_path", lambda *_, **__: folder)
    assert load_config().providers["groq"].base_url == ELSEWHERE  # type: ignore[union-attr]


ALLOWED: dict[str, str] = {
    "an address for a key of its own": (
        f'[providers.x]\nkind = "openai"\nbase_url = "{ELSEWHERE}"\napi_key_env = "X_API_KEY"'
    ),
    "no key at all": f'[providers.x]\nkind = "openai"\nbase_url = "{ELSEWHERE}"',
    "groq's own address": '[providers.groq]\nbase_url = "https://api.groq.com/openai/v1"',
    "groq's own address in capitals": '[providers.groq]\nbase_url = "HTTPS://API.GROQ.COM"',
    "together's older address": '[providers.together]\nbase_url = "https://api.together.xyz/v1"',
    "groq's key at groq": (
        '[providers.x]\nkind = "openai"\nbase_url = "https://api.groq.com/openai/v1"\napi_key_env = "GROQ_API_KEY"'
    ),
    "another Ollama": f'[providers.ollama]\nbase_url = "{ELSEWHERE}"',
    "patience and headers": '[providers.groq]\ntimeout_s = 5\nheaders = { X-Team = "llamas" }',
    "a key file beside it": '[providers.groq]\napi_key_file = "key"',
    "a key file below it": '[providers.groq]\napi_key_file = "./secrets/key"',
}


@pytest.mark.parametrize("text", ALLOWED.values(), ids=ALLOWED)
def test_a_file_found_in_the_working_directory_may_do_the_rest(text: str) -> None:
    Path("llama-client.toml").write_text(text, encoding="utf-8")
    LlamaClient().close()


@pytest.mark.skipif(os.name == "nt", reason="making links needs rights there")
def test_a_link_to_a_key_file_elsewhere_is_no_file_beside_the_configuration(clean_home: Path) -> None:
    (clean_home / "id_rsa").write_text(KEY, encoding="utf-8")
    Path("key").symlink_to(clean_home / "id_rsa")
    text = f'[providers.x]\nkind = "openai"\nbase_url = "{ELSEWHERE}"\napi_key_file = "key"'
    Path("llama-client.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="api_key_file"):
        LlamaClient()


def test_an_address_in_the_users_own_variables_is_the_users_choice(
    there: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("llama-client.toml").write_text(f'default_model = "groq/{MODEL}"', encoding="utf-8")
    monkeypatch.setenv("LLAMA_CLIENT_PROVIDERS__GROQ__BASE_URL", there.url)
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    with LlamaClient() as client:
        assert client.ask(PROMPT).text == "Hello"


# Proxies.


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@each_mode
def test_the_environments_proxy_is_asked_for_other_machines(
    variable: str, mode: str, proxy: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, proxy.url)
    reply = ask(mode, of("openai", base_url="http://llm.test/v1"), f"openai/{MODEL}")
    assert reply.text == "Hello"
    assert [request.path for request in proxy.requests] == ["http://llm.test/v1/chat/completions"]


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@calls
def test_a_tunnel_is_asked_for_where_the_provider_speaks_tls_and_the_key_is_not_shown(
    variable: str, mode: str, proxy: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, proxy.url)
    with pytest.raises(LlamaClientError, match="no connection: 403 Forbidden"):
        ask(mode, of("groq", api_key=KEY), f"groq/{MODEL}")
    assert {(request.method, request.path) for request in proxy.requests} == {("CONNECT", "api.groq.com:443")}
    assert KEY not in "".join(map(seen, proxy.requests))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@each_mode
def test_this_machine_is_never_asked_through_the_environments_proxy(
    host: str, mode: str, proxy: WireServer, there: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, proxy.url)
    ask(mode, of("openai", base_url=f"http://{host}:{there.port}/v1"), f"openai/{MODEL}")
    assert (len(there.requests), len(proxy.requests)) == (1, 0)


@calls
def test_no_proxy_is_honoured(
    mode: str, proxy: WireServer, there: WireServer, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "other.test,near.test")
    ask(mode, of("openai", base_url=f"http://near.test:{there.port}/v1"), f"openai/{MODEL}")
    assert (len(there.requests), len(proxy.requests)) == (1, 0)


@each_mode
def test_the_proxy_of_a_table_wins_and_is_that_providers_alone(
    mode: str, proxy: WireServer, there: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://another-proxy.test:1")
    config = {
        "providers": {
            "far": {"kind": "openai", "base_url": "http://llm.test/v1", "proxy": proxy.url},
            "ollama": {"base_url": there.url},
        }
    }
    assert ask(mode, config, f"far/{MODEL}").text == "Hello"
    assert ask(mode, config, f"ollama/{MODEL}").text == "Hello"
    assert (len(proxy.requests), len(there.requests)) == (1, 1)


# aiohttp's newest deprecates what httpx-aiohttp still calls.
@pytest.mark.filterwarnings("ignore:BasicAuth is deprecated", "ignore:The 'proxy_auth' parameter is deprecated")
@each_mode
def test_the_password_of_a_proxy_goes_to_the_proxy_alone(mode: str, proxy: WireServer) -> None:
    address = proxy.url.replace("http://", "http://bob:pa55word@")
    reply = ask(mode, of("openai", base_url="http://llm.test/v1", proxy=address), f"openai/{MODEL}")
    (request,) = proxy.requests
    expected = base64.b64encode(b"bob:pa55word").decode()
    assert request.headers["proxy-authorization"] == f"Basic {expected}"
    assert "pa55word" not in repr(reply) + str(reply) + request.path


@pytest.mark.parametrize("address", ["socks9://proxy.test", "proxy", "http://"])
def test_a_proxy_of_an_unknown_kind_is_a_configuration_error(address: str) -> None:
    with pytest.raises(ConfigError, match=r"providers\.groq\.proxy: must be an address"):
        LlamaClient(of("groq", api_key=KEY, proxy=address))


@pytest.mark.filterwarnings("ignore:BasicAuth is deprecated", "ignore:The 'proxy_auth' parameter is deprecated")
@each_mode
def test_a_proxy_that_is_not_there_is_told_without_its_password(mode: str) -> None:
    with closed_port() as url:
        address = url.replace("//", "//bob:pa55word@")
        with pytest.raises(LlamaClientError) as caught:
            ask(mode, of("openai", base_url="http://llm.test/v1", proxy=address), f"openai/{MODEL}")
    assert "is not reached: check providers.openai.proxy" in str(caught.value)
    error: BaseException | None = caught.value
    while error is not None:
        assert "pa55word" not in f"{error} {error!r}"
        error = error.__cause__ or error.__context__
