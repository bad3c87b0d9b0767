"""Requests made at random, neighbours of them that differ in one detail, and the same written otherwise."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Params = dict[str, Any]

_WORDS = ("llama", "hum", "Ann", "price", "naïve", "日本", "{x}", "a\nb", '"', "\\", "0", "")
_FLOATS = ("temperature", "top_p", "min_p", "frequency_penalty", "presence_penalty")
_COUNTS = ("top_k", "max_tokens", "seed")


def text_of(chance: random.Random) -> str:
    return " ".join(chance.choice(_WORDS) for _ in range(chance.randint(1, 6))) + str(chance.randint(0, 99))


def request_of(chance: random.Random) -> Params:
    """A valid request of chat completions."""
    made: Params = {"messages": [_message(chance, chance.choice(("system", "user")))]}
    for _ in range(chance.choice((0, 0, 0, 1, 2))):
        made["messages"] += [_message(chance, "assistant"), _message(chance, "user")]
    for name in _FLOATS:
        if chance.random() < 0.2:
            made[name] = round(chance.uniform(0, 1), 2)
    for name in _COUNTS:
        if chance.random() < 0.2:
            made[name] = chance.randint(1, 99)
    for name, make in _MAKERS.items():
        if chance.random() < 0.12:
            made[name] = make(chance)
    if made.get("logprobs") and chance.random() < 0.5:
        made["top_logprobs"] = chance.randint(0, 20)
    if "tools" in made and chance.random() < 0.3:
        made["tool_choice"] = chance.choice(("auto", "required"))
    return made


def _message(chance: random.Random, role: str) -> Params:
    message: Params = {"role": role, "content": text_of(chance)}
    if role == "user" and chance.random() < 0.1:
        url = "data:image/png;base64," + "".join(chance.choice("ABCD") for _ in range(8))
        message["content"] = [
            {"type": "text", "text": text_of(chance)},
            {"type": "image_url", "image_url": {"url": url}},
        ]
    if role == "assistant" and chance.random() < 0.2:
        message["reasoning_content"] = text_of(chance)
    if chance.random() < 0.05:
        message["name"] = chance.choice(("ann", "bob"))
    return message


def _schema(chance: random.Random) -> Params:
    names = chance.sample(("city", "year", "text", "kind"), chance.randint(1, 3))
    kinds = [chance.choice(("string", "integer", "null")) for _ in names]
    return {
        "type": "object",
        "properties": {name: {"type": kind, "default": None} for name, kind in zip(names, kinds, strict=True)},
        "required": list(names),
    }


def _tools(chance: random.Random) -> list[Params]:
    return [
        {"type": "function", "function": {"name": f"f{number}", "parameters": _schema(chance)}}
        for number in range(chance.randint(1, 2))
    ]


_MAKERS: Mapping[str, Callable[[random.Random], Any]] = {
    "stop": lambda chance: [text_of(chance) for _ in range(chance.randint(1, 3))],
    "n": lambda chance: chance.randint(2, 5),
    "logit_bias": lambda chance: {str(chance.randint(0, 99)): chance.randint(-100, 100) for _ in range(2)},
    "logprobs": lambda chance: True,
    "response_format": lambda chance: {
        "type": "json_schema",
        "json_schema": {"name": chance.choice(("a", "b")), "schema": _schema(chance), "strict": chance.random() < 0.5},
    },
    "tools": _tools,
    "parallel_tool_calls": lambda chance: chance.random() < 0.5,
    "reasoning_effort": lambda chance: chance.choice(("low", "high")),
    "service_tier": lambda chance: chance.choice(("flex", "default")),
    "extra_body": lambda chance: {chance.choice(("mode", "grammar")): text_of(chance), "k": chance.randint(0, 9)},
    "extra_headers": lambda chance: {"X-Model": f"m{chance.randint(0, 9)}"},
    "repetition_penalty": lambda chance: round(chance.uniform(0.5, 2), 2),
}


def neighbour_of(params: Params, chance: random.Random) -> tuple[str, Params]:
    """What was changed, and the request with that one detail changed so that its answer may be another."""
    changed = copy.deepcopy(params)
    name = chance.choice([*_CHANGES])
    while not _CHANGES[name](changed, chance) or changed == params:
        changed = copy.deepcopy(params)
        name = chance.choice([*_CHANGES])
    return name, changed


def _change_text(params: Params, chance: random.Random) -> bool:
    message = chance.choice(params["messages"])
    if not isinstance(message["content"], str):
        message = message["content"][0]
        message["text"] = _other_text(message["text"], chance)
        return True
    message["content"] = _other_text(message["content"], chance)
    return True


def _other_text(text: str, chance: random.Random) -> str:
    at = chance.randrange(len(text) + 1)
    return chance.choice((text[:at] + " " + text[at:], text[:at] + text[at + 1 :], text.swapcase(), text + "\n")) or "x"


def _change_role(params: Params, chance: random.Random) -> bool:
    message = params["messages"][0]
    message["role"] = {"system": "developer", "user": "system"}[message["role"]]
    return isinstance(message["content"], str)


def _split_message(params: Params, chance: random.Random) -> bool:
    first = params["messages"][0]
    if not isinstance(first["content"], str) or len(first["content"]) < 2:
        return False
    at = chance.randrange(1, len(first["content"]))
    params["messages"][0:1] = [{**first, "content": first["content"][:at]}, {**first, "content": first["content"][at:]}]
    return True


def _swap_messages(params: Params, chance: random.Random) -> bool:
    messages = params["messages"]
    if len(messages) < 2:
        return False
    messages[0], messages[-1] = messages[-1], messages[0]
    return True


def _change_number(params: Params, chance: random.Random) -> bool:
    there = [name for name in (*_FLOATS, *_COUNTS, "repetition_penalty") if name in params]
    if not there:
        return False
    name = chance.choice(there)
    is_whole = isinstance(params[name], int)
    params[name] = params[name] + 1 if is_whole else round(params[name] + (0.01 if params[name] < 0.99 else -0.01), 2)
    return True


def _change_parameter(params: Params, chance: random.Random) -> bool:
    """One more, one less, or another value."""
    name = chance.choice([*_MAKERS])
    if name in params and chance.random() < 0.5:
        del params[name]
    else:
        params[name] = _MAKERS[name](chance)
    if not params.get("tools"):
        params.pop("tool_choice", None)
    if not params.get("logprobs"):
        params.pop("top_logprobs", None)
    return True


def _change_schema(params: Params, chance: random.Random) -> bool:
    if "response_format" not in params:
        return False
    schema = params["response_format"]["json_schema"]["schema"]
    name = chance.choice([*schema["properties"]])
    change = chance.choice(("type", "default", "order"))
    if change == "order":
        # The order of properties is that of the answer.
        before = [*schema["properties"]]
        schema["properties"] = dict(reversed(schema["properties"].items()))
        return [*schema["properties"]] != before
    if change == "default":
        # None is a value here, and not what is left out.
        del schema["properties"][name]["default"]
    else:
        schema["properties"][name]["type"] = "boolean"
    return True


def _change_image(params: Params, chance: random.Random) -> bool:
    for message in params["messages"]:
        if not isinstance(message["content"], str):
            image = message["content"][1]["image_url"]
            image["url"] = image["url"][:-1] + ("B" if image["url"][-1] != "B" else "C")
            return True
    return False


def _change_reasoning(params: Params, chance: random.Random) -> bool:
    for message in params["messages"]:
        if "reasoning_content" in message:
            message["reasoning_content"] += "."
            return True
    return False


_CHANGES: Mapping[str, Callable[[Params, random.Random], bool]] = {
    "text": _change_text,
    "role": _change_role,
    "split": _split_message,
    "order": _swap_messages,
    "number": _change_number,
    "parameter": _change_parameter,
    "schema": _change_schema,
    "image": _change_image,
    "reasoning": _change_reasoning,
}


def rewritten(params: Params, chance: random.Random) -> Params:
    """The same request in another way of writing it, and with what changes no answer."""
    items = [(name, copy.deepcopy(value)) for name, value in params.items()]
    chance.shuffle(items)
    same: Params = dict(items)
    same["messages"] = tuple(dict(reversed(message.items())) for message in same["messages"])
    for name, value in _neutral(chance):
        same.setdefault(name, value)
    if "max_tokens" in same and chance.random() < 0.5:
        same["max_completion_tokens"] = same.pop("max_tokens")
    if len(same.get("stop") or ()) == 1 and chance.random() < 0.5:
        same["stop"] = same["stop"][0]
    for name in ("logit_bias", "extra_body", "extra_headers"):
        if same.get(name):
            same[name] = dict(reversed(same[name].items()))
    if same.get("logit_bias") and chance.random() < 0.5:
        same["logit_bias"] = {int(token): bias for token, bias in same["logit_bias"].items()}
    if same.get("extra_headers") and chance.random() < 0.5:
        same["extra_headers"] = {name.upper(): value for name, value in same["extra_headers"].items()}
    if same.get("temperature") in (0.0, 1.0):
        same["temperature"] = int(same["temperature"])
    return same


def _neutral(chance: random.Random) -> Iterator[tuple[str, Any]]:
    values = {"timeout": 5.0, "tags": {"run": text_of(chance)}, "user": "ann", "n": 1, "logprobs": False}
    values |= dict.fromkeys((*_FLOATS, "tools", "response_format", "extra_body"))
    for name, value in values.items():
        if chance.random() < 0.3:
            yield name, value
