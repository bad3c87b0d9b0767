"""From a JSON schema to a grammar of llama.cpp. All that it lets through is valid, but for what `not_held` names.

What no text can satisfy is refused. Recursion, white space and free names are bounded, so that every text can end.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from llama_client.providers.gguf.schemas import formats
from llama_client.providers.gguf.schemas.characters import ASCII, NESTED, WRITABLE, in_string, literal
from llama_client.providers.gguf.schemas.grammar import Grammar, choices, repeat, tree
from llama_client.providers.gguf.schemas.keywords import (
    JOINED,
    allows,
    count_of,
    decimal_of,
    dumped,
    implied,
    one_of,
    require_shapes,
    restricts,
    texts_of,
    told,
)
from llama_client.providers.gguf.schemas.merging import Schema, SchemaError, merged, same, types_of
from llama_client.providers.gguf.schemas.numbers import NumberRules, numbers
from llama_client.providers.gguf.schemas.texts import TextRules, texts
from llama_client.schema_keywords import FORMATS, NOT_ENFORCED

_MAX_RECURSION = 6
# Of values of any kind.
_MAX_FREE_DEPTH = 3
_MAX_FREE_NAMES = 64
_MAX_UNIQUE = 64
# Of all rules: the engine reads so many in 60 ms.
_MAX_DEPTH = 100
# White space is bounded: a small model would fill the whole answer with it.
_BREAK = '" "? | "\\n" " "{0,16}'
_MAX_PARTS = 20_000


class NoTextError(Exception):
    """No text satisfies the schema; says which field, and why."""


class Compiled(NamedTuple):
    # The rules of the grammar but for `root`, and the term for the whole text.
    rules: str
    term: str
    # `field: keyword`, for what the grammar does not hold.
    not_held: tuple[str, ...]


def compiled(schema: Any, *, of_class: bool) -> Compiled:
    """The grammar of a schema; `of_class`: one of `classes`, whose patterns are those of Rust or Python.

    Raises:
        SchemaError: It is no JSON schema.
        NoTextError: No text satisfies it.
    """
    return _Compiler(schema, of_class=of_class).compiled()


class _Place(NamedTuple):
    """Where in the schema: for messages, and to end recursion."""

    path: str = ""
    references: frozenset[str] = frozenset()
    level: int = 0
    depth: int = 0

    def below(self, step: str) -> _Place:
        path = f"{self.path}{step}" if step.startswith("[") or not self.path else f"{self.path}.{step}"
        return self._replace(path=path, depth=self.depth + 1)


class _Compiler:
    def __init__(self, schema: Any, *, of_class: bool) -> None:
        self._root = schema
        self._of_class = of_class
        self._grammar = Grammar()
        self._not_held: dict[str, None] = {}
        # Why what cannot be written cannot, the first cause first.
        self._why: list[str] = []
        self._by_reference: dict[tuple[str, int], str | None] = {}
        # Terms for numbers and strings of the same rules.
        self._by_rules: dict[NumberRules | TextRules, str] = {}
        self._free_values: dict[tuple[int, int], str] = {}
        self._parts = 0
        self._nesting = 0

    def compiled(self) -> Compiled:
        root = self._value(self._root, _Place())
        if root is None:
            raise NoTextError(self._why[0] if self._why else "it has no end")
        return Compiled(self._grammar.rules(), root, tuple(self._not_held))

    @property
    def _break(self) -> str:
        """Between the parts of a list or an object: nothing, a space, or a new line with its indentation."""
        return '" "?' if self._nesting else self._grammar.rule(_BREAK)

    @property
    def _comma(self) -> str:
        return f'"," {self._break}'

    # Each of these gives a term of the grammar; None: there is no such text.

    def _value(self, schema: Any, place: _Place) -> str | None:
        self._parts += 1
        if self._parts > _MAX_PARTS or place.depth > _MAX_DEPTH:
            raise SchemaError("it is too large, or nested too deeply")
        if schema is True:
            return self._anything(_MAX_FREE_DEPTH)
        if schema is False:
            return self._nothing(place, "nothing is allowed")
        if not isinstance(schema, Mapping):
            raise SchemaError(f"{place.path or 'schema'}: must be an object, got {type(schema).__name__}")
        require_shapes(schema, place.path)
        reference = schema.get("$ref")
        if isinstance(reference, str) and not restricts(schema):
            return self._reference(reference, place)
        if JOINED.isdisjoint(schema):
            return self._plain(schema, place)
        flat = self._flat(schema, place, frozenset())
        groups: list[tuple[str, Sequence[Any]]] = flat.pop("anyOf groups", [])
        if groups:
            return self._union(flat, groups, place)
        return self._plain(flat, place)

    def _reference(self, reference: str, place: _Place) -> str | None:
        level = place.level + (reference in place.references)
        if level > _MAX_RECURSION:
            return None
        key = (reference, level)
        if key not in self._by_reference or self._nesting:
            inner = place._replace(references=place.references | {reference}, level=level, depth=place.depth + 1)
            made = self._value(self._target(reference), inner)
            if self._nesting:
                return made
            self._by_reference[key] = made if made is None else self._grammar.rule(made)
        return self._by_reference[key]

    def _target(self, reference: str) -> Any:
        if not reference.startswith("#"):
            raise SchemaError(f"$ref: must begin with '#', got {reference:.60}")
        found = self._root
        for step in urllib.parse.unquote(reference[1:]).split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(name)] if isinstance(found, list) else found[name]
            except (KeyError, ValueError, IndexError, TypeError):
                raise SchemaError(f"$ref: {reference:.60} is nowhere in the schema") from None
        return found

    def _flat(self, schema: Mapping[str, Any], place: _Place, seen: frozenset[str]) -> Schema:
        """Without `$ref` and `allOf`; unions as `anyOf groups`."""
        require_shapes(schema, place.path)
        flat: Schema = {}
        for key, value in schema.items():
            if key in NOT_ENFORCED and value not in ({}, [], False if key == "not" else {}):
                self._note(place, key)
            elif key in ("anyOf", "oneOf"):
                flat["anyOf groups"] = [*flat.get("anyOf groups", []), (key, value)]
            elif key == "const":
                flat = merged(flat, {"enum": [value]})
            elif key not in ("$ref", "allOf"):
                flat = merged(flat, {key: value})
        for part in [*([{"$ref": schema["$ref"]}] if "$ref" in schema else []), *schema.get("allOf", ())]:
            if part is True:
                continue
            if part is False:
                return {"enum": []}
            if not isinstance(part, Mapping):
                raise SchemaError(f"{place.path or 'schema'}.allOf: must hold objects")
            if isinstance(part.get("$ref"), str) and not restricts(part):
                if part["$ref"] in seen:
                    raise SchemaError(f"$ref: {part['$ref']:.60} refers to itself")
                inner, known = self._target(part["$ref"]), seen | {part["$ref"]}
                part = {} if inner is True else {"enum": []} if inner is False else inner
                if not isinstance(part, Mapping):
                    raise SchemaError(f"{place.path or 'schema'}.$ref: must lead to an object")
            else:
                known = seen
            other = self._flat(part, place, known)
            if "additionalProperties" in flat or "additionalProperties" in other:
                names = [set(each.get("properties", ())) for each in (flat, other)]
                if names[0] != names[1] and all(names):
                    self._note(place, "additionalProperties")
            flat = merged(flat, other)
        return flat

    def _union(self, flat: Schema, groups: list[tuple[str, Sequence[Any]]], place: _Place) -> str | None:
        (kind, options), *rest = groups
        if kind == "oneOf" and not self._differ(options, place):
            self._note(place, "oneOf")
        is_restricted = restricts(flat) or rest
        ways: list[str] = []
        before = len(self._why)
        for option in options:
            if is_restricted:
                parts = [option, flat]
                parts += [{key_: options_} for key_, options_ in rest]
                way = self._value({"allOf": parts}, place)
            else:
                way = self._value(option, place)
            if way is not None and way not in ways:
                ways.append(way)
        if ways:
            del self._why[before:]
        return one_of(ways)

    def _differ(self, options: Sequence[Any], place: _Place) -> bool:
        """Whether no value fits two of these: by their types, or by a property that tells them apart."""
        flats = [self._flat(each, place, frozenset()) if isinstance(each, Mapping) else {} for each in options]
        kinds = [types_of(each) for each in flats]
        named = [kind for each in kinds for kind in (each or ("?",))]
        if "?" not in named and len(set(named)) == len(named) and not {"integer", "number"} <= set(named):
            return True
        shared = set.intersection(*(set(each.get("required", ())) for each in flats)) if flats else set()
        for name in shared:
            listed = [told(each.get("properties", {}).get(name)) for each in flats]
            values = [value for each in listed for value in (each or ())]
            if all(listed) and not any(same(a, b) for i, a in enumerate(values) for b in values[:i]):
                return True
        return False

    def _plain(self, flat: Mapping[str, Any], place: _Place) -> str | None:
        if "+note" in flat:
            self._note(place, flat["+note"])
        if "enum" in flat:
            return self._listed(flat, place)
        kinds = types_of(flat)
        if kinds is None:
            kinds = implied(flat)
            if kinds is None:
                return self._anything(_MAX_FREE_DEPTH)
        ways, before = [], len(self._why)
        for kind in kinds:
            if kind == "integer" and "number" in kinds:
                continue
            way = self._of_type(kind, flat, place)
            if way is not None:
                ways.append(way)
        if ways:
            del self._why[before:]
        elif not kinds:
            self._nothing(place, "its types exclude each other")
        return one_of(ways)

    def _of_type(self, kind: str, flat: Mapping[str, Any], place: _Place) -> str | None:
        match kind:
            case "null":
                return literal("null")
            case "boolean":
                return '("true" | "false")'
            case "string":
                return self._string(flat, place)
            case "array":
                return self._array(flat, place)
            case "object":
                return self._object(flat, place)
        return self._number(flat, place, is_integer=kind == "integer")

    def _listed(self, flat: Mapping[str, Any], place: _Place) -> str | None:
        given = flat["enum"]
        if not isinstance(given, list):
            raise SchemaError(f"{place.path or 'schema'}.enum: must be a list")
        values = [value for value in given if allows(value, flat)]
        if not values:
            return self._nothing(place, "no value of its list is allowed")
        return choices([self._as_text(dumped(value)) for value in values])

    def _number(self, flat: Mapping[str, Any], place: _Place, *, is_integer: bool) -> str | None:
        least, most = decimal_of(flat, "minimum", place.path), decimal_of(flat, "maximum", place.path)
        above, below = flat.get("exclusiveMinimum"), flat.get("exclusiveMaximum")
        is_above, is_below = above is True, below is True
        if not isinstance(above, bool) and above is not None:
            bound = decimal_of(flat, "exclusiveMinimum", place.path)
            is_above = least is None or (bound is not None and bound >= least)
            least = bound if is_above else least
        if not isinstance(below, bool) and below is not None:
            bound = decimal_of(flat, "exclusiveMaximum", place.path)
            is_below = most is None or (bound is not None and bound <= most)
            most = bound if is_below else most
        multiple = decimal_of(flat, "multipleOf", place.path)
        digits = flat.get("+digits", (None, None))
        if digits[1] is not None and multiple is not None:
            digits = (digits[0], max(digits[1], 0))
        rules = NumberRules(is_integer, least, most, is_above, is_below, multiple, tuple(digits))
        found = numbers(rules)
        for keyword in found.not_held:
            if keyword in flat:
                self._note(place, keyword)
        if rules not in self._by_rules:
            if found.node is not None:
                self._by_rules[rules] = self._grammar.rule(tree(found.node))
            elif found.automaton is not None and not found.automaton.is_empty:
                self._by_rules[rules] = self._grammar.automaton(found.automaton, '""')
            else:
                return self._nothing(place, "no number is within its bounds")
        return self._by_rules[rules]

    def _string(self, flat: Mapping[str, Any], place: _Place) -> str | None:
        media, inner = flat.get("contentMediaType"), flat.get("contentSchema")
        if inner is not None and media in (None, "application/json") and not self._nesting:
            return self._nested(inner, place)
        rules = self._text_rules(flat, place)
        found = texts(rules)
        for keyword, why in found.not_held:
            self._note(place, keyword, why)
        if rules not in self._by_rules:
            # The rules of what is within a string have an alphabet of their own.
            quote = literal(self._as_text('"'))
            if found.node is not None:
                self._by_rules[rules] = self._grammar.rule(f"{quote} {tree(found.node)} {quote}")
            elif found.automaton is not None:
                self._by_rules[rules] = self._grammar.rule(f"{quote} {self._grammar.automaton(found.automaton, quote)}")
            else:
                return self._nothing(place, "no text has its pattern, format and lengths")
        return self._by_rules[rules]

    def _as_text(self, text: str) -> str:
        return in_string(text) if self._nesting else text

    def _nested(self, schema: Any, place: _Place) -> str | None:
        """JSON within a string."""
        self._nesting += 1
        try:
            inner = self._value(schema, place)
        finally:
            self._nesting -= 1
        return None if inner is None else f'("\\"" {inner} "\\"")'

    def _text_rules(self, flat: Mapping[str, Any], place: _Place) -> TextRules:
        patterns = texts_of(flat, "pattern", place.path)
        forms: list[str] = []
        alphabet = NESTED if self._nesting else WRITABLE
        for name in texts_of(flat, "format", place.path):
            form = self._form(name, flat, place)
            if form is not None:
                forms.append(form)
            if name == "binary" and flat.get("maxLength") is not None and not self._nesting:
                # Its length is that of its bytes.
                alphabet = ASCII
        least = count_of(flat, "minLength", place.path)
        return TextRules(
            tuple(dict.fromkeys(patterns)),
            tuple(dict.fromkeys(forms)),
            least or 0,
            count_of(flat, "maxLength", place.path),
            bool(flat.get("+stripped")),
            self._of_class,
            alphabet,
        )

    def _form(self, name: str, flat: Mapping[str, Any], place: _Place) -> str | None:
        days = flat.get("+days")
        zone = flat.get("+zone")
        if name in ("date", "date-time") and days is not None:
            date = formats.days_between(*days)
            clock = formats.NAIVE_TIME if zone == "none" else formats.TIME
            return date if name == "date" else f"{date}T{clock}"
        if zone == "none" and name in ("date-time", "time"):
            return formats.NAIVE_DATE_TIME if name == "date-time" else formats.NAIVE_TIME
        if "+schemes" in flat and name in ("uri", "multi-host-uri"):
            return formats.url_of(flat["+schemes"])
        if "+seconds" in flat and name == "duration":
            return formats.seconds_between(*flat["+seconds"])
        if name in formats.PATTERNS:
            return formats.PATTERNS[name]
        row = FORMATS.get(name)
        if row is None or row.outcome == "not enforced":
            self._note(place, f"format {name:.40}")
        return None

    def _array(self, flat: Mapping[str, Any], place: _Place) -> str | None:
        least, most = count_of(flat, "minItems", place.path) or 0, count_of(flat, "maxItems", place.path)
        first = flat.get("prefixItems", ())
        rest = flat.get("items", True)
        if isinstance(rest, list):  # of older drafts
            first, rest = rest, flat.get("additionalItems", True)
        if most is not None and least > most:
            return self._nothing(place, "minItems is greater than maxItems")
        if flat.get("uniqueItems"):
            return self._unique(flat, rest, least, most, place)
        comma = self._comma
        parts: list[str] = []
        for at, each in enumerate(first):
            if most is not None and at >= most:
                break
            item = self._value(each, place.below(f"[{at}]"))
            if item is None:
                if at < least:
                    return None
                most = at
                break
            parts.append(item)
        left = None if most is None else most - len(parts)
        item = None if left == 0 or rest is False else self._value(rest, place.below("[]"))
        if item is None:
            if least > len(parts):
                return self._nothing(place, "it has too few items") if not self._why else None
            left = 0
        # Those that may be left out, from the last one on; then the rest.
        needed = min(least, len(parts))
        tail = self._more(item, max(least - len(parts), 0), left, comma) if item is not None else ""
        if not parts:
            body = self._items(item, least, left, comma) if item is not None else ""
        else:
            body = tail
            for at in range(len(parts) - 1, -1, -1):
                body = f"{parts[at]} {body}" if at == 0 else f"{comma} {parts[at]} {body}"
                if at >= needed:
                    body = f"({body})?"
        return self._grammar.rule(f'"[" {self._break} {body} {self._break} "]"')

    @staticmethod
    def _more(item: str, least: int, most: int | None, comma: str) -> str:
        return "" if most == 0 else repeat(f"({comma} {item})", least, most)

    def _items(self, item: str, least: int, most: int | None, comma: str) -> str:
        if most == 0:
            return ""
        more = self._more(item, max(least - 1, 0), None if most is None else most - 1, comma)
        body = f"{item} {more}".rstrip()
        return body if least else f"({body})?"

    def _unique(self, flat: Mapping[str, Any], items: Any, least: int, most: int | None, place: _Place) -> str | None:
        values = self._values(items, place)
        if values is None or len(values) > _MAX_UNIQUE:
            self._note(place, "uniqueItems")
            return self._array({**flat, "uniqueItems": False}, place)
        top = len(values) if most is None else min(most, len(values))
        if least > top:
            return self._nothing(place, "it asks for more different items than there are")
        texts_ = [literal(self._as_text(dumped(value))) for value in values]
        body = self._chosen(texts_, [False] * len(texts_), least, top)
        return self._grammar.rule(f'"[" {self._break} {body} {self._break} "]"')

    def _values(self, schema: Any, place: _Place) -> list[Any] | None:
        """All values of a schema, where they are few; None: they are not."""
        if not isinstance(schema, Mapping):
            return None
        flat = self._flat(schema, place, frozenset())
        if "enum" in flat and "anyOf groups" not in flat:
            found: list[Any] = []
            for value in flat["enum"] if isinstance(flat["enum"], list) else ():
                if allows(value, flat) and not any(same(value, each) for each in found):
                    found.append(value)
            return found
        return [False, True] if types_of(flat) == ("boolean",) else None

    def _object(self, flat: Mapping[str, Any], place: _Place) -> str | None:
        properties = flat.get("properties", {})
        required = flat.get("required", ())
        if not isinstance(properties, Mapping) or not isinstance(required, list | tuple):
            raise SchemaError(f"{place.path or 'schema'}: properties must be an object, required a list")
        least, most = count_of(flat, "minProperties", place.path) or 0, count_of(flat, "maxProperties", place.path)
        if most is not None and least > most:
            return self._nothing(place, "minProperties is greater than maxProperties")
        names = flat.get("propertyNames")
        listed = self._values(names, place) if names is not None else None
        if not properties and not required and listed is None:
            return self._free(flat, least, most, place)
        fields: list[tuple[str, Any]] = list(properties.items())
        if listed is not None:
            listed = [name for name in listed if isinstance(name, str)]
            fields += [(name, self._additional(flat, name)) for name in listed if name not in properties]
        fields += [(name, self._additional(flat, name)) for name in required if name not in dict(fields)]
        if names is not None and listed is None and properties:
            self._note(place, "propertyNames")
        return self._fields(fields, frozenset(required), least, most, place)

    @staticmethod
    def _additional(flat: Mapping[str, Any], name: str) -> Any:
        if "patternProperties" in flat:
            return {"allOf": [*flat["patternProperties"].values()]} if len(flat["patternProperties"]) == 1 else True
        return flat.get("additionalProperties", True)

    def _fields(
        self, fields: list[tuple[str, Any]], required: frozenset[str], least: int, most: int | None, place: _Place
    ) -> str | None:
        terms: list[str] = []
        is_required: list[bool] = []
        for name, schema in fields:
            before = len(self._why)
            value = self._value(schema, place.below(name))
            if value is None:
                if name in required:
                    return None
                # It is not written.
                del self._why[before:]
                continue
            key = literal(self._as_text(dumped(name)) + ":")
            terms.append(f'{key} " "? {value}')
            # A class gets all its fields written, as strict servers do it.
            is_required.append(name in required or self._of_class)
        top = len(terms) if most is None else min(most, len(terms))
        if sum(is_required) > top or least > top:
            return self._nothing(place, "it has too few properties")
        return self._grammar.rule(
            f'"{{" {self._break} {self._chosen(terms, is_required, least, top)} {self._break} "}}"'
        )

    def _chosen(self, terms: list[str], is_required: list[bool], least: int, most: int) -> str:
        """Some of these in their order, the required ones always, with commas between them."""
        if all(is_required):
            return f" {self._comma} ".join(terms)
        # From the end: what may follow where so many have been written. Only the bounds of the count matter.
        counts = least > sum(is_required) or most < len(terms)
        rules: dict[int, str | None] = {
            count: '""' if not counts or least <= count <= most else None for count in range(len(terms) + 1)
        }
        for at in range(len(terms) - 1, -1, -1):
            earlier: dict[int, str | None] = {}
            for count in range(at + 1):
                comma = f"{self._comma} " if count else ""
                # Without bounds only whether it is the first makes a difference.
                following = rules[count + 1] if counts or count == 0 else rules[min(count, at + 1)]
                ways = [] if following is None else [f"{comma}{terms[at]} {following}"]
                if not is_required[at] and (skipped := rules[count]) is not None:
                    ways.append(skipped)
                if not counts and count > 1:
                    earlier[count] = earlier[1]
                else:
                    earlier[count] = self._grammar.rule(" | ".join(ways)) if ways else None
            rules = earlier
        return rules[0] or '""'

    def _free(self, flat: Mapping[str, Any], least: int, most: int | None, place: _Place) -> str | None:
        """An object with names of the model's own choice."""
        schema: Any = flat.get("additionalProperties", True)
        name_rules: Schema = {"type": "string"}
        patterns = flat.get("patternProperties")
        if patterns:
            (pattern, schema), *others = patterns.items()
            name_rules["pattern"] = [pattern]
            if others:
                self._note(place, "patternProperties")
        names = flat.get("propertyNames")
        if isinstance(names, Mapping):
            name_rules = merged(name_rules, self._flat(names, place, frozenset()))
        value = None if schema is False or most == 0 else self._value(schema, place.below("*"))
        key = self._string(name_rules, place) if value is not None else None
        if value is None or key is None:
            return '"{}"' if least == 0 else self._nothing(place, "it has too few properties")
        if most != 1:
            self._note(place, "different names")
        entry = self._grammar.rule(f'{key} ":" " "? {value}')
        body = self._items(entry, least, max(_MAX_FREE_NAMES, least) if most is None else most, self._comma)
        return self._grammar.rule(f'"{{" {self._break} {body} {self._break} "}}"')

    def _anything(self, depth: int) -> str:
        key = (depth, self._nesting)
        if key not in self._free_values:
            self._free_values[key] = self._free_value(depth)
        return self._free_values[key]

    def _free_value(self, depth: int) -> str:
        ways = ['"null"', '"true"', '"false"']
        number, text = self._of_type("number", {}, _Place()), self._of_type("string", {}, _Place())
        ways += [each for each in (number, text) if each is not None]
        if depth:
            inner = self._anything(depth - 1)
            comma = self._comma
            ways.append(self._grammar.rule(f'"[" {self._items(inner, 0, _MAX_FREE_NAMES, comma)} "]"'))
            entry = self._grammar.rule(f'{text} ":" " "? {inner}')
            ways.append(self._grammar.rule(f'"{{" {self._items(entry, 0, _MAX_FREE_NAMES, comma)} "}}"'))
        return self._grammar.rule(" | ".join(ways))

    def _nothing(self, place: _Place, why: str) -> str | None:
        self._why.append(f"{place.path}: {why}" if place.path else why)
        return None

    def _note(self, place: _Place, keyword: str, why: str = "") -> None:
        where = f"{place.path}: " if place.path else ""
        self._not_held.setdefault(f"{where}{keyword}" + (f" ({why})" if why else ""))
