"""The OpenAI-shaped wire: our request as a body, its chunks as ours. No I/O, no provider's name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from llama_client.errors import InvalidResponseError
from llama_client.providers.base import ProviderCall
from llama_client.types.chunk import ChatCompletionChunk
from llama_client.types.request import ChatRequest
from llama_client.validation import first_problem


def body_of(request: ChatRequest, parameters: Collection[str]) -> dict[str, Any]:
    """The request as a JSON body that holds these parameters and no others."""
    return request.model_dump(mode="json", by_alias=True, exclude_none=True, include=set(parameters))


def chunk_of(body: Mapping[str, Any], call: ProviderCall) -> ChatCompletionChunk:
    """A chunk of an OpenAI-shaped stream as ours.

    Raises:
        InvalidResponseError: The body does not have the form of a chunk.
    """
    choices = [_choice(choice) for choice in body.get("choices") or ()]
    ours = {"target": call.target, "provider": call.provider, "request_id": call.request_id}
    try:
        return ChatCompletionChunk.model_validate(
            {**body, "object": "chat.completion.chunk", "choices": choices, **ours}
        )
    except ValidationError as error:
        problem = first_problem(error, show_values=False)
        raise InvalidResponseError(
            f"{call.target} sent a chunk that is none ({problem.sentence})", target=call.target, body=dict(body)
        ) from None


def _choice(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    delta = choice.get("delta") or {}
    # Two names are in use for the same thing; servers that send both send the same text.
    if delta.get("reasoning") is None and delta.get("reasoning_content") is not None:
        delta = {**delta, "reasoning": delta["reasoning_content"]}
    return {**choice, "delta": delta}
