"""Answers streamed from an asynchronous web handler: FastAPI, one client for the process, a model in this process.

The program starts the server, asks it as browsers would, and stops it. The cloud is played by a stand-in. Run it after
`pip install fastapi uvicorn` and `llama-client pull smollm2-135m`. Expected output:

    200: The capital of Japan is Tokyo.
    four at once: Tokyo. Berlin. Tokyo. Berlin.
    a question without text: 422
    a question that is too long: 413
    a cloud that is down: 502
    a cloud that breaks down in the middle: 200: The capital of Japan [the answer broke off]
    a client that disconnects has read: Once
    and its answer: cancelled
    the next one: 200: The capital of Japan is Tokyo.
    the server has stopped
"""

import asyncio
import json
import logging
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import httpx
import uvicorn
from fastapi import Body, FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field
from standin import standin
from standin.server import BREAKING_MODEL

from llama_client import (
    APITimeoutError,
    AsyncChatStream,
    AsyncLlamaClient,
    BudgetExceededError,
    ContextLengthError,
    InvalidRequestError,
    LlamaClientError,
    OverloadedError,
    RateLimitError,
    StreamInterruptedError,
)

log = logging.getLogger("shop")

# The application.


class Question(BaseModel):
    """What a visitor may send. The model is no free choice: it decides who gets the text, and what it costs."""

    text: str = Field(min_length=1, max_length=100_000)
    route: Literal["local", "cloud", "breaking"] = "local"


def configuration(cloud: str) -> dict[str, Any]:
    """The models behind the routes; `cloud` is the address of the second one."""
    return {
        "default_model": "local",
        "providers": {
            # Two answers at once; more wait for their turn. So small a model needs no second thread.
            "gguf": {"n_parallel": 2, "n_ctx": 1024, "n_threads": 1},
            "shop": {"kind": "openai", "base_url": f"{cloud}/v1"},
        },
        "routes": {
            "local": {"targets": ["gguf/smollm2-135m"]},
            "cloud": {"targets": ["shop/openai/gpt-oss-20b"]},
            "breaking": {"targets": [f"shop/{BREAKING_MODEL}"]},
        },
        "routing": {"retries": 0},
    }


def application(config: dict[str, Any], outcomes: "asyncio.Queue[str]") -> FastAPI:
    """The web application. `outcomes` gets how each answer ended."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # One client for the process, opened on the loop that serves: it holds the model and the connections.
        async with AsyncLlamaClient(config) as client:
            app.state.client = client
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/answers")
    async def answers(question: Annotated[Question, Body()], request: Request) -> StreamingResponse:
        client: AsyncLlamaClient = request.app.state.client
        stream = await client.chat.completions.create(
            model=question.route,
            messages=[{"role": "user", "content": question.text}],
            temperature=0,
            max_tokens=500,
            timeout=120,
            stream=True,
        )
        # The first content is here: whatever could go wrong before it was raised above, and is a status below.
        return StreamingResponse(events(stream, outcomes), media_type="text/event-stream")

    @app.exception_handler(LlamaClientError)
    async def failed(request: Request, error: LlamaClientError) -> JSONResponse:
        status = status_of(error)
        log.info("%s for %s: %s", status, request.url.path, error)
        headers = {}
        if isinstance(error, RateLimitError) and error.retry_after_s is not None:
            headers["Retry-After"] = str(round(error.retry_after_s))
        # What a visitor did not cause is none of the visitor's business.
        detail = str(error) if status < 500 else "There is no answer at the moment."
        return JSONResponse({"detail": detail}, status_code=status, headers=headers)

    return app


def status_of(error: LlamaClientError) -> int:
    """The HTTP status for a call that failed before its first content."""
    match error:
        case InvalidRequestError():
            return 400
        case ContextLengthError():
            return 413
        case RateLimitError() | OverloadedError() | BudgetExceededError():
            return 503
        case APITimeoutError():
            return 504
        case _:
            return 502


async def events(stream: AsyncChatStream, outcomes: "asyncio.Queue[str]") -> AsyncIterator[str]:
    """An answer as server-sent events. When the visitor hangs up, this is cancelled: `async with` stops the model."""
    try:
        async with stream:
            async for chunk in stream:
                if chunk.text:
                    yield f"data: {json.dumps(chunk.text)}\n\n"
        yield "event: end\ndata: null\n\n"
    except StreamInterruptedError as error:
        # The status has been sent long ago, so the break is an event.
        log.info("an answer broke off: %s", error)
        yield 'event: broken\ndata: " [the answer broke off]"\n\n'
    finally:
        outcomes.put_nowait(stream.partial.attempts[-1].outcome)


# Its visitors.


async def ask(web: httpx.AsyncClient, text: str, route: str = "local") -> str:
    """The status, and the whole answer."""
    async with web.stream("POST", "/answers", json={"text": text, "route": route}) as response:
        pieces = [json.loads(line[6:]) or "" async for line in response.aiter_lines() if line.startswith("data: ")]
    return f"{response.status_code}: {''.join(pieces)}" if pieces else str(response.status_code)


async def hang_up(web: httpx.AsyncClient, text: str) -> str:
    """Asks for a long answer, reads its first word and hangs up."""
    async with web.stream("POST", "/answers", json={"text": text}) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                return str(json.loads(line[6:]))
    return ""


async def visit(web: httpx.AsyncClient, outcomes: "asyncio.Queue[str]", outage: threading.Event) -> None:
    """Everything that visitors do."""
    japan, germany = "What is the capital of Japan?", "What is the capital city of Germany?"
    print(await ask(web, japan))
    replies = await asyncio.gather(*(ask(web, text) for text in (japan, germany, japan, germany)))
    print("four at once:", *(reply.split()[-1] for reply in replies))
    print("a question without text:", await ask(web, ""))
    print("a question that is too long:", await ask(web, "llama " * 2000))
    outage.set()
    print("a cloud that is down:", await ask(web, japan, "cloud"))
    outage.clear()
    print("a cloud that breaks down in the middle:", await ask(web, japan, "breaking"))

    while not outcomes.empty():
        outcomes.get_nowait()
    print("a client that disconnects has read:", await hang_up(web, "Write a long story about a llama."))
    print("and its answer:", await outcomes.get())
    print("the next one:", await ask(web, japan))


async def main(cloud: str, outage: threading.Event) -> None:
    """Serves on a free port of this machine, in the same event loop as the visitors."""
    outcomes: asyncio.Queue[str] = asyncio.Queue()
    # Who asks before the server has started waits in this socket's queue.
    listening = socket.create_server(("127.0.0.1", 0))
    app = application(configuration(cloud), outcomes)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=10))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=address, timeout=120, trust_env=False) as web:
            await visit(web, outcomes, outage)
    finally:
        server.should_exit = True
        await serving
    print("the server has stopped")


if __name__ == "__main__":
    is_down = threading.Event()
    with standin(is_down) as url:
        asyncio.run(main(url, is_down))
