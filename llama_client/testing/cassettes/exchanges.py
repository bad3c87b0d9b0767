"""What a cassette holds: exchanges, each a request and how it was answered, as plain data that is checked when read."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, model_validator
from pydantic_core import PydanticCustomError

VERSION = 1
# Seconds since the request was sent.
Moment = Annotated[StrictFloat | StrictInt, Field(ge=0, allow_inf_nan=False)]

# How an answer below HTTP failed; see `failures`.
FailureKind = Literal[
    "not_connected", "connect_timeout", "timeout", "lost", "malformed", "undecodable", "refused_by_client"
]


class Part(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


class Request(Part):
    """A request over HTTP, without its headers: one of them is the key.

    Attributes:
        method: Such as `POST`.
        path: Below the provider's address; for another server's address (an image) with its host.
        body: The JSON value; of other content its digest; None: there is none.
    """

    method: StrictStr
    path: StrictStr
    body: Any = None


class Line(Part):
    """A piece of a body, or of what came in one piece the next event.

    Exactly one of `data` (an event with JSON), `line` (JSON and a line end), `text` and `base64` is set.

    Attributes:
        at_s: When the piece came; None: together with the line before.
    """

    at_s: Moment | None = None
    data: Any = None
    line: Any = None
    text: StrictStr | None = None
    base64: StrictStr | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Line:
        if sum(each is not None for each in (self.data, self.line, self.text, self.base64)) != 1:
            raise PydanticCustomError("one_of", "must have one of data, line, text, base64")
        return self


class Failure(Part):
    """How an answer ended that did not end well.

    Attributes:
        kind: `refused_by_client`: this package's own error, by class in `error`.
        message: Its text.
        at_s: When.
        cause: What the system said, where a remedy depends on it.
        is_unanswered: Of `lost`: the connection had been used before, and ended without a byte of the answer.
        is_unsent: Of `lost`: nothing of the request had left.
        error: The class of this package's own error.
        httpx: The class and text of HTTPX's error, which official clients let pass.
    """

    kind: FailureKind
    message: StrictStr = ""
    at_s: Moment = 0
    cause: Literal["refused", "unresolved", "untrusted"] | None = None
    is_unanswered: bool = False
    is_unsent: bool = False
    error: StrictStr | None = None
    httpx: StrictStr | None = None


class Answer(Part):
    """An answer over HTTP.

    Attributes:
        status: Its status; None: no head came.
        headers: Those of the allow-list.
        head_s: When the head came.
        body: The JSON value of a body that is one.
        body_s: When that body was complete.
        lines: Any other body, as it came.
        end: `complete`; `closed`: the reader had enough; or how it failed.
    """

    status: Annotated[StrictInt, Field(ge=200, le=999)] | None = None
    headers: dict[StrictStr, StrictStr] = Field(default_factory=dict)
    head_s: Moment = 0
    body: Any = None
    body_s: Moment | None = None
    lines: tuple[Line, ...] = ()
    end: Literal["complete", "closed"] | Failure = "complete"
    end_s: Moment | None = None


class Asked(Part):
    """A request to a provider in this process.

    Attributes:
        model: The provider's own model id.
        params: The parameters that are set.
        is_free: What the provider said of the model.
        continues: What the provider said of the model.
    """

    model: StrictStr
    params: dict[StrictStr, Any]
    is_free: bool = False
    continues: bool = False


class TimedChunk(Part):
    """A chunk, and what was learnt of the attempt since the chunk before.

    Attributes:
        at_s: When.
        chunk: Its fields; None: only facts came.
        facts: Fields of `AttemptFacts`.
    """

    at_s: Moment
    chunk: dict[StrictStr, Any] | None = None
    facts: dict[StrictStr, Any] = Field(default_factory=dict)


class EngineError(Part):
    """The error of a provider in this process: its class, message and fields."""

    error: StrictStr
    message: StrictStr = ""
    fields: dict[StrictStr, Any] = Field(default_factory=dict)


class Produced(Part):
    """The answer of a provider in this process."""

    chunks: tuple[TimedChunk, ...] = ()
    end: Literal["complete", "closed"] | EngineError = "complete"
    end_s: Moment = 0


class HttpExchange(Part):
    provider: StrictStr
    request: Request
    answer: Answer


class EngineExchange(Part):
    provider: StrictStr
    asked: Asked
    produced: Produced


Exchange = HttpExchange | EngineExchange
