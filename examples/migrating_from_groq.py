"""A program written for the `groq` package, moved: the import and the constructor change, and the names of the errors.

Each step runs with Groq's package and with ours, against a stand-in that plays Groq, and has to give the same. For the
real Groq leave out `base_url`, and set GROQ_API_KEY. Expected output:

    a call: The capital of Japan is Tokyo. (22 tokens, stop)
    a stream: The capital of Japan is Tokyo.
    tools: weather {"city": "Cusco"} -> 14 degrees in Cusco
    async: The capital of Japan is Tokyo.
    a wrong key: groq.AuthenticationError 401 -> llama_client.AuthenticationError 401
    an unknown model: groq.NotFoundError 404 -> llama_client.ModelNotFoundError 404
    too many requests: groq.RateLimitError 429 -> llama_client.RateLimitError 429
    a broken stream: httpx.RemoteProtocolError -> llama_client.StreamInterruptedError
    a misspelt parameter: TypeError -> llama_client.InvalidRequestError
    only here: answered by groq/openai/gpt-oss-20b, tries: 1, cost known: True; of the broken stream: 'The capital of'
"""

import asyncio
from typing import Any

import groq
import httpx
from groq import AsyncGroq, Groq
from standin import standin
from standin.server import BREAKING_MODEL, BUSY_MODEL, UNKNOWN_MODEL, WRONG_KEY

import llama_client
from llama_client import AsyncLlamaClient, LlamaClient

MODEL = "openai/gpt-oss-20b"
MESSAGES = [{"role": "user", "content": "What is the capital of Japan?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": CITY}}]


# What changes. Retries are a parameter there; here they belong to the configuration of a `LlamaClient(config)`
# ([routing] retries), and `for_provider` keeps the usual 2.
def before(url: str, key: str = "a-key") -> Any:
    return Groq(api_key=key, base_url=url, max_retries=0)


def after(url: str, key: str = "a-key") -> Any:
    return LlamaClient.for_provider("groq", api_key=key, base_url=url)


def async_before(url: str) -> Any:
    return AsyncGroq(api_key="a-key", base_url=url, max_retries=0)


def async_after(url: str) -> Any:
    return AsyncLlamaClient.for_provider("groq", api_key="a-key", base_url=url)


# What does not.
def call(client: Any) -> str:
    response = client.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=0.7, max_tokens=1024)
    choice, usage = response.choices[0], response.usage
    return f"{choice.message.content} ({usage.total_tokens} tokens, {choice.finish_reason})"


def stream(client: Any) -> str:
    text = ""
    for chunk in client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True):
        text += chunk.choices[0].delta.content or ""
    return text


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
    except (groq.GroqError, httpx.HTTPError, TypeError) as error:  # before
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
        for name, step in (("a call", call), ("a stream", stream), ("tools", tools)):
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
        broken: Any = failure(new, model=BREAKING_MODEL, stream=True)
        is_known = reply.cost.usd is not None
        print(f"only here: answered by {reply.target}, tries: {len(reply.attempts)}, cost known: {is_known};", end=" ")
        print(f"of the broken stream: {broken.partial.text!r}")


with standin() as address:
    main(address)
