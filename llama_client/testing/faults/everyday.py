"""What servers do every day and programs seldom expect: other errors, other events, calls of tools, by name."""

from __future__ import annotations

from typing import Any

from llama_client.testing.faults import answers, streams, variants
from llama_client.testing.faults.answers import Answering, refused
from llama_client.testing.faults.row import Fault
from llama_client.testing.loopback import as_json

_OPENAI_KINDS = ("groq", "together", "openai")
_GROQ, _OLLAMA = ("groq",), ("ollama",)
# Drawn only where they are named, so that what a rate draws by itself stays what it was.
_NAMED: Any = {"weight": 0}
_BUSY = "server busy, please try again.  maximum pending requests exceeded"
_STOPPED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)


def _body(status: int, value: dict[str, Any]) -> Answering:
    return answers.anyhow(as_json(value, status=status))


_ERRORS = (
    Fault("413-tokens", "more tokens than Groq's limit of a minute", ("RequestTooLargeError",), (413,),
          refused(413, "Request too large for model `some/model` on tokens per minute (TPM): Limit 6000, Requested "
                  "9000, please reduce your message size and try again.", "tokens", "rate_limit_exceeded"),
          kinds=_GROQ, **_NAMED),
    Fault("498", "Groq's flex tier is full", ("OverloadedError",), (498,),
          refused(498, "Flex tier capacity exceeded.", "server_error", "capacity_exceeded"), kinds=_GROQ, **_NAMED),
    Fault("json-validate-failed", "the model wrote JSON that does not fit, as Groq tells it",
          ("GenerationFailedError",), (400,),
          lambda asked: as_json(asked.dialect.error(
              "Failed to generate JSON. Please adjust your prompt.", "invalid_request_error",
              code="json_validate_failed", failed_generation="{no json"), status=400), kinds=_GROQ, **_NAMED),
    Fault("model-decommissioned", "the model is gone, as Groq tells it", ("ModelNotFoundError",), (400,),
          refused(400, "The model `some/model` has been decommissioned and is no longer supported.",
                  code="model_decommissioned"), kinds=_GROQ, **_NAMED),
    Fault("408", "the server waited too long for the request", ("ServerError",), (408,),
          refused(408, "Request timeout.", "timeout"), **_NAMED),
    Fault("409", "a conflict, which another attempt may mend", ("ServerError",), (409,),
          refused(409, "The request conflicts with another one.", "conflict"), **_NAMED),
    Fault("524", "a gateway's page, as the server behind it took too long", ("ServerError",), (524,),
          answers.page(524, "<html><h1>A timeout occurred</h1></html>"), **_NAMED),
    Fault("500-do-not-retry", "an internal error, with `x-should-retry: false`", ("ServerError",), (500,),
          refused(500, "The request cannot be served.", "server_error", headers={"x-should-retry": "false"}),
          **_NAMED),
    Fault("409-do-retry", "a conflict, with `x-should-retry: true`", ("ServerError",), (409,),
          refused(409, "Try again.", "conflict", headers={"x-should-retry": "true"}), **_NAMED),
    Fault("loading-model", "the model is being loaded, as llama.cpp tells it", ("OverloadedError",), (503,),
          lambda asked: as_json(asked.dialect.error("Loading model", "unavailable_error", code=503), status=503),
          **_NAMED),
    Fault("server-busy", "the queue is full, as Ollama tells it", ("OverloadedError",), (503,),
          refused(503, _BUSY, "server_error"), **_NAMED),
    Fault("runner-stopped", "the process of the model has ended, as Ollama tells it", ("ServerError",), (500,),
          refused(500, _STOPPED, "api_error"), **_NAMED),
    Fault("integer-code", "an error whose code is a number, as vLLM's", ("BadRequestError",), (400,),
          _body(400, {"error": {"message": "The request is invalid.", "type": "BadRequestError", "param": None,
                                "code": 400}}), kinds=_OPENAI_KINDS, **_NAMED),
    Fault("bare-error", "an error without the `error` around it, as older vLLM's", ("ContextLengthError",), (400,),
          _body(400, {"object": "error", "message": "This model's maximum context length is 4096 tokens. However, you "
                      "requested 5000 tokens.", "type": "BadRequestError", "param": None, "code": 400}),
          kinds=_OPENAI_KINDS, **_NAMED),
    Fault("error-type", "an error in words with an `error_type`, as TGI's", ("RateLimitError",), (429,),
          _body(429, {"error": "Model is overloaded", "error_type": "overloaded"}), kinds=_OPENAI_KINDS, **_NAMED),
)  # fmt: skip

_ANSWERS = (
    Fault("finish-length", "an answer that a limit of tokens cut", (), (200,), streams.finished_by("length"), **_NAMED),
    Fault("empty-answer", "a good answer without any text", (), (200,), variants.says(""), text="", **_NAMED),
    Fault("refusal", "the model refuses, in the field that OpenAI has for it", (), (200,),
          variants.refusing("I cannot help with that."), kinds=_OPENAI_KINDS, text="", **_NAMED),
    Fault("good-tool-call", "a good call of the first tool of the request", (), (200,), variants.calling(), text="",
          **_NAMED),
    Fault("tool-arguments-cut", "a call of a tool that a limit of tokens cut", (), (200,),
          variants.calling(lambda arguments: arguments[:-3], finish="length"), kinds=_OPENAI_KINDS, text="", **_NAMED),
    Fault("tool-arguments-garbage", "a call of a tool whose arguments are no JSON", (), (200,),
          variants.calling(lambda arguments: "{no json"), kinds=_OPENAI_KINDS, text="", **_NAMED),
    Fault("tool-call-as-text", "a call of a tool that the model wrote as text", (), (200,), variants.written_call,
          text=variants.WRITTEN_CALL, **_NAMED),
    Fault("done-reason-load", "the model was loaded, and nothing said, as Ollama tells it", (), (200,),
          variants.loaded, kinds=_OLLAMA, text="", **_NAMED),
    Fault("idle-close", "a good answer, after which the connection is closed unannounced", (), (200,),
          variants.closed_idle, **_NAMED),
)  # fmt: skip


def _odd(name: str, what: str, answer: Answering, kinds: tuple[str, ...] = _OPENAI_KINDS) -> Fault:
    return Fault(name, what, (), (200,), answer, only="stream", kinds=kinds, weight=0)


_STREAMS = (
    _odd("usage-thrice", "a good stream that counts its tokens in three places, as Groq's may", variants.usage_thrice,
         _GROQ),
    _odd("running-usage", "a good stream that counts its tokens in each event, as vLLM's may", variants.running_usage),
    _odd("no-space", "a good stream without a space after `data:`", variants.without_spaces),
    _odd("many-lines", "a good stream whose events go over several lines of `data:`", variants.of_many_lines),
    _odd("unterminated", "a good stream whose last event has no line end", variants.unterminated),
    _odd("no-choices", "a good stream with events whose `choices` is empty", variants.with_choices([])),
    _odd("null-choices", "a good stream with events whose `choices` is null", variants.with_choices(None)),
)  # fmt: skip

EVERYDAY = (*_ERRORS, *_ANSWERS, *_STREAMS)
