"""A request: the parameters of a call, and the validated, immutable `ChatRequest`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Required, TypedDict

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    SkipValidation,
    StrictBool,
    StrictStr,
    Tag,
    ValidationError,
    model_validator,
)

from llama_client.errors import InvalidRequestError
from llama_client.types.completion import Message
from llama_client.types.messages import (
    MAX_COUNT,
    MAX_TIMEOUT_S,
    ContentPart,
    HeaderName,
    HeaderValue,
    ImagePart,
    JsonObject,
    OpenPart,
    RequestMessage,
    RequestPart,
    SomeText,
    Text,
    as_tuple,
    kind_of,
    plain_messages,
)
from llama_client.validation import broken_rule, first_problem, nearest


class SharedParams(TypedDict, total=False):
    """See `Completions.create`: these are the parameters that `create`, `ask` and `parse` share. None means omitted."""

    model: str | Sequence[str] | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    max_tokens: int | None
    max_completion_tokens: int | None
    stop: str | Sequence[str] | None
    seed: int | None
    n: int | None
    frequency_penalty: float | None
    presence_penalty: float | None
    repetition_penalty: float | None
    logit_bias: Mapping[str, float] | Mapping[int, float] | None
    logprobs: bool | None
    top_logprobs: int | None
    tools: Sequence[Mapping[str, object]] | None
    tool_choice: str | Mapping[str, object] | None
    parallel_tool_calls: bool | None
    reasoning_effort: str | None
    reasoning_format: str | None
    service_tier: str | None
    user: str | None
    timeout: float | None
    tags: Mapping[str, str] | None
    extra_body: Mapping[str, object] | None
    extra_headers: Mapping[str, str] | None


class AskParams(SharedParams, total=False):
    """See `LlamaClient.ask`: its keyword arguments, for functions that pass them on."""

    system: str | None
    response_format: Mapping[str, object] | None


class CreateParams(SharedParams, total=False):
    """See `Completions.create`: its keyword arguments except `stream`, for functions that pass them on."""

    messages: Required[Sequence[Mapping[str, object] | Message]]
    response_format: Mapping[str, object] | None
    stream_options: Mapping[str, object] | None


class ParseParams(SharedParams, total=False):
    """See `Completions.parse`: its keyword arguments except `response_format`, for functions that pass them on."""

    messages: Required[Sequence[Mapping[str, object] | Message]]


def _text_keys(value: object) -> object:
    # Token ids may be given as numbers; JSON's keys are strings.
    return {str(key): bias for key, bias in value.items()} if isinstance(value, Mapping) else value


class FunctionSpec(OpenPart):
    name: Annotated[StrictStr, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
    description: Text | None = None
    parameters: JsonObject | None = None
    strict: StrictBool | None = None


class Tool(OpenPart):
    type: Literal["function"]
    function: FunctionSpec


class OtherTool(OpenPart):
    """A tool of any other type, which a server runs itself or knows beyond functions."""

    type: SomeText


class NamedFunction(OpenPart):
    name: SomeText


class NamedToolChoice(OpenPart):
    type: Literal["function"]
    function: NamedFunction


class OtherToolChoice(OpenPart):
    type: SomeText


def _tool_tag(tool: object) -> str | None:
    kind = kind_of(tool)
    if kind == "function":
        return "=function"
    return "=other" if isinstance(kind, str) and kind else None


_BY_TYPE = Discriminator(
    _tool_tag, custom_error_type="tool_type", custom_error_message="type must be text, such as 'function'"
)
AnyTool = Annotated[Annotated[Tool, Tag("=function")] | Annotated[OtherTool, Tag("=other")], _BY_TYPE]
NamedChoice = Annotated[
    Annotated[NamedToolChoice, Tag("=function")] | Annotated[OtherToolChoice, Tag("=other")], _BY_TYPE
]


class JsonSchema(OpenPart):
    name: Text = "answer"
    description: Text | None = None
    schema_: JsonObject = Field(alias="schema")
    strict: StrictBool | None = None


class ResponseFormat(OpenPart):
    """Also with names and of types that servers know beyond OpenAI's: a `schema` beside `json_object`, a `grammar`."""

    type: SomeText
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_matches_type(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise broken_rule("json_schema", "is required with type 'json_schema', and allowed with no other")
        return self


class StreamOptions(OpenPart):
    include_usage: StrictBool = False


# These decide the target, the form of the answer and its cost: each has its own parameter.
_NOT_IN_EXTRA_BODY = frozenset(
    {"model", "messages", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens"}
)


def _beside_parameters(body: dict[str, Any]) -> dict[str, Any]:
    for name in body:
        # Servers written in Go, such as Ollama, ignore the case of names, and the last of several spellings wins.
        if name.casefold() in _NOT_IN_EXTRA_BODY:
            raise broken_rule(name, "must be given as the parameter of that name")
    return body


_TEXT_OR_NOT = Discriminator(lambda value: "=text" if isinstance(value, str) else "=other")
Unit = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Penalty = Annotated[float, Field(strict=True, ge=-2, le=2, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=1, le=MAX_COUNT)]
# An int stays an int: some servers accept nothing else.
Bias = (
    Annotated[int, Field(strict=True, ge=-100, le=100)]
    | Annotated[float, Field(strict=True, ge=-100, le=100, allow_inf_nan=False)]
)
Stop = Annotated[
    Annotated[SomeText, Tag("=text")]
    | Annotated[tuple[SomeText, ...], Field(max_length=16), BeforeValidator(as_tuple), Tag("=other")],
    _TEXT_OR_NOT,
]
# Short enough for every platform's timers.
Timeout = Annotated[float, Field(strict=True, gt=0, le=MAX_TIMEOUT_S, allow_inf_nan=False)]
# "any" is the name of "required" at Mistral and in servers of its kind.
ToolChoice = Annotated[
    Annotated[Literal["auto", "none", "required", "any"], Tag("=text")] | Annotated[NamedChoice, Tag("=other")],
    _TEXT_OR_NOT,
]


class ChatRequest(RequestPart):
    """A validated, immutable request. `model` is not part of it: the router turns it into targets."""

    messages: Annotated[tuple[RequestMessage, ...], Field(min_length=1), BeforeValidator(plain_messages)]
    stream: StrictBool = False
    temperature: Annotated[float, Field(strict=True, ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Unit | None = None
    top_k: Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT)] | None = None
    min_p: Unit | None = None
    # Has the limit also where `max_completion_tokens` was given.
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    stop: Stop | None = None
    seed: Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)] | None = None
    n: Annotated[int, Field(strict=True, ge=1, le=128)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = None
    logit_bias: Annotated[dict[Text, Bias], BeforeValidator(_text_keys)] | None = None
    logprobs: StrictBool | None = None
    top_logprobs: Annotated[int, Field(strict=True, ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[tuple[AnyTool, ...], Field(max_length=128), BeforeValidator(as_tuple)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: StrictBool | None = None
    reasoning_effort: Literal["none", "default", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    reasoning_format: Literal["parsed", "raw", "hidden"] | None = None
    service_tier: Text | None = None
    stream_options: StreamOptions | None = None
    user: Text | None = None
    timeout: Timeout | None = None
    tags: dict[Text, Text] | None = None
    extra_body: Annotated[JsonObject, AfterValidator(_beside_parameters)] | None = None
    extra_headers: dict[HeaderName, HeaderValue] | None = None
    # Allows sending a schema as text, since the caller validates the answer.
    schema_in_words: StrictBool = False
    # Set with it: the Pydantic class of the answer, for a target that can be held to all that the class checks.
    answer_class: SkipValidation[Any] = None

    @model_validator(mode="after")
    def _parts_agree(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise broken_rule("top_logprobs", "needs logprobs=True")
        if self.stream_options is not None and not self.stream:
            raise broken_rule("stream_options", "needs stream=True")
        if self.tools is None and self.tool_choice is None:
            return self
        names = [tool.function.name for tool in self.functions]
        takes_no_tools = ("none", "auto") if self.tools == () else ("none",)
        if self.tool_choice not in (None, *takes_no_tools) and not self.tools:
            raise broken_rule("tool_choice", "needs tools")
        if isinstance(self.tool_choice, NamedToolChoice) and self.tool_choice.function.name not in names:
            raise broken_rule("tool_choice", f"names {self.tool_choice.function.name!r}, which is not among tools")
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise broken_rule("tools", f"two tools are named {repeated!r}")
        return self

    @property
    def parts(self) -> Iterator[ContentPart]:
        """The parts of every content that is a list of them."""
        return (part for message in self.messages if isinstance(message.content, tuple) for part in message.content)

    @property
    def has_images(self) -> bool:
        return any(isinstance(part, ImagePart) for part in self.parts)

    @property
    def functions(self) -> list[Tool]:
        """The tools that are functions."""
        return [tool for tool in self.tools or () if isinstance(tool, Tool)]

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else self.stop or ()

    @property
    def asks_for_usage(self) -> bool | None:
        """Whether the caller wants the usage of a stream to be asked for; None: the caller does not say."""
        options = self.stream_options
        return None if options is None or "include_usage" not in options.model_fields_set else options.include_usage

    @property
    def set_parameters(self) -> frozenset[str]:
        """The names of the parameters that are set: not None, and for `logprobs` not False."""
        # Called for each target of each call, so it reads pydantic's own dict.
        values, names = self.__dict__, self.__pydantic_fields_set__
        return frozenset([name for name in names if values[name] is not None and (values[name] or name != "logprobs")])


_OF_TOOLS = ("tools", "tool_choice", "parallel_tool_calls")


def check_request(
    params: Mapping[str, object], *, stream: bool, answer_class: type[object] | None = None
) -> ChatRequest:
    given = {name: value for name, value in params.items() if value is not None}
    alias = given.get("max_completion_tokens")
    if alias is not None and given.setdefault("max_tokens", alias) != alias:
        message = "max_tokens and max_completion_tokens are the same limit, but differ; give only one of them"
        raise InvalidRequestError(message, param="max_tokens")
    for name in _OURS:
        if name in given:
            raise InvalidRequestError(f"{name}: unknown name", param=name)
    given["stream"] = stream
    if answer_class is not None:
        given |= {"schema_in_words": True, "answer_class": answer_class}
    try:
        request = ChatRequest.model_validate(given)
        # OpenAI, vLLM and others refuse an empty list, and what is said of tools where there are none.
        empty = [*(_OF_TOOLS if request.tools == () else ()), *(["stop"] if request.stop == () else ())]
        return request.model_copy(update=dict.fromkeys(empty)) if empty else request
    except ValidationError as error:
        problem = first_problem(error, known=_NAMES)
        hint = _hint(problem.field, given)
        sentence = f"{problem.field}: {hint}" if hint is not None else problem.sentence
        raise InvalidRequestError(sentence, param=problem.field or None) from None


# Set by the package alone.
_OURS = ("schema_in_words", "answer_class")
_NAMES = (*(name for name in ChatRequest.model_fields if name not in _OURS), "model")
# Keyword arguments of other packages, and what does the same here.
_INSTEAD = {
    **dict.fromkeys(("deadline_s", "request_timeout", "timeout_s"), "use timeout, in seconds"),
    "function_call": "use tool_choice",
    "functions": "use tools",
    "max_retries": "the configuration sets it for every call: [routing] retries = 2",
    "metadata": "send it as extra_body={'metadata': ...}; labels of your own are tags",
    **dict.fromkeys(("output_type", "response_model"), "use response_format, of chat.completions.parse"),
    "num_ctx": "set it for the provider: options = { num_ctx = ... } for ollama, n_ctx = ... for gguf",
    "system": "ask takes system; for other calls put {'role': 'system', 'content': ...} first in messages",
}


def _hint(name: str, given: Mapping[str, object]) -> str | None:
    """What to write instead, where pydantic's own sentence does not say it."""
    if name == "response_format" and isinstance(given[name], type):
        return "a class goes to chat.completions.parse, which returns an instance of it; here it must be a dict"
    if name not in given or name in _NAMES:
        return None
    match = name if name in _INSTEAD else nearest(name, (*_NAMES, *_INSTEAD))
    if match is None:
        return "unknown name; extra_body takes fields that only the provider knows"
    return f"unknown name; {_INSTEAD[match]}" if match in _INSTEAD else None
