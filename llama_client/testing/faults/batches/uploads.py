"""Forms as clients upload them: `multipart/form-data`, as far as a server of tests needs it. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?')
_NAME = re.compile(rb'name="([^"]*)"')
_FILE_NAME = re.compile(rb'filename="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form, and its file.

    Attributes:
        fields: Its plain fields.
        file_name: The name of its file; None: it has none.
        content: The content of its file.
    """

    fields: dict[str, str]
    file_name: str | None
    content: bytes


def read_form(content_type: str, body: bytes) -> Form:
    """A form, read.

    Args:
        content_type: The header of that name.
        body: The body.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        return Form({name: values[0] for name, values in parse_qs(body.decode()).items()}, None, b"")
    fields, file_name, content = {}, None, b""
    for piece in body.split(b"--" + found[1].encode())[1:-1]:
        head, _, value = piece.partition(b"\r\n\r\n")
        value = value.removesuffix(b"\r\n")
        name, file = _NAME.search(head), _FILE_NAME.search(head)
        if file is not None:
            file_name, content = file[1].decode(), value
        elif name is not None:
            fields[name[1].decode()] = value.decode()
    return Form(fields, file_name, content)
