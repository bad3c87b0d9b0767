"""Requests for llama.cpp's engine, and its chunks as ours. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from llama_client.errors import (
    BadRequestError,
    GenerationFailedError,
    ProviderError,
    ServerError,
    UnsupportedFeatureError,
)
from llama_client.providers.base import Capabilities, HttpAnswer, ProviderCall
from llama_client.providers.gguf.call_arguments import repair_arguments, require_arguments
from llama_client.providers.gguf.chat_template import SHAPING_FIELDS, is_refusal, said_by
from llama_client.providers.gguf.tool_calling import UNPARSED, ToolCalling, demand
from llama_client.providers.services import Quirks
from llama_client.providers.wire.errors import error_from_llama_cpp
from llama_client.providers.wire.handed_back import messages_of, require_known, tools_of
from llama_client.providers.wire.openai_codec import PARAMETERS as OPENAI_PARAMETERS
from llama_client.providers.wire.openai_codec import TOOL_PARAMETERS, body_of, has_remote_images
from llama_client.providers.wire.openai_response import ChunkReader
from llama_client.types.completion import ChatCompletionChunk, PromptTokensDetails, Usage
from llama_client.types.request import ChatRequest

_NOT_HERE = {"max_completion_tokens", "service_tier", "user", "stream_options", "extra_headers"}
PARAMETERS = OPENAI_PARAMETERS - _NOT_HERE | {"reasoning_format"}
_SAME_NAME = PARAMETERS - {
    "messages",
    "response_format",
    "n",
    "seed",
    "top_logprobs",
    "repetition_penalty",
    "reasoning_format",
    "extra_body",
}
_NO_IMAGES = "the model accepts no images (no mmproj is configured)"
# The library's seeds are 32 bits wide, and the highest means "choose one".
_SEEDS = 2**32 - 1
# Templates have the reasoning of earlier answers under this name. The engine would leave out what it does not know.
_QUIRKS = Quirks(
    is_strict=True,
    takes_back=frozenset({"reasoning_content"}),
    part_types=frozenset({"text", "image_url"}),
    tool_types=frozenset({"function"}),
)
# llama.cpp's names for our formats. It cannot leave reasoning out (`hidden`).
_REASONING_FORMATS = {"parsed": "deepseek", "raw": "none"}


def capabilities(template_abilities: dict[str, bool]) -> Capabilities:
    why_not = {}
    if not (template_abilities.get("supports_tools") and template_abilities.get("supports_tool_calls")):
        why_not = dict.fromkeys(TOOL_PARAMETERS, "the model's chat template has no tools")
    if not template_abilities.get("supports_reasoning_effort"):
        why_not["reasoning_effort"] = "the model's chat template has no reasoning effort"
    return Capabilities(PARAMETERS, why_not)


def require_messages(call: ProviderCall) -> None:
    """Checks what depends neither on the model nor on its template."""
    require_known(call, _QUIRKS)
    require_arguments(call)


def require_values(call: ProviderCall, *, sees_images: bool) -> None:
    if call.request.reasoning_format not in (None, *_REASONING_FORMATS):
        raise call.unsupported("reasoning_format", "only 'parsed' and 'raw' are supported")
    if call.request.logprobs and call.request.tools:
        raise call.unsupported("logprobs", "llama.cpp gives none beside tools")
    if not call.request.has_images:
        return
    if not sees_images:
        raise call.unsupported("messages", _NO_IMAGES)
    # llama.cpp would fetch an address itself, past the connection guard.
    if has_remote_images(call.request):
        raise call.unsupported("messages", "images must be data: URIs here, not addresses")


def messages_to(call: ProviderCall) -> list[dict[str, Any]]:
    """The messages of a request, each with what the target takes of it."""
    messages: list[dict[str, Any]]
    messages = body_of(call.request, {"messages"}, partial(messages_of, call, _QUIRKS))["messages"]
    for message in messages:
        if message["role"] == "developer":  # OpenAI's newer name; templates use the older one
            message["role"] = "system"
    repair_arguments(call, messages)
    return messages


def shaping_of(body: dict[str, Any]) -> dict[str, Any]:
    """What decides, beside the messages, which prompt the model's template makes."""
    return {name: body[name] for name in SHAPING_FIELDS if name in body}


def bodies(request: ChatRequest, n_parallel: int) -> Iterator[tuple[dict[str, Any], int]]:
    """One body for each group of at most `n_parallel` choices (the engine's slots), with the group's size.

    It has no messages, see `messages_to`, and no `response_format`, see `answer_grammar`.
    """
    wanted = request.n or 1
    # An answer that is not of the expected form ends all of its group.
    most = 1 if request.tools else n_parallel
    for done in range(0, wanted, most):
        size = min(wanted - done, most)
        body = {**(request.extra_body or {}), **body_of(request, _SAME_NAME)}
        if "tools" in body:
            body["tools"] = tools_of(body["tools"], _QUIRKS)
            demand(body, request)
        if request.seed is not None:
            body["seed"] = (request.seed + done) % _SEEDS
        if request.logprobs:
            # 0 would switch log probabilities off; candidates beyond the requested number are removed from the answer.
            body["top_logprobs"] = max(request.top_logprobs or 0, 1)
        if request.repetition_penalty is not None:
            body["repeat_penalty"] = request.repetition_penalty
        if request.reasoning_format is not None:
            body["reasoning_format"] = _REASONING_FORMATS[request.reasoning_format]
        # Only a stream can be stopped.
        ours = {"n": size, "stream": True, "stream_options": {"include_usage": True}, "return_progress": True}
        yield {**body, **ours}, size


class Decoder:
    """Decodes llama.cpp's chunks, over all groups of one request."""

    def __init__(self, call: ProviderCall, model_name: str) -> None:
        self._call = call
        self._model_name = model_name
        self._tools = ToolCalling(call)
        self._progress: dict[str, Any] = {}
        self.begin_group(0, 1)
        self._usages: list[Usage] = []
        self._last: ChatCompletionChunk | None = None

    def begin_group(self, first_index: int, choices: int) -> None:
        """`first_index`: of the group's choices, each group of which the engine counts from 0."""
        self._first_index = first_index
        self._tools.begin_group()
        answer = HttpAnswer(200, {}, b"", 0.0)
        self._reader = ChunkReader(answer, self._call, lambda choice, _: choice.get("logprobs"), choices=choices)

    @property
    def is_holding(self) -> bool:
        """Whether a part of the answer has come that cannot be passed on yet."""
        return self._tools.is_holding

    def feed(self, body: dict[str, Any]) -> ChatCompletionChunk | None:
        """None for a chunk with only progress or only usage, and where all of it is held."""
        if "error" in body:
            body = self._failed(body["error"])
        elif "prompt_progress" in body:
            self._progress = body["prompt_progress"]
            return None
        elif "unparsed" in body:
            body = self._unparsed(body["unparsed"])
        written = body.pop("written", None)
        self._call.facts.bodies.append(body)
        chunk = self._reader.chunk({**body, "model": self._model_name})
        self._last = chunk
        if chunk.usage is not None:
            self._usages.append(chunk.usage)
            chunk.usage = None
        is_shown = self._tools.take(chunk, None if written is None else written["text"])
        for choice in chunk.choices:
            choice.index += self._first_index
            if choice.logprobs:
                for token in choice.logprobs.content or ():
                    token.top_logprobs = token.top_logprobs[: self._call.request.top_logprobs or 0]
        return chunk if chunk.choices and is_shown else None

    def _failed(self, error: dict[str, Any]) -> dict[str, Any]:
        """Raises our error, except for an answer of another form that the reader has a part of: that part is all."""
        message = str(error.get("message", ""))
        if self._call.request.tools and message.startswith(NO_SAMPLERS):
            raise self._call.unsupported("tools", f"llama.cpp makes no grammar of them with this model ({message})")
        if UNPARSED not in message:
            raise error_from_llama_cpp(error)
        text = self._tools.passed_on
        if not (self._call.request.stream and self._tools.has_passed_on):
            raise GenerationFailedError(f"llama.cpp failed: {message}", failed_generation=text, retryable=False)
        self._call.facts.warn("the rest of the answer is not of the expected form, and unknown")
        return self._ending(self._tools.as_answer(text, "stop"), None)

    def _ending(self, choice: dict[str, Any], usage: dict[str, Any] | None) -> dict[str, Any]:
        last = self._last
        named = {} if last is None else {"id": last.id, "created": last.created}
        return {**named, "choices": [choice], "usage": usage}

    def _unparsed(self, unparsed: dict[str, Any]) -> dict[str, Any]:
        """An answer that is not of the form which the template has for answers, as a chunk with its text."""
        prompt, cached, most = self._progress.get("total"), self._progress.get("cache"), self._call.request.max_tokens
        usage: dict[str, Any] | None = None
        is_cut = unparsed["is_full"]
        if isinstance(prompt, int):
            # The slot has the prompt and all of the answer but its last token.
            written = unparsed["slot_tokens"] - prompt + 1
            is_cut = is_cut or (most is not None and written >= most)
            usage = {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
            if isinstance(cached, int):
                usage["prompt_tokens_details"] = {"cached_tokens": cached}
        if not is_cut and self._call.request.response_format is not None:
            raise GenerationFailedError(
                "the model wrote what is no answer by its template", failed_generation=unparsed["text"]
            )
        return self._ending(self._tools.as_answer(unparsed["text"], "length" if is_cut else "stop"), usage)

    def usage_chunk(self) -> ChatCompletionChunk | None:
        """The last chunk of the answer: the usage of all choices, the prompt counted once."""
        if self._last is None or not self._usages:
            return None
        return self._last.model_copy(update={"choices": [], "usage": _sum(self._usages)})


# How llama.cpp's message begins where it cannot use the grammar that it made itself.
NO_SAMPLERS = "Failed to initialize samplers"


def is_refused_beginning(body: dict[str, Any]) -> bool:
    """Whether an answer cannot go on from the beginning that it was given."""
    return "error" in body and str(body["error"].get("message", "")).startswith(NO_SAMPLERS)


def library_failure(error: Exception) -> ProviderError:
    """Our error for an exception of xllamacpp: ValueError for a bad request, RuntimeError for everything else."""
    if is_refusal(str(error)):
        return UnsupportedFeatureError(
            f"the model's chat template refuses the messages: {said_by(str(error))}", param="messages"
        )
    if isinstance(error, ValueError | TypeError):
        return BadRequestError(f"llama.cpp refused the request: {error}")
    if "image input is not supported" in str(error):
        return UnsupportedFeatureError(_NO_IMAGES, param="messages")
    # llama.cpp's JSON library quotes its last input, which is the prompt.
    return ServerError(f"llama.cpp failed: {str(error).partition('; last read')[0]}")


def _sum(usages: list[Usage]) -> Usage:
    """The usage of all choices. Each reports the whole prompt; the fewest cached tokens are those of the first."""
    prompt = next((u.prompt_tokens for u in usages if u.prompt_tokens is not None), None)
    answers = [u.completion_tokens for u in usages]
    completion = sum(c for c in answers if c is not None) if None not in answers else None
    cached = [u.cached_tokens for u in usages if u.cached_tokens is not None]
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion if prompt is not None and completion is not None else None,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=min(cached)) if cached else None,
    )
