"""Reads the header of a GGUF file, to explain what is wrong with it before llama.cpp loads it, which gives no reasons.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import NamedTuple, TypeVar

from llama_client.errors import ModelLoadError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
# Far above any real file; a larger count means a damaged header.
_MAX_COUNT = 10_000_000
_LENGTH = struct.Struct("<Q")
_STRING, _ARRAY = 8, 9
_TOKENS = "tokenizer.ggml.tokens"
# Value type -> struct format, for the types of fixed size.
_FIXED = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

Value = int | float | bool | str


@dataclass(frozen=True, slots=True)
class GgufHeader:
    values: dict[str, Value]
    tensor_count: int
    size_bytes: int

    @property
    def architecture(self) -> str:
        return str(self.values.get("general.architecture", ""))

    @property
    def is_adapter(self) -> bool:
        return self.values.get("general.type") == "adapter"

    @property
    def parts(self) -> int:
        """Into how many files the model is split."""
        count = self.values.get("split.count")
        return count if isinstance(count, int) else 1

    @property
    def part(self) -> int:
        """Which of these it is, the first being 1."""
        number = self.values.get("split.no")
        return number + 1 if isinstance(number, int) else 1

    @property
    def context_tokens(self) -> int | None:
        value = self.values.get(f"{self.architecture}.context_length")
        return value if isinstance(value, int) else None


# Far above any real model; more would only be looked for.
_MAX_PARTS = 1000
# As many as Linux follows.
_MAX_LINKS = 40
AnyPath = TypeVar("AnyPath", bound=PurePath)
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)


def parts_of(path: AnyPath) -> tuple[AnyPath, ...]:
    """The files of a model that is split into several, by the name of one of them; any other file is alone."""
    part = _PART.fullmatch(path.name)
    count = 1 if part is None else int(part["count"])
    if part is None or not 1 < count <= _MAX_PARTS:
        return (path,)
    parts = tuple(path.with_name(_part_name(part["stem"], number, count)) for number in range(1, count + 1))
    # Not so where the number is 0 or above the count, or the name is not written as llama.cpp writes it.
    return parts if path in parts else (path,)


def _part_name(stem: str, number: int, count: int) -> str:
    return f"{stem}-{number:05}-of-{count:05}.gguf"


def stem_of(path: Path) -> str:
    """The name of a model's file, without what tells its part."""
    part = _PART.fullmatch(path.name)
    return path.stem if part is None else part["stem"]


def real_path(path: Path) -> Path:
    """Without links, but for those of the parts of a model, which are found by their names."""
    place = path
    for _ in range(_MAX_LINKS):
        if len(parts_of(place)) > 1:
            return _resolved(place.parent) / place.name
        if not place.is_symlink():
            break
        # Step by step: the name of a part may be that of a link itself, as in the cache of the hub.
        place = _resolved(place.parent) / place.readlink()
    return _resolved(path)


def _resolved(path: Path) -> Path:
    # Not `Path.resolve`, which up to Python 3.12 raises a RuntimeError for links in a circle.
    return Path(os.path.realpath(path))


def present_parts(path: Path) -> list[Path]:
    """A file, and the other parts of the model that are there, in their order."""
    return [part for part in parts_of(path) if part == path or part.is_file()]


def size_of(path: Path) -> int:
    return sum(part.stat().st_size for part in present_parts(path))


def read_model(path: Path) -> GgufHeader:
    """The header of a model, whose size is that of all its parts."""
    header = read_header(path)
    count = header.parts
    if count > 1:
        paths = parts_of(path)
        if header.part > 1:
            first = f", {paths[0].name}" if len(paths) == count else ""
            raise unusable(path, f"it is part {header.part} of {count}: name the first part{first}")
        if len(paths) != count or paths[0] != path:
            ending = _part_name("", 1, count)
            raise unusable(
                path, f"it is part 1 of {count}, and its name must end in {ending}, to tell those of the others"
            )
        for number, part in enumerate(paths[1:], start=2):
            _require_part(part, number, count, path)
    return replace(header, size_bytes=size_of(path))


def _require_part(path: Path, number: int, count: int, first: Path) -> None:
    which = f"part {number} of {count} of {first.name}"
    try:
        header = read_header(path)
    except ModelLoadError as error:
        raise ModelLoadError(f"{error} ({which})", path=str(path)) from error
    if (header.part, header.parts) != (number, count):
        raise unusable(path, f"it is not {which}")


def read_header(path: Path) -> GgufHeader:
    with _reader(path) as reader:
        return reader.header()


@contextlib.contextmanager
def _reader(path: Path) -> Iterator[_Reader]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            is_folder = stat.S_ISDIR(status.st_mode)
            raise unusable(path, "it is a folder, not a file" if is_folder else "it is not a regular file")
        with path.open("rb") as file:
            if status.st_size == 0:
                raise unusable(path, "the file is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                yield _Reader(view, path, status.st_size)
    except FileNotFoundError:
        raise unusable(path, "there is no such file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise unusable(path, f"it cannot be read ({reason})") from error


# llama.cpp lets the vocabularies of a model and its draft model differ by as much: some are padded, and the first
# tokens are special ones.
_MOST_PADDING, _FIRST_COMPARED = 128, 5


def require_same_vocabulary(model: Path, draft: Path) -> None:
    """Raises `ModelLoadError` where a model could not check the tokens that another proposes.

    llama.cpp does not tell it: it computes the proposals and takes none.
    """
    with _reader(model) as reader:
        own = reader.vocabulary()
    with _reader(draft) as reader:
        other = reader.vocabulary()
    why = None
    if own.kind != other.kind:
        why = f"vocabulary is of the kind {other.kind!r}, not {own.kind!r}"
    elif (key := next((key for key in own.ends if own.ends[key] != other.ends[key]), None)) is not None:
        why = f"{key} is {_shown(other.ends[key])}, not {_shown(own.ends[key])}"
    elif abs(len(own.tokens) - len(other.tokens)) > _MOST_PADDING:
        why = f"vocabulary is of {len(other.tokens)} tokens, not {len(own.tokens)}"
    else:
        pairs = enumerate(zip(own.tokens, other.tokens, strict=False))
        differing = next((number for number, (a, b) in pairs if number >= _FIRST_COMPARED and a != b), None)
        if differing is not None:
            why = f"vocabulary is another from its token {differing} on"
    if why is not None:
        raise ModelLoadError(
            f"cannot load {draft} as the draft model of {model}: its {why}; it must be the same",
            path=str(draft),
        )


class Vocabulary(NamedTuple):
    kind: Value | None
    tokens: list[bytes]
    ends: dict[str, Value | None]  # what of it begins and ends a prompt, by the keys of the file


# What llama.cpp takes where a file does not tell it, by the kind of the vocabulary: whether a special token begins a
# prompt and which, and the same of its end (llama_vocab::impl::load in llama-vocab.cpp).
_USUAL_ENDS: dict[Value | None, tuple[bool, int | None, bool, int | None]] = {
    "llama": (True, 1, False, 2),
    "bert": (True, 101, False, None),
    "gpt2": (False, 11, False, 11),
    "t5": (False, None, True, 1),
    "plamo2": (False, 1, False, 2),
    "gemma4": (True, None, False, None),
}
_NO_ENDS = (False, None, False, None)
# Where the kind is "gpt2", those of `tokenizer.ggml.pre` that begin a prompt so, and those that have no such token.
_PRE_WITH_BOS = frozenset(
    {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"}
    | {"tekken", "chameleon"}
)
_PRE_WITHOUT_BOS = frozenset({"glm4", "chatglm-bpe"})


def _ends(values: dict[str, Value], token_count: int) -> dict[str, Value | None]:
    """Whether tokens begin and end a prompt, and which, where they do; as llama.cpp takes it."""
    kind, pre = values.get("tokenizer.ggml.model"), values.get("tokenizer.ggml.pre")
    usual_adds_bos, usual_bos, usual_adds_eos, usual_eos = _USUAL_ENDS.get(kind, _NO_ENDS)
    if kind == "gpt2":
        usual_adds_bos = pre in _PRE_WITH_BOS
        usual_bos = None if pre in _PRE_WITHOUT_BOS else usual_bos
    usual = {"bos": (usual_adds_bos, usual_bos), "eos": (usual_adds_eos, usual_eos)}
    ends = dict[str, Value | None]()
    for end, (usual_adds, usual_id) in usual.items():
        adds_key, id_key = f"tokenizer.ggml.add_{end}_token", f"tokenizer.ggml.{end}_token_id"
        # llama.cpp overrules files of Gemma 4 that say otherwise.
        is_overruled = end == "bos" and "gemma4" in (kind, pre)
        ends[adds_key] = is_overruled or bool(values.get(adds_key, usual_adds))
        own = values.get(id_key)
        is_token = isinstance(own, int) and 0 <= own < token_count
        ends[id_key] = (own if is_token else usual_id) if ends[adds_key] else None
    return ends


def _shown(value: Value | None) -> str:
    return "none" if value is None else str(value).lower()


def unusable(path: Path, why: str) -> ModelLoadError:
    return ModelLoadError(f"cannot load {path}: {why}", path=str(path))


# The `gguf` package's reader builds every array in Python: for the 49,152 tokens of the demo model 1.9 s at each load,
# against 0.02 s here (both measured).
class _Reader:
    def __init__(self, view: mmap.mmap, path: Path, size: int) -> None:
        self._view, self._path, self._size, self._at = view, path, size, 0
        self._texts: list[bytes] = []

    def vocabulary(self) -> Vocabulary:
        header = self.header(_TOKENS)
        return Vocabulary(
            header.values.get("tokenizer.ggml.model"), self._texts, _ends(header.values, len(self._texts))
        )

    def header(self, wanted: str | None = None) -> GgufHeader:
        """`wanted`: the key of a list of texts to keep."""
        if self._view[:4] != _MAGIC:
            raise unusable(self._path, "it is not a GGUF file (its first bytes are not 'GGUF')")
        self._at = 4
        try:
            version = self._number("I")
            if version not in _VERSIONS:
                raise unusable(self._path, f"its GGUF version is {version}; versions 2 and 3 are supported")
            tensor_count, value_count = self._count(), self._count()
            values = {}
            for _ in range(value_count):
                key = self._text()
                value = self._value(self._number("I"), is_wanted=key == wanted)
                if value is not None:
                    values[key] = value
            self._check_tensors(tensor_count)
        except (struct.error, IndexError):
            why = f"it is truncated: its header does not fit into its {self._size} bytes"
            raise unusable(self._path, why) from None
        except (UnicodeDecodeError, KeyError, OverflowError):
            raise unusable(self._path, "it is damaged: its header has values of unknown types") from None
        return GgufHeader(values, tensor_count, self._size)

    def _fixed(self, format_: str) -> Value:
        value: Value
        (value,) = struct.unpack_from(f"<{format_}", self._view, self._at)
        self._at += struct.calcsize(f"<{format_}")
        return value

    def _number(self, format_: str) -> int:
        return int(self._fixed(format_))

    def _count(self) -> int:
        count = self._number("Q")
        if count > _MAX_COUNT:
            raise unusable(self._path, f"it is damaged: its header claims {count} entries")
        return count

    def _skip(self, length: int) -> None:
        self._at += length
        if self._at > self._size:
            raise IndexError

    def _text(self) -> str:
        length = self._number("Q")
        start = self._at
        self._skip(length)
        return self._view[start : self._at].decode()

    def _value(self, kind: int, *, is_wanted: bool) -> Value | None:
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            return self._fixed(_FIXED[kind])
        kind, count = self._number("I"), self._number("Q")
        if kind == _STRING:  # llama.cpp has no arrays of arrays; _FIXED refuses them here
            self._at = self._after_texts(count, keeps=is_wanted)
        else:
            self._skip(count * struct.calcsize(f"<{_FIXED[kind]}"))
        return None

    def _after_texts(self, count: int, *, keeps: bool) -> int:
        """Where so many texts end. (Written out: some vocabularies are 400,000 of them.)"""
        view, size, at, length_at = self._view, self._size, self._at, _LENGTH.unpack_from
        for _ in range(count):
            start = at + _LENGTH.size
            at = start + length_at(view, at)[0]
            if at > size:
                raise IndexError
            if keeps:
                self._texts.append(view[start:at])
        return int(at)

    def _check_tensors(self, count: int) -> None:
        """Detects an incomplete download, which has a whole header: the last tensor must start inside the file."""
        last_offset = 0
        for _ in range(count):
            self._text()
            dimensions = self._number("I")
            self._skip(8 * dimensions + 4)
            last_offset = max(last_offset, self._number("Q"))
        if count and self._at + last_offset >= self._size:
            where = f"it has {self._size} bytes and its last tensor starts after byte {self._at + last_offset}"
            raise unusable(self._path, f"it is truncated: {where}; download it again")
