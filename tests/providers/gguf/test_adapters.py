"""Several adapters of one loaded model, each chosen in the model's name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from gguf import GGUFWriter

from llama_client import ChatCompletion, LlamaClient, ModelNotFoundError, UnsupportedFeatureError
from tests.asking import Asker
from tests.lengths import two_modes
from tests.providers.gguf.conftest import TEMPLATES, ModelFile, written

WIDTH, INNER, RANK = 576, 1536, 8
QUESTION = "Why is the sky blue?"
# What is chosen, and what is always on in a provider of its own that answers the same.
ALONE = {"": "plain", "+formal": "formal", "+short": "short", "+short+formal": "both", "+formal+short": "both"}


def write_adapter(path: Path, seed: int) -> Path:
    random = np.random.default_rng(seed)
    writer = GGUFWriter(str(path), "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(RANK))
    for half, shape in (("lora_a", (RANK, INNER)), ("lora_b", (WIDTH, RANK))):
        writer.add_tensor(f"blk.0.ffn_down.weight.{half}", 0.3 * random.normal(size=shape).astype(np.float32))
    return written(writer, path)


@pytest.fixture(scope="module")
def configuration(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A model of one block, with two adapters that have names, and with each of them always on."""
    folder = tmp_path_factory.mktemp("adapters")
    model = ModelFile(tiny_model).write(folder / "tiny.gguf", TEMPLATES["any"])
    formal, short = (write_adapter(folder / f"{seed}.gguf", seed) for seed in (1, 2))

    def provider(*lora: dict[str, Any], n_parallel: int = 1, n_ctx: int = 512) -> dict[str, Any]:
        options = {"n_ctx": n_ctx, "n_threads": 1, "n_parallel": n_parallel}
        return {"kind": "gguf", "model_path": str(model), "lora": list(lora), **options}

    named = ({"path": str(formal), "name": "formal"}, {"path": str(short), "name": "short", "scale": 1.5})
    providers = {
        "desk": provider(*named),
        "busy": provider(*named, n_parallel=2),
        "turns": provider(*named, n_parallel=2, n_ctx=256),
        "talks": provider(*named, n_parallel=2, n_ctx=768),
        "chosen": provider(*named, n_parallel=2, n_ctx=1024),
        "plain": provider(),
        "formal": provider({"path": str(formal)}),
        "short": provider({"path": str(short), "scale": 1.5}),
        "both": provider({"path": str(formal)}, {"path": str(short), "scale": 1.5}),
        "mixed": provider({"path": str(formal)}, named[1]),
    }
    yield {"providers": providers, "ledger": {"enabled": False}, "routing": {"retries": 0}}
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def client(configuration: dict[str, Any]) -> Iterator[LlamaClient]:
    with LlamaClient(configuration) as client:
        yield client


def answer(client: LlamaClient, model: str, **params: Any) -> ChatCompletion:
    return client.ask(QUESTION, model=model, temperature=0, max_tokens=8, **params)


@pytest.fixture(scope="module")
def alone(client: LlamaClient) -> dict[str, str]:
    """The answers of models with the same adapters always on."""
    return {chosen: answer(client, f"{provider}/default").text for chosen, provider in ALONE.items()}


def test_each_adapter_answers_otherwise(alone: dict[str, str]) -> None:
    assert len({alone[chosen] for chosen in ("", "+formal", "+short", "+formal+short")}) == 4


@two_modes
@pytest.mark.parametrize("chosen", ALONE)
def test_an_adapter_that_is_named_answers_as_one_that_is_always_on(
    configuration: dict[str, Any], client: LlamaClient, alone: dict[str, str], mode: str, chosen: str
) -> None:
    answer(client, "desk/default")  # which keeps it loaded
    reply = Asker(mode, configuration, [])(QUESTION, model=f"desk/default{chosen}", temperature=0, max_tokens=8)
    assert reply.text == alone[chosen]
    assert (reply.target, reply.model) == (f"desk/default{chosen}", f"tiny{chosen}")


def test_one_without_a_name_is_on_beside_one_that_is_named(client: LlamaClient, alone: dict[str, str]) -> None:
    assert answer(client, "mixed/default").text == alone["+formal"]
    assert answer(client, "mixed/default+short").text == alone["+formal+short"]
    assert answer(client, "mixed/default").text == alone["+formal"]


def test_what_one_adapter_has_read_is_read_again_for_another(client: LlamaClient, alone: dict[str, str]) -> None:
    order = ["", "", "+formal", "+short", "+short", "+formal+short", "+formal", "", "+short", ""]
    replies = [answer(client, f"desk/default{chosen}") for chosen in order]
    assert [reply.text for reply in replies] == [alone[chosen] for chosen in order]
    changed = [before != chosen for before, chosen in zip(["?", *order], order, strict=False)]
    assert [not reply.usage.cached_tokens for reply in replies[1:]] == changed[1:]


def test_adapters_that_take_turns_each_keep_what_a_slot_has_read(client: LlamaClient, alone: dict[str, str]) -> None:
    order = ["+formal", "+short"] * 3
    replies = [answer(client, f"turns/default{chosen}") for chosen in order]
    assert [reply.text for reply in replies] == [alone[chosen] for chosen in order]
    assert [bool(reply.usage.cached_tokens) for reply in replies] == [False, False, True, True, True, True]
    # One more takes the slot that was used the longest time ago.
    last = [answer(client, f"turns/default{chosen}").usage.cached_tokens for chosen in ("", "+short", "", "+formal")]
    assert [bool(tokens) for tokens in last] == [False, True, True, False]


def test_conversations_with_one_adapter_each_keep_their_slot(client: LlamaClient) -> None:
    def said(*texts: str) -> int | None:
        roles = ("user", "assistant")
        messages: Any = [{"role": roles[number % 2], "content": text} for number, text in enumerate(texts)]
        params: Any = {"model": "talks/default+short", "temperature": 0, "max_tokens": 2}
        reply: ChatCompletion = client.chat.completions.create(messages=messages, **params)
        return reply.usage.cached_tokens

    first, second = "What of the sea? " * 9, "And the sky? " * 9
    said(first)
    said(second)
    assert (said(first, "Blue.", "Why?") or 0) > 30
    assert (said(second, "Grey.", "Why?") or 0) > 30


def test_a_slot_that_the_user_names_is_taken(client: LlamaClient) -> None:
    read = [
        answer(client, "chosen/default+short", extra_body={"id_slot": number}).usage.cached_tokens
        for number in (1, 0, 1)
    ]
    assert [bool(tokens) for tokens in read] == [False, False, True]


def test_requests_at_once_each_have_their_own_adapters(client: LlamaClient, alone: dict[str, str]) -> None:
    order = [chosen for _ in range(3) for chosen in ALONE]
    with ThreadPoolExecutor(4) as threads:
        replies = list(threads.map(lambda chosen: answer(client, f"busy/default{chosen}"), order))
    assert [reply.text for reply in replies] == [alone[chosen] for chosen in order]


def test_all_choices_of_an_answer_have_the_adapter(client: LlamaClient, alone: dict[str, str]) -> None:
    reply = client.chat.completions.create(
        model="busy/default+short", messages=[{"role": "user", "content": QUESTION}], n=3, temperature=0, max_tokens=8
    )
    assert [choice.message.content for choice in reply.choices] == [alone["+short"]] * 3


def test_all_adapters_share_one_loaded_model(configuration: dict[str, Any]) -> None:
    def listening() -> int:
        return len(psutil.Process().net_connections(kind="tcp"))

    desk = {**configuration["providers"]["desk"], "n_ctx": 768}
    with LlamaClient({**configuration, "providers": {"desk": desk}}) as client:
        before = listening()
        loaded = [answer(client, f"desk/default{chosen}").timing.load_s is not None for chosen in ALONE]
        assert (loaded, listening()) == ([True, False, False, False, False], before + 1)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("desk/default+formel", r"no adapter is named 'formel'; did you mean 'formal'\? \(there are formal, short\)"),
        ("desk/default+short+x", r"no adapter is named 'x' \(there are formal, short\)"),
        ("desk/default+", r"no adapter is named '' \(there are formal, short\)"),
        ("desk/default+Short", r"no adapter is named 'Short'; did you mean 'short'"),
        ("desk/default+ short", "no adapter is named ' short'"),
        ("desk/default+short+short", r"'short' is named more than once; once is default\+short"),
        ("formal/default+formal", "no adapter is named 'formal': none has a name"),
        ("desk/nothing+short", "no model named 'nothing' has been pulled"),
        ("desk/+short", "the name of the model is empty: name one of default$"),
        ("desk/ +short", "the name of the model is empty: name one of default$"),
        ("desk/default +short", "no model is named 'default '; did you mean 'default'[?]: name one of default$"),
    ],
)
def test_an_adapter_that_is_not_there_is_told_before_anything_is_loaded(
    configuration: dict[str, Any], model: str, why: str
) -> None:
    with LlamaClient(configuration) as client:
        with pytest.raises(ModelNotFoundError, match=why) as told:
            answer(client, model)
        assert told.value.target == model
        assert [(attempt.outcome, attempt.sent) for attempt in told.value.attempts] == [("error", False)]
        assert not any(served.is_loaded for served in client.models.list())


def test_the_next_target_answers_for_an_adapter_that_is_not_there(client: LlamaClient, alone: dict[str, str]) -> None:
    reply = answer(client, ["desk/default+unknown", "desk/default+formal"])  # type: ignore[arg-type]
    assert (reply.text, reply.target) == (alone["+formal"], "desk/default+formal")
    assert [attempt.target for attempt in reply.attempts] == ["desk/default+unknown", "desk/default+formal"]


def test_the_models_of_a_provider_have_each_adapter(client: LlamaClient) -> None:
    answer(client, "desk/default+short")
    served = [model for model in client.models.list() if model.target.startswith("desk/default")]
    assert [model.target for model in served] == ["desk/default", "desk/default+formal", "desk/default+short"]
    assert {model.is_loaded for model in served} == {True}


@pytest.mark.parametrize("provider", ["desk", "plain"])
@pytest.mark.parametrize("field", [[], [{"id": 0, "scale": 1.0}], {"formal": 1}])
def test_llama_cpps_own_field_is_refused_by_its_name(client: LlamaClient, provider: str, field: Any) -> None:
    why = rf"its 'lora' would choose adapters by number: name them in the model, as in {provider}/default\+NAME"
    with pytest.raises(UnsupportedFeatureError, match=why) as told:
        answer(client, f"{provider}/default", extra_body={"lora": field})
    assert told.value.param == "extra_body"


@pytest.mark.parametrize("chosen", ["+unknown", "+", "+short+short"])
def test_tokens_are_not_counted_for_an_adapter_that_is_not_there(client: LlamaClient, chosen: str) -> None:
    answer(client, "desk/default")
    assert client.count_tokens(QUESTION, model="desk/default").status == "exact"
    assert client.count_tokens(QUESTION, model=f"desk/default{chosen}").status == "estimated"


def test_tokens_are_counted_whatever_the_adapter(client: LlamaClient) -> None:
    reply = answer(client, "desk/default+formal")
    counted = client.count_tokens([{"role": "user", "content": QUESTION}], model="desk/default+formal")
    assert (counted.tokens, counted.status) == (reply.usage.prompt_tokens, "exact")


def test_a_call_with_other_adapters_waits_for_its_turn_in_the_queue(configuration: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": QUESTION}]
    with LlamaClient(configuration) as client, ThreadPoolExecutor(1) as threads:
        stream = client.chat.completions.create(
            messages=messages, model="busy/default", max_tokens=400, extra_body={"ignore_eos": True}, stream=True
        )
        next(stream)
        other = threads.submit(client.ask, QUESTION, model="busy/default+short", max_tokens=2)
        for _ in range(2):
            client.ask(QUESTION, model="busy/default", max_tokens=1)
        assert other.done(), "what came later overtook it"
        list(stream)
    timing = other.result().timing
    assert timing.queue_s is not None
    assert timing.ttft_s is not None
    # Nearly all of the wait for its two tokens was for the turn.
    assert timing.queue_s > timing.ttft_s / 2
