"""The adapters that a request chooses: `model+name` as the model of a target, and llama.cpp's field `lora`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from llama_client.errors import ModelNotFoundError
from llama_client.providers.base import ProviderCall
from llama_client.validation import quoted, suggestion

if TYPE_CHECKING:
    from llama_client.config.provider_tables import LoraAdapter

_SEPARATOR = "+"
_FIELD = "lora"


class Chosen(NamedTuple):
    """A model's id, taken apart.

    Attributes:
        base: The model that is loaded, whatever adapters are chosen.
        suffix: The adapters as they were written, for the model's name in answers.
        fields: What llama.cpp's request has of them.
    """

    base: str
    suffix: str
    fields: dict[str, Any]


def base_of(model: str) -> str:
    return model.partition(_SEPARATOR)[0]


def chosen(model: str, adapters: Sequence[LoraAdapter]) -> Chosen:
    """Raises `ModelNotFoundError` for an adapter that is not there."""
    problem = problem_of(model, adapters)
    if problem is not None:
        raise ModelNotFoundError(problem)
    base, separator, names = model.partition(_SEPARATOR)
    wanted = {None, *names.split(_SEPARATOR)}
    # All of them, always: llama.cpp takes an adapter that is not listed for switched off, a request without a list
    # for one with all, and then goes on from a prompt that it has read with others.
    listed = [
        {"id": number, "scale": adapter.scale if adapter.name in wanted else 0.0}
        for number, adapter in enumerate(adapters)
    ]
    # Without names, those of the start are on in all requests.
    can_choose = any(adapter.name is not None for adapter in adapters)
    return Chosen(base, separator + names, {_FIELD: listed} if can_choose else {})


def problem_of(model: str, adapters: Sequence[LoraAdapter]) -> str | None:
    """What is wrong with the adapters of a model's id; None: nothing."""
    base, separator, rest = model.partition(_SEPARATOR)
    if not separator:
        return None
    names = rest.split(_SEPARATOR)
    known = [adapter.name for adapter in adapters if adapter.name is not None]
    for name in names:
        if name not in known:
            there = f" (there are {', '.join(known)})" if known else ": none has a name"
            return f"no adapter is named {quoted(name)}{suggestion(name, known)}{there}"
    twice = next((name for name in names if names.count(name) > 1), None)
    return None if twice is None else f"the adapter {twice!r} is named more than once; once is {base}+{twice}"


def variants(model: str, adapters: Sequence[LoraAdapter]) -> list[str]:
    """The model's id, then that with each adapter which has a name."""
    return [model, *(f"{model}{_SEPARATOR}{adapter.name}" for adapter in adapters if adapter.name is not None)]


def require_chosen_by_name(call: ProviderCall) -> None:
    """Refuses llama.cpp's own field, whose numbers are not the user's."""
    if _FIELD in (call.request.extra_body or {}):
        how = f"name them in the model, as in {call.provider}/{base_of(call.model)}+NAME, and in the provider's lora"
        raise call.unsupported("extra_body", f"its {_FIELD!r} would choose adapters by number: {how}")
