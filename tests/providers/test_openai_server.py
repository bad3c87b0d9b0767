"""Kind `openai` against a real server: llama.cpp's own, which listens on loopback and speaks the OpenAI API."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import xllamacpp
from pydantic import BaseModel

from llama_client import (
    APITimeoutError,
    AsyncLlamaClient,
    AuthenticationError,
    ContextLengthError,
    LlamaClient,
)
from tests.asking import MODES, Asker
from tests.lengths import two_modes
from tests.providers.gguf.conftest import tiny_model

__all__ = ["tiny_model"]

KEY = "a-key-of-the-test"
CONTEXT_TOKENS = 1024  # of each of the two slots
PLENTY_S = 60.0
SOON_S = 30.0
FREED_S = 6.0
LONG = {"max_tokens": 900, "temperature": 0.0, "logit_bias": {"2": -100}}  # 2 ends an answer of this model

pytestmark = pytest.mark.timeout(120)
each_mode = pytest.mark.parametrize("mode", MODES)


@dataclass(frozen=True)
class Real:
    """The server.

    Attributes:
        url: Its address.
        engine: What keeps it running.
    """

    url: str
    engine: Any

    def config(self, **options: Any) -> dict[str, Any]:
        table = {"kind": "openai", "base_url": f"{self.url}/v1", "api_key": KEY, **options}
        return {"default_model": "box/smollm2", "providers": {"box": table}}

    def busy_slots(self) -> int:
        request = urllib.request.Request(f"{self.url}/slots", headers={"authorization": f"Bearer {KEY}"})
        with urllib.request.urlopen(request, timeout=SOON_S) as answer:
            return sum(bool(slot["is_processing"]) for slot in json.load(answer))

    def wait_for(self, condition: Callable[[int], bool], patience_s: float = FREED_S) -> bool:
        """By default less long than `LONG` takes to be answered to its end."""
        until = time.monotonic() + patience_s
        while not condition(self.busy_slots()):
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True


@pytest.fixture(scope="module")
def real(demo_model: Path) -> Iterator[Real]:
    """With the demo model, for what it says, and for how long it takes."""
    yield from serving(demo_model)


@pytest.fixture(scope="module")
def quick(tiny_model: Path) -> Iterator[Real]:
    """With the tiny model, for the form of an answer."""
    yield from serving(tiny_model)


def serving(model: Path) -> Iterator[Real]:
    parameters = xllamacpp.CommonParams()
    parameters.verbosity = 0
    parameters.model.path = str(model)
    parameters.model_alias = {"smollm2"}
    parameters.n_ctx, parameters.n_parallel = CONTEXT_TOKENS * 2, 2
    # Threads that wait for each other by turning in circles are slow where other processes want the cores too.
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.cache_ram_mib = 0
    parameters.ui = False
    parameters.endpoint_slots = True
    parameters.api_keys = [KEY]
    engine = xllamacpp.Server(parameters)
    yield Real(engine.listening_address, engine)
    del engine


@pytest.fixture
def ask(mode: str, real: Real) -> Asker:
    return Asker(mode, real.config(), [])


@pytest.fixture
def ask_quick(mode: str, quick: Real) -> Asker:
    return Asker(mode, quick.config(), [])


@each_mode
def test_it_answers_with_text_and_usage(ask: Asker) -> None:
    reply = ask("What is the capital of France?", max_tokens=8, temperature=0, timeout=PLENTY_S)
    assert reply.text
    assert (reply.target, reply.provider, reply.model) == ("box/smollm2", "box", "smollm2")
    usage = reply.usage
    assert usage.prompt_tokens is not None
    assert usage.completion_tokens is not None
    assert 0 < usage.completion_tokens <= 8
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    (attempt,) = reply.attempts
    assert (attempt.outcome, attempt.sent, attempt.http_status) == ("ok", True, 200)
    assert reply.timing.tokens_per_s is not None
    assert reply.timing.tokens_per_s > 0
    assert (reply.cost.usd, reply.cost.status) == (None, "unknown")


def test_every_mode_gives_the_same_text(real: Real) -> None:
    replies = [Asker(m, real.config(), [])("Count to five.", max_tokens=6, temperature=0, seed=1) for m in MODES]
    assert len({reply.text for reply in replies}) == 1
    assert len({reply.usage.completion_tokens for reply in replies}) == 1


@each_mode
def test_an_answer_that_reaches_its_limit_says_so(ask_quick: Asker) -> None:
    reply = ask_quick("Tell me a long story.", max_tokens=5, temperature=0, timeout=PLENTY_S)
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage.completion_tokens == 5


@two_modes
def test_a_stop_ends_the_answer(ask: Asker) -> None:
    reply = ask("Count: 1, 2, 3,", max_tokens=64, temperature=0, stop=[",", "."], timeout=PLENTY_S)
    assert reply.choices[0].finish_reason == "stop"
    assert not {",", "."} & set(reply.text)


@two_modes
def test_several_choices_are_kept_apart(ask_quick: Asker) -> None:
    reply = ask_quick("Say a word.", n=2, max_tokens=8, seed=3, timeout=PLENTY_S)
    assert [choice.index for choice in reply.choices] == [0, 1]
    assert all(choice.message.content for choice in reply.choices)


@pytest.mark.parametrize("asked", [True, False])
def test_usage_in_a_chunk_of_its_own_is_for_who_asked(quick: Real, asked: bool) -> None:
    asker = Asker("stream-sync", quick.config(), [])
    options = {"stream_options": {"include_usage": True}} if asked else {}
    reply = asker("Hello", max_tokens=4, timeout=PLENTY_S, **options)
    assert reply.usage.completion_tokens
    assert [chunk for chunk in asker.chunks if not chunk.choices] == (asker.chunks[-1:] if asked else [])


CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}


@two_modes
def test_an_answer_keeps_to_a_schema(ask_quick: Asker) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    reply = ask_quick("Describe Paris.", response_format=form, max_tokens=200, temperature=0, timeout=PLENTY_S)
    value = json.loads(reply.text)
    assert set(value) == {"city", "people"}
    assert isinstance(value["people"], int)


class Verdict(BaseModel):
    """A yes or a no."""

    is_true: bool


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_an_answer_is_parsed(quick: Real, colour: str) -> None:
    asked: Any = {
        "messages": [{"role": "user", "content": "Is water wet?"}],
        "response_format": Verdict,
        "max_tokens": 200,
        "timeout": PLENTY_S,
    }

    async def parse() -> Any:
        async with AsyncLlamaClient(quick.config()) as client:
            return await client.chat.completions.parse(**asked)

    if colour == "async":
        reply = asyncio.run(parse())
    else:
        with LlamaClient(quick.config()) as client:
            reply = client.chat.completions.parse(**asked)
    assert isinstance(reply.choices[0].message.parsed, Verdict)


@two_modes
def test_log_probabilities_come_in_openais_shape(ask_quick: Asker) -> None:
    reply = ask_quick("Hello", logprobs=True, top_logprobs=3, max_tokens=4, temperature=0, timeout=PLENTY_S)
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == reply.usage.completion_tokens
    assert "".join(token.token for token in logprobs.content) == reply.text
    for token in logprobs.content:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3


@each_mode
def test_a_prompt_that_is_too_long_tells_both_numbers(ask_quick: Asker) -> None:
    with pytest.raises(ContextLengthError) as caught:
        ask_quick("word " * 2000, max_tokens=4, timeout=PLENTY_S)
    assert caught.value.context_tokens == CONTEXT_TOKENS
    assert caught.value.prompt_tokens is not None
    assert 2000 < caught.value.prompt_tokens < 2200
    assert (caught.value.http_status, caught.value.retryable, caught.value.failover) == (400, False, True)
    assert caught.value.target == "box/smollm2"


@each_mode
def test_a_wrong_key_is_refused(mode: str, quick: Real) -> None:
    with pytest.raises(AuthenticationError) as caught:
        Asker(mode, quick.config(api_key="wrong-key"), [])("Hello", max_tokens=4, timeout=PLENTY_S)
    assert (caught.value.http_status, caught.value.failover) == (401, True)
    assert "wrong-key" not in str(caught.value)


def test_closing_a_stream_frees_its_slot(real: Real) -> None:
    with LlamaClient(real.config()) as client:
        asked: Any = {"messages": [{"role": "user", "content": "Count to a thousand."}], **LONG}
        stream = client.chat.completions.create(stream=True, **asked)
        next(iter(stream))
        assert real.busy_slots() == 1
        stream.close()
        assert real.wait_for(lambda busy: busy == 0)


def test_cancelling_a_task_frees_its_slot(real: Real) -> None:
    """That of a stream: llama.cpp notices the end of a connection only when it has something to send."""

    async def ask(client: AsyncLlamaClient) -> None:
        asked: Any = {"messages": [{"role": "user", "content": "Count to a thousand."}], **LONG}
        async for _ in await client.chat.completions.create(stream=True, **asked):
            pass

    async def ask_and_cancel() -> None:
        async with AsyncLlamaClient(real.config()) as client:
            task = asyncio.create_task(ask(client))
            assert await asyncio.to_thread(real.wait_for, lambda busy: busy == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(real.wait_for, lambda busy: busy == 0)

    asyncio.run(ask_and_cancel())


def test_a_timeout_is_kept(real: Real) -> None:
    with LlamaClient(real.config()) as client:
        asked: Any = {"messages": [{"role": "user", "content": "Count to fifty."}], **LONG, "max_tokens": 30}
        with pytest.raises(APITimeoutError):
            client.chat.completions.create(timeout=0.05, **asked)
    # This server goes on with a whole answer that nobody waits for; the next test is to find it idle.
    assert real.wait_for(lambda busy: busy == 0, PLENTY_S)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_its_models_are_listed(quick: Real, colour: str) -> None:
    async def listed() -> Any:
        async with AsyncLlamaClient(quick.config()) as client:
            return await client.providers.list()

    if colour == "async":
        providers = asyncio.run(listed())
    else:
        with LlamaClient(quick.config()) as client:
            providers = client.providers.list()
    (box,) = [provider for provider in providers if provider.provider == "box"]
    assert (box.kind, box.is_configured, box.is_reachable, box.error) == ("openai", True, True, None)
    (model,) = box.models
    assert (model.target, model.is_served, model.context_tokens) == ("box/smollm2", True, CONTEXT_TOKENS)


def test_eight_at_once_each_get_their_own_answer(real: Real) -> None:
    async def ask_all() -> list[str]:
        async with AsyncLlamaClient(real.config()) as client:
            prompts = [f"Repeat this number and nothing else: {number}{number}{number}" for number in range(1, 9)]
            asked = (client.ask(prompt, max_tokens=8, temperature=0, timeout=PLENTY_S) for prompt in prompts)
            return [reply.text for reply in await asyncio.gather(*asked)]

    together = asyncio.run(ask_all())
    assert len(together) == 8
    assert all(together)
    assert sum(str(number) * 3 in text for number, text in enumerate(together, 1)) >= 4  # a tiny model, not always able
    assert real.wait_for(lambda busy: busy == 0)


@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_a_real_server_goes_on_from_what_another_began(real: Real, mode: str) -> None:
    from llama_client.testing.loopback import WireServer
    from tests.routing.asking import broken_after

    with WireServer(lambda request: broken_after("The capital of", " Japan")) as first:
        config = real.config()
        config["providers"]["first"] = {"kind": "openai", "base_url": f"{first.url}/v1"}
        config["models"] = [{"target": "box/smollm2", "name": "smollm2", "abilities": ["prefill"]}]
        config["routing"] = {"on_interrupt": "continue"}
        ask = Asker(mode, config, [])
        reply = ask("What is the capital of Japan?", model=["first/m", "box/smollm2"], temperature=0.0, max_tokens=60)
    assert reply.text.startswith("The capital of Japan is Tokyo")
    assert "".join(chunk.text for chunk in ask.chunks) == reply.text
    assert reply.target == "box/smollm2"
