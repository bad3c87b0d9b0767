"""Tool calls in parts as one call each: names and ids come late, empty, split or repeated, under any index."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection
from typing import Any

from pydantic_core import from_json

from llama_client.providers.wire.kept_fields import of_function, of_tool_call

# Arguments that were complete before more came are looked for so often, in arguments of so many characters at most.
_MAX_LOOKS = 16
_MAX_LOOKED_AT_CHARS = 1 << 20


class _Call:
    __slots__ = ("argument_chars", "has_own_id", "held", "id", "looks", "name", "parts")

    def __init__(self, identity: str) -> None:
        # Until it is passed on, and whether the server has given one.
        self.id: str | None = identity
        self.has_own_id = False
        # As it was passed on, and what of it is held because more may follow.
        self.name = self.held = ""
        # The arguments, as far as they may be looked at.
        self.parts: list[str] = []
        self.argument_chars = 0
        self.looks = 0

    def add(self, arguments: str) -> None:
        if arguments:
            self.argument_chars += len(arguments)
            if self.argument_chars <= _MAX_LOOKED_AT_CHARS:
                self.parts.append(arguments)

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are a complete object."""
        if not self.parts or self.argument_chars > _MAX_LOOKED_AT_CHARS or self.looks == _MAX_LOOKS:
            return False
        if not self.parts[-1].rstrip().endswith("}"):
            return False
        self.looks += 1
        try:
            return isinstance(from_json("".join(self.parts)), dict)
        except ValueError:
            return False


class ToolCalls:
    """The calls of one choice. Gives each its own index and id, and its name in one part."""

    def __init__(self, names: Collection[str]) -> None:
        """`names`: of the request's tools."""
        self._names = names
        self._calls: list[_Call] = []
        self._index_of: dict[int | None, int] = {}
        self._index_of_id: dict[str, int] = {}
        self._held: list[int] = []
        # An id that came alone, under an index: of the next call there, or of nothing.
        self._early_ids: dict[int | None, str] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def read(self, delta: dict[str, Any], *, is_whole: bool = False) -> dict[str, Any]:
        """A part of a call, or a whole one, as a `ToolCallDelta` has it."""
        function = delta.get("function")
        function = function if isinstance(function, dict) else {}
        given, identity = delta.get("index"), delta.get("id")
        identity = identity if isinstance(identity, str) and identity else None
        name, arguments = function.get("name") or "", arguments_of(function.get("arguments"))
        name = name if isinstance(name, str) else ""
        if is_whole:
            index, identity = len(self._calls), None if identity in self._index_of_id else identity
        else:
            if not name and not arguments and self._is_early(given, identity):
                return {"index": self._index_of[given]}
            early = self._early_ids.pop(given, None) if name or arguments else None
            identity = identity or early
            index = self._index(given, identity, name, arguments)
            if index == len(self._calls) and identity in self._index_of_id:
                identity = None
        if index == len(self._calls):
            self._calls.append(_Call(identity or f"call_{uuid.uuid4().hex[:24]}"))
            self._held.append(index)
        self._index_of[given] = index
        call = self._calls[index]
        if identity is not None:
            self._index_of_id[identity] = index
            call.has_own_id = True
            if call.id is not None:
                call.id = identity
        call.add(arguments)
        read: dict[str, Any] = {**of_tool_call(delta), "index": index, "type": "function"}
        # Where it has none, it may follow, at the latest with the arguments.
        if call.id is not None and (call.has_own_id or call.argument_chars or is_whole):
            read["id"], call.id = call.id, None
        part = name or None if is_whole else self._name(call, name, arguments)
        return {**read, "function": {**of_function(function), "name": part, "arguments": arguments}}

    def rest(self) -> list[dict[str, Any]]:
        """The names and ids that were held until the choice's end."""
        held, self._held = self._held, []
        parts = []
        for index in held:
            call = self._calls[index]
            if call.id is not None or call.held:
                identity, call.id = call.id, None
                function = {"name": self._let_go(call) if call.held else None, "arguments": ""}
                parts.append({"index": index, "id": identity, "function": function})
        return parts

    def _is_early(self, given: int | None, identity: str | None) -> bool:
        """Whether a part has nothing but an id that is new under its index; keeps it."""
        known = self._index_of.get(given)
        if identity is None or identity in self._index_of_id or known is None or not self._calls[known].has_own_id:
            return False
        self._early_ids[given] = identity
        return True

    def _index(self, given: int | None, identity: str | None, name: str, arguments: str) -> int:
        known = self._index_of.get(given)
        if identity is not None and identity in self._index_of_id:
            same = self._index_of_id[identity]
            # Some servers give all calls one id.
            is_other = (
                bool(name) and known != same and arguments.lstrip().startswith("{") and self._calls[same].is_whole
            )
            if not is_other:
                return same
        if known is None:
            return len(self._calls)
        return len(self._calls) if self._begins(self._calls[known], identity, name, arguments) else known

    def _begins(self, call: _Call, identity: str | None, name: str, arguments: str) -> bool:
        """Whether a part under a call's index is another call's: what it tells may also be late, or told again."""
        before, has_other_id = call.name + call.held, identity is not None and call.has_own_id
        if not name:
            # Some servers make up an id for each part.
            return has_other_id and call.is_whole
        if not before:
            return has_other_id
        if has_other_id:
            return name != before or not call.argument_chars or call.is_whole
        if self._goes_on(call, name):
            return False
        return name != before or (arguments.lstrip().startswith("{") and call.is_whole)

    def _goes_on(self, call: _Call, name: str) -> bool:
        """Whether a name is the next part of a call's name, or all of it once more with more."""
        before = call.name + call.held
        if call.argument_chars or name == before:
            return False
        if not self._names:
            return name.startswith(before)
        wholes = (before + name, name) if name.startswith(before) else (before + name,)
        return any(each.startswith(wholes) for each in self._names)

    def _name(self, call: _Call, name: str, arguments: str) -> str | None:
        """What of a call's name is passed on with a part of it."""
        if name and not call.name:
            call.held = name if not call.held or name.startswith(call.held) else call.held + name
            is_part = any(each.startswith(call.held) and each != call.held for each in self._names)
            if is_part and not arguments and not call.argument_chars:
                return None
        return self._let_go(call) if call.held and not call.name else None

    @staticmethod
    def _let_go(call: _Call) -> str:
        call.name, call.held = call.held, ""
        return call.name


def arguments_of(arguments: object) -> str:
    """The arguments as a JSON string, also where a server sends an object."""
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return json.dumps(arguments, ensure_ascii=False)
