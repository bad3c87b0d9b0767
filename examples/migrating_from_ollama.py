"""A program written for the `ollama` package, moved line by line: what each line becomes.

The two have other shapes, so that more lines change than with Groq's or OpenAI's package; what is gained is that the
same program runs with every provider. Each step runs with both, against a stand-in that plays Ollama, and has to give
the same. For the real Ollama leave out `host` and `base_url`. At the end a model in this process answers: run it after
`pip install ollama` and `llama-client pull smollm2-135m`. Expected output:

    a call: The capital of Japan is Tokyo. (14 + 8 tokens, stop, 0.05 s)
    a stream: The capital of Japan is Tokyo.
    options: The capital of Japan is Tokyo.
    an object: city='Tokyo'
    tools: weather city=Cusco -> 14 degrees in Cusco
    async: The capital of Japan is Tokyo.
    models: llama3.1:8b
    an unknown model: ollama.ResponseError 404 -> llama_client.ModelNotFoundError 404
    no server: ConnectionError -> llama_client.APIConnectionError
    the same program, another provider: gguf/smollm2-135m: The capital of Japan is Tokyo.
"""

import asyncio
import json
from typing import Any

import ollama
from pydantic import BaseModel
from standin import standin
from standin.server import UNKNOWN_MODEL

import llama_client
from llama_client import AsyncLlamaClient, LlamaClient

MODEL = "llama3.1:8b"
MESSAGES: list[Any] = [{"role": "user", "content": "What is the capital of Japan?"}]
NOWHERE = "http://127.0.0.1:1"


class City(BaseModel):
    city: str


# client = ollama.Client(host=url)
# client = LlamaClient.for_provider("ollama", base_url=url)


def call_before(client: ollama.Client) -> str:
    response = client.chat(model=MODEL, messages=MESSAGES)
    tokens, seconds = f"{response.prompt_eval_count} + {response.eval_count}", (response.total_duration or 0) / 1e9
    return f"{response.message.content} ({tokens} tokens, {response.done_reason}, {seconds:.2f} s)"


def call_after(client: LlamaClient) -> str:
    response = client.chat.completions.create(model=MODEL, messages=MESSAGES)
    usage, seconds = response.usage, response.timing.total_s or 0
    tokens = f"{usage.prompt_tokens} + {usage.completion_tokens}"
    return f"{response.text} ({tokens} tokens, {response.choices[0].finish_reason}, {seconds:.2f} s)"


def stream_before(client: ollama.Client) -> str:
    return "".join(chunk.message.content or "" for chunk in client.chat(model=MODEL, messages=MESSAGES, stream=True))


def stream_after(client: LlamaClient) -> str:
    with client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True) as stream:
        return "".join(chunk.text for chunk in stream)


def options_before(client: ollama.Client) -> str:
    options = {"temperature": 0, "num_predict": 50, "top_k": 20, "num_ctx": 8192}
    return client.chat(model=MODEL, messages=MESSAGES, options=options, think=False).message.content or ""


def options_after(client: LlamaClient) -> str:
    # What only Ollama knows (options, keep_alive) goes into its table of a configuration, to `for_provider`, or here.
    params: Any = {"temperature": 0, "max_tokens": 50, "top_k": 20, "extra_body": {"options": {"num_ctx": 8192}}}
    return client.ask(MESSAGES, model=MODEL, reasoning_effort="none", **params).text


def parse_before(client: ollama.Client) -> str:
    response = client.chat(model=MODEL, messages=MESSAGES, format=City.model_json_schema())
    return str(City.model_validate_json(response.message.content or ""))


def parse_after(client: LlamaClient) -> str:
    response = client.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=City)
    return str(response.choices[0].message.parsed)


CUSCO: list[Any] = [{"role": "user", "content": "What is the weather in Cusco?"}]


def weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: Its name
    """
    return f"14 degrees in {city}"


def tools_before(client: ollama.Client) -> str:
    messages = list(CUSCO)
    message = client.chat(model=MODEL, messages=messages, tools=[weather]).message
    [asked] = message.tool_calls or []
    arguments = asked.function.arguments
    messages += [message, {"role": "tool", "tool_name": asked.function.name, "content": weather(**arguments)}]
    answer = client.chat(model=MODEL, messages=messages, tools=[weather]).message.content
    return f"{asked.function.name} city={arguments['city']} -> {answer}"


def tools_after(client: LlamaClient) -> str:
    messages = list(CUSCO)
    # A schema instead of the function itself, arguments as text, and results by the id of their call.
    tools = [{"type": "function", "function": {"name": "weather", "parameters": City.model_json_schema()}}]
    message = client.chat.completions.create(model=MODEL, messages=messages, tools=tools).choices[0].message
    [asked] = message.tool_calls or []
    arguments = json.loads(asked.function.arguments)
    messages += [message, {"role": "tool", "tool_call_id": asked.id, "content": weather(**arguments)}]
    answer = client.chat.completions.create(model=MODEL, messages=messages, tools=tools).text
    return f"{asked.function.name} city={arguments['city']} -> {answer}"


async def async_before(url: str) -> str:
    async with ollama.AsyncClient(host=url) as client:
        return (await client.chat(model=MODEL, messages=MESSAGES)).message.content or ""


async def async_after(url: str) -> str:
    async with AsyncLlamaClient.for_provider("ollama", base_url=url) as client:
        return (await client.ask(MESSAGES, model=MODEL)).text


def models_before(client: ollama.Client) -> str:
    return ", ".join(model.model or "" for model in client.list().models)


def models_after(client: LlamaClient) -> str:
    server = next(provider for provider in client.providers.list() if provider.provider == "ollama")
    return ", ".join(model.target.removeprefix("ollama/") for model in server.models)


def error_before(url: str, model: str) -> str:
    try:
        ollama.Client(host=url).chat(model=model, messages=MESSAGES)
    except ollama.ResponseError as error:
        return f"ollama.ResponseError {error.status_code}"
    except ConnectionError:
        return "ConnectionError"
    return "none"


def error_after(url: str, model: str) -> str:
    with LlamaClient.for_provider("ollama", base_url=url) as client:
        try:
            client.ask(MESSAGES, model=model, timeout=10)
        except llama_client.ProviderError as error:
            return f"llama_client.{type(error).__name__} {error.http_status or ''}".rstrip()
    return "none"


def main(url: str) -> None:
    steps: dict[str, tuple[Any, Any]] = {
        "a call": (call_before, call_after),
        "a stream": (stream_before, stream_after),
        "options": (options_before, options_after),
        "an object": (parse_before, parse_after),
        "tools": (tools_before, tools_after),
    }
    with ollama.Client(host=url) as old, LlamaClient.for_provider("ollama", base_url=url) as new:
        for name, (before, after) in steps.items():
            expected = before(old)
            assert after(new) == expected
            print(f"{name}: {expected}")
        expected = asyncio.run(async_before(url))
        assert asyncio.run(async_after(url)) == expected
        print(f"async: {expected}")
        assert models_after(new) == models_before(old)
        print(f"models: {models_after(new)}")
    print(f"an unknown model: {error_before(url, UNKNOWN_MODEL)} -> {error_after(url, UNKNOWN_MODEL)}")
    print(f"no server: {error_before(NOWHERE, MODEL)} -> {error_after(NOWHERE, MODEL)}")
    with LlamaClient() as client:
        reply = client.ask(MESSAGES, model="gguf/smollm2-135m", temperature=0)
        print(f"the same program, another provider: {reply.target}: {reply.text}")


with standin() as address:
    main(address)
