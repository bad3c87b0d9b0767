"""A piece of an answer, in OpenAI's shape."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any, Literal, TypeVar

from pydantic import Field

from llama_client.types.base import AnswerModel
from llama_client.types.completion import ChoiceLogprobs, FinishReason, openai_extras
from llama_client.types.usage import Usage


class FunctionDelta(AnswerModel):
    """A piece of a function call.

    Attributes:
        name: The function's name, once.
        arguments: The next bit of its arguments, which together are a JSON string.
    """

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(AnswerModel):
    """A piece of a tool call.

    Attributes:
        index: Pieces with the same one belong together.
        id: The call's id, once.
        type: Always `function`, once.
        function: What it adds to the function.
    """

    index: int = Field(ge=0)
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta | None = None


class Delta(AnswerModel):
    """What a chunk adds to the message.

    Attributes:
        role: `assistant`, once.
        content: Text.
        tool_calls: Pieces of tool calls.
        reasoning: The model's thinking, where it is told apart from the answer.
        refusal: The text of a refusal.
    """

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    reasoning: str | None = None
    refusal: str | None = None

    @property
    def has_content(self) -> bool:
        """Whether there is anything to show: text, reasoning, a refusal or a piece of a tool call."""
        return bool(self.content or self.reasoning or self.refusal or self.tool_calls)


class ChunkChoice(AnswerModel):
    """What a chunk adds to one choice.

    Attributes:
        index: Which choice.
        delta: What it adds.
        finish_reason: Why the answer ends there; None as long as it does not.
        logprobs: The log probabilities of the tokens that it adds, where they were asked for.
    """

    index: int = Field(ge=0)
    delta: Delta
    finish_reason: FinishReason | None = None
    logprobs: ChoiceLogprobs | None = None


class ChatCompletionChunk(AnswerModel):
    """A piece of an answer.

    The chunk that carries only usage (no choices) is handed on only to who passed
    `stream_options={"include_usage": True}`.

    Attributes:
        id: The provider's id of the answer, the same in all of its chunks.
        created: Unix time in seconds.
        model: The model, as the provider names it.
        choices: What it adds to each choice.
        usage: Token counts, in the last chunk alone.
        system_fingerprint: The provider's word for its setup.
        service_tier: The tier that serves it, as the provider names it.
        target: Who answers: `provider/model`.
        provider: The provider's name in the configuration.
        request_id: Ours, the same in logs and attempts.
    """

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    target: str = ""
    provider: str = ""
    request_id: str = ""

    @property
    def text(self) -> str:
        """What this chunk adds to the first choice's text; often an empty string."""
        return "".join(choice.delta.content or "" for choice in self.choices if choice.index == 0)

    @property
    def has_content(self) -> bool:
        """Whether there is anything in it to show."""
        return any(choice.delta.has_content for choice in self.choices)

    def to_openai(self) -> dict[str, Any]:
        """A dict that `openai.types.chat.ChatCompletionChunk.model_validate` accepts."""
        body = self.model_dump(
            mode="json", include={"id", "object", "created", "model", "system_fingerprint"}, exclude_none=True
        )
        choices = [
            {
                "index": choice.index,
                "finish_reason": choice.finish_reason,
                "delta": choice.delta.model_dump(
                    mode="json", include={"role", "content", "tool_calls", "refusal"}, exclude_none=True
                ),
                "logprobs": choice.logprobs.model_dump(mode="json") if choice.logprobs else None,
            }
            for choice in self.choices
        ]
        return body | openai_extras(self.usage, self.service_tier) | {"choices": choices}


# An answer in pieces, in the two colours.
SyncChunks = Generator[ChatCompletionChunk]
AsyncChunks = AsyncGenerator[ChatCompletionChunk]
Chunks = TypeVar("Chunks", SyncChunks, AsyncChunks)
