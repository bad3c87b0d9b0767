"""Failures of a provider as our errors: what a server tells, wherever it puts it, and its row in the table. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic_core import from_json

from llama_client import errors
from llama_client.providers.wire.failure_facts import (
    BROKEN_REASONS,
    FAILURE_CODES,
    NO_STATUS,
    PARAMS_BY_WORD,
    Fact,
    fact_of,
)
from llama_client.providers.wire.rate_limits import retry_after_s
from llama_client.providers.wire.usage import below, count

# Of a non-JSON body: a gateway's HTML page, say.
_MAX_EXCERPT_CHARS = 200
# Longer than any explanation; the error's `body` has all of it. Nothing is searched beyond.
_MAX_MESSAGE_CHARS = 4000
_SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)+")
# Where servers put an error or its words, in the order of the message; the rest only where these have no words.
_PLACES = ("error", "errors", "message", "Message", "msg", "detail")
_OTHER_PLACES = (
    "error_message", "errorMessage", "error_msg", "error_description", "base_resp", "status_msg", "description",
    "title",
    "reason",
)  # fmt: skip
_NAMES = ("code", "type", "status", "error_type", "error_code", "errorCode", "__type")
_STATUS_NAMES = ("status_code", "code", "status", "http_status", "statusCode")
# Gateways wrap errors of errors; none was seen deeper than four times.
_MAX_DEPTH = 8
# Of a list of errors: a validation lists each field.
_MAX_LISTED = 5
# So that reading stays linear whatever a server sends.
_MAX_WORDS = 8
_MAX_OBJECTS = 64
# Of JSON within text.
_MAX_NESTED_CHARS = 256 << 10
# A body that begins so is a stream's event; its first lines tell the error.
_EVENT_FIELDS = ("data:", "error:", "event:")
_MAX_EVENT_LINES = 8
# vLLM, Gemini and others give the numbers only in the message.
_NUMBER = r"(\d[\d,]{0,14})"
_PROMPT_TOKENS = re.compile(
    rf"passed {_NUMBER} input tokens|\({_NUMBER} in the messages|Given: {_NUMBER} `inputs`|resulted in {_NUMBER} tokens"
    rf"|request contains {_NUMBER} tokens|[Pp]rompt (?:contains|has) {_NUMBER} tokens|token count \({_NUMBER}\)"
    rf"|token count of {_NUMBER}|(?:input|request) \({_NUMBER} tokens\)|[Ii]nput length \(?{_NUMBER}"
    rf"|at least {_NUMBER} input tokens"
)
_CONTEXT_TOKENS = re.compile(
    rf"context length is (?:only )?{_NUMBER}|must be <= {_NUMBER}|maximum prompt length is {_NUMBER}"
    rf"|model with {_NUMBER} maximum context|tokens allowed \({_NUMBER}|context (?:length|size) \({_NUMBER}"
    rf"|token limit: {_NUMBER}|exceeds the limit of {_NUMBER}|input length of {_NUMBER}|context size is {_NUMBER}"
    rf"|context length of {_NUMBER}|length should be \[1, ?{_NUMBER}"
)
_NOT_MODIFIED = 304
_NO_PATH = "the server has no such path"


@dataclass
class _Told:
    """What a body tells: its words, from the outside to the inside, and the objects on the way to them."""

    words: list[str] = field(default_factory=list)
    objects: list[Mapping[str, Any]] = field(default_factory=list)
    # The object that holds the first words.
    holder: Mapping[str, Any] | None = None

    def read(self, value: object, depth: int = 0) -> bool:
        """Whether a value has words, or a value in it."""
        if depth > _MAX_DEPTH or len(self.words) >= _MAX_WORDS or len(self.objects) >= _MAX_OBJECTS:
            return False
        if isinstance(value, str):
            return self._read_text(value, depth)
        if isinstance(value, list):
            has_words = False
            for each in value[:_MAX_LISTED]:
                has_words = self.read(each, depth + 1) or has_words
            return has_words
        return isinstance(value, Mapping) and self._read_object(value, depth)

    def _read_text(self, text: str, depth: int) -> bool:
        inner = _json_in(text)
        if inner is not None and self.read(inner, depth + 1):
            return True
        text = _cut(text.strip(), _MAX_MESSAGE_CHARS)
        if text and not any(text in known for known in self.words):
            self.words.append(text)
        return bool(text)

    def _read_object(self, value: Mapping[str, Any], depth: int) -> bool:
        self.objects.append(value)
        place = value.get("loc")
        if isinstance(place, list | tuple) and isinstance(value.get("msg"), str):  # a validation of FastAPI
            self.words.append(f"{'.'.join(map(str, place[:_MAX_DEPTH]))}: {value['msg']}"[:_MAX_MESSAGE_CHARS])
            self.holder = self.holder or value
            return True
        has_words = False
        for name in _PLACES:
            has_words = self._read_place(value, name, depth) or has_words
        for name in () if has_words else _OTHER_PLACES:
            has_words = self._read_place(value, name, depth) or has_words
        metadata = value.get("metadata")
        if isinstance(metadata, Mapping):  # of OpenRouter: what the server behind it said
            has_words = self.read(metadata.get("raw"), depth + 1) or has_words
            if isinstance(metadata.get("reasons"), list):
                self.read([each for each in metadata["reasons"] if isinstance(each, str)], depth + 1)
        return has_words

    def _read_place(self, value: Mapping[str, Any], name: str, depth: int) -> bool:
        has_words = self.read(value.get(name), depth + 1)
        if has_words and self.holder is None:
            self.holder = value
        return has_words


@dataclass(frozen=True)
class Failure:
    """An error response, or an error found inside a successful one."""

    status: int | None
    headers: Mapping[str, str]
    body: object
    now: float

    @cached_property
    def _told(self) -> _Told:
        told = _Told()
        told.read(self.body)
        return told

    @property
    def is_text(self) -> bool:
        """Whether the body is no JSON."""
        return isinstance(self.body, str) and not self._told.objects

    @property
    def has_words(self) -> bool:
        """Whether there is an object in it that tells an error."""
        return self._told.holder is not None

    @property
    def error(self) -> Mapping[str, Any]:
        """The object that tells the error, wherever this server puts it."""
        told = self._told
        return told.holder or next(iter(told.objects), {})

    @cached_property
    def message(self) -> str:
        words = self._told.words
        if self.is_text:
            text = _cut(" ".join(words[0].split()), _MAX_EXCERPT_CHARS) if words else ""
        else:
            text = _cut(": ".join(words), _MAX_MESSAGE_CHARS)
        return text or f"no reason was given (status {self.status})"

    @property
    def _objects(self) -> Iterator[Mapping[str, Any]]:
        """All objects that the error may be told in, the one with its words first."""
        yield self.error
        yield from (each for each in self._told.objects if each is not self.error)

    @property
    def code(self) -> str | None:
        """A string `code`; else a snake_case `type` beside another code; else a code without type, or `error_type`."""
        return next((code for each in self._objects if (code := _code(each)) is not None), None)

    @property
    def names(self) -> list[str]:
        """All that may name the kind of failure, in lower case."""
        inner = [each["innererror"] for each in self._objects if isinstance(each.get("innererror"), Mapping)]
        found = [
            value for each in (*self._objects, *inner) for name in _NAMES if isinstance(value := each.get(name), str)
        ]
        return [name.lower() for name in found if len(name) <= _MAX_EXCERPT_CHARS]

    @property
    def effective_status(self) -> int | None:
        """The status of the error, which gateways may put inside an HTTP 200."""
        if self.status is None or self.status < 400:
            for each in self._objects:
                for name in _STATUS_NAMES:
                    value = each.get(name)
                    if isinstance(value, int) and 400 <= value < 600:
                        return value
        return self.status

    @cached_property
    def fact(self) -> Fact:
        """Its row in the table."""
        status = self.effective_status
        if status is None or status < 300:
            status = NO_STATUS
        elif status < 400:
            return _REDIRECTED
        return fact_of(status, self.names, self.message.lower(), is_text=self.is_text)

    @property
    def is_filtered_answer(self) -> bool:
        """Whether a content filter cut an answer that had begun."""
        return self.fact.is_filter and (self.effective_status is None or self.effective_status < 400)


_REDIRECTED = Fact(errors.InvalidResponseError)


def error_of(failure: Failure) -> errors.ProviderError:
    fact, message, error = failure.fact, failure.message, failure.error
    kind = fact.means
    fields: dict[str, Any] = {"http_status": failure.status, "provider_code": failure.code, "body": failure.body}
    if fact.failover is not None:
        fields["failover"] = fact.failover
    if kind is errors.ContextLengthError:
        prompt, context = count(error.get("n_prompt_tokens")), count(error.get("n_ctx"))
        if prompt and context:
            message = f"the prompt has {prompt} tokens and the context holds {context}: shorten it or raise n_ctx"
        else:
            prompt, context = _number(_PROMPT_TOKENS, message), _number(_CONTEXT_TOKENS, message)
        fields |= {"prompt_tokens": prompt, "context_tokens": context}
    elif kind is errors.GenerationFailedError:
        failed = error.get("failed_generation")
        fields["failed_generation"] = failed if isinstance(failed, str) else None
    elif kind is errors.UnsupportedFeatureError:
        fields |= {"param": fact.param or _param(error, message), "is_lasting": fact.is_lasting}
    elif kind is errors.InvalidResponseError:
        is_redirect = failure.status is not None and 300 <= failure.status < 400
        message = _without_an_answer(failure) if is_redirect else f"{_NO_PATH}: {message}"
        fields["retryable"] = False
    elif kind.retryable_by_default:
        limit = error.get("type")
        fields["retry_after_s"] = retry_after_s(
            failure.headers,
            message=message if kind is errors.RateLimitError else "",
            limit=limit if limit in ("tokens", "requests") else None,
            now=failure.now,
        )
    return kind(message, **fields)


def is_wrong_address(error: errors.ProviderError) -> bool:
    """Whether the server knows nothing of the path that was asked for."""
    return isinstance(error, errors.InvalidResponseError) and str(error).startswith(_NO_PATH)


def error_from_llama_cpp(error: Mapping[str, Any]) -> errors.ProviderError:
    """Our error for the object under `error` in a response of the in-process llama.cpp engine."""
    made = error_of(Failure(None, {}, {"error": error}, 0.0))
    made.body = dict(error)
    status = error.get("code")
    made.http_status = status if isinstance(status, int) else None
    return made


def failure_in_event(event: Mapping[str, Any]) -> object:
    """What an event of a stream tells of a failure, as an object or text; None: nothing."""
    found = _failure_beside(event)
    if found is not None or event.get("choices"):
        return found
    # Events of other kinds may have a code and a message too, of progress for one.
    code = event.get("code") or event.get("error_code")
    is_failure = 400 <= code < 600 if isinstance(code, int) else str(code).lower() in FAILURE_CODES
    return event if is_failure or isinstance(event.get("error_message"), str) else None


def failure_in_body(body: Mapping[str, Any]) -> object:
    """What a body that should be a whole answer tells of a failure, as an object or text; None: nothing."""
    found = _failure_beside(body)
    if found is None and not body.get("choices") and _Told().read(body):
        return body
    return found


def _failure_beside(body: Mapping[str, Any]) -> object:
    """A failure next to the choices of an answer, or inside one of them."""
    for name in ("error", "errors"):
        if body.get(name):
            return body[name]
    if body.get("object") == "error" and "choices" not in body:
        return body
    if below(body, "base_resp", "status_code"):  # MiniMax: 0 is success
        return body
    choices = body.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and (told := _failure_of_choice(choice)) is not None:
            return told
    return None


def _failure_of_choice(choice: Mapping[str, Any]) -> object:
    error, reason = choice.get("error"), choice.get("native_finish_reason")
    if error:
        return error
    if isinstance(reason, str) and reason in BROKEN_REASONS:
        overloaded = {"code": 503} if BROKEN_REASONS[reason] is errors.OverloadedError else {}
        return {"message": f"the answer failed while it was generated (native finish reason {reason!r})", **overloaded}
    return None


def _code(error: Mapping[str, Any]) -> str | None:
    code, kind = error.get("code"), error.get("type")
    if isinstance(code, str) and code:
        return code
    if code is not None and isinstance(kind, str) and _SNAKE_CASE.fullmatch(kind):
        return kind
    if code is not None and kind is None:
        return str(code)
    outer = error.get("error_type")
    return outer if isinstance(outer, str) else None


def _param(error: Mapping[str, Any], message: str) -> str | None:
    given, words = error.get("param"), message.lower()
    if isinstance(given, str) and given in PARAMS_BY_WORD.values():
        return given
    return next((param for word, param in PARAMS_BY_WORD.items() if word in words), None)


def _json_in(text: str) -> object:
    """The object or list that a text is: Ollama passes on its runner's errors as JSON, gateways those of servers."""
    if len(text) > _MAX_NESTED_CHARS:
        return None
    text = text.strip()
    if text.startswith(_EVENT_FIELDS):
        lines = text.split("\n", _MAX_EVENT_LINES)[:_MAX_EVENT_LINES]
        return _first_json(line.partition(":")[2].strip() for line in lines if not line.startswith("event:"))
    return _first_json([text])


def _first_json(texts: Iterable[str]) -> object:
    for text in texts:
        if text.startswith(("{", "[")):
            try:
                value: object = from_json(text.encode())
            except ValueError:
                continue
            return value
    return None


def _cut(text: str, max_chars: int) -> str:
    return text if len(text) <= max_chars else f"{text[:max_chars]}…"


def _number(pattern: re.Pattern[str], message: str) -> int | None:
    found = pattern.search(message)
    return next((int(group.replace(",", "")) for group in found.groups() if group), None) if found else None


def _without_an_answer(failure: Failure) -> str:
    """What a status from 300 to 399 says."""
    location = failure.headers.get("location")
    if failure.status == _NOT_MODIFIED:
        return (
            "the server answered 304 (not modified), which is for clients that have the answer already, and was not "
            "asked for: a cache or proxy in between is set up wrongly"
        )
    if location is None:
        return f"the server redirects (status {failure.status}) without saying where: check base_url"
    return f"the server redirects to {location}: set base_url to it"
