"""The key of a provider is sent to that provider, and is seen nowhere else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llama_client import AuthenticationError, LlamaClient, ProviderError, StreamInterruptedError
from llama_client.testing.dialects import DIALECTS, Dialect
from llama_client.testing.loopback import WireServer, as_json, closed_port, streamed, whole
from llama_client.testing.wire_format import JSON
from tests.asking import MODES, Asker
from tests.wire.asking import KEY, PLENTY_S, ask, check_no_key, failure

pytestmark = pytest.mark.parametrize("dialect", DIALECTS, ids=str)
each_mode = pytest.mark.parametrize("mode", MODES)


@each_mode
def test_a_key_that_the_server_repeats_is_not_repeated_by_us(
    dialect: Dialect, mode: str, logs: pytest.LogCaptureFixture
) -> None:
    told = dialect.failure(f"unauthorized: Incorrect API key provided: {KEY}.")
    with WireServer(dialect.answers(as_json(told, status=401))) as server:
        error = failure(dialect, server.url, mode)
    assert isinstance(error, AuthenticationError)
    check_no_key(error, logs)


@each_mode
def test_a_key_that_a_page_repeats_is_not_repeated_by_us(
    dialect: Dialect, mode: str, logs: pytest.LogCaptureFixture
) -> None:
    page = f"<html>Your header was: Authorization: Bearer {KEY}</html>".encode()
    with WireServer(dialect.answers(whole(page, status=502, headers={"content-type": "text/html"}))) as server:
        error = failure(dialect, server.url, mode)
    assert error.http_status == 502
    check_no_key(error, logs)


@each_mode
@pytest.mark.parametrize("shown", [6, len(KEY) - 1])
def test_a_key_that_the_excerpt_of_a_page_cuts_is_not_shown_in_part(
    dialect: Dialect, mode: str, shown: int, logs: pytest.LogCaptureFixture
) -> None:
    pages = {
        # As much of it as an error quotes of what is no JSON, of a page, and of a message.
        200: b"x" * (80 - shown) + KEY.encode() + b" is no JSON",
        502: b"x" * (200 - shown) + KEY.encode() + b" is no reason",
        400: json.dumps({"error": {"message": "x" * (4000 - shown) + KEY + " is too long"}}).encode(),
    }
    for status, page in pages.items():
        with WireServer(dialect.answers(whole(page, status=status, headers=JSON))) as server:
            error = failure(dialect, server.url, mode)
        check_no_key(error, logs)
        assert KEY[:shown] not in f"{error!r} {error} {logs.text}"
        assert "xxx***…" in str(error)


@each_mode
def test_a_key_that_the_server_itself_cuts_is_not_shown_in_part(
    dialect: Dialect, mode: str, logs: pytest.LogCaptureFixture
) -> None:
    long_key = "gsk_" + "0123456789abcdefgh" * 2
    told = dialect.failure(f"not these: {long_key[:20]}, {long_key[:-1]}; but gsk_01 is {long_key}")
    with WireServer(dialect.answers(as_json(told, status=400))) as server:
        with pytest.raises(ProviderError) as caught:
            Asker(mode, dialect.config(server.url, api_key=long_key), [])("hi")
    error = caught.value
    assert "not these: ***, ***; but gsk_01 is ***" in str(error)
    assert long_key[:12] not in f"{error!r} {error} {error.body} {logs.text}"


@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_a_key_that_a_stream_repeats_is_not_repeated_by_us(
    dialect: Dialect, mode: str, logs: pytest.LogCaptureFixture
) -> None:
    failed = dialect.event(dialect.failure(f"no such key: {KEY}"))
    with WireServer(dialect.answers(streamed([dialect.text("Hel"), failed]))) as server:
        error = failure(dialect, server.url, mode)
    assert isinstance(error, StreamInterruptedError)
    check_no_key(error, logs)


def test_the_key_is_in_no_description_of_a_client(dialect: Dialect) -> None:
    with LlamaClient(dialect.config("http://127.0.0.1:9", api_key=KEY)) as client:
        described = repr(client) + repr(client.chat) + repr(client.chat.completions) + repr(vars(client))
    assert KEY not in described


@each_mode
def test_a_good_call_logs_no_key(dialect: Dialect, mode: str, logs: pytest.LogCaptureFixture) -> None:
    with WireServer(dialect.answers(dialect.good(streams=mode.startswith("stream")))) as server:
        reply = ask(dialect, server.url, mode)
        assert any(KEY in value for value in server.requests[0].headers.values())
    assert KEY not in logs.text + "".join(repr(vars(record)) for record in logs.records)
    assert KEY not in repr(reply) + str(reply) + reply.model_dump_json()


def test_what_a_call_adds_to_its_headers_is_not_repeated_by_us(
    dialect: Dialect,
) -> None:
    secret = "another-secret-0987654321"
    told = dialect.failure(f"no such token: {secret}")
    if "code" in str(told):
        told["error"]["code"] = secret
    with WireServer(dialect.answers(as_json(told, status=400, headers={"x-request-id": secret}))) as server:
        with LlamaClient(dialect.config(server.url, api_key=KEY)) as client, pytest.raises(ProviderError) as caught:
            client.ask("hi", extra_headers={"X-Token": f"Token {secret}"})
    error = caught.value
    shown = f"{error!r} {error.provider_code} {error.request_id} {error.body} {error.attempts!r}"
    assert secret not in shown


def test_custom_headers_of_the_environment_are_not_repeated_by_us(
    dialect: Dialect, monkeypatch: pytest.MonkeyPatch, logs: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GROQ_CUSTOM_HEADERS", "X-Team: a-team-secret-1234")
    told = dialect.failure("unknown team: a-team-secret-1234")
    with WireServer(dialect.answers(as_json(told, status=400))) as server:
        with LlamaClient(dialect.config(server.url, api_key=KEY)) as client, pytest.raises(ProviderError) as caught:
            client.ask("hi")
    if dialect.kind == "groq":
        assert "a-team-secret-1234" not in f"{caught.value!r} {caught.value.body} {logs.text}"


QUERY = "?api-version=2024-10-21&code=a-code%2Fsecret-1234"


def with_query(dialect: Dialect, url: str) -> dict[str, Any]:
    config = dialect.config(url, api_key=KEY)
    config["providers"]["x"]["base_url"] += QUERY
    return config


@each_mode
def test_the_query_of_an_address_is_in_no_error(dialect: Dialect, mode: str, logs: pytest.LogCaptureFixture) -> None:
    with closed_port() as url, pytest.raises(ProviderError) as caught:
        Asker(mode, with_query(dialect, url), [])("hi", model="x/some/model", timeout=PLENTY_S)
    error = caught.value
    assert url in str(error)
    assert "secret-1234" not in f"{error!r} {error.attempts!r} {logs.text}"


@pytest.mark.parametrize("written", ["a-code%2Fsecret-1234", "a-code/secret-1234"])
def test_a_query_that_the_server_repeats_is_not_repeated_by_us(dialect: Dialect, written: str) -> None:
    told = dialect.failure(f"2024-10-21 does not know {written}")
    with WireServer(lambda _: as_json(told, status=400)) as server:
        with LlamaClient(with_query(dialect, server.url)) as client, pytest.raises(ProviderError) as caught:
            client.ask("hi")
    error = caught.value
    if dialect.kind != "ollama":  # which has no query: its address is a host's
        assert "secret-1234" not in f"{error!r} {error.body} {error.attempts!r}"
    assert "2024-10-21" in str(error)


def test_the_query_of_an_address_is_in_no_list_of_models(dialect: Dialect) -> None:
    with closed_port() as url, LlamaClient(with_query(dialect, url)) as client:
        assert "secret-1234" not in repr(client.providers.list())


def test_a_word_in_the_place_of_a_key_is_no_secret(dialect: Dialect) -> None:
    told = dialect.failure("ollama does not like this")
    with WireServer(dialect.answers(as_json(told, status=400))) as server:
        with (
            LlamaClient(dialect.config(server.url, api_key="ollama")) as client,
            pytest.raises(ProviderError) as caught,
        ):
            client.ask("hi")
    assert "ollama does not like this" in str(caught.value)
