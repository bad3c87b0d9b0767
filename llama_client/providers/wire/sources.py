"""What an answer is based on, wherever servers tell it: citations, search results, and tools that they have run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llama_client.providers.wire.tool_calls import arguments_of
from llama_client.providers.wire.usage import below
from llama_client.types.completion import Source, unchecked

# More than any answer has.
MAX_SOURCES = 4096
# Of a whole body (Perplexity, xAI), and of a message.
BODY_KEYS = frozenset({"citations", "search_results"})
MESSAGE_KEYS = frozenset({"annotations", "citations", "executed_tools", "search_results"})
_FIELDS = tuple(Source.model_fields)
_EXCERPTS = ("content", "snippet", "text", "cited_text", "quote")
Found = dict[str, Any]


class Sources:
    """The sources of one answer, put together from its parts: servers repeat them, and tell a tool's output late."""

    def __init__(self, found: list[Source]) -> None:
        """`found`: where they are put."""
        self._found = found
        self._index_of: dict[object, int] = {}
        # By place: some servers repeat the same list with each part.
        self._last: dict[object, object] = {}

    def add(self, said: Mapping[str, Any], choice: int | None) -> None:
        told = {name: said[name] for name in MESSAGE_KEYS if said.get(name)}
        if self._last.get(choice) == told:
            return
        self._last[choice] = told
        for key, told in _sources(said, choice):
            index = self._index_of.get((choice, key))
            if index is None and (first := self._index_of.get(key)) is not None:
                # Two choices may have the same source; that of the whole answer is the same as a choice's.
                index = first if choice is None or self._found[first].choice is None else None
            if index is not None:
                before = self._found[index]
                values = {name: told.get(name) or getattr(before, name) for name in _FIELDS}
                self._found[index] = unchecked(Source, {**values, "choice": before.choice})
            elif len(self._found) < MAX_SOURCES:
                self._index_of[choice, key] = len(self._found)
                self._index_of.setdefault(key, len(self._found))
                self._found.append(unchecked(Source, {name: told.get(name) for name in _FIELDS}))


def _sources(said: Mapping[str, Any], choice: int | None) -> Iterator[tuple[object, Found]]:
    for each in _list(said.get("annotations")):
        kind = each.get("type")
        # OpenAI's and OpenRouter's are in a field of their type.
        inner = each.get(kind) if isinstance(kind, str) else None
        yield _found("citation", inner if isinstance(inner, dict) else each, choice)
    for each in _list(said.get("citations")):
        yield _found("citation", each, choice)
    for each in _list(said.get("search_results")):
        yield _found("search_result", each, choice)
    for place, tool in enumerate(_list(said.get("executed_tools"))):
        yield from _of_tool(tool, place, choice)


def _of_tool(tool: Found, place: int, choice: int | None) -> Iterator[tuple[object, Found]]:
    index = tool.get("index")
    key = ("tool", choice, index if isinstance(index, int) else place)
    arguments = tool.get("arguments")
    told = {
        "kind": "tool",
        "choice": choice,
        "name": _text(tool.get("name")) or _text(tool.get("type")),
        "arguments": arguments_of(arguments) or None,
        "text": _text(tool.get("output")),
    }
    yield key, told
    for each in _list(below(tool, "search_results", "results") or tool.get("search_results")):
        yield _found("search_result", each, choice)


def _found(kind: str, each: Found, choice: int | None) -> tuple[object, Found]:
    source = each.get("source")
    of = source if isinstance(source, dict) else {}
    url = _text(each.get("url")) or _text(each.get("uri")) or _text(of.get("url"))
    title = _text(each.get("title")) or _text(each.get("file_name")) or _text(each.get("filename"))
    text = next((found for name in _EXCERPTS if (found := _text(each.get(name)))), None)
    start, end = (_place(each.get(f"{side}_index", each.get(side))) for side in ("start", "end"))
    told = {
        "kind": kind,
        "choice": choice,
        "url": url,
        "title": title,
        "text": text,
        "name": _text(each.get("file_id")),
        "start_index": start,
        "end_index": end,
    }
    return (kind, url or title or text or told["name"], start, end), told


def _list(value: object) -> Iterator[Found]:
    """The objects of a list; an address alone is one too."""
    for each in value if isinstance(value, list) else ():
        if isinstance(each, dict):
            yield each
        elif isinstance(each, str) and each:
            yield {"url": each}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _place(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
