"""The clients: which model is meant where none is named, views, and logs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from llama_client import ConfigError, InvalidRequestError, LlamaClient, ModelNotFoundError
from llama_client.providers.gguf.store import ModelStore

JAPAN = "What is the capital of Japan?"


def test_without_configuration_the_error_says_how_to_get_a_model() -> None:
    with LlamaClient() as client, pytest.raises(ConfigError, match="llama-client pull"):
        client.ask("hi")


def test_without_configuration_the_demo_model_answers_once_pulled(demo_pulled: ModelStore) -> None:
    with LlamaClient() as client:
        reply = client.ask(JAPAN, temperature=0)
    assert (reply.target, reply.text) == ("gguf/smollm2-135m", "The capital of Japan is Tokyo.")


def test_a_real_model_is_preferred_to_the_demo(demo_pulled: ModelStore, demo_model: Path) -> None:
    demo_pulled.add("llama-3", demo_model, sha256="0" * 64, source="a test")
    with LlamaClient() as client:
        assert client.ask(JAPAN, max_tokens=1).target == "gguf/llama-3"


def test_the_only_configured_provider_is_the_default(demo_model: Path) -> None:
    with LlamaClient({"providers": {"laptop": {"kind": "gguf", "model_path": str(demo_model)}}}) as client:
        assert client.ask(JAPAN, max_tokens=1).target == "laptop/default"


def test_with_several_providers_one_must_be_chosen(demo_model: Path) -> None:
    table = {"kind": "gguf", "model_path": str(demo_model)}
    with LlamaClient({"providers": {"a": table, "b": table}}) as client:
        with pytest.raises(ConfigError, match="default_model is not set"):
            client.ask("hi")
        assert client.ask(JAPAN, model="b/default", max_tokens=1).target == "b/default"


def test_default_without_a_file_is_the_demo_model(demo_pulled: ModelStore) -> None:
    with LlamaClient({"providers": {"laptop": {"kind": "gguf"}}}) as client:
        assert client.ask(JAPAN, max_tokens=1).target == "laptop/default"


def test_default_without_a_file_and_without_the_demo_says_how_to_get_it() -> None:
    with LlamaClient({"providers": {"laptop": {"kind": "gguf"}}}) as client:
        with pytest.raises(ModelNotFoundError, match="llama-client pull smollm2-135m"):
            client.ask("hi")


def test_a_bare_name_that_was_pulled_gets_a_hint(demo_pulled: ModelStore) -> None:
    with LlamaClient() as client, pytest.raises(ConfigError, match="did you mean 'gguf/smollm2-135m'"):
        client.ask("hi", model="smollm2-135m")


def test_a_model_that_is_no_text_is_an_invalid_request(config: dict[str, Any]) -> None:
    with LlamaClient(config) as client:
        for model in (5, [], [""], ["laptop/default", None], {"a": 1}):
            with pytest.raises(InvalidRequestError, match="model"):
                client.ask("hi", model=model)  # type: ignore[arg-type]


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_prompt_is_refused(config: dict[str, Any], prompt: str) -> None:
    with LlamaClient(config) as client, pytest.raises(InvalidRequestError, match="prompt: must not be empty"):
        client.ask(prompt)


def test_a_prompt_that_is_neither_text_nor_messages_is_refused(config: dict[str, Any]) -> None:
    with LlamaClient(config) as client:
        with pytest.raises(InvalidRequestError, match="prompt: must be text or a list of messages"):
            client.ask(b"hi")  # type: ignore[arg-type]
        with pytest.raises(InvalidRequestError, match="messages: unknown name"):
            client.ask("hi", messages=[])  # type: ignore[call-arg]


def test_tags_that_are_no_texts_are_refused(config: dict[str, Any]) -> None:
    for tags in (5, {"a": 1}, {1: "a"}):
        with pytest.raises(InvalidRequestError, match="tags"):
            LlamaClient(config, tags=tags)  # type: ignore[arg-type]
        with pytest.raises(InvalidRequestError, match="tags"):
            LlamaClient(config).with_options(tags=tags)  # type: ignore[arg-type]


def test_a_store_that_can_be_nowhere_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CLIENT_CACHE_DIR", "~nobody-of-that-name/x")
    with pytest.raises(ConfigError, match="no such place"):
        LlamaClient({})


def test_a_stream_flag_that_is_neither_is_refused(config: dict[str, Any]) -> None:
    with LlamaClient(config) as client, pytest.raises(InvalidRequestError, match="stream: must be true or false"):
        client.chat.completions.create(messages=[{"role": "user", "content": "hi"}], stream="yes")  # type: ignore[call-overload]


def test_for_one_provider_ids_are_its_own(demo_pulled: ModelStore) -> None:
    with LlamaClient.for_provider("gguf") as client:
        reply = client.ask(JAPAN, model="smollm2-135m", max_tokens=1)
    assert reply.target == "gguf/smollm2-135m"


def test_a_view_has_defaults_of_its_own_and_shares_the_rest(config: dict[str, Any], warm_engine: None) -> None:
    with LlamaClient(config) as client:
        view = client.with_options(model=["laptop/nothing", "laptop/default"], timeout=60.0, tags={"app": "test"})
        assert len(view.ask(JAPAN, max_tokens=1).attempts) == 2
        assert len(client.ask(JAPAN, max_tokens=1).attempts) == 1
        client.close()
        with pytest.raises(InvalidRequestError, match="closed"):
            view.ask(JAPAN)


def test_a_call_is_logged_without_what_was_said(
    config: dict[str, Any], warm_engine: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "llama_client"), LlamaClient(config, tags={"app": "test"}) as client:
        reply = client.ask(JAPAN, temperature=0, tags={"user": "u1"})
    (record,) = caplog.records
    assert record.name == "llama_client.calls"
    assert record.message.startswith(f"{reply.request_id} laptop/default ok in ")
    assert vars(record)["tags"] == {"app": "test", "user": "u1"}
    assert "Japan" not in caplog.text
    assert "Tokyo" not in caplog.text
