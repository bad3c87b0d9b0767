"""A program written for the `openai` package, moved: the import and the constructor change, and the errors' names.

Each step runs with OpenAI's package and with ours, against a stand-in that plays an OpenAI-compatible server, and has
to give the same. For OpenAI itself leave out `base_url`, and set OPENAI_API_KEY. Expected output:

    a call: The capital of Japan is Tokyo. (22 tokens, stop)
    a stream: The capital of Japan is Tokyo. (22 tokens)
    an object: city='Tokyo'
    tools: Weather {"city": "Cusco"} -> 14 degrees in Cusco
    async: The capital of Japan is Tokyo.
    a wrong key: openai.AuthenticationError 401 -> llama_client.AuthenticationError 401
    an unknown model: openai.NotFoundError 404 -> llama_client.ModelNotFoundError 404
    too many requests: openai.RateLimitError 429 -> llama_client.RateLimitError 429
    a broken stream: openai.APIConnectionError -> llama_client.StreamInterruptedError
    a misspelt parameter: TypeError -> llama_client.InvalidRequestError
    for a function that wants OpenAI's own type: chat.completion, The capital of Japan is Tokyo.
"""

import asyncio
from typing import Any

import openai
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion
from pydantic import BaseModel
from standin import standin
from standin.server import BREAKING_MODEL, BUSY_MODEL, UNKNOWN_MODEL, WRONG_KEY

import llama_client
from llama_client import AsyncLlamaClient, LlamaClient

MODEL = "openai/gpt-oss-20b"
MESSAGES = [{"role": "user", "content": "What is the capital of Japan?"}]


class Weather(BaseModel):
    """Where to look."""

    city: str


TOOLS = [openai.pydantic_function_tool(Weather)]


# What changes. Retries are a parameter there; here they belong to the configuration of a `LlamaClient(config)`
# ([routing] retries), and `for_provider` keeps the usual 2.
def before(url: str, key: str = "a-key") -> Any:
    return OpenAI(api_key=key, base_url=url, max_retries=0)


def after(url: str, key: str = "a-key") -> Any:
    return LlamaClient.for_provider("openai", api_key=key, base_url=url)


def async_before(url: str) -> Any:
    return AsyncOpenAI(api_key="a-key", base_url=url, max_retries=0)


def async_after(url: str) -> Any:
    return AsyncLlamaClient.for_provider("openai", api_key="a-key", base_url=url)


# What does not.
def call(client: Any) -> str:
    response = client.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=0.7, max_tokens=1024)
    choice, usage = response.choices[0], response.usage
    return f"{choice.message.content} ({usage.total_tokens} tokens, {choice.finish_reason})"


def stream(client: Any) -> str:
    text, tokens = "", 0
    params = {"stream": True, "stream_options": {"include_usage": True}}
    for chunk in client.chat.completions.create(model=MODEL, messages=MESSAGES, **params):
        for choice in chunk.choices:
            text += choice.delta.content or ""
        if chunk.usage:
            tokens = chunk.usage.total_tokens
    return f"{text} ({tokens} tokens)"


def parse(client: Any) -> str:
    response = client.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=Weather)
    return f"{response.choices[0].message.parsed!r}".removeprefix("Weather(").removesuffix(")")


def tools(client: Any) -> str:
    messages: list[Any] = [{"role": "user", "content": "What is the weather in Cusco?"}]
    response = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS, tool_choice="auto")
    message = response.choices[0].message
    asked = message.tool_calls[0]
    messages += [message, {"role": "tool", "tool_call_id": asked.id, "content": "14 degrees in Cusco"}]
    response = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    return f"{asked.function.name} {asked.function.arguments} -> {response.choices[0].message.content}"


async def async_call(client: Any) -> str:
    async with client:
        response = await client.chat.completions.create(model=MODEL, messages=MESSAGES)
    return str(response.choices[0].message.content)


# What is caught.
def failure(client: Any, **params: Any) -> Exception:
    try:
        # A broken stream breaks while it is read.
        list(client.chat.completions.create(**{"model": MODEL, "messages": MESSAGES, "timeout": 10, **params}))
    except (openai.OpenAIError, TypeError) as error:  # before
        return error
    except llama_client.LlamaClientError as error:  # after: there is no other
        return error
    raise AssertionError("it did not fail")


def name_of(error: Exception) -> str:
    """The error, and the HTTP status that it holds: `status_code` there, `http_status` here."""
    package = type(error).__module__.partition(".")[0]
    name = type(error).__name__ if package == "builtins" else f"{package}.{type(error).__name__}"
    status = getattr(error, "status_code", getattr(error, "http_status", None))
    return f"{name} {status}" if status is not None and status >= 400 else name


FAILURES: dict[str, tuple[str, dict[str, Any]]] = {
    "a wrong key": (WRONG_KEY, {}),
    "an unknown model": ("a-key", {"model": UNKNOWN_MODEL}),
    "too many requests": ("a-key", {"model": BUSY_MODEL}),
    "a broken stream": ("a-key", {"model": BREAKING_MODEL, "stream": True}),
    "a misspelt parameter": ("a-key", {"temprature": 0}),
}


def main(url: str) -> None:
    with before(url) as old, after(url) as new:
        for name, step in (("a call", call), ("a stream", stream), ("an object", parse), ("tools", tools)):
            expected = step(old)
            assert step(new) == expected
            print(f"{name}: {expected}")
    expected = asyncio.run(async_call(async_before(url)))
    assert asyncio.run(async_call(async_after(url))) == expected
    print(f"async: {expected}")

    for name, (key, params) in FAILURES.items():
        with before(url, key) as old, after(url, key) as new:
            print(f"{name}: {name_of(failure(old, **params))} -> {name_of(failure(new, **params))}")

    with after(url) as new:
        reply = new.chat.completions.create(model=MODEL, messages=MESSAGES)
        theirs = ChatCompletion.model_validate(reply.to_openai())
        print(f"for a function that wants OpenAI's own type: {theirs.object}, {theirs.choices[0].message.content}")


with standin() as address:
    main(f"{address}/v1")
