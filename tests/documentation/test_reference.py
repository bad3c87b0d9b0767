"""The reference shows every public name, and each says what it does, takes, gives and raises."""

from __future__ import annotations

import griffe

from tests.documentation import public

# A first sentence that is about what comes back, and nothing else.
_BEGINS_WITH_IT = (
    "A ", "All ", "An ", "Each ", "How ", "Milliseconds ", "Output tokens ", "Replicas ", "The ", "These ", "Volumes ",
    "What ", "When ", "Whether ", "Where ", "Which ", "Who ",
)  # fmt: skip


def test_every_public_name_is_on_a_page_of_the_reference() -> None:
    shown = {public.behind(name).path for name in public.shown_names()}
    assert [name for name in public.public_names() if public.behind(name).path not in shown] == []


def test_no_name_is_shown_twice() -> None:
    names = [public.behind(name).path for name in public.shown_names()]
    assert sorted(names) == sorted(set(names))


def test_every_docstring_begins_with_a_sentence_of_its_own() -> None:
    def begins_well(thing: griffe.Object) -> bool:
        first = thing.docstring.value.split("\n\n")[0].strip() if thing.docstring else ""
        return first.endswith((".", ":", "?")) and "base class" not in first

    assert [thing.path for thing in public.documented() if not begins_well(thing)] == []


def test_every_docstring_names_the_parameters() -> None:
    wrong = {}
    for function in functions():
        taken = {public.written(parameter) for parameter in public.parameters(function)} - {"self", "cls"}
        named = public.sections(function).get("parameters", set())
        if named != taken:
            wrong[function.path] = named ^ taken
    assert wrong == {}


def test_every_docstring_says_what_comes_back() -> None:
    """In a section of its own, or in a first sentence that is about that alone."""
    wrong = []
    for function in functions():
        says = public.sections(function).keys() & {"returns", "yields"}
        text = function.docstring.value if function.docstring else ""
        if not says and str(function.returns) != "None" and not text.startswith(_BEGINS_WITH_IT):
            wrong.append(function.path)
    assert wrong == []


def test_every_docstring_names_the_fields() -> None:
    wrong = {}
    for thing in public.documented():
        told = public.sections(thing)
        named = told.get("attributes", set()) | told.get("parameters", set()) | {"kind", "object"}
        if thing.is_class and public.fields(thing) - named and not public.describes_a_call(thing):
            wrong[thing.path] = public.fields(thing) - named
    assert wrong == {}


def functions() -> list[griffe.Function]:
    """Those that do not point to another's docstring."""
    found = [thing for thing in public.documented() if isinstance(thing, griffe.Function)]
    return [function for function in found if not public.points_elsewhere(function)]
