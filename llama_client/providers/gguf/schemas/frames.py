"""What a model may write before and after the text that is asked for: its thinking, and marks of its template."""

from __future__ import annotations

import re
from typing import NamedTuple

from llama_client.providers.gguf.schemas.characters import literal


class Frame(NamedTuple):
    before: str = ""
    after: str = ""

    def around(self, term: str) -> str:
        """The rule `root`."""
        return f"root ::= {self.before} {term} {self.after}\n"


# How thinking is marked, each tag with its end.
_TAGS = {"<think>": "</think>", "<thinking>": "</thinking>", "[THINK]": "[/THINK]", "<seed:think>": "</seed:think>"}
_OPEN = re.compile("(" + "|".join(map(re.escape, _TAGS)) + r")\s*$")
# Text without what begins the ends of these: `</`, `[/`, and the marks of templates, `<|`.
_UNTIL_TAG = '([^<] | "<"+ [^/<])*'
_UNTIL_BRACKET = '([^[] | "["+ [^/[])*'
_UNTIL_MARK = '([^<] | "<"+ [^|<])*'
_BREAK = "[ \\n]{0,3}"


def frame_of(template: str, prompt: str) -> Frame:
    """By a model's chat template, and by a prompt that it made."""
    if "<|channel|>" in template and "<|message|>" in template:
        thinking = f'("<|channel|>analysis<|message|>" {_UNTIL_MARK} "<|end|><|start|>assistant")?'
        return Frame(f'{thinking} "<|channel|>final<|message|>"')
    if "<|START_RESPONSE|>" in template:
        thinking = f'("<|START_THINKING|>" {_UNTIL_MARK} "<|END_THINKING|>")?'
        return Frame(f'{thinking} "<|START_RESPONSE|>"', '"<|END_RESPONSE|>"')
    found = _OPEN.search(prompt)
    if found is not None:
        return Frame(f"{_thought(found[1])} {_BREAK}")
    tag = next((tag for tag, end in _TAGS.items() if tag in template and end in template), None)
    return Frame() if tag is None else Frame(f"({literal(tag)} {_thought(tag)} {_BREAK})?")


def _thought(tag: str) -> str:
    return f"{_UNTIL_BRACKET if tag.startswith('[') else _UNTIL_TAG} {literal(_TAGS[tag])}"
