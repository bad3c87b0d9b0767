"""Messages as a service takes them: what an earlier answer goes back with, and what is refused before it is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from llama_client.errors import UnsupportedFeatureError
from llama_client.providers.base import ProviderCall
from llama_client.providers.services import Quirks
from llama_client.types.messages import AssistantMessage, ImagePart, OpenPart, text_of
from llama_client.types.server_fields import ANSWER_NAMES, ANSWER_PARTS, CACHE_MARKS, CONTENT_PARTS, REASONING_NAMES
from llama_client.validation import quoted

if TYPE_CHECKING:
    from llama_client.types.request import ChatRequest


def messages_of(call: ProviderCall, quirks: Quirks) -> list[dict[str, Any]]:
    """The messages of a request, each with what the service takes of it."""
    if quirks.is_strict:
        for name in sorted(_marks_in(call.request) - quirks.takes):
            call.facts.warn(f"{call.provider} takes no {name}, which was left out", is_of_request=True)
    # The services that need a field need it where there are tools.
    fills = bool(call.request.tools) or any(
        isinstance(message, AssistantMessage) and message.tool_calls for message in call.request.messages
    )
    return [
        _answer(message, call.target, quirks, fills=fills)
        if isinstance(message, AssistantMessage)
        else _without_marks(_written(message), quirks)
        for message in call.request.messages
    ]


def tools_of(tools: list[dict[str, Any]], quirks: Quirks) -> list[dict[str, Any]]:
    """The tools without marks that the service refuses."""
    return [_without_marks(tool, quirks) for tool in tools]


def _written(part: OpenPart) -> dict[str, Any]:
    return part.model_dump(mode="json", by_alias=True, exclude_none=True)


def _without_marks(written: dict[str, Any], quirks: Quirks) -> dict[str, Any]:
    if not quirks.is_strict:
        return written
    refused = CACHE_MARKS - quirks.takes
    for inner in (written, written.get("function"), *_listed(written.get("content"))):
        if isinstance(inner, dict):
            for name in refused & inner.keys():
                del inner[name]
    return written


def _listed(content: object) -> list[Any]:
    return content if isinstance(content, list) else []


def _answer(message: AssistantMessage, target: str, quirks: Quirks, *, fills: bool) -> dict[str, Any]:
    """An assistant's message. What a server has put on it goes to that target, and to who is known to take it."""
    written = _without_marks(_written(message), quirks)
    extra = message.__pydantic_extra__ or {}
    is_known = message.made_by is not None
    is_foreign = message.made_by != target and (is_known or quirks.own_only)
    for name in extra:
        if not _goes_back(name, quirks, is_known=is_known, is_foreign=is_foreign):
            written.pop(name, None)
    if not is_foreign:
        _name_reasoning(written, extra, quirks)
    parts = written.pop(CONTENT_PARTS, None)
    if quirks.is_strict:
        _clean_parts(written.get("content"))
        if not is_known:
            # Those that another server made, or the caller; its own are as it knows them.
            parts = _known_parts(parts, quirks)
    if isinstance(parts, list) and (is_known or quirks.takes_back is not None):
        written["content"] = parts
    elif is_foreign or not _takes_parts(quirks):
        written.update(_plain_content(written))
    audio = written.get("audio")
    if is_known and isinstance(audio, dict) and audio.get("id"):
        written["audio"] = {"id": audio["id"]}  # OpenAI refers to its sounds by their ids
    for tool_call in written.get("tool_calls") or ():
        _clean_call(tool_call, quirks, is_foreign=is_foreign)
    if fills:
        for name, value in quirks.needs.items():
            if not written.get(name):
                written[name] = value
    if message.made_by != target and quirks.calls_need and not _has_any(written, quirks.calls_need):
        for tool_call in (written.get("tool_calls") or ())[:1]:
            tool_call.update(quirks.calls_need)
    if "content" not in written and not written.get("tool_calls"):
        written["content"] = ""
    return written


def _goes_back(name: str, quirks: Quirks, *, is_known: bool, is_foreign: bool) -> bool:
    if is_foreign:
        return False
    if quirks.takes_back is None or name in quirks.takes_back or name in quirks.takes:
        return True
    # What else is in a dict may be the caller's own, for a service that does not refuse it.
    return not is_known and not quirks.is_strict and name not in ANSWER_NAMES


def _takes_parts(quirks: Quirks) -> bool:
    return quirks.takes_back is None or CONTENT_PARTS in quirks.takes_back


def _name_reasoning(written: dict[str, Any], extra: Mapping[str, Any], quirks: Quirks) -> None:
    """Reasoning under another name than the service's: of a message that was saved as JSON, or an answer elsewhere."""
    ours = [name for name in REASONING_NAMES if name in (quirks.takes_back or ())]
    if ours and not any(written.get(name) for name in ours):
        text = next((extra[name] for name in REASONING_NAMES if extra.get(name)), None)
        if isinstance(text, str):
            written[ours[0]] = text


def _plain_content(written: Mapping[str, Any]) -> dict[str, Any]:
    """The content without the parts that only answers have; as a text, where only texts are left."""
    content = written.get("content")
    if not isinstance(content, list) or not any(part["type"] in ANSWER_PARTS for part in content):
        return {}
    rest = [part for part in content if part["type"] not in ANSWER_PARTS]
    return {"content": rest if any(part["type"] != "text" for part in rest) else text_of(rest)}


# What strict services know of the parts of an answer: those of mistralai 3.7.0.
_PART_NAMES = {
    "text": frozenset({"type", "text"}),
    "thinking": frozenset({"type", "thinking", "signature", "closed"}),
    "reference": frozenset({"type", "reference_ids"}),
}


def _clean_parts(content: object) -> None:
    """Takes the names that a strict service does not know off the parts of an answer, and off those in them."""
    for part in _listed(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind in _PART_NAMES:
            _keep_only(part, _PART_NAMES[kind])
            _clean_parts(part.get("thinking"))


def _known_parts(parts: object, quirks: Quirks) -> list[Any] | None:
    """The parts of types that the service knows, with the names that it knows; None: there are none."""
    known = [
        part
        for part in _listed(parts)
        if isinstance(part, dict)
        and isinstance(part.get("type"), str)
        and (quirks.part_types is None or part["type"] in quirks.part_types)
    ]
    _clean_parts(known)
    return known or None


_FORMATS = frozenset({"text", "json_object", "json_schema"})
_CALL_NAMES = frozenset({"id", "type", "function"})
_FUNCTION_NAMES = frozenset({"name", "arguments"})


def _clean_call(tool_call: dict[str, Any], quirks: Quirks, *, is_foreign: bool) -> None:
    """A tool call without what the service does not take; what has another type than `function` stays whole."""
    if tool_call.get("type") != "function" or (quirks.takes_back is None and not is_foreign):
        return
    kept = quirks.takes_back if quirks.takes_back is not None and not is_foreign else frozenset[str]()
    _keep_only(tool_call, _CALL_NAMES | kept)
    _keep_only(tool_call["function"], _FUNCTION_NAMES | kept)


def _keep_only(written: dict[str, Any], names: frozenset[str]) -> None:
    for name in written.keys() - names:
        del written[name]


def _has_any(written: Mapping[str, Any], names: Iterable[str]) -> bool:
    return any(name in tool_call for tool_call in written.get("tool_calls") or () for name in names)


def require_known(call: ProviderCall, quirks: Quirks) -> None:
    """Refuses what a service with known rules does not take: names, and types of parts and tools."""
    request = call.request
    if quirks.is_strict or quirks.takes_back is not None:
        is_plain = request.response_format is None and request.stream_options is None and request.tool_choice != "any"
        if not is_plain:
            _require_forms(call)
    if quirks.is_strict or quirks.part_types is not None:
        for index, message in enumerate(call.request.messages):
            _require_message(call, quirks, f"messages[{index}]", message)
    choice = call.request.tool_choice
    if quirks.tool_types is not None and not isinstance(choice, str | None) and choice.type not in quirks.tool_types:
        raise _refused(call, "tool_choice", f"its type is {quoted(choice.type)}", _choice_of(quirks.tool_types))
    for index, tool in enumerate(call.request.tools or ()):
        place = f"tools[{index}]"
        if quirks.tool_types is not None and tool.type not in quirks.tool_types:
            raise _refused(call, "tools", f"{place}.type is {quoted(tool.type)}", _choice_of(quirks.tool_types))
        function = getattr(tool, "function", None)
        if quirks.is_strict and isinstance(function, OpenPart):
            _require_names(call, quirks, "tools", place, tool)
            _require_names(call, quirks, "tools", f"{place}.function", function)


def _require_forms(call: ProviderCall) -> None:
    """Refuses what OpenAI has not, where parameters are neither messages nor tools."""
    request = call.request
    if request.tool_choice == "any":
        raise call.unsupported("tool_choice", "it does not know 'any'; 'required' means the same")
    wanted, options = request.response_format, request.stream_options
    if wanted is not None and wanted.type not in _FORMATS:
        raise _refused(call, "response_format", f"its type is {quoted(wanted.type)}", _choice_of(_FORMATS))
    places = (
        ("response_format", "response_format", wanted),
        ("response_format", "response_format.json_schema", None if wanted is None else wanted.json_schema),
        ("stream_options", "stream_options", options),
    )
    for param, place, part in places:
        for name in (None if part is None else part.__pydantic_extra__) or ():
            raise _refused(call, param, f"{place} has {quoted(name)}", "it is not known to take it")


def _require_message(call: ProviderCall, quirks: Quirks, place: str, message: Any) -> None:
    is_answer = isinstance(message, AssistantMessage)
    if quirks.is_strict and not is_answer:
        _require_names(call, quirks, "messages", place, message)
    elif quirks.is_strict and message.made_by is None and "prefix" in (message.__pydantic_extra__ or {}):
        # What else an answer may have is left out, since a server may have put it there.
        _require_names(call, quirks, "messages", place, message, only=frozenset({"prefix"}))
    for number, tool_call in enumerate((quirks.is_strict and is_answer and message.tool_calls) or ()):
        if tool_call.type != "function":
            what = f"{place}.tool_calls[{number}] is of type {quoted(tool_call.type)}"
            raise _refused(call, "messages", what, _choice_of({"function"}))
    for number, part in enumerate(message.content if isinstance(message.content, tuple) else ()):
        where = f"{place}.content[{number}]"
        if is_answer and part.type in ANSWER_PARTS:
            continue
        if quirks.part_types is not None and part.type not in quirks.part_types:
            what = f"{where} is of type {quoted(part.type)}"
            raise _refused(call, "messages", what, _choice_of(quirks.part_types))
        if quirks.is_strict and part.type in ("text", "image_url") and not is_answer:
            _require_names(call, quirks, "messages", where, part)
            if isinstance(part, ImagePart):
                _require_names(call, quirks, "messages", f"{where}.image_url", part.image_url)


def _require_names(
    call: ProviderCall, quirks: Quirks, param: str, place: str, part: OpenPart, only: frozenset[str] | None = None
) -> None:
    for name in part.__pydantic_extra__ or {}:
        if name not in CACHE_MARKS and name not in quirks.takes and (only is None or name in only):
            raise _refused(call, param, f"{place} has {quoted(name)}", "it refuses unknown names")


def _choice_of(types: Iterable[str]) -> str:
    return f"it takes {', '.join(sorted(types))}"


def _refused(call: ProviderCall, param: str, what: str, why: str) -> UnsupportedFeatureError:
    return call.unsupported(param, f"{what}, and {why}; leave it out, or list another target that takes it")


def _marks_in(request: ChatRequest) -> set[str]:
    return {name for part in _open_parts(request) for name in part.__pydantic_extra__ or () if name in CACHE_MARKS}


def _open_parts(request: ChatRequest) -> Iterator[OpenPart]:
    yield from request.messages
    yield from request.parts
    for tool in request.tools or ():
        yield tool
        function = getattr(tool, "function", None)
        if isinstance(function, OpenPart):
            yield function
