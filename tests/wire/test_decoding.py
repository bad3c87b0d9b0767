"""What a server sends, decoded in process and compared whole: each field of each chunk, and all that was learnt.

A row of `ROWS` is: a shape, the codec, what is asked beside the messages and tools, what is sent (a body, or the events
of a stream), and what that is. Of each chunk and of the facts, what has its usual value (`HEAD`, `FACTS`) is left out.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from decimal import Decimal
from typing import Any

import pytest

from llama_client import InvalidResponseError, ProviderError, errors
from llama_client.providers.base import AttemptFacts, HttpAnswer, ProviderCall
from llama_client.providers.groq_together import GroqCodec, TogetherCodec
from llama_client.providers.services import SERVICES
from llama_client.providers.wire import decoders, openai_response, sources, tool_calls
from llama_client.providers.wire.decoders import NdjsonDecoder, ServerSentEvent, SseDecoder
from llama_client.providers.wire.kept_fields import bytes_in
from llama_client.providers.wire.ollama_request import OllamaCodec
from llama_client.providers.wire.openai_codec import CompatibleCodec, abilities_unknown
from llama_client.providers.wire.thinking import TagReader
from llama_client.providers.wire.tool_calls_in_text import tool_calls_in
from llama_client.providers.wire.usage import charge_in, usage_of
from llama_client.routing.accumulator import Accumulator
from llama_client.types.completion import MAX_CHOICES, ChunkChoice
from llama_client.types.request import Tool, check_request
from tests.wire.test_answers import ROWS as ANSWERS
from tests.wire.test_answers import TOOLS, bytes_of, name_of

CODECS: dict[str, Any] = {
    "openai": CompatibleCodec(),
    "groq": GroqCodec(abilities_unknown, SERVICES["groq"].quirks),
    "together": TogetherCodec(abilities_unknown, SERVICES["together"].quirks),
    "ollama": OllamaCodec(abilities_unknown, options={}),
}
# What each chunk has where the server tells nothing else.
HEAD = {"id": "req_1", "object": "chat.completion.chunk", "created": 1_780_000_000, "model": "some/model"}
HEAD |= {"target": "x/some/model", "provider": "x", "request_id": "req_1"}
REASON = "x/some/model sent the finish reason "
FACTS = asdict(AttemptFacts())
MADE_UP_ID = re.compile(r"call_[0-9a-f]{24}")


def invalid(why: str) -> str:
    return f"x/some/model sent an invalid response ({why})"


def a_call(*, stream: bool, **asked: Any) -> ProviderCall:
    given = {"messages": [{"role": "user", "content": "hello"}], "tools": TOOLS, "timeout": None, **asked}
    return ProviderCall(check_request(given, stream=stream), "x", "some/model", "req_1", None, AttemptFacts())


def an_answer(data: bytes = b"", status: int = 200) -> HttpAnswer:
    return HttpAnswer(status, {}, data, 1_780_000_000.75)


def chunks_of(codec: Any, data: bytes, call: ProviderCall) -> tuple[list[Any], bool | None]:
    """The chunks of a body, or of a stream and whether that is complete."""
    if not call.request.stream:
        return [codec.decode(an_answer(data), call)], None
    stream = codec.stream(an_answer(), call)
    return [*stream.feed(data), *stream.end()], stream.is_complete


def without_made_up_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_made_up_ids(each) for name, each in value.items()}
    if isinstance(value, list):
        return [without_made_up_ids(each) for each in value]
    return "made up" if isinstance(value, str) and MADE_UP_ID.fullmatch(value) else value


def shown(chunk: Any) -> dict[str, Any]:
    values = chunk.model_dump(exclude_none=True)
    assert HEAD.keys() <= values.keys()
    told: dict[str, Any] = without_made_up_ids({name: each for name, each in values.items() if HEAD.get(name) != each})
    return told


def learnt(facts: AttemptFacts) -> dict[str, Any]:
    values = {**asdict(facts), "sources": [each.model_dump(exclude_none=True) for each in facts.sources]}
    if facts.charge is not None:
        values["charge"] = [str(facts.charge.usd), facts.charge.source, facts.charge.is_estimated]
    return {name: each for name, each in values.items() if FACTS[name] != each and name not in ("body", "bodies")}


def bytes_sent(kind: str, sent: Any) -> bytes:
    if isinstance(sent, dict):
        return json.dumps(sent).encode()
    form = "{}\n" if kind == "ollama" else "data: {}\n\n"
    return "".join(form.format(each if isinstance(each, str) else json.dumps(each)) for each in sent).encode()


def read(kind: str, asked: dict[str, Any], sent: Any) -> dict[str, Any]:
    call = a_call(stream=not isinstance(sent, dict), **asked)
    data = bytes_sent(kind, sent)
    try:
        chunks, is_complete = chunks_of(CODECS[kind], data, call)
    except ProviderError as error:
        body = {} if error.body is None else {"body": error.body}
        target = {} if error.target is None else {"target": error.target}
        return {"error": type(error).__name__, "message": str(error), **target, **body, **learnt(call.facts)}
    if isinstance(sent, dict):
        assert call.facts.body == sent
    # A complete stream is the usual.
    ended = {"is_complete": False} if is_complete is False else {}
    return {"chunks": [shown(chunk) for chunk in chunks], **ended, **learnt(call.facts)}


ROWS: list[tuple[str, str, dict[str, Any], Any, dict[str, Any]]] = [
    ("a whole answer with nothing beside its message", "openai", {},
     {"choices": [{"message": {"content": "Oslo"}}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "Oslo"}, "finish_reason": "stop"}]}],
      "warnings": ["x/some/model sent no finish reason; the answer may be incomplete"]}),
    ("all of a whole answer's own fields", "openai", {},
     {"id": "c-1", "object": "chat.completion", "created": 5, "model": "m-1", "system_fingerprint": "fp",
      "service_tier": "flex", "choices": [{"index": 0, "message": {"role": "assistant", "content": "Oslo",
      "refusal": "no", "audio": {"id": "a"}}, "finish_reason": "length", "logprobs": {"content": [{"token": "O",
      "logprob": -1, "bytes": [79], "top_logprobs": [{"token": "o", "logprob": -2}]}], "refusal": [{"token": "n",
      "logprob": -3}]}}], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}},
     {"chunks": [{"id": "c-1", "created": 5, "model": "m-1", "choices": [{"index": 0,
      "delta": {"role": "assistant", "content": "Oslo", "refusal": "no", "audio": {"id": "a"}},
      "finish_reason": "length", "logprobs": {"content": [{"token": "O", "bytes": [79], "logprob": -1.0,
      "top_logprobs": [{"token": "o", "logprob": -2.0}]}], "refusal": [{"token": "n", "logprob": -3.0,
      "top_logprobs": []}]}}], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
      "system_fingerprint": "fp", "service_tier": "flex"}]}),
    ("an empty id, a time that is text and no model", "openai", {},
     {"id": "", "created": "5", "model": None, "choices": [{"message": {"content": "Oslo"},
      "finish_reason": "stop"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "Oslo"}, "finish_reason": "stop"}]}]}),
    ("two choices of which one has an index", "openai", {"n": 2},
     {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}, {"index": 7,
      "message": {"content": "b"}, "finish_reason": "length"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}, {"index": 7,
      "delta": {"content": "b"}, "finish_reason": "length"}]}]}),
    ("an empty index, an empty reason", "openai", {},
     {"choices": [{"message": {"content": "a"}, "index": "", "finish_reason": ""}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}],
      "warnings": ["x/some/model sent no finish reason; the answer may be incomplete"]}),
    ("a delta instead of a message", "openai", {},
     {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}]}),
    ("no message", "openai", {},
     {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}, {"index": 1}]},
     {"error": "InvalidResponseError", "message": invalid("choices[1] has no message"), "target": "x/some/model",
      "body": {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}, {"index": 1}]}}),
    ("a choice that is a text", "openai", {},
     {"choices": ["a"]},
     {"error": "InvalidResponseError", "message": invalid("choices[0] has no message"), "target": "x/some/model",
      "body": {"choices": ["a"]}}),
    ("a message that is a text", "openai", {},
     {"choices": [{"message": "a"}]},
     {"error": "InvalidResponseError", "message": invalid("choices[0] has no message"), "target": "x/some/model",
      "body": {"choices": [{"message": "a"}]}}),
    ("no choices", "openai", {},
     {"id": "c-1"},
     {"error": "InvalidResponseError", "message": "x/some/model sent an answer without choices",
      "body": {"id": "c-1"}}),
    ("choices that are no list", "openai", {},
     [{"choices": {"a": 1}}],
     {"error": "InvalidResponseError", "message": invalid("choices is not a list"), "target": "x/some/model",
      "body": {"choices": {"a": 1}}}),
    ("a choice of a stream that is no object", "openai", {},
     [{"choices": [1]}],
     {"error": "InvalidResponseError", "message": invalid("a choice is not an object"), "target": "x/some/model",
      "body": {"choices": [1]}}),
    ("a finish reason that is a number", "openai", {},
     [{"choices": [{"index": 0, "delta": {}, "finish_reason": 1}]}],
     {"error": "InvalidResponseError", "message": invalid("a finish reason is not text"),
      "target": "x/some/model", "body": {"choices": [{"index": 0, "delta": {}, "finish_reason": 1}]}}),
    ("a content that is a number", "openai", {},
     {"choices": [{"message": {"content": 5}, "finish_reason": "stop"}]},
     {"error": "InvalidResponseError",
      "message": invalid("choices[0].delta.content: must be text, got a value of type int"),
      "target": "x/some/model", "body": {"choices": [{"message": {"content": 5}, "finish_reason": "stop"}]}}),
    ("an index below 0", "openai", {},
     [{"choices": [{"index": -1, "delta": {"content": "a"}}]}],
     {"error": "InvalidResponseError",
      "message": invalid("choices[0].index: must be greater than or equal to 0, got a value of type int"),
      "target": "x/some/model", "body": {"choices": [{"index": -1, "delta": {"content": "a"}}]}}),
    ("a stream of text", "openai", {},
     [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}, {"choices": [{"index": 0,
      "delta": {"content": "Os"}}]}, {"choices": [{"index": 0, "delta": {"content": "lo"}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, "[DONE]"],
     {"chunks": [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
      {"choices": [{"index": 0, "delta": {"content": "Os"}}]}, {"choices": [{"index": 0,
      "delta": {"content": "lo"}}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]}),
    ("a stream of text with the servers own fields", "openai", {},
     [{"id": "c-1", "object": "chat.completion.chunk", "created": 5, "model": "m", "system_fingerprint": "fp",
      "service_tier": "auto", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Oslo"}}]},
      {"id": "c-1", "created": 5, "model": "m", "choices": [{"index": 0, "delta": {"content": " it is"}}]},
      {"id": "c-1", "created": 5, "model": "m", "choices": [{"index": 0, "delta": {},
      "finish_reason": "stop"}]}],
     {"chunks": [{"id": "c-1", "created": 5, "model": "m", "choices": [{"index": 0,
      "delta": {"role": "assistant", "content": "Oslo"}}], "system_fingerprint": "fp", "service_tier": "auto"},
      {"id": "c-1", "created": 5, "model": "m", "choices": [{"index": 0, "delta": {"content": " it is"}}]},
      {"id": "c-1", "created": 5, "model": "m", "choices": [{"index": 0, "delta": {},
      "finish_reason": "stop"}]}]}),
    ("no delta, no index", "openai", {},
     [{"choices": [{"delta": {"content": "a"}}]}, {"choices": [{"finish_reason": "stop"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "stop"}]}]}),
    ("an index that is text", "openai", {},
     [{"choices": [{"index": "1", "delta": {"content": "a"}, "finish_reason": "stop"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}]}),
    ("two choices side by side", "openai", {"n": 2},
     [{"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}]},
      {"choices": [{"index": 1, "delta": {"content": "c"}, "finish_reason": "stop"}]}, {"choices": [{"index": 0,
      "delta": {}, "finish_reason": "stop"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}]},
      {"choices": [{"index": 1, "delta": {"content": "c"}, "finish_reason": "stop"}]}, {"choices": [{"index": 0,
      "delta": {}, "finish_reason": "stop"}]}]}),
    ("one of two choices has no end", "openai", {"n": 2},
     [{"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}], "is_complete": False}),
    ("no end, and usage before the last event", "openai", {},
     [{"choices": [{"index": 0, "delta": {"content": "a"}}]}, {"choices": [], "usage": {"prompt_tokens": 1,
      "completion_tokens": 1}}, "[DONE]"],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}}]}, {"choices": [],
      "usage": {"prompt_tokens": 1, "completion_tokens": 1}}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "stop"}]}],
      "warnings": ["x/some/model sent no finish reason; the answer may be incomplete"]}),
    ("no end of a tool call, and usage", "openai", {},
     [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "bash",
      "arguments": "{}"}}]}}]}, {"usage": {"completion_tokens": 1}}, "[DONE]"],
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c", "type": "function",
      "function": {"name": "bash", "arguments": "{}"}}]}}]}, {"choices": [], "usage": {"completion_tokens": 1}},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}],
      "warnings": ["x/some/model sent no finish reason; the answer may be incomplete"]}),
    ("a role that is not the assistants", "openai", {},
     [{"choices": [{"index": 0, "delta": {"role": "user", "content": "a"}, "finish_reason": "stop"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}]}),
    ("a reason in capitals, with more", "openai", {},
     [{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": " SAFETY: high"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "content_filter"}]}]}),
    ("a reason of 41 characters", "openai", {},
     {"choices": [{"message": {"content": "a"}, "finish_reason": "rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"},
      "finish_reason": "rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr…"}]}],
      "warnings": [REASON + "'rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr…', which is not known"]}),
    ("a reason of 40 characters", "openai", {},
     {"choices": [{"message": {"content": "a"}, "finish_reason": "rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"},
      "finish_reason": "rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr"}]}],
      "warnings": [REASON + "'rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr', which is not known"]}),
    ("a reason that says that the server failed", "openai", {},
     {"choices": [{"message": {"content": "a"}, "finish_reason": "error"}]},
     {"error": "ServerError", "message": "x/some/model failed while generating (finish reason 'error')"}),
    ("a reason that says that the server failed, with more", "openai", {},
     {"choices": [{"message": {"content": "a"},
      "finish_reason": "abort: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}]},
     {"error": "ServerError",
      "message": "x/some/model failed while generating (finish reason 'abort: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…')"}),
    ("kept fields of the message, the call and the function", "openai", {},
     {"choices": [{"message": {"content": None, "thinking_blocks": [{"a": 1}], "none": None,
      "tool_calls": [{"id": "c1", "type": "custom", "signature": "s", "extra_content": None,
      "function": {"name": "bash", "arguments": "{}", "strict": True}}]}, "finish_reason": "tool_calls"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function",
      "function": {"name": "bash", "arguments": "{}", "strict": True}, "signature": "s", "tool_type": "custom"}],
      "thinking_blocks": [{"a": 1}]}, "finish_reason": "tool_calls"}]}]}),
    ("parts of a content, texts and others", "openai", {},
     {"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"type": "output_text",
      "text": {"value": "b"}}, {"text": "c"}, {"type": "image_url", "text": "d"}, "e", 5, {"type": 7,
      "text": "f"}, {"type": "text", "text": 5}]}, "finish_reason": "stop"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "abce", "content_parts": [{"type": "text",
      "text": "a"}, {"type": "output_text", "text": {"value": "b"}}, {"text": "c"}, {"type": "image_url",
      "text": "d"}, "e", 5, {"type": 7, "text": "f"}, {"type": "text", "text": 5}]},
      "finish_reason": "stop"}]}]}),
    ("parts of a content that are texts alone", "openai", {},
     {"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
      "finish_reason": "stop"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "ab"}, "finish_reason": "stop"}]}]}),
    ("thoughts among the parts of a content", "openai", {},
     {"choices": [{"message": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "h"},
      {"text": 5}, 6, {"text": "m"}]}, {"type": "reasoning", "reasoning": "!"}, {"type": "reasoning",
      "text": "?"}, {"type": "thinking", "thinking": 5}, {"type": "text", "text": "a"}]},
      "finish_reason": "stop"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a", "reasoning": "hm!?",
      "content_parts": [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"text": 5}, 6,
      {"text": "m"}]}, {"type": "reasoning", "reasoning": "!"}, {"type": "reasoning", "text": "?"},
      {"type": "thinking", "thinking": 5}, {"type": "text", "text": "a"}]}, "finish_reason": "stop"}]}]}),
    ("reasoning beside its details", "openai", {},
     {"choices": [{"message": {"content": "a", "reasoning": "h", "reasoning_content": "h",
      "reasoning_details": [{"text": "h"}]}, "finish_reason": "stop"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a", "reasoning": "h", "reasoning_content": "h",
      "reasoning_details": [{"text": "h"}]}, "finish_reason": "stop"}]}]}),
    ("an empty reasoning, then reasoning_content", "openai", {},
     {"choices": [{"message": {"content": "a", "reasoning": "", "reasoning_content": "h"},
      "finish_reason": "stop"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a", "reasoning": "h", "reasoning_content": "h"},
      "finish_reason": "stop"}]}]}),
    ("details of reasoning in texts and summaries", "openai", {},
     {"choices": [{"message": {"content": "a", "reasoning_details": [{"text": "h", "summary": "m"},
      {"summary": "!"}, {"data": "x"}, 5, {"text": 6}]}, "finish_reason": "stop"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a", "reasoning": "hm!",
      "reasoning_details": [{"text": "h", "summary": "m"}, {"summary": "!"}, {"data": "x"}, 5, {"text": 6}]},
      "finish_reason": "stop"}]}]}),
    ("a text that is marked as a thought", "openai", {},
     [{"choices": [{"index": 0, "delta": {"content": "h", "extra_content": {"google": {"thought": True}}}}]},
      {"choices": [{"index": 0, "delta": {"content": "i", "reasoning": "g",
      "extra_content": {"google": {"thought": True}}}}]}, {"choices": [{"index": 0, "delta": {"content": "a",
      "extra_content": {"google": {"thought": "yes"}}}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "stop"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"reasoning": "h",
      "extra_content": {"google": {"thought": True}}}}]}, {"choices": [{"index": 0, "delta": {"reasoning": "gi",
      "extra_content": {"google": {"thought": True}}}}]}, {"choices": [{"index": 0, "delta": {"content": "a",
      "extra_content": {"google": {"thought": "yes"}}}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "stop"}]}]}),
    ("reasoning in tags", "openai", {},
     {"choices": [{"message": {"content": " \n<think>\nhm\n</think>\n\nOslo "}, "finish_reason": "stop"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "Oslo ", "reasoning": "hm"},
      "finish_reason": "stop"}]}]}),
    ("reasoning in tags, raw", "openai", {"reasoning_format": "raw"},
     {"choices": [{"message": {"content": "<think>hm</think>Oslo"}, "finish_reason": "stop"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "<think>hm</think>Oslo"},
      "finish_reason": "stop"}]}]}),
    ("reasoning in tags, hidden", "openai", {"reasoning_format": "hidden"},
     {"choices": [{"message": {"content": "<think>hm</think>Oslo"}, "finish_reason": "stop"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "Oslo"}, "finish_reason": "stop"}]}]}),
    ("nothing but reasoning in tags", "openai", {},
     {"choices": [{"message": {"content": "<think>hm</think>"}, "finish_reason": "stop"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "", "reasoning": "hm"},
      "finish_reason": "stop"}]}]}),
    ("tags beside a reasoning of its own", "openai", {},
     {"choices": [{"message": {"content": "<think>hm</think>Oslo", "reasoning": "r"}, "finish_reason": "stop"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "<think>hm</think>Oslo", "reasoning": "r"},
      "finish_reason": "stop"}]}]}),
    ("no text at all", "openai", {},
     {"choices": [{"message": {"content": None}, "finish_reason": "stop"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]}),
    ("tags in parts", "openai", {},
     [{"choices": [{"index": 0, "delta": {"content": "<th"}}]}, {"choices": [{"index": 0,
      "delta": {"content": "ink> a"}}]}, {"choices": [{"index": 0, "delta": {"content": " "}}]},
      {"choices": [{"index": 0, "delta": {"content": "b </th"}}]}, {"choices": [{"index": 0,
      "delta": {"content": "ink> \n"}}]}, {"choices": [{"index": 0, "delta": {"content": "Oslo"}}]},
      {"choices": [{"index": 0, "delta": {"content": " <think>"}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "stop"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": ""}}]}, {"choices": [{"index": 0,
      "delta": {"content": "", "reasoning": "a"}}]}, {"choices": [{"index": 0, "delta": {"content": ""}}]},
      {"choices": [{"index": 0, "delta": {"content": "", "reasoning": " b"}}]}, {"choices": [{"index": 0,
      "delta": {"content": ""}}]}, {"choices": [{"index": 0, "delta": {"content": "Oslo"}}]},
      {"choices": [{"index": 0, "delta": {"content": " <think>"}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "stop"}]}]}),
    ("tags of two choices", "openai", {"n": 2},
     [{"choices": [{"index": 0, "delta": {"content": "<think>a</think>b"}}]}, {"choices": [{"index": 1,
      "delta": {"content": "[THINK]c[/THINK]d"}}]}, {"choices": [{"index": 0, "delta": {"content": "<think>e"},
      "finish_reason": "stop"}, {"index": 1, "delta": {"content": "<think>f"}, "finish_reason": "stop"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "b", "reasoning": "a"}}]},
      {"choices": [{"index": 1, "delta": {"content": "d", "reasoning": "c"}}]}, {"choices": [{"index": 0,
      "delta": {"content": "<think>e"}, "finish_reason": "stop"}, {"index": 1, "delta": {"content": "<think>f"},
      "finish_reason": "stop"}]}]}),
    ("the end within the reasoning", "openai", {},
     [{"choices": [{"index": 0, "delta": {"content": "<think>a </thi"}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "length"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "", "reasoning": "a"}}]},
      {"choices": [{"index": 0, "delta": {"reasoning": " </thi"}, "finish_reason": "length"}]}]}),
    ("the end within the beginning of a tag", "openai", {},
     [{"choices": [{"index": 0, "delta": {"content": "<thin"}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "stop"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": ""}}]}, {"choices": [{"index": 0,
      "delta": {"content": "<thin"}, "finish_reason": "stop"}]}]}),
    ("reasoning first, then text that begins with a tag", "openai", {},
     [{"choices": [{"index": 0, "delta": {"reasoning": "h"}}]}, {"choices": [{"index": 0,
      "delta": {"content": "<think>a"}}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"reasoning": "h"}}]}, {"choices": [{"index": 0,
      "delta": {"content": "<think>a"}}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]}),
    ("reasoning that goes on under another name, and is repeated", "openai", {},
     [{"choices": [{"index": 0, "delta": {"reasoning": "A "}}]}, {"choices": [{"index": 0,
      "delta": {"reasoning_content": "A "}}]}, {"choices": [{"index": 0, "delta": {"reasoning_content": "B"}}]},
      {"choices": [{"index": 0, "delta": {"reasoning": "B"}}]}, {"choices": [{"index": 0,
      "delta": {"content": "x"}}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"reasoning": "A "}}]}, {"choices": [{"index": 0,
      "delta": {"reasoning_content": "A "}}]}, {"choices": [{"index": 0, "delta": {"reasoning_content": "B"}}]},
      {"choices": [{"index": 0, "delta": {"reasoning": "B"}}]}, {"choices": [{"index": 0,
      "delta": {"content": "x"}}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]}),
    ("usage and measures of Groq, twice", "groq", {},
     [{"choices": [{"index": 0, "delta": {"content": "a"}}], "x_groq": {"id": "r-1"}}, {"choices": [{"index": 0,
      "delta": {}, "finish_reason": "stop"}], "x_groq": {"id": "r-2", "usage": {"queue_time": 0.5,
      "prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}}}, {"choices": [],
      "usage": {"queue_time": 0.25, "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}},
      {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}],
      "provider_request_id": "r-1", "queue_s": 0.25}),
    ("measures that are none", "openai", {},
     {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "usage": {"queue_time": True,
      "prompt_tokens": 1}, "timings": {"predicted_per_second": -1}, "x_groq": {"id": 5}},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}],
      "usage": {"prompt_tokens": 1}}]}),
    ("a measure of 0, and of llama.cpp", "openai", {},
     {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "usage": {"queue_time": 0},
      "timings": {"predicted_per_second": 9223372036854775808}},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}], "queue_s": 0,
      "tokens_per_s": 9223372036854775808}),
    ("a measure above the largest", "openai", {},
     {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}],
      "timings": {"predicted_per_second": 9223372036854775809}},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}]}),
    ("usage with all its details, and a charge", "openai", {},
     {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 10,
      "completion_tokens": 5, "total_tokens": 15, "prompt_tokens_details": {"cached_tokens": 4,
      "cache_write_tokens": 2}, "completion_tokens_details": {"reasoning_tokens": 3}, "cost": 0.001}},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}],
      "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
      "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
      "completion_tokens_details": {"reasoning_tokens": 3}}}], "charge": ["0.001", "usage.cost", False]}),
    ("usage that grows, with a charge that is not told again", "openai", {},
     [{"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": {"prompt_tokens": 10,
      "completion_tokens": 1, "cost": 0.5}}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
      "usage": {"prompt_tokens": 10, "completion_tokens": 2}}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": {"prompt_tokens": 10,
      "completion_tokens": 1}}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
      "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}}]}),
    ("the same usage twice, with its charge once", "openai", {},
     [{"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": {"prompt_tokens": 10, "cost": 0.5}},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 10}}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": {"prompt_tokens": 10}},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 10}}],
      "charge": ["0.5", "usage.cost", False]}),
    ("a charge, then 0", "openai", {},
     [{"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": {"prompt_tokens": 10, "cost": 0.5}},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 10,
      "cost": 0}}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": {"prompt_tokens": 10}},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 10}}],
      "charge": ["0.5", "usage.cost", False]}),
    ("a charge of 0, then more", "openai", {},
     [{"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": {"prompt_tokens": 10, "cost": 0}},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 10,
      "cost": "0.25"}}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": {"prompt_tokens": 10}},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 10}}],
      "charge": ["0.25", "usage.cost", False]}),
    ("counts in turns, with details", "openai", {},
     [{"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": {"prompt_tokens": 10,
      "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 0}}}, {"choices": [{"index": 0,
      "delta": {"content": "b"}}], "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0,
      "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 1}}}, {"choices": [{"index": 0,
      "delta": {}, "finish_reason": "stop"}], "usage": {"completion_tokens": 3, "total_tokens": 3,
      "reasoning_tokens": 2}}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": {"prompt_tokens": 10,
      "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 0}}}, {"choices": [{"index": 0,
      "delta": {"content": "b"}}], "usage": {"prompt_tokens": 10, "completion_tokens": 0, "total_tokens": 10,
      "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 1}}}, {"choices": [{"index": 0,
      "delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 10, "completion_tokens": 3,
      "total_tokens": 13, "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 1},
      "completion_tokens_details": {"reasoning_tokens": 2}}}]}),
    ("usage without counts", "openai", {},
     [{"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": {"latency": 5}}, {"choices": [{"index": 0,
      "delta": {}, "finish_reason": "stop"}], "usage": None}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "stop"}]}]}),
    ("sources of every kind", "openai", {},
     {"choices": [{"message": {"content": "a", "annotations": [{"type": "url_citation",
      "url_citation": {"url": "u1", "title": "t1", "start_index": 0, "end_index": 4, "content": "e1"}},
      {"type": "file", "file_id": "f1", "filename": "n1", "start": 1, "end": -1}, {"type": 5, "uri": "u2",
      "snippet": "e2"}], "executed_tools": [{"index": 3, "type": "search", "arguments": {"q": 1}, "output": "o",
      "search_results": {"results": [{"url": "u3", "title": "t3"}]}}, {"name": "run", "type": "python",
      "arguments": ""}]}, "finish_reason": "stop"}], "citations": ["u4", "", 5, {"source": {"url": "u5"},
      "file_name": "n5", "cited_text": "e5"}], "search_results": [{"url": "u6", "text": "e6",
      "start_index": True}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a", "annotations": [{"type": "url_citation",
      "url_citation": {"url": "u1", "title": "t1", "start_index": 0, "end_index": 4, "content": "e1"}},
      {"type": "file", "file_id": "f1", "filename": "n1", "start": 1, "end": -1}, {"type": 5, "uri": "u2",
      "snippet": "e2"}], "executed_tools": [{"index": 3, "type": "search", "arguments": {"q": 1}, "output": "o",
      "search_results": {"results": [{"url": "u3", "title": "t3"}]}}, {"name": "run", "type": "python",
      "arguments": ""}]}, "finish_reason": "stop"}]}], "sources": [{"kind": "citation", "choice": 0, "url": "u1",
      "title": "t1", "text": "e1", "start_index": 0, "end_index": 4}, {"kind": "citation", "choice": 0,
      "title": "n1", "name": "f1", "start_index": 1}, {"kind": "citation", "choice": 0, "url": "u2",
      "text": "e2"}, {"kind": "tool", "choice": 0, "text": "o", "name": "search", "arguments": "{\"q\": 1}"},
      {"kind": "search_result", "choice": 0, "url": "u3", "title": "t3"}, {"kind": "tool", "choice": 0,
      "name": "run"}, {"kind": "citation", "url": "u4"}, {"kind": "citation", "url": "u5", "title": "n5",
      "text": "e5"}, {"kind": "search_result", "url": "u6", "text": "e6"}]}),
    ("sources in parts, told again and told more", "openai", {},
     [{"choices": [{"index": 0, "delta": {"content": "a", "executed_tools": [{"index": 0, "type": "search",
      "arguments": "{}"}]}}]}, {"choices": [{"index": 0, "delta": {"executed_tools": [{"index": 0,
      "type": "search", "output": "o", "search_results": [{"url": "u"}]}]}}]}, {"choices": [{"index": 0,
      "delta": {"annotations": [{"url": "u", "title": "t"}]}}]}, {"choices": [{"index": 0,
      "delta": {"annotations": [{"url": "u", "title": "t"}]}}]}, {"choices": [{"index": 0,
      "delta": {"annotations": [{"url": "u", "quote": "q"}, {"url": "v"}]}}]}, {"choices": [{"index": 0,
      "delta": {}, "finish_reason": "stop"}], "citations": ["u"]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a", "executed_tools": [{"index": 0,
      "type": "search", "arguments": "{}"}]}}]}, {"choices": [{"index": 0,
      "delta": {"executed_tools": [{"index": 0, "type": "search", "output": "o",
      "search_results": [{"url": "u"}]}]}}]}, {"choices": [{"index": 0, "delta": {"annotations": [{"url": "u",
      "title": "t"}]}}]}, {"choices": [{"index": 0, "delta": {"annotations": [{"url": "u", "title": "t"}]}}]},
      {"choices": [{"index": 0, "delta": {"annotations": [{"url": "u", "quote": "q"}, {"url": "v"}]}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}], "sources": [{"kind": "tool",
      "choice": 0, "text": "o", "name": "search", "arguments": "{}"}, {"kind": "search_result", "choice": 0,
      "url": "u"}, {"kind": "citation", "choice": 0, "url": "u", "title": "t", "text": "q"}, {"kind": "citation",
      "choice": 0, "url": "v"}]}),
    ("empty lists of sources", "openai", {},
     [{"choices": [{"index": 0, "delta": {"content": "a", "annotations": []}}]}, {"choices": [{"index": 0,
      "delta": {}, "finish_reason": "stop"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a", "annotations": []}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]}),
    ("a whole tool call", "openai", {},
     {"choices": [{"message": {"content": "", "tool_calls": [{"id": "c1", "type": "function",
      "function": {"name": "bash", "arguments": {"a": "ü"}}}, {"index": 0, "id": "c1",
      "function": {"name": "look", "arguments": None}}, {"function": {"name": "", "arguments": "{}"}}]},
      "finish_reason": "tool_use"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "", "tool_calls": [{"index": 0, "id": "c1",
      "type": "function", "function": {"name": "bash", "arguments": "{\"a\": \"ü\"}"}}, {"index": 1,
      "id": "made up", "type": "function", "function": {"name": "look", "arguments": ""}}, {"index": 2,
      "id": "made up", "type": "function", "function": {"arguments": "{}"}}]},
      "finish_reason": "tool_calls"}]}]}),
    ("tool calls in parts", "openai", {},
     [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function",
      "function": {"name": "look", "arguments": ""}}, {"index": 1, "id": "c2", "function": {"name": "bash",
      "arguments": "{\"a\""}}]}}]}, {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1,
      "function": {"name": None, "arguments": ": 1}"}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 0, "function": {"name": None, "arguments": "{}"}}]}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function",
      "function": {"arguments": ""}}, {"index": 1, "id": "c2", "type": "function", "function": {"name": "bash",
      "arguments": "{\"a\""}}]}}]}, {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1,
      "type": "function", "function": {"arguments": ": 1}"}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 0, "type": "function", "function": {"name": "look",
      "arguments": "{}"}}]}}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}]}),
    ("a name that is held until the end", "openai", {},
     [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "look",
      "arguments": ""}}]}}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function",
      "function": {"arguments": ""}}]}}]}, {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0,
      "function": {"name": "look", "arguments": ""}}]}, "finish_reason": "tool_calls"}]}]}),
    ("a call without an id, held until the end", "openai", {},
     [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": "look_up",
      "arguments": ""}}]}}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "type": "function",
      "function": {"name": "look_up", "arguments": ""}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 0, "id": "made up", "function": {"arguments": ""}}]},
      "finish_reason": "tool_calls"}]}]}),
    ("a call without an id and with arguments", "openai", {},
     [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": "bash",
      "arguments": "{}"}}]}}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "made up",
      "type": "function", "function": {"name": "bash", "arguments": "{}"}}]}}]}, {"choices": [{"index": 0,
      "delta": {}, "finish_reason": "tool_calls"}]}]}),
    ("an id that comes with the second part", "openai", {},
     [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": "bash",
      "arguments": ""}}]}}]}, {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1",
      "function": {"name": "", "arguments": "{}"}}]}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "tool_calls"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "type": "function",
      "function": {"name": "bash", "arguments": ""}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function",
      "function": {"arguments": "{}"}}]}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "tool_calls"}]}]}),
    ("an id alone before the next call", "openai", {},
     [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "bash",
      "arguments": "{}"}}]}}]}, {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c2"}]}}]},
      {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": "bash",
      "arguments": "{}"}}]}}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function",
      "function": {"name": "bash", "arguments": "{}"}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 0}]}}]}, {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1,
      "id": "c2", "type": "function", "function": {"name": "bash", "arguments": "{}"}}]}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}]}),
    ("another id, and the name once more", "openai", {},
     [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "bash",
      "arguments": "{\"a\":"}}]}}]}, {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c2",
      "function": {"name": "bash", "arguments": "1}"}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 0, "id": "c3", "function": {"name": "bash", "arguments": "{}"}}]}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function",
      "function": {"name": "bash", "arguments": "{\"a\":"}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 0, "type": "function", "function": {"arguments": "1}"}}]}}]},
      {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1, "id": "c3", "type": "function",
      "function": {"name": "bash", "arguments": "{}"}}]}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "tool_calls"}]}]}),
    ("no ids, one index, whole calls", "openai", {},
     [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": "bash",
      "arguments": "{}"}}]}}]}, {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0,
      "function": {"name": "bash", "arguments": " {\"b\": 1}"}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 0, "function": {"name": "look", "arguments": "{}"}}]}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "made up",
      "type": "function", "function": {"name": "bash", "arguments": "{}"}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 1, "id": "made up", "type": "function", "function": {"name": "bash",
      "arguments": " {\"b\": 1}"}}]}}]}, {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 2,
      "id": "made up", "type": "function", "function": {"name": "look", "arguments": "{}"}}]}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}]}),
    ("names and tools that are not declared", "openai", {"tools": None},
     [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "a",
      "arguments": ""}}]}}]}, {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0,
      "function": {"name": "ab", "arguments": ""}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 0, "function": {"name": 5, "arguments": "{}"}}]}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function",
      "function": {"name": "a", "arguments": ""}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 0, "type": "function", "function": {"arguments": ""}}]}}]},
      {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "type": "function",
      "function": {"arguments": "{}"}}]}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "tool_calls"}]}]}),
    ("no function", "openai", {},
     [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1"}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"function": "f", "index": 0}]}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "tool_calls"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function",
      "function": {"arguments": ""}}]}}]}, {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0,
      "type": "function", "function": {"arguments": ""}}]}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "tool_calls"}]}]}),
    ("calls of two choices", "openai", {"n": 2},
     [{"choices": [{"index": 0, "delta": {"tool_calls": [{"id": "a", "function": {"name": "bash",
      "arguments": "{}"}}]}}, {"index": 1, "delta": {"tool_calls": [{"id": "a", "function": {"name": "bash",
      "arguments": "{}"}}]}}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"},
      {"index": 1, "delta": {}, "finish_reason": "tool_calls"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "a", "type": "function",
      "function": {"name": "bash", "arguments": "{}"}}]}}, {"index": 1, "delta": {"tool_calls": [{"index": 0,
      "id": "a", "type": "function", "function": {"name": "bash", "arguments": "{}"}}]}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}, {"index": 1, "delta": {},
      "finish_reason": "tool_calls"}]}]}),
    ("a tool call that is a text", "openai", {},
     [{"choices": [{"index": 0, "delta": {"tool_calls": ["a"]}}]}],
     {"error": "InvalidResponseError", "message": invalid("a tool call is malformed"), "target": "x/some/model",
      "body": {"tool_calls": ["a"]}}),
    ("a tool call whose index is text", "openai", {},
     {"choices": [{"message": {"tool_calls": [{"index": "0"}]}, "finish_reason": "stop"}]},
     {"error": "InvalidResponseError", "message": invalid("a tool call is malformed"), "target": "x/some/model",
      "body": {"tool_calls": [{"index": "0"}]}}),
    ("tool calls that are no list", "openai", {},
     {"choices": [{"message": {"content": "a", "tool_calls": {"a": 1}}, "finish_reason": "stop"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}]}),
    ("log probabilities that are none", "openai", {},
     {"choices": [{"message": {"content": "a"}, "finish_reason": "stop",
      "logprobs": {"content": [{"token": 1}]}}]},
     {"error": "InvalidResponseError",
      "message": invalid("choices[0].logprobs.content[0].token: must be text, got a value of type int"),
      "target": "x/some/model", "body": {"choices": [{"message": {"content": "a"}, "finish_reason": "stop",
      "logprobs": {"content": [{"token": 1}]}}]}}),
    ("Togethers log probabilities", "together", {"logprobs": True, "top_logprobs": 2},
     {"choices": [{"message": {"content": "ab"}, "finish_reason": "eos", "logprobs": {"tokens": ["a", "b"],
      "token_logprobs": [-1, -0.5], "top_logprobs": [{"x": -3, "a": -1, "y": -2}]}}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "ab"}, "finish_reason": "stop",
      "logprobs": {"content": [{"token": "a", "logprob": -1.0, "top_logprobs": [{"token": "a", "logprob": -1.0},
      {"token": "y", "logprob": -2.0}]}, {"token": "b", "logprob": -0.5, "top_logprobs": []}]}}]}]}),
    ("OpenAIs log probabilities at Together", "together", {},
     {"choices": [{"message": {"content": "a"}, "finish_reason": "eos", "logprobs": {"content": [{"token": "a",
      "logprob": -1}]}}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop",
      "logprobs": {"content": [{"token": "a", "logprob": -1.0, "top_logprobs": []}]}}]}]}),
    ("log probabilities of Together without logarithms", "together", {},
     {"choices": [{"message": {"content": "a"}, "finish_reason": "eos", "logprobs": {"tokens": ["a"]}}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}]}),
    ("a failed tool call that is one", "groq", {},
     {"error": {"message": "m", "code": "tool_use_failed",
      "failed_generation": "So: <function=bash>{\"a\": 1}</function>"}},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "So:", "tool_calls": [{"index": 0,
      "id": "made up", "type": "function", "function": {"name": "bash", "arguments": "{\"a\": 1}"}}]},
      "finish_reason": "tool_calls"}]}],
      "warnings": ["x/some/model rejected its own tool call, which is valid and was rescued from its text"]}),
    ("a failed tool call of a tool that is not declared", "groq", {},
     {"error": {"message": "no such tool", "code": "tool_use_failed",
      "failed_generation": "<function=fly>{}</function>"}},
     {"error": "GenerationFailedError", "message": "no such tool", "body": {"error": {"message": "no such tool",
      "code": "tool_use_failed", "failed_generation": "<function=fly>{}</function>"}}}),
    ("an error in the middle of a stream", "openai", {},
     [{"choices": [{"index": 0, "delta": {"content": "a"}}]}, {"error": {"message": "broken",
      "type": "server_error"}}],
     {"error": "ServerError", "message": "broken", "body": {"error": {"message": "broken",
      "type": "server_error"}}}),
    ("a whole answer as an event, with a name", "openai", {},
     [{"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}, "[DONE]"],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}]}),
    ("a whole answer after its parts", "openai", {},
     [{"choices": [{"index": 0, "delta": {"content": "a"}}]}, {"choices": [{"message": {"content": "a"},
      "finish_reason": "stop", "index": 0}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "stop"}]}]}),
    ("Ollama, all of a whole answer", "ollama", {"logprobs": True, "top_logprobs": 1},
     {"model": "m-1", "message": {"role": "assistant", "content": "Oslo", "thinking": "hm", "images": ["i"]},
      "done": True, "done_reason": "stop", "logprobs": [{"token": "O", "logprob": -1,
      "top_logprobs": [{"token": "O", "logprob": -1}, {"token": "o", "logprob": -2}]}, 5, {"token": "s",
      "logprob": -2, "top_logprobs": None}], "total_duration": 5000000000, "load_duration": 1000000000,
      "prompt_eval_count": 3, "prompt_eval_cached_count": 2, "eval_count": 8, "eval_duration": 2000000000},
     {"chunks": [{"model": "m-1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Oslo",
      "reasoning": "hm", "images": ["i"]}, "finish_reason": "stop", "logprobs": {"content": [{"token": "O",
      "logprob": -1.0, "top_logprobs": [{"token": "O", "logprob": -1.0}]}, {"token": "s", "logprob": -2.0,
      "top_logprobs": []}]}}], "usage": {"prompt_tokens": 3, "completion_tokens": 8, "total_tokens": 11,
      "prompt_tokens_details": {"cached_tokens": 2}}}], "load_s": 1.0, "total_s": 5.0, "tokens_per_s": 4.0}),
    ("Ollama, calls in two lines", "ollama", {},
     [{"message": {"content": "", "tool_calls": [{"id": "c1", "function": {"name": "bash",
      "arguments": {"a": "ü"}, "index": 0}}, {"extra": 1, "function": {"name": "look", "arguments": None}}]}},
      {"message": {"content": "", "tool_calls": [{"function": {"name": "look", "arguments": "{\"b\": 1}"}}]},
      "done": False}, {"message": {"content": ""}, "done": True, "done_reason": "stop", "eval_count": 2},
      {"message": {"content": "after the end"}}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": "",
      "tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "bash",
      "arguments": "{\"a\": \"ü\"}"}}, {"index": 1, "id": "made up", "type": "function",
      "function": {"name": "look", "arguments": "{}"}, "extra": 1}]}}]}, {"choices": [{"index": 0,
      "delta": {"role": "assistant", "content": "", "tool_calls": [{"index": 2, "id": "made up",
      "type": "function", "function": {"name": "look", "arguments": "{\"b\": 1}"}}]}}]},
      {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "tool_calls"}],
      "usage": {"completion_tokens": 2}}]}),
    ("Ollama, the limit reached beside a call", "ollama", {},
     [{"message": {"content": "a", "tool_calls": [{"function": {"name": "bash", "arguments": {}}}]},
      "done": True, "done_reason": "length", "prompt_eval_count": 2, "eval_duration": 5}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": "a",
      "tool_calls": [{"index": 0, "id": "made up", "type": "function", "function": {"name": "bash",
      "arguments": "{}"}}]}, "finish_reason": "length"}], "usage": {"prompt_tokens": 2}}]}),
    ("Ollama, a call and the end in one", "ollama", {},
     {"message": {"content": "", "tool_calls": [{"function": {"name": "bash", "arguments": {}}}]}, "done": True},
     {"chunks": [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": "",
      "tool_calls": [{"index": 0, "id": "made up", "type": "function", "function": {"name": "bash",
      "arguments": "{}"}}]}, "finish_reason": "tool_calls"}]}]}),
    ("Ollama, tags in parts", "ollama", {},
     [{"message": {"content": "<think>h"}}, {"message": {"content": "m</think> O"}},
      {"message": {"content": "slo"}}, {"message": {"content": ""}, "done": True}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": "", "reasoning": "h"}}]},
      {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "O", "reasoning": "m"}}]},
      {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "slo"}}]}, {"choices": [{"index": 0,
      "delta": {"role": "assistant", "content": ""}, "finish_reason": "stop"}]}]}),
    ("Ollama, the end within the reasoning", "ollama", {},
     [{"message": {"content": "<think>h </th"}}, {"message": {"content": "i"}, "done": True,
      "done_reason": "length"}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": "", "reasoning": "h"}}]},
      {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "", "reasoning": " </thi"},
      "finish_reason": "length"}]}]}),
    ("Ollama, reasoning in a field and in tags", "ollama", {},
     {"message": {"content": "<think>b</think>c", "thinking": "a"}, "done": True},
     {"chunks": [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": "c", "reasoning": "ab"},
      "finish_reason": "stop"}]}]}),
    ("Ollama, hidden", "ollama", {"reasoning_format": "hidden"},
     {"message": {"content": "<think>b</think>c", "thinking": "a"}, "done": True},
     {"chunks": [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": "c"},
      "finish_reason": "stop"}]}]}),
    ("Ollama, raw", "ollama", {"reasoning_format": "raw"},
     {"message": {"content": "<think>b</think>c", "thinking": "a"}, "done": True},
     {"chunks": [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": "<think>b</think>c",
      "reasoning": "a"}, "finish_reason": "stop"}]}]}),
    ("Ollama, no content", "ollama", {},
     {"message": {"thinking": "a"}, "done": True, "done_reason": None},
     {"chunks": [{"choices": [{"index": 0, "delta": {"role": "assistant", "reasoning": "a"},
      "finish_reason": "stop"}]}]}),
    ("Ollama, no end", "ollama", {},
     [{"message": {"content": "a"}}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}}]}],
      "is_complete": False}),
    ("Ollama, no message", "ollama", {},
     {"done": True},
     {"error": "InvalidResponseError", "message": invalid("it is not part of an answer"),
      "target": "x/some/model", "body": {"done": True}}),
    ("Ollama, a reason that is a number", "ollama", {},
     [{"message": {"content": "a"}, "done_reason": 5}],
     {"error": "InvalidResponseError", "message": invalid("it is not part of an answer"),
      "target": "x/some/model", "body": {"message": {"content": "a"}, "done_reason": 5}}),
    ("Ollama, a call without a function", "ollama", {},
     {"message": {"content": "a", "tool_calls": [{"function": {"name": "bash"}}, {"name": "bash"}]}},
     {"error": "InvalidResponseError", "message": invalid("it is not part of an answer"),
      "target": "x/some/model", "body": {"message": {"content": "a",
      "tool_calls": [{"function": {"name": "bash"}}, {"name": "bash"}]}}}),
    ("Ollama, calls that are no list", "ollama", {},
     {"message": {"content": "a", "tool_calls": {}}},
     {"error": "InvalidResponseError", "message": invalid("it is not part of an answer"),
      "target": "x/some/model", "body": {"message": {"content": "a", "tool_calls": {}}}}),
    ("Ollama, a content that is a number", "ollama", {},
     {"message": {"content": 5}, "done": True},
     {"error": "InvalidResponseError",
      "message": invalid("choices[0].delta.content: must be text, got a value of type int"),
      "target": "x/some/model", "body": {"message": {"content": 5}, "done": True}}),
    ("Ollama, an error in a stream", "ollama", {},
     [{"message": {"content": "a"}}, {"error": "an error was encountered while running the model"}],
     {"error": "ServerError", "message": "an error was encountered while running the model",
      "body": {"error": "an error was encountered while running the model"}}),
    ("Ollama, a line that is not JSON", "ollama", {},
     ["{oh"],
     {"error": "InvalidResponseError",
      "message": "the provider sent invalid JSON: '{oh' (key must be a string at line 1 column 2)"}),
    ("Ollama, a line that is a list", "ollama", {},
     ["[1]"],
     {"error": "InvalidResponseError", "message": "the provider sent JSON that is not an object: '[1]'"}),
    ("Ollama, counts before the end", "ollama", {},
     [{"message": {"role": "assistant", "content": "a"}, "prompt_eval_count": 1, "eval_count": 2,
      "total_duration": 5, "done": "yes"}, {"message": {"content": ""}, "done": True, "prompt_eval_count": 3,
      "prompt_eval_cached_count": 0, "eval_count": 0, "eval_duration": 5, "total_duration": "5"}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}}]},
      {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "stop"}],
      "usage": {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3,
      "prompt_tokens_details": {"cached_tokens": 0}}}]}),
    ("Ollama, a text that is held until the end", "ollama", {},
     [{"message": {"content": None}}, {"message": {"content": "<th"}}, {"message": {}, "done": True}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"role": "assistant"}}]}, {"choices": [{"index": 0,
      "delta": {"role": "assistant", "content": ""}}]}, {"choices": [{"index": 0, "delta": {"role": "assistant",
      "content": "<th"}, "finish_reason": "stop"}]}]}),
    ("Ollama, log probabilities that are none", "ollama", {},
     [{"message": {"content": "a"}, "logprobs": []}, {"message": {"content": "b"}, "logprobs": {"a": 1}},
      {"message": {"content": "b"}, "logprobs": [{"token": "b", "logprob": -1, "top_logprobs": [{"token": "b",
      "logprob": -1}]}], "done": True}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}}]},
      {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "b"}}]}, {"choices": [{"index": 0,
      "delta": {"role": "assistant", "content": "b"}, "finish_reason": "stop",
      "logprobs": {"content": [{"token": "b", "logprob": -1.0, "top_logprobs": []}]}}]}]}),
    ("Ollama, no arguments and an empty id", "ollama", {},
     [{"message": {"content": "a", "tool_calls": [{"id": "", "type": "x", "function": {"name": "bash"}},
      {"function": {"name": "bash", "arguments": ""}}]}, "done": True}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": "a",
      "tool_calls": [{"index": 0, "id": "made up", "type": "function", "function": {"name": "bash",
      "arguments": "{}"}, "tool_type": "x"}, {"index": 1, "id": "made up", "type": "function",
      "function": {"name": "bash", "arguments": ""}}]}, "finish_reason": "tool_calls"}]}]}),
    ("Ollama, an error of a request", "ollama", {},
     {"error": "model is broken", "message": {"content": "a"}},
     {"error": "ServerError", "message": "model is broken", "body": {"error": "model is broken",
      "message": {"content": "a"}}}),
    ("Ollama, another model", "ollama", {},
     {"model": "", "message": {"content": "a", "reasoning": "own", "refusal": "no"}, "done": True,
      "done_reason": "load"},
     {"chunks": [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": "a", "reasoning": "own",
      "refusal": "no"}, "finish_reason": "stop"}]}]}),
    ("a reason for each word that servers have", "openai", {"n": 2},
     {"choices": [{"message": {"content": "a"}, "finish_reason": "eos"}, {"message": {"content": "a"},
      "finish_reason": "eos_token"}, {"message": {"content": "a"}, "finish_reason": "stop_sequence"},
      {"message": {"content": "a"}, "finish_reason": "end_turn"}, {"message": {"content": "a"},
      "finish_reason": "COMPLETED"}, {"message": {"content": "a"}, "finish_reason": "done"},
      {"message": {"content": "a"}, "finish_reason": "max_tokens"}, {"message": {"content": "a"},
      "finish_reason": "model_length"}, {"message": {"content": "a"}, "finish_reason": "max_output_tokens"},
      {"message": {"content": "a"}, "finish_reason": "max_length"}, {"message": {"content": "a"},
      "finish_reason": "tool_use"}, {"message": {"content": "a"}, "finish_reason": "tool_call"},
      {"message": {"content": "a"}, "finish_reason": "safety"}, {"message": {"content": "a"},
      "finish_reason": "recitation"}, {"message": {"content": "a"}, "finish_reason": "prohibited_content"},
      {"message": {"content": "a"}, "finish_reason": "blocklist"}, {"message": {"content": "a"},
      "finish_reason": "function_call"}, {"message": {"content": "a"}, "finish_reason": "content_filter"},
      {"message": {"content": "a"}, "finish_reason": "tool_calls"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}, {"index": 1,
      "delta": {"content": "a"}, "finish_reason": "stop"}, {"index": 2, "delta": {"content": "a"},
      "finish_reason": "stop"}, {"index": 3, "delta": {"content": "a"}, "finish_reason": "stop"}, {"index": 4,
      "delta": {"content": "a"}, "finish_reason": "stop"}, {"index": 5, "delta": {"content": "a"},
      "finish_reason": "stop"}, {"index": 6, "delta": {"content": "a"}, "finish_reason": "length"}, {"index": 7,
      "delta": {"content": "a"}, "finish_reason": "length"}, {"index": 8, "delta": {"content": "a"},
      "finish_reason": "length"}, {"index": 9, "delta": {"content": "a"}, "finish_reason": "length"},
      {"index": 10, "delta": {"content": "a"}, "finish_reason": "tool_calls"}, {"index": 11,
      "delta": {"content": "a"}, "finish_reason": "tool_calls"}, {"index": 12, "delta": {"content": "a"},
      "finish_reason": "content_filter"}, {"index": 13, "delta": {"content": "a"},
      "finish_reason": "content_filter"}, {"index": 14, "delta": {"content": "a"},
      "finish_reason": "content_filter"}, {"index": 15, "delta": {"content": "a"},
      "finish_reason": "content_filter"}, {"index": 16, "delta": {"content": "a"},
      "finish_reason": "function_call"}, {"index": 17, "delta": {"content": "a"},
      "finish_reason": "content_filter"}, {"index": 18, "delta": {"content": "a"},
      "finish_reason": "tool_calls"}]}]}),
    ("an index of a part of a call that is null", "openai", {},
     [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": None, "id": "c1", "function": {"name": "bash",
      "arguments": "{"}}]}}]}, {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": None,
      "function": {"name": None, "arguments": "}"}}]}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "tool_calls"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function",
      "function": {"name": "bash", "arguments": "{"}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 0, "type": "function", "function": {"arguments": "}"}}]}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}]}),
    ("an id without a type, and a kept field in a later part", "openai", {},
     [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "",
      "function": {"name": "bash", "arguments": "{", "thought": "t"}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 0, "extra": 5, "function": {"arguments": "}"}}]}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function",
      "function": {"name": "bash", "arguments": "{", "thought": "t"}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 0, "type": "function", "function": {"arguments": "}"}, "extra": 5}]}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}]}),
    ("a role and kept fields beside it", "openai", {},
     [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": "a", "audio": {"id": "x"}}}]},
      {"choices": [{"index": 0, "delta": {"content": "b", "audio": None, "refusal": "no"},
      "finish_reason": "length"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": "a",
      "audio": {"id": "x"}}}]}, {"choices": [{"index": 0, "delta": {"content": "b", "refusal": "no"},
      "finish_reason": "length"}]}]}),
    ("a function that is null, in a whole answer", "openai", {},
     {"choices": [{"message": {"content": None, "tool_calls": [{"id": 5, "function": None}]},
      "finish_reason": "stop"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "made up",
      "type": "function", "function": {"arguments": ""}}]}, "finish_reason": "stop"}]}]}),
    ("more text behind a whole message with parts", "openai", {},
     [{"choices": [{"index": 0, "delta": {"content": [{"type": "text", "text": "<think>h</think>a"}]}}]},
      {"choices": [{"index": 0, "delta": {"content": []}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "stop"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a", "reasoning": "h"}}]},
      {"choices": [{"index": 0, "delta": {"content": ""}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "stop"}]}]}),
    ("usage of Groq in x_groq alone, with a charge", "groq", {},
     [{"choices": [{"index": 0, "delta": {"content": "a"}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "stop"}], "x_groq": {"id": "r", "usage": {"prompt_tokens": 1, "cost": 2}}}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}], "provider_request_id": "r", "charge": ["2",
      "usage.cost", False]}),
    ("log probabilities of a stream", "openai", {"logprobs": True},
     [{"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [{"token": "a",
      "logprob": -1}]}}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "logprobs": None}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [{"token": "a",
      "logprob": -1.0, "top_logprobs": []}]}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "stop"}]}]}),
    ("a plain whole answer with an error in it", "openai", {},
     {"object": "chat.completion", "choices": [{"message": {"content": "a"}, "finish_reason": "stop"}],
      "error": {"message": "broken", "code": 500}},
     {"error": "ServerError", "message": "broken", "body": {"object": "chat.completion",
      "choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "error": {"message": "broken",
      "code": 500}}}),
    ("tools of one type, told again in another order", "openai", {},
     [{"choices": [{"index": 0, "delta": {"content": "a", "executed_tools": [{"index": 1, "type": "search",
      "arguments": {"q": 1}}, {"index": 0, "type": "run"}]}}]}, {"choices": [{"index": 0,
      "delta": {"executed_tools": [{"index": 0, "type": "run", "output": "o"}, {"index": 1, "type": "search",
      "output": "p"}]}}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a", "executed_tools": [{"index": 1,
      "type": "search", "arguments": {"q": 1}}, {"index": 0, "type": "run"}]}}]}, {"choices": [{"index": 0,
      "delta": {"executed_tools": [{"index": 0, "type": "run", "output": "o"}, {"index": 1, "type": "search",
      "output": "p"}]}}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}],
      "sources": [{"kind": "tool", "choice": 0, "text": "p", "name": "search", "arguments": "{\"q\": 1}"},
      {"kind": "tool", "choice": 0, "text": "o", "name": "run"}]}),
    ("tools without an index", "openai", {},
     [{"choices": [{"index": 0, "delta": {"content": "a", "executed_tools": [{"index": "x", "type": "search"},
      {"type": "run", "name": ""}]}}]}, {"choices": [{"index": 0, "delta": {"executed_tools": [{"output": "o"},
      {"output": "p", "name": "named"}]}}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a", "executed_tools": [{"index": "x",
      "type": "search"}, {"type": "run", "name": ""}]}}]}, {"choices": [{"index": 0,
      "delta": {"executed_tools": [{"output": "o"}, {"output": "p", "name": "named"}]}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}], "sources": [{"kind": "tool",
      "choice": 0, "text": "o", "name": "search"}, {"kind": "tool", "choice": 0, "text": "p", "name": "named"}]}),
    ("one address at several places", "openai", {},
     {"choices": [{"message": {"content": "a", "citations": ["u", {"url": "u", "start": 1}, {"url": "u",
      "end": 1, "file_id": "f"}, {"url": "u", "start_index": 1, "start": 2}, {"url": "u", "start_index": 0}]},
      "finish_reason": "stop"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a", "citations": ["u", {"url": "u", "start": 1},
      {"url": "u", "end": 1, "file_id": "f"}, {"url": "u", "start_index": 1, "start": 2}, {"url": "u",
      "start_index": 0}]}, "finish_reason": "stop"}]}], "sources": [{"kind": "citation", "choice": 0,
      "url": "u"}, {"kind": "citation", "choice": 0, "url": "u", "start_index": 1}, {"kind": "citation",
      "choice": 0, "url": "u", "name": "f", "end_index": 1}, {"kind": "citation", "choice": 0, "url": "u",
      "start_index": 0}]}),
    ("a source by its title, its text and its file alone", "openai", {},
     {"choices": [{"message": {"content": "a", "citations": [{"title": "t"}, {"title": "t", "text": "e"},
      {"text": "e"}, {"file_id": "f"}, {"file_id": "f", "url": ""}], "search_results": [{"title": "t"}]},
      "finish_reason": "stop"}]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a", "citations": [{"title": "t"}, {"title": "t",
      "text": "e"}, {"text": "e"}, {"file_id": "f"}, {"file_id": "f", "url": ""}],
      "search_results": [{"title": "t"}]}, "finish_reason": "stop"}]}], "sources": [{"kind": "citation",
      "choice": 0, "title": "t", "text": "e"}, {"kind": "citation", "choice": 0, "text": "e"},
      {"kind": "citation", "choice": 0, "name": "f"}, {"kind": "search_result", "choice": 0, "title": "t"}]}),
    ("reasoning under another name that is like its last part alone", "openai", {},
     [{"choices": [{"index": 0, "delta": {"reasoning": "A "}}]}, {"choices": [{"index": 0,
      "delta": {"reasoning": "B"}}]}, {"choices": [{"index": 0, "delta": {"reasoning_content": "B2 "}}]},
      {"choices": [{"index": 0, "delta": {"thinking": "A B"}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "stop"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"reasoning": "A "}}]}, {"choices": [{"index": 0,
      "delta": {"reasoning": "B"}}]}, {"choices": [{"index": 0, "delta": {"reasoning": "B2 ",
      "reasoning_content": "B2 "}}]}, {"choices": [{"index": 0, "delta": {"thinking": "A B"}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]}),
    ("the same source of two choices, and of the whole answer", "openai", {"n": 2},
     {"choices": [{"message": {"content": "a", "citations": ["u"]}, "finish_reason": "stop"},
      {"message": {"content": "b", "citations": ["u", {"url": "u", "title": "t"}]}, "finish_reason": "stop"}],
      "citations": [{"url": "u", "text": "e"}, "v"]},
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a", "citations": ["u"]},
      "finish_reason": "stop"}, {"index": 1, "delta": {"content": "b", "citations": ["u", {"url": "u",
      "title": "t"}]}, "finish_reason": "stop"}]}], "sources": [{"kind": "citation", "choice": 0, "url": "u",
      "text": "e"}, {"kind": "citation", "choice": 1, "url": "u", "title": "t"}, {"kind": "citation",
      "url": "v"}]}),
    ("a source of the whole answer, then of its choices", "openai", {"n": 2},
     [{"choices": [{"index": 0, "delta": {"content": "a"}}], "citations": ["u"]}, {"choices": [{"index": 0,
      "delta": {"content": "b", "citations": ["u"]}, "finish_reason": "stop"}, {"index": 1,
      "delta": {"content": "b", "citations": [{"url": "u", "title": "t"}]}, "finish_reason": "stop"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}}]}, {"choices": [{"index": 0,
      "delta": {"content": "b", "citations": ["u"]}, "finish_reason": "stop"}, {"index": 1,
      "delta": {"content": "b", "citations": [{"url": "u", "title": "t"}]}, "finish_reason": "stop"}]}],
      "sources": [{"kind": "citation", "url": "u", "title": "t"}]}),
    ("an id told again behind whole arguments", "openai", {},
     [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "bash",
      "arguments": "{}"}}]}}]}, {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1",
      "function": {"name": None, "arguments": " "}}]}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "tool_calls"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function",
      "function": {"name": "bash", "arguments": "{}"}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 0, "type": "function", "function": {"arguments": " "}}]}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}]}),
    ("another id and another name amid the arguments", "openai", {},
     [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "bash",
      "arguments": "{\"a\""}}]}}]}, {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c2",
      "function": {"name": "look", "arguments": "{}"}}]}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "tool_calls"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function",
      "function": {"name": "bash", "arguments": "{\"a\""}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 1, "id": "c2", "type": "function", "function": {"name": "look",
      "arguments": "{}"}}]}}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}]}),
    ("another id and the same name before any arguments", "openai", {},
     [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "bash",
      "arguments": ""}}]}}]}, {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c2",
      "function": {"name": "bash", "arguments": "{}"}}]}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "tool_calls"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function",
      "function": {"name": "bash", "arguments": ""}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 1, "id": "c2", "type": "function", "function": {"name": "bash",
      "arguments": "{}"}}]}}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}]}),
    ("another id behind a call without a name", "openai", {},
     [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "",
      "arguments": "{}"}}]}}]}, {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c2",
      "function": {"name": "bash", "arguments": "{}"}}]}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "tool_calls"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function",
      "function": {"arguments": "{}"}}]}}]}, {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1,
      "id": "c2", "type": "function", "function": {"name": "bash", "arguments": "{}"}}]}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}]}),
    ("no other id, and the name behind the arguments", "openai", {},
     [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": "",
      "arguments": "{}"}}]}}]}, {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c2",
      "function": {"name": "bash", "arguments": ""}}]}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "tool_calls"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "made up",
      "type": "function", "function": {"arguments": "{}"}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 0, "type": "function", "function": {"name": "bash",
      "arguments": ""}}]}}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}]}),
    ("one id for parts without a name amid the arguments", "openai", {},
     [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "bash",
      "arguments": "{\"a\":"}}]}}]}, {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c2",
      "function": {"name": "", "arguments": "1}"}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 0, "id": "c3", "function": {"name": "", "arguments": "{}"}}]}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function",
      "function": {"name": "bash", "arguments": "{\"a\":"}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 0, "type": "function", "function": {"arguments": "1}"}}]}}]},
      {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1, "id": "c3", "type": "function",
      "function": {"arguments": "{}"}}]}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "tool_calls"}]}]}),
    ("one id, other indexes, whole and not", "openai", {},
     [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "bash",
      "arguments": "{\"a\":"}}]}}]}, {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1, "id": "c1",
      "function": {"name": "bash", "arguments": "1}"}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 2, "id": "c1", "function": {"name": "bash", "arguments": "{}"}}]}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function",
      "function": {"name": "bash", "arguments": "{\"a\":"}}]}}]}, {"choices": [{"index": 0,
      "delta": {"tool_calls": [{"index": 0, "type": "function", "function": {"arguments": "1}"}}]}}]},
      {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1, "id": "made up", "type": "function",
      "function": {"name": "bash", "arguments": "{}"}}]}}]}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "tool_calls"}]}]}),
    ("the same reasoning under another name, raw", "openai", {"reasoning_format": "raw"},
     [{"choices": [{"index": 0, "delta": {"reasoning_content": "A"}}]}, {"choices": [{"index": 0,
      "delta": {"reasoning": "A", "content": "<think>"}}]}, {"choices": [{"index": 0,
      "delta": {"content": "x"}}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"reasoning": "A", "reasoning_content": "A"}}]},
      {"choices": [{"index": 0, "delta": {"content": "<think>"}}]}, {"choices": [{"index": 0,
      "delta": {"content": "x"}}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]}),
    ("reasoning alone, raw", "openai", {"reasoning_format": "raw"},
     [{"choices": [{"index": 0, "delta": {"reasoning": "A"}}]}, {"choices": [{"index": 0,
      "delta": {"reasoning": "B"}}]}, {"choices": [{"index": 0, "delta": {"reasoning": "C",
      "reasoning_content": "C"}}]}, {"choices": [{"index": 0, "delta": {"content": "x"}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"reasoning": "A"}}]}, {"choices": [{"index": 0,
      "delta": {"reasoning": "B"}}]}, {"choices": [{"index": 0, "delta": {"reasoning": "C",
      "reasoning_content": "C"}}]}, {"choices": [{"index": 0, "delta": {"content": "x"}}]},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]}),
    ("whole reasoning beside the text, raw", "openai", {"reasoning_format": "raw"},
     {"choices": [{"message": {"role": "assistant", "content": "x", "reasoning": "A"}, "index": 1,
      "finish_reason": "stop"}]},
     {"chunks": [{"choices": [{"index": 1, "delta": {"role": "assistant", "content": "x", "reasoning": "A"},
      "finish_reason": "stop"}]}]}),
    ("a total of the prompt alone, then the answer", "openai", {},
     [{"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": {"prompt_tokens": 10, "total_tokens": 10}},
      {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"completion_tokens": 3}}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": {"prompt_tokens": 10,
      "total_tokens": 10}}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
      "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}}]}),
    ("a total that is larger than its parts, then less", "openai", {},
     [{"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": {"prompt_tokens": 10,
      "completion_tokens": 1, "total_tokens": 20}}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "stop"}], "usage": {"completion_tokens": 3}}],
     {"chunks": [{"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": {"prompt_tokens": 10,
      "completion_tokens": 1, "total_tokens": 20}}, {"choices": [{"index": 0, "delta": {},
      "finish_reason": "stop"}], "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 20}}]}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "asked", "sent", "want"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_is_sent_is_decoded_as_a_whole(kind: str, asked: dict[str, Any], sent: Any, want: dict[str, Any]) -> None:
    assert read(kind, asked, sent) == want


@pytest.mark.parametrize(
    ("kind", "asked", "sent"),
    [row[1:4] for row in ROWS if not isinstance(row[3], dict) and "error" not in row[4]],
    ids=[row[0] for row in ROWS if not isinstance(row[3], dict) and "error" not in row[4]],
)
def test_what_is_cut_into_bytes_is_the_same(kind: str, asked: dict[str, Any], sent: Any) -> None:
    data, whole_call, cut_call = bytes_sent(kind, sent), a_call(stream=True, **asked), a_call(stream=True, **asked)
    whole, _ = chunks_of(CODECS[kind], data, whole_call)
    stream = CODECS[kind].stream(an_answer(), cut_call)
    pieces = [chunk for place in range(len(data)) for chunk in stream.feed(data[place : place + 1])]
    assert [*map(shown, pieces), *map(shown, stream.end())] == [*map(shown, whole)]
    assert (learnt(cut_call.facts), cut_call.facts.bodies) == (learnt(whole_call.facts), whole_call.facts.bodies)


PLAYED = [
    (row, mode)
    for row in ANSWERS
    for mode in ("call", "stream")
    if ("asked" not in row or row["asked"] == mode)
    # The transport takes a byte order mark off a whole body, and reads events as a stream.
    and not (mode == "call" and bytes_of(row, mode).startswith((b"data:", b":", b"\xef\xbb\xbf")))
    and ("raw" in row or ({"call": "body", "stream": "events"}[mode] in row) or "asked" in row)
]


@pytest.mark.parametrize(("row", "mode"), PLAYED, ids=[f"{mode} {name_of(row)}" for row, mode in PLAYED])
def test_answers_of_servers_are_read_in_process(row: dict[str, Any], mode: str) -> None:
    """As `test_answers.py` does through a server: here with what must be true of each."""
    want, call = row["want"], a_call(stream=mode == "stream")
    data = bytes_of(row, mode)
    codec = CODECS["ollama" if row.get("kind") == "ollama" else "openai"]
    if "error" in want:
        with pytest.raises(getattr(errors, want["error"])):
            chunks_of(codec, data, call)
        return
    chunks, is_complete = chunks_of(codec, data, call)
    answer = Accumulator()
    for chunk in chunks:
        assert {"target": chunk.target, "provider": chunk.provider, "request_id": chunk.request_id} == {
            name: HEAD[name] for name in ("target", "provider", "request_id")
        }
        answer.add(chunk)
    assert is_complete is not False
    (choice,) = answer.choices()
    for name in {"content", "reasoning"} & want.keys():
        assert getattr(choice.message, name) == want[name]
    assert choice.finish_reason == want.get("finish_reason", choice.finish_reason)
    calls = [
        [called.id, called.function.name, json.loads(called.function.arguments)]
        for called in choice.message.tool_calls or ()
    ]
    wanted = [[*called[:-1], json.loads(called[-1])] for called in want.get("tool_calls") or want.get("names", [])]
    assert [called[3 - len(wanted[0]) :] for called in calls if wanted] == wanted
    assert len({called[0] for called in calls}) == len(calls)
    charge = call.facts.charge
    if want.get("charge") is not None:
        assert charge is not None
        assert (charge.usd, charge.source, charge.is_estimated) == (
            Decimal(want["charge"]), want["source"], want["status"] == "estimated",
        )  # fmt: skip
    elif "charge" in want:
        assert charge is None
    if "sources" in want:
        assert [[each.kind, each.url, each.title] for each in call.facts.sources] == want["sources"]
    warnings = " ".join(call.facts.warnings)
    assert want["warning"] in warnings if "warning" in want else not warnings


PROMPT, ANSWER = {"prompt_tokens": 10}, {"completion_tokens": 5}
BOTH = PROMPT | ANSWER | {"total_tokens": 15}
ONLY_CACHED = {"prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": None}}
ONLY_WRITTEN = {"prompt_tokens_details": {"cached_tokens": None, "cache_write_tokens": 4}}
NO_COUNTS: dict[str, Any] = dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"))
USAGES: list[tuple[Any, dict[str, Any] | None]] = [
    (None, None),
    (5, None),
    ({}, None),
    ({"prompt_tokens": True, "completion_tokens": -1, "total_tokens": 10**12 + 1}, None),
    ({"latency": 1, "prompt_tokens": "1"}, None),
    (BOTH, BOTH),
    ({"prompt_tokens": 10.0, "completion_tokens": 10**12, "total_tokens": 0.5}, PROMPT | {"completion_tokens": 10**12}),
    ({"prompt_tokens": 0}, {"prompt_tokens": 0}),
    ({"total_tokens": 15}, {"total_tokens": 15}),
    (BOTH | {"cached_tokens": 4}, BOTH | ONLY_CACHED),
    (BOTH | {"num_cached_tokens": 4}, BOTH | ONLY_CACHED),
    (BOTH | {"prompt_cache_hit_tokens": 4}, BOTH | ONLY_CACHED),
    (BOTH | {"cache_read_input_tokens": 4}, BOTH | ONLY_CACHED),
    (BOTH | {"input_tokens_details": {"cached_tokens": 4}}, BOTH | ONLY_CACHED),
    (BOTH | {"prompt_tokens_details": {"cached_tokens": 0}, "cached_tokens": 4}, BOTH | ONLY_CACHED),
    (BOTH | {"prompt_tokens_details": {"cached_tokens": 4}, "cached_tokens": "3"}, BOTH | ONLY_CACHED),
    (BOTH | {"prompt_tokens_details": {"cached_tokens": 4}, "cached_tokens": 0}, BOTH | ONLY_CACHED),
    (BOTH | {"prompt_tokens_details": 5, "cached_tokens": 4}, BOTH | ONLY_CACHED),
    (BOTH | {"prompt_tokens_details": {"cache_write_tokens": 4}}, BOTH | ONLY_WRITTEN),
    (BOTH | {"prompt_tokens_details": {"cache_creation_tokens": 4}}, BOTH | ONLY_WRITTEN),
    (BOTH | {"cache_creation_input_tokens": 4}, BOTH | ONLY_WRITTEN),
    (BOTH | {"cache_write_tokens": 4}, BOTH | ONLY_WRITTEN),
    (BOTH | {"reasoning_tokens": 2}, BOTH | {"completion_tokens_details": {"reasoning_tokens": 2}}),
    (BOTH | {"output_tokens_details": {"reasoning_tokens": 0}},
     BOTH | {"completion_tokens_details": {"reasoning_tokens": 0}}),
    (BOTH | {"completion_tokens_details": {"reasoning_tokens": 3}},
     BOTH | {"completion_tokens_details": {"reasoning_tokens": 3}}),
    ({"reasoning_tokens": 2}, {"completion_tokens_details": {"reasoning_tokens": 2}}),
    ({"input_tokens": 10, "output_tokens": 5}, PROMPT | ANSWER),
    (BOTH | {"input_tokens": 3, "output_tokens": 4}, BOTH),
    ({"input_tokens": 3, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 3},
     PROMPT | {"prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3}}),
    ({"input_tokens": 6, "cache_read_input_tokens": 4}, PROMPT | ONLY_CACHED),
    ({"input_tokens": 10, "cache_read_input_tokens": None}, PROMPT),
    ({"input_tokens": 10, "cached_tokens": 4}, PROMPT | ONLY_CACHED),
    ({"output_tokens": 5, "cache_read_input_tokens": 4}, ANSWER | ONLY_CACHED),
    # What the total has beside the two: reasoning, or the cached part, or something that is not told.
    (BOTH | {"total_tokens": 17, "reasoning_tokens": 2},
     PROMPT | {"completion_tokens": 7, "total_tokens": 17, "completion_tokens_details": {"reasoning_tokens": 2}}),
    (BOTH | {"total_tokens": 19, "cached_tokens": 4},
     ANSWER | {"prompt_tokens": 14, "total_tokens": 19} | ONLY_CACHED),
    (BOTH | {"total_tokens": 19, "cache_write_tokens": 4},
     ANSWER | {"prompt_tokens": 14, "total_tokens": 19} | ONLY_WRITTEN),
    (BOTH | {"total_tokens": 21, "cached_tokens": 4, "cache_write_tokens": 2},
     ANSWER | {"prompt_tokens": 16, "total_tokens": 21,
               "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2}}),
    (BOTH | {"total_tokens": 18, "cached_tokens": 4}, BOTH | {"total_tokens": 18} | ONLY_CACHED),
    (BOTH | {"total_tokens": 16, "latency": 1}, BOTH | {"total_tokens": 16}),
    (BOTH | {"total_tokens": 11, "cached_tokens": 4}, BOTH | {"total_tokens": 11} | ONLY_CACHED),
    (PROMPT | {"total_tokens": 19, "cached_tokens": 4}, PROMPT | {"total_tokens": 19} | ONLY_CACHED),
    (ANSWER | {"total_tokens": 19, "cached_tokens": 4}, ANSWER | {"total_tokens": 19} | ONLY_CACHED),
]  # fmt: skip


@pytest.mark.parametrize(("told", "want"), USAGES)
def test_counts_are_read_wherever_they_are_told(told: Any, want: dict[str, Any] | None) -> None:
    expected = None if want is None else NO_COUNTS | want
    assert usage_of({"usage": told}) == expected
    assert usage_of({"x_groq": {"usage": told}}) == expected
    assert usage_of({"usage": told, "x_groq": {"usage": {"prompt_tokens": 1}}}) == (
        expected if isinstance(told, dict) else NO_COUNTS | {"prompt_tokens": 1}
    )


MILLION = 1_000_000
CHARGES: list[tuple[Any, tuple[str, str, bool] | None]] = [
    (None, None),
    ({"prompt_tokens": 1}, None),
    ({"cost": 0.1}, ("0.1", "usage.cost", False)),
    ({"cost": "0.1", "total_cost": 2}, ("0.1", "usage.cost", False)),
    ({"cost": {"total_cost": 0.5}}, ("0.5", "usage.cost.total_cost", False)),
    ({"cost": {"other": 0.5}}, None),
    ({"cost": None, "total_cost": 2}, ("2", "usage.total_cost", False)),
    ({"cost_in_usd_ticks": 25}, ("2.5E-9", "usage.cost_in_usd_ticks", False)),
    ({"estimated_cost": 1e-7}, ("1E-7", "usage.estimated_cost", True)),
    ({"cost": True, "estimated_cost": 1}, ("1", "usage.estimated_cost", True)),
    ({"cost": 0}, ("0", "usage.cost", False)),
    ({"cost": MILLION}, ("1000000", "usage.cost", False)),
    ({"cost": MILLION + 1}, None),
    ({"cost": -0.1}, None),
    ({"cost": float("nan")}, None),
    ({"cost": "inf"}, None),
    ({"cost": "dear"}, None),
    ({"cost": [1]}, None),
    ({"cost": 1, "is_byok": True, "cost_details": {"upstream_inference_cost": 2}}, ("3", "usage.cost", False)),
    ({"cost": 1, "is_byok": True, "cost_details": {}}, None),
    ({"cost": 1, "is_byok": "yes"}, ("1", "usage.cost", False)),
    ({"cost": 1, "is_byok": False, "cost_details": {"upstream_inference_cost": 2}}, ("1", "usage.cost", False)),
]


@pytest.mark.parametrize(("told", "want"), CHARGES)
def test_a_charge_is_read_wherever_it_is_told(told: Any, want: tuple[str, str, bool] | None) -> None:
    found = charge_in({"usage": told})
    assert found == (None if want is None else (Decimal(want[0]), *want[1:]))


def events_in(*pieces: bytes, **limits: int) -> list[tuple[str, bytes]]:
    decoder = SseDecoder(**limits)
    events = [event for piece in pieces for event in decoder.feed(piece)] + decoder.end()
    return [(event.name, event.data) for event in events]


EVENTS: list[tuple[bytes, list[tuple[str, bytes]]]] = [
    (b'{"a": 1}', [("bare", b'{"a": 1}')]),
    (b'{"a": 1} \n[2]\n', [("bare", b'{"a": 1} '), ("bare", b"[2]")]),
    (b'{\n"a": 1\n\n}\n', [("bare", b'{\n"a": 1\n\n}\n\n')]),
    (b"[\n1\n]", [("bare", b"[\n1\n]\n\n")]),
    (b'{\n"a"\ndata: 1\n\n', [("bare", b'{\n"a"\n'), ("message", b"1")]),
    (b'data: 1\n\n{\n"a"\n}\n', [("message", b"1")]),
    (b'data: 1\n\n{"a": 1}\n', [("message", b"1"), ("bare", b'{"a": 1}')]),
    (b"data: 1\n{}\n\n", [("bare", b"{}"), ("message", b"1")]),
    (b'a: 1\n"b"\n', []),
    (b"}\n", []),
    (b"error: no \n", [("error", b"no")]),
    (b"error:\n\nerror\n", []),
    (b"event: error\ndata: 1\ndata:2\n\ndata: 3\n\n", [("error", b"1\n2"), ("message", b"3")]),
    (b"event: a\nevent:  b\ndata\n\n", [(" b", b"")]),
    (b"event: a\n\ndata: 1", [("message", b"1")]),
    (b"event: a\ndata: 1\nid: 2", [("a", b"1")]),
    (b"data: 1\nevent: a\n\ndata: 2\n\n", [("a", b"1"), ("message", b"2")]),
    (b"event: \xff\ndata: 1\n\n", [("\ufffd", b"1")]),
    (b"\xef\xbb\xbfdata: 1\r\n\r\n\xef\xbb\xbfdata: 2\r\r", [("message", b"1")]),
    (b"\xef\xbb\xbf{}", [("bare", b"{}")]),
    (b"data: 1\r\rdata: 2\ndata: 3\n\n", [("message", b"1"), ("message", b"2\n3")]),
    (b"data: 1\r\n\r\ndata: 2\r\ndata: 3\r\n\r\n", [("message", b"1"), ("message", b"2\n3")]),
]


@pytest.mark.parametrize(("stream", "want"), EVENTS)
def test_events_and_what_has_no_form(stream: bytes, want: list[tuple[str, bytes]]) -> None:
    assert events_in(stream) == want
    assert events_in(*(stream[place : place + 1] for place in range(len(stream)))) == want


def message_of(read_all: Any) -> str | None:
    try:
        read_all()
    except InvalidResponseError as error:
        return str(error)
    return None


def lines_in(*pieces: bytes, **limits: int) -> list[bytes]:
    decoder = NdjsonDecoder(**limits)
    return [line for piece in pieces for line in decoder.feed(piece)] + decoder.end()


ROOM = {"max_event_bytes": 10, "max_stream_bytes": 1000}
LONG_LINE, LONG_EVENT = "a line of the stream exceeds 10 bytes", "an event of the stream exceeds 10 bytes"
IDLE = "more than 10 bytes of the stream without an event; aborted"
LONG_STREAM = "the stream exceeds 100 bytes; aborted"
SHORT = {"max_event_bytes": 50, "max_stream_bytes": 100}
TOO_LONG: list[tuple[Any, tuple[bytes, ...], dict[str, int], str | None]] = [
    (events_in, (b"data: 1234\n\n",), ROOM, None),
    (events_in, (b"data: 12345\n\n",), ROOM, LONG_LINE),
    (events_in, (b"data: ", b"1234", b"\n\n"), ROOM, None),
    (events_in, (b"data: ", b"1234", b"5\n\n"), ROOM, LONG_LINE),
    (events_in, (b"data: ", b"12345"), ROOM, LONG_LINE),
    (events_in, (b"data: 1234\ndata: 5678\ndata:\n\n",), ROOM, None),
    (events_in, (b"data: 1234\ndata: 5678\ndata: 1\n\n",), ROOM, LONG_EVENT),
    (events_in, (b"data:123456\n",), ROOM, LONG_LINE),
    # With the blank line that ends a stream.
    (events_in, (b": 12345\n\n",), ROOM, None),
    (events_in, (b": 12345\n\n\n",), ROOM, IDLE),
    (events_in, (b": 12345\n\n", b"data: 1\n\n", b": 12345\n\n"), ROOM, None),
    (events_in, (b": 123456\n", b"data:1\ndata:1\n\n", b": 123456\n"), ROOM, None),
    (lines_in, (b"1234567890\n",), ROOM, None),
    (lines_in, (b"12345678901\n",), ROOM, LONG_LINE),
    (lines_in, (b"         \n",), ROOM, None),
    (lines_in, (b"         \n\n",), ROOM, IDLE),
    (lines_in, (b"         \n1\n         \n",), ROOM, None),
    # 64 bytes for an event, and three times those of a text beyond ASCII.
    (events_in, (b"data: " + b"1" * 28 + b"\n\n",), SHORT, None),
    (events_in, (b"data: " + b"1" * 29 + b"\n\n",), SHORT, LONG_STREAM),
    (events_in, (b": " + b"1" * 30 + b"\xc3\n",), SHORT, LONG_STREAM),
    (events_in, (b": " + b"1" * 29 + b"\xc3\n",), SHORT, None),
    (events_in, (b": " + b"1" * 29 + b"\\u\n",), SHORT, LONG_STREAM),
    (lines_in, (b"1" * 35 + b"\n",), SHORT, None),
    (lines_in, (b"1" * 36 + b"\n",), SHORT, LONG_STREAM),
    (lines_in, (b"1\n1\n",), SHORT, LONG_STREAM),
]


@pytest.mark.parametrize(("read_all", "pieces", "limits", "want"), TOO_LONG)
def test_what_is_too_long_is_refused_at_its_limit(read_all: Any, pieces: Any, limits: Any, want: str | None) -> None:
    assert message_of(lambda: read_all(*pieces, **limits)) == want


def test_bare_lines_are_kept_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "_MAX_BARE_BYTES", 6)
    assert events_in(b"{\n12\n") == [("bare", b"{\n12\n\n")]
    assert events_in(b"{\n123\n") == []
    assert events_in(b"{\n1234\n{\n1\n") == []


@pytest.mark.parametrize("decoder", [SseDecoder(max_stream_bytes=10), NdjsonDecoder(max_stream_bytes=10)])
def test_what_else_is_held_of_a_stream_counts(decoder: Any) -> None:
    decoder.count(10)
    assert message_of(lambda: decoder.count(1)) == "the stream exceeds 10 bytes; aborted"


def test_choices_up_to_the_limit_are_read() -> None:
    choice = {"message": {"content": "a"}, "finish_reason": "stop"}
    most, more = {"choices": [choice] * MAX_CHOICES}, {"choices": [choice] * (MAX_CHOICES + 1)}
    (chunk,), _ = chunks_of(CODECS["openai"], json.dumps(most).encode(), a_call(stream=False))
    assert [each.index for each in chunk.choices] == [*range(MAX_CHOICES)]
    why = "x/some/model sent an invalid response (it has 2049 choices, more than 2048)"
    told = {"error": "InvalidResponseError", "message": why, "target": "x/some/model", "body": more}
    assert read("openai", {}, more) == told
    parts = {"choices": [{"index": 0, "delta": {"content": "a"}}] * (MAX_CHOICES + 1), "usage": {"prompt_tokens": 1}}
    assert read("openai", {}, [parts]) == told | {"body": parts}


def test_tool_calls_up_to_the_limit_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_response, "MAX_TOOL_CALLS", 3)
    monkeypatch.setattr("llama_client.providers.wire.ollama_response.MAX_TOOL_CALLS", 3)
    made = [{"index": place, "id": f"c{place}", "function": {"name": "bash", "arguments": "{}"}} for place in range(4)]
    told = {"error": "InvalidResponseError", "target": "x/some/model"}
    told["message"] = "x/some/model sent an invalid response (it has more than 3 tool calls)"

    def parts(*calls: Any, index: int = 0) -> dict[str, Any]:
        return {"choices": [{"index": index, "delta": {"tool_calls": [*calls]}}]}

    assert len(read("openai", {}, [parts(*made[:3])])["chunks"]) == 1
    assert read("openai", {}, [parts(*made)]) == told | {"body": {"tool_calls": made[:1]}}
    assert read("openai", {}, [parts(*made[:3]), parts(made[3])]) == told | {"body": {"tool_calls": made[3:]}}
    assert read("openai", {}, [parts(*made[:2]), parts(*made[2:])]) == told | {"body": {"tool_calls": made[2:3]}}
    # Of all choices together.
    both = [parts(*made[:2]), parts(*made[:1], index=1)]
    assert len(read("openai", {}, both)["chunks"]) == 2
    assert read("openai", {}, [*both, parts(made[1], index=1)]) == told | {"body": {"tool_calls": made[1:2]}}
    said = [{"message": {"content": "", "tool_calls": made[:2]}}, {"message": {"content": "", "tool_calls": made[:1]}}]
    assert len(read("ollama", {}, said)["chunks"]) == 2
    last = {"message": {"tool_calls": made[:1]}}
    assert read("ollama", {}, [*said, last]) == told | {"body": last}


def test_sources_up_to_the_limit_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_SOURCES", 2)
    body = {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "citations": ["u", "v", "w"]}
    assert [each["url"] for each in read("openai", {}, body)["sources"]] == ["u", "v"]


def test_complete_arguments_are_looked_for_so_often_and_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    def calls_in(*arguments: str) -> int:
        calls = tool_calls.ToolCalls(["f"])
        for each in arguments:
            calls.read({"index": 0, "function": {"name": "f", "arguments": each}})
        return len(calls)

    monkeypatch.setattr(tool_calls, "_MAX_LOOKED_AT_CHARS", 8)
    assert [calls_in('{"a": 1}', "{}"), calls_in('{"a": 11}', "{}"), calls_in('{"a":', "11}", "{}")] == [2, 1, 2]
    assert [calls_in("[{}", "{}"), calls_in("{} \n", "{}"), calls_in("{}", " 1"), calls_in('"}', "{}")] == [1, 2, 1, 1]
    monkeypatch.setattr(tool_calls, "_MAX_LOOKS", 2)
    assert [calls_in("{ }", "{}"), calls_in('{"', "}", "{}", "{}", "{}")] == [2, 1]


SCHEMAS: list[tuple[Any, Any, bool]] = [
    # What a schema says of a value, the value, and whether that fits.
    (None, 5, True),
    (True, 5, True),
    ({}, 5, True),
    ({"type": "integer"}, 5, True),
    ({"type": "integer"}, 5.5, False),
    ({"type": "integer"}, True, False),
    ({"type": "number"}, 5, True),
    ({"type": "number"}, 5.5, True),
    ({"type": "number"}, False, False),
    ({"type": "number"}, "5", False),
    ({"type": "string"}, "a", True),
    ({"type": "string"}, 5, False),
    ({"type": "boolean"}, True, True),
    ({"type": "boolean"}, 1, False),
    ({"type": "null"}, None, True),
    ({"type": "null"}, 0, False),
    ({"type": "array"}, [], True),
    ({"type": "array"}, {}, False),
    ({"type": "object"}, {}, True),
    ({"type": "object"}, [], False),
    ({"type": ["string", "null"]}, None, True),
    ({"type": ["string", "null"]}, 5, False),
    ({"type": "date"}, 5, True),
    ({"type": 5}, 5, True),
    ({"enum": [1, 2]}, 2, True),
    ({"enum": [1, 2]}, 3, False),
    ({"enum": [1], "type": "string"}, 1, False),
    ({"anyOf": [{"type": "string"}, {"type": "null"}]}, None, True),
    ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 5, False),
    ({"oneOf": [{"type": "string"}]}, "a", True),
    ({"oneOf": [{"type": "string"}]}, 5, False),
    ({"anyOf": [{"type": "string"}], "oneOf": [{"type": "null"}]}, "a", False),
    ({"anyOf": [{}], "type": "string"}, 5, False),
    ({"anyOf": "a"}, 5, True),
    ({"items": {"type": "string"}}, ["a", "b"], True),
    ({"items": {"type": "string"}}, ["a", 5], False),
    ({"items": {"type": "string"}}, 5, True),
    ({"items": [{"type": "string"}]}, [5], True),
    ({"required": ["a"]}, {"a": None}, True),
    ({"required": ["a", "b"]}, {"a": 1}, False),
    ({"required": "b"}, {"a": 1}, True),
    ({"required": ["a"]}, 5, True),
    ({"properties": {"a": {"type": "string"}}}, {"a": "b", "c": 5}, True),
    ({"properties": {"a": {"type": "string"}}}, {"a": 5}, False),
    ({"properties": {"a": {"type": "string"}}, "additionalProperties": False}, {"a": "b"}, True),
    ({"properties": {"a": {}}, "additionalProperties": False}, {"a": 1, "b": 2}, False),
    ({"additionalProperties": False}, {"b": 2}, False),
    ({"additionalProperties": {}}, {"b": 2}, True),
    ({"properties": 5}, {"b": 2}, True),
    ({"properties": {"a": {"items": {"properties": {"b": {"type": "null"}}}}}}, {"a": [{"b": 1}]}, False),
]


def a_tool(name: str, parameters: Any) -> Tool:
    return Tool.model_validate({"type": "function", "function": {"name": name, "parameters": parameters}})


@pytest.mark.parametrize(("schema", "value", "fits"), SCHEMAS)
def test_a_text_is_a_call_where_its_arguments_fit_the_tool(schema: Any, value: Any, fits: bool) -> None:
    tools = [a_tool("f", {"type": "object", "properties": {"x": schema}})]
    arguments = json.dumps({"x": value})
    found = ("", [("f", arguments)])
    assert tool_calls_in(f"<function=f>{arguments}</function>", tools) == (found if fits else None)


@pytest.mark.parametrize("word", ["items", "anyOf", "oneOf", "properties"])
def test_a_schema_is_looked_at_32_levels_deep(word: str) -> None:
    def found(levels: int) -> bool:
        schema: Any = {"type": "string"}
        value: Any = 5
        for _ in range(levels):
            schema = {word: {"a": schema} if word == "properties" else schema if word == "items" else [schema]}
            value = {"a": value} if word == "properties" else [value] if word == "items" else value
        tools = [a_tool("f", {"properties": {"x": schema}})]
        return tool_calls_in(f"<function=f>{json.dumps({'x': value})}</function>", tools) is not None

    # The arguments themselves are level 0, and `x` level 1.
    assert [found(31), found(32)] == [False, True]


F, G = ("f", '{"a":1}'), ("g.h-1", "{}")
TEXTS: list[tuple[str, Any]] = [
    ("", None),
    ("hello", None),
    ('<function=f>{"a":1}</function>', ("", [F])),
    (' So:\n<function=f>{"a":1}</function> done', ("So:", [F])),
    ('<function=f{"a":1}</function>', ("", [F])),
    ('<function=f=>( [{"a":1})]> </function>', ("", [F])),
    ('<function=f>{"a":1}</function> and <function=g.h-1>{}</function>', ("", [F, G])),
    ('<function=f>{"a":1}</function><function=g.h-1>{}', None),
    ('<function=f>{"a":1}', None),
    ('<function=f>{"a":1', None),
    ('<function=f>{"a":1}x</function>', None),
    ("<function=>{}</function>", None),
    ("<function=f>[]</function>", None),
    ("<function=f>" + "(" * 15 + "{}</function>", ("", [("f", "{}")])),
    ("<function=f>" + "(" * 16 + "{}</function>", None),
    ("<function=f>{}" + " " * 16 + "</function>", ("", [("f", "{}")])),
    ("<function=f>{}" + " " * 17 + "</function>", None),
    ('<function=f>{"a":"</function>"}</function>', ("", [("f", '{"a":"</function>"}')])),
    ("<function=unknown>{}</function>", None),
    ('<function=f>{"a":1}</function><function=unknown>{}</function>', None),
    ('<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>', ("", [F])),
    ('a<tool_call>\n{"name": "f", "parameters": {"a": 1}}\n</tool_call>b', ("a", [F])),
    ('<tool_call>{"function": {"name": "f", "arguments": "{\\"a\\":1}"}}</tool_call>', ("", [F])),
    ('<tool_call>{"name": "f", "arguments": "oh"}</tool_call>', None),
    ('<tool_call>{"name": "f", "arguments": "[1]"}</tool_call>', None),
    ('<tool_call>{"name": "f", "arguments": 5}</tool_call>', None),
    ("<tool_call>f>{}</tool_call>", None),
    ('<tool_call>{"name": 5, "arguments": {}}</tool_call>', None),
    ('<tool_call>{"name": "f"}</tool_call>', None),
    ('<tool_call>{"name": "f", "arguments": {}}</function>', None),
    ('<function=f>{"a":1}</function><tool_call>', ("", [F])),
    (' {"name": "f", "arguments": {"a": 1}} ', ("", [F])),
    ('[{"name": "f", "arguments": {"a": 1}}, {"name": "g.h-1", "parameters": {}}]', ("", [F, G])),
    ('{"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}', ("", [F])),
    ('[{"name": "f", "arguments": {"a": 1}}, 5]', None),
    ('{"tool_calls": {"name": "f"}}', None),
    ("[]", None),
    ("5", None),
    ("null", None),
]


@pytest.mark.parametrize(("text", "want"), TEXTS)
def test_calls_are_found_in_a_text(text: str, want: Any) -> None:
    assert tool_calls_in(text, [a_tool("f", {"type": "object"}), a_tool("g.h-1", None)]) == want


def test_a_text_with_too_many_calls_or_characters_has_none() -> None:
    tools, one = [a_tool("f", None)], "<function=f>{}</function>"
    assert tool_calls_in(one * 128, tools) == ("", [("f", "{}")] * 128)
    assert tool_calls_in(one * 129, tools) is None
    bare = '{"name":"f","arguments":{}}'
    assert tool_calls_in(f"[{','.join([bare] * 128)}]", tools) == ("", [("f", "{}")] * 128)
    assert tool_calls_in(f"[{','.join([bare] * 129)}]", tools) is None
    assert tool_calls_in("a" * (200_000 - len(one)) + one, tools) == ("a" * (200_000 - len(one)), [("f", "{}")])
    assert tool_calls_in("a" * (200_001 - len(one)) + one, tools) is None


TAGGED: list[tuple[list[str], list[tuple[str, str]]]] = [
    # Parts of a text; the reasoning and the text of each, and those of its end.
    (["<think>a</think>b"], [("a", "b"), ("", "")]),
    (["<thinking>a</thinking>", " b"], [("a", ""), ("", "b"), ("", "")]),
    (["[THINK]a", "[/THINK]", "\n", "b", " <think>"],
     [("a", ""), ("", ""), ("", ""), ("", "b"), ("", " <think>"), ("", "")]),
    (["◁think▷a◁/think▷b"], [("a", "b"), ("", "")]),
    (["<thought>a</thought>b"], [("a", "b"), ("", "")]),
    (["<think>a</thought></think>b"], [("a</thought>", "b"), ("", "")]),
    ([" ", "<", "think>", " ", "a"], [("", ""), ("", ""), ("", ""), ("", ""), ("a", ""), ("", "")]),
    (["a<think>b"], [("", "a<think>b"), ("", "")]),
    ([" ", "<thx"], [("", ""), ("", " <thx"), ("", "")]),
    ([" \n"], [("", ""), ("", " \n")]),
    ([" " * 64, " "], [("", ""), ("", " " * 65), ("", "")]),
    ([" " * 65], [("", " " * 65), ("", "")]),
    (["<think>a" + " " * 64, "b"], [("a", ""), (" " * 64 + "b", ""), ("", "")]),
    (["<think>a" + " " * 65, "b"], [("a" + " " * 65, ""), ("b", ""), ("", "")]),
    (["<think>a</thin", "b"], [("a", ""), ("</thinb", ""), ("", "")]),
    (["<think>a</think", ">", " "], [("a", ""), ("", ""), ("", ""), ("", "")]),
    (["<think>a </", " "], [("a", ""), (" </", ""), ("", "")]),
    (["<think>", "</think>", "b"], [("", ""), ("", ""), ("", "b"), ("", "")]),
    (["<think>a\n<"], [("a", ""), ("\n<", "")]),
    (["", "b"], [("", ""), ("", "b"), ("", "")]),
]  # fmt: skip


@pytest.mark.parametrize(("pieces", "want"), TAGGED)
def test_reasoning_is_taken_out_of_its_tags(pieces: list[str], want: list[tuple[str, str]]) -> None:
    reader = TagReader()
    assert [*map(tuple, map(reader.read, pieces)), tuple(reader.end())] == want
    assert tuple(reader.read(" <think>b")) == ("", " <think>b")
    assert tuple(reader.end()) == ("", "")


def test_what_is_no_json_is_shown_up_to_80_bytes() -> None:
    def why(sent: list[str]) -> Any:
        return read("openai", {}, sent)["message"]

    invalid, no_object = "the provider sent invalid JSON: ", "the provider sent JSON that is not an object: "
    at = " (key must be a string at line 1 column 2)"
    assert why(["{" + "a" * 79]) == f"{invalid}'{'{'}{'a' * 79}'{at}"
    assert why(["{" + "a" * 80]) == f"{invalid}'{'{'}{'a' * 79}…'{at}"
    assert why(["{" + "ü" * 80]) == f"{invalid}'{'{'}{'ü' * 39}\ufffd…'{at}"
    assert why(["[" + "1" * 78 + "]"]) == f"{no_object}'[{'1' * 78}]'"
    assert why(["[" + "1" * 79 + "]"]) == f"{no_object}'[{'1' * 79}…'"
    with pytest.raises(InvalidResponseError) as caught:
        decoders.json_value(b"[" + b"1," * 3000 + b"}")
    assert str(caught.value).startswith(f"{invalid}'[{'1,' * 39}1…' (")


def test_log_probabilities_of_a_long_body_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_client.providers.wire.openai_codec.is_long", lambda _body: True)
    monkeypatch.setattr(openai_response, "_AT_ONCE", 2)
    tops = [{"token": name, "logprob": -place} for place, name in enumerate("xyz")]
    token = {"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": tops[:2]}
    tokens = [token, token | {"top_logprobs": tops}, token | {"top_logprobs": []}]

    def logprobs_in(logprobs: Any) -> Any:
        body = {"choices": [{"message": {"content": "a"}, "finish_reason": "stop", "logprobs": logprobs}]}
        call = a_call(stream=False)
        data = json.dumps(body).encode() + b" " * 5000
        (chunk,), _ = chunks_of(CODECS["openai"], data, call)
        assert call.facts.body == data
        return chunk.choices[0].logprobs and chunk.choices[0].logprobs.model_dump(exclude_none=True)

    def why(logprobs: Any) -> tuple[str, Any]:
        with pytest.raises(InvalidResponseError) as caught:
            logprobs_in(logprobs)
        assert caught.value.target == "x/some/model"
        return str(caught.value), caught.value.body

    assert logprobs_in({"content": tokens, "refusal": tokens[:1]}) == {"content": tokens, "refusal": tokens[:1]}
    assert logprobs_in({"content": None, "refusal": []}) == {"refusal": []}
    assert logprobs_in(None) is None
    wanted = [token, token | {"logprob": []}]
    number = "must be a number, got a value of type list"
    assert why({"content": wanted}) == (invalid(f"logprobs.content[1]: logprob: {number}"), {})
    assert why({"refusal": wanted}) == (invalid(f"logprobs.refusal[1]: logprob: {number}"), {})
    wanted = [token | {"top_logprobs": [*tops, {"token": "w", "logprob": []}]}]
    place = "logprobs.content[0].top_logprobs[3]"
    assert why({"content": wanted}) == (invalid(f"{place}: logprob: {number}"), {})
    assert why({"content": ["a"]})[0].startswith("x/some/model sent an invalid response (logprobs.content[0]: ")
    assert "logprobs.content" in why({"content": 5})[0]


def test_the_memory_of_kept_fields_is_counted() -> None:
    def size(**delta: Any) -> int:
        return bytes_in(ChunkChoice.model_validate({"index": 0, "delta": delta}))

    def size_of_call(**told: Any) -> int:
        return size(tool_calls=[{"index": 0, **told}, {"index": 1}])

    # An object: a value, what it has beside that, and a place and the name of each of its fields.
    kept = 64 + 160 + 100 + len("kept")
    assert size(content="a" * 1000, reasoning="b") == size_of_call(id="c", function={"name": "f"}) == 0
    assert size(kept=None) == size(kept=5) == kept + 64
    assert size(kept="abc") == kept + 64 + 3
    assert size(kept=[1, "ab"]) == kept + 64 + 2 * 100 + 64 + 64 + 2
    assert size(kept={"n": [], "on": {}}) == kept + (64 + 160 + 101 + 102) + 64 + (64 + 160)
    assert size_of_call(kept=5) == size_of_call(function={"kept": 5}) == kept + 64
    assert size(kept=5, tool_calls=[{"index": 0, "kept": 5, "function": {"kept": 5}}] * 2) == 5 * (kept + 64)


def test_the_name_of_an_event_is_its_own() -> None:
    assert SseDecoder().feed(b"event: ping\n\ndata: 1\n\n") == [ServerSentEvent("message", b"1")]
