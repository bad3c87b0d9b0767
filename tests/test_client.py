"""The clients: the default model, what calls take and refuse, views, reprs and logs."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import re
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from llama_client import AsyncLlamaClient, ConfigError, InvalidRequestError, LlamaClient, ModelNotFoundError
from llama_client.chat import asked
from llama_client.providers.gguf.store import ModelStore

JAPAN = "What is the capital of Japan?"
HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module", autouse=True)
def loaded(demo_model: Path) -> Iterator[None]:
    """Keeps the model loaded between the tests, whose clients find its engine."""
    table = {"kind": "gguf", "model_path": str(demo_model)}
    with LlamaClient({"providers": {"kept": table}, "ledger": {"enabled": False}}) as client:
        client.ask("hi", max_tokens=1)
        yield


class Capital(BaseModel):
    city: str


@pytest.fixture(autouse=True, scope="module")
def _loaded(demo_model: Path) -> Iterator[None]:
    """Keeps the demo model loaded as it is without configuration: no test here is about loading it."""
    configuration = {"providers": {"gguf": {"model_path": str(demo_model)}}, "ledger": {"enabled": False}}
    with LlamaClient(configuration) as client:
        client.ask("hi", max_tokens=1)
        yield


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
        with pytest.raises(InvalidRequestError, match="prompt: must be text or a list of messages"):
            client.ask({"role": "user"}, system="Be brief.")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"temprature": 1}, "temprature: unknown name; did you mean 'temperature'?"),
        ({"max_retries": 3}, r"max_retries: unknown name; .*\[routing\] retries"),
        ({"metadata": {"a": "b"}}, "metadata: unknown name; .*extra_body"),
        ({"guided_regex": "a+"}, "guided_regex: unknown name; extra_body"),
        ({"timeout_s": 5}, "timeout_s: unknown name; use timeout, in seconds"),
        ({"sytem": "Be brief."}, "sytem: unknown name; ask takes system"),
        ({"response_format": Capital}, "response_format: a class goes to chat.completions.parse"),
    ],
)
def test_a_wrong_keyword_gets_an_error_that_names_the_right_one(
    config: dict[str, Any], wrong: dict[str, Any], sentence: str
) -> None:
    (name,) = wrong
    with LlamaClient(config) as client:
        calls: list[Callable[[], object]] = [
            lambda: client.ask("hi", **wrong),
            lambda: client.chat.completions.create(messages=HI, **wrong),
            lambda: client.chat.completions.create(messages=HI, stream=True, **wrong),
        ]
        if name != "response_format":
            calls.append(lambda: client.chat.completions.parse(messages=HI, **{"response_format": Capital, **wrong}))
        for call in calls:
            with pytest.raises(InvalidRequestError, match=sentence) as caught:
                call()
            assert caught.value.param == name


def test_a_wrong_keyword_gets_the_same_error_when_awaited(config: dict[str, Any]) -> None:
    async def ask() -> None:
        async with AsyncLlamaClient(config) as client:
            for wrong in (client.ask("hi", temprature=1), client.chat.completions.create(messages=HI, temprature=1)):  # type: ignore[call-arg,call-overload]
                with pytest.raises(InvalidRequestError, match="did you mean 'temperature'"):
                    await wrong

    asyncio.run(ask())


def test_parse_without_a_model_class_is_an_invalid_request(config: dict[str, Any]) -> None:
    with LlamaClient(config) as client, pytest.raises(InvalidRequestError, match="response_format: must be a Pydantic"):
        client.chat.completions.parse(messages=HI)  # type: ignore[call-arg]


def test_a_system_text_comes_before_the_messages() -> None:
    prompt = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hum"}]
    for given, rest in (("hi", prompt[:1]), (prompt, prompt), (tuple(prompt), prompt)):
        sent = asked(given, {"system": "Be brief.", "n": 2})
        assert sent == {"messages": [{"role": "system", "content": "Be brief."}, *rest], "n": 2}
    assert asked("hi", {"system": None}) == {"messages": prompt[:1]}


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_text_beside_a_system_message_is_refused(config: dict[str, Any], role: str) -> None:
    with LlamaClient(config) as client:
        with pytest.raises(InvalidRequestError, match=f"begin with a {role} message; leave out system") as caught:
            client.ask([{"role": role, "content": "a"}, *HI], system="b")
        assert caught.value.param == "system"
        with pytest.raises(InvalidRequestError, match="system: must be text"):
            client.ask("hi", system=5)  # type: ignore[arg-type]


def test_a_system_text_reaches_the_model(config: dict[str, Any], warm_engine: None) -> None:
    with LlamaClient(config) as client:
        plain, instructed = client.ask(JAPAN, max_tokens=1), client.ask(JAPAN, system="Be brief.", max_tokens=1)
    assert (plain.usage.prompt_tokens or 0) != (instructed.usage.prompt_tokens or 0)


def test_options_of_one_provider_have_the_names_of_arguments() -> None:
    with LlamaClient.for_provider("groq", api_key="k", timeout=5, base_url=None) as client:
        assert client._context.config.providers["groq"].model_dump()["timeout_s"] == 5
    for wrong, sentence in (
        ({"timeout_s": 5}, "timeout_s: unknown name; did you mean 'timeout'"),
        ({"timout": 5}, "timout: unknown name; did you mean 'timeout'"),
        ({"timeout": "5"}, "timeout: must be a number"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            LlamaClient.for_provider("groq", api_key="k", **wrong)


def test_a_view_names_its_timeout_as_a_call_does(config: dict[str, Any]) -> None:
    with (
        LlamaClient(config) as client,
        pytest.raises(InvalidRequestError, match="timeout: must be a number of seconds"),
    ):
        client.with_options(timeout=0)


def test_a_client_is_one_line_without_its_keys() -> None:
    table = {"providers": {"groq": {"api_key": "gsk_very_secret"}}, "default_model": "groq/m", "local_only": True}
    client = LlamaClient(table)
    assert repr(client) == "<LlamaClient providers groq, ollama; model groq/m; local only>"
    assert "model groq/a, groq/b" in repr(client.with_options(model=["groq/a", "groq/b"]))
    client.close()
    assert repr(client).endswith("; closed>")


def test_an_answer_is_one_line(config: dict[str, Any], warm_engine: None) -> None:
    with LlamaClient(config) as client:
        shown = repr(client.ask(JAPAN, temperature=0))
        with client.chat.completions.create(messages=HI, stream=True, temperature=0, max_tokens=8) as stream:
            assert re.fullmatch(r"<ChatStream laptop/default: '.*' so far, open>", repr(stream))
            text = "".join(chunk.text for chunk in stream)
        assert re.fullmatch(rf"<ChatStream laptop/default: {re.escape(repr(text))} .*tokens, .*>", repr(stream))
        with client.chat.completions.create(messages=HI, stream=True) as stopped:
            pass
        assert repr(stopped).endswith(" so far, closed>")
    whole = r"<ChatCompletion laptop/default: 'The capital of Japan is Tokyo\.' \d+ tokens, free, \d+\.\d\d s>"
    assert re.fullmatch(whole, shown)


def test_models_are_one_list_with_the_name_of_their_provider(demo_pulled: ModelStore) -> None:
    with LlamaClient() as client:
        models, providers = client.models.list(), client.providers.list()
    assert models == [model for provider in providers for model in provider.models]
    (demo,) = (model for model in models if model.target == "gguf/smollm2-135m")
    assert (demo.provider, demo.is_served) == ("gguf", True)


def test_tags_that_are_no_texts_are_refused(config: dict[str, Any]) -> None:
    for tags in (5, {"a": 1}, {1: "a"}):
        with pytest.raises(InvalidRequestError, match="tags"):
            LlamaClient(config, tags=tags)  # type: ignore[arg-type]
        with pytest.raises(InvalidRequestError, match="tags"):
            LlamaClient(config).with_options(tags=tags)  # type: ignore[arg-type]


def test_a_store_that_can_be_nowhere_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CLIENT_CACHE_DIR", "~nobody-of-that-name/x")
    with pytest.raises(ConfigError, match="no such path"):
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


def test_a_timeline_is_split_by_more_than_days(
    config: dict[str, Any], warm_engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_CLIENT_LEDGER__ENABLED", "true")
    with LlamaClient({**config, "ledger": {"url": f"sqlite:///{tmp_path}/ledger.db"}}) as client:
        reply = client.ask(JAPAN, max_tokens=1)
        (day,) = client.costs.timeline()
        assert [group.key for group in day.groups] == [reply.target]
        assert [group.key for group in client.costs.report(by="day").groups] == [day.day.isoformat()]
        with pytest.raises(InvalidRequestError, match="by: a timeline is split by day already") as caught:
            client.costs.timeline(by="day")
    assert caught.value.param == "by"


def driven_without_a_loop(coroutine: Coroutine[Any, Any, object]) -> None:
    """Runs it as an event loop other than asyncio's would, up to its first wait."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    finally:
        coroutine.close()


@pytest.mark.parametrize(
    "begun",
    [
        lambda client: client.ask("hi"),
        lambda client: client.chat.completions.create(messages=HI, stream=True),
        lambda client: client.chat.completions.parse(messages=HI, response_format=Capital),
        lambda client: client.default_model(),
        lambda client: client.count_tokens("hi"),
        lambda client: client.estimate_cost("hi"),
        lambda client: client.models.list(),
        lambda client: client.providers.list(),
        lambda client: client.costs.report(),
        lambda client: client.costs.budgets(),
        lambda client: client.aclose(),
        lambda client: client.__aexit__(None, None, None),
    ],
)
def test_an_event_loop_that_is_not_asyncio_s_is_refused_in_our_own_words(
    begun: Callable[[AsyncLlamaClient], Coroutine[Any, Any, object]],
) -> None:
    client = AsyncLlamaClient({"default_model": "gguf/m"})
    with pytest.raises(InvalidRequestError, match=r"needs an event loop of asyncio.*trio\.to_thread"):
        driven_without_a_loop(begun(client))
    asyncio.run(client.aclose())


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_clients_and_streams_say_why_they_cannot_be_pickled_or_copied(
    copied: Callable[[object], object], demo_pulled: ModelStore
) -> None:
    with LlamaClient() as client, client.chat.completions.create(messages=HI, stream=True, max_tokens=16) as stream:
        for each in (client, client.with_options(timeout=5), client.chat, stream):
            if copied is copy.copy and each is client.chat:
                continue
            with pytest.raises(TypeError, match=r"one client in each process.*configurations and answers"):
                copied(each)
        assert "".join(chunk.text for chunk in stream)
        # Answers can.
        assert pickle.loads(pickle.dumps(stream.completion)) == stream.completion
    with pytest.raises(TypeError, match="one client in each process"):
        copied(AsyncLlamaClient())
