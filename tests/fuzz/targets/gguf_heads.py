"""The beginning of a GGUF file: a description, or an error that says what is wrong, in bounded time and memory."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from llama_client import LlamaClientError
from llama_client.config.provider_tables import GgufConfig
from llama_client.crossover.fitting.fit import fit
from llama_client.crossover.fitting.gguf_files import read_gguf
from llama_client.crossover.fitting.machines import Machine, named
from llama_client.diagnostics.gguf import file_findings
from llama_client.diagnostics.machine import MachineFacts
from llama_client.providers.gguf.header import read_header, require_same_vocabulary
from llama_client.providers.gguf.store import ModelStore
from tests.fuzz.sandbox import sandbox
from tests.fuzz.target import Target, require

_FIXED = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9


class _Reader:
    def __init__(self, folder: Path) -> None:
        self._file = folder / "m.gguf"
        self._store = ModelStore(folder / "models")
        self._machine: Machine = named("rtx_4090")
        self._hardware = MachineFacts(self._machine, 2**34, ["cuda"], has_library=True)

    def check(self, data: bytes) -> None:
        self._file.write_bytes(data)
        described = None
        try:
            described = read_header(self._file)
            require_same_vocabulary(self._file, self._file)
        except LlamaClientError as error:
            require(str(self._file) in str(error), "an error names the file")
        if described is not None:
            require(described.size_bytes == len(data), "a description has the file's size")
            require(isinstance(described.architecture, str), "an architecture is text")
            require(len(described.values) <= len(data), "a description is no larger than the file")
        for finding in file_findings(
            "gguf", GgufConfig(kind="gguf", model_path=self._file), self._store, self._hardware
        ):
            require(finding.message, "a finding says something")
        try:
            found = read_gguf(self._file)
            answer = fit(found.model, self._machine, precision=found.precision, weights_bytes=found.weights_bytes)
            require(answer.options, "an answer has options")
        except LlamaClientError as error:
            require(str(error), "an error says something")


def _text(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _value(kind: int, value: Any) -> bytes:
    if kind == _TEXT:
        return struct.pack("<I", kind) + _text(value)
    if kind == _LIST:
        inner, items = value
        packed = b"".join(_value(inner, item)[4:] for item in items)
        return struct.pack("<IIQ", kind, inner, len(items)) + packed
    return struct.pack("<I", kind) + struct.pack(f"<{_FIXED[kind]}", value)


Values = list[tuple[bytes, int, Any]]


def _head(values: Values, tensors: list[tuple[bytes, list[int], int, int]], *, version: int = 3) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values))
    head += b"".join(_text(name) + _value(kind, value) for name, kind, value in values)
    for name, shape, kind, offset in tensors:
        head += _text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        head += struct.pack("<IQ", kind, offset)
    return head


_LLAMA: Values = [
    (b"general.architecture", _TEXT, b"llama"),
    (b"general.name", _TEXT, b"Tiny"),
    (b"general.file_type", 4, 7),
    (b"llama.block_count", 4, 2),
    (b"llama.embedding_length", 4, 8),
    (b"llama.feed_forward_length", 4, 16),
    (b"llama.attention.head_count", 4, 2),
    (b"llama.attention.head_count_kv", _LIST, (4, [1, 2])),
    (b"llama.context_length", 4, 4096),
    (b"tokenizer.ggml.tokens", _LIST, (_TEXT, [b"a", b"b"])),
]
_TENSORS = [(b"token_embd.weight", [8, 4], 0, 0), (b"output.weight", [8, 4], 0, 128)]
_END = b"\0" * 512
_MODEL = _head(_LLAMA, _TENSORS) + _END


def _other(name: bytes, kind: int, value: Any) -> bytes:
    """The model with one value replaced or added."""
    values = [each for each in _LLAMA if each[0] != name]
    return _head([*values, (name, kind, value)], _TENSORS) + _END


_SEEDS = (
    _MODEL,
    _head(_LLAMA, _TENSORS, version=2) + _END,
    _head(_LLAMA, _TENSORS, version=1) + _END,
    _head(_LLAMA, []) + _END,
    _head([(b"general.architecture", _TEXT, b"llama"), (b"general.type", _TEXT, b"adapter")], []),
    _MODEL[: len(_MODEL) // 2],
    b"GGUF",
    b"",
    b"GGUF" + struct.pack("<IQQ", 3, 2**63, 2**63),
    b"GGUF" + struct.pack("<IQQ", 3, 0, 9_000_000) + _text(b"a") + _value(4, 1),
    struct.pack(">4sIQQ", b"GGUF", 3, 0, 0),
    _other(b"general.architecture", 4, 5),
    _other(b"llama.context_length", 10, 2**64 - 1),
    _other(b"llama.block_count", 6, float("nan")),
    _other(b"llama.embedding_length", 7, True),
    _other(b"llama.attention.head_count_kv", _LIST, (_TEXT, [b"x"])),
    _other(b"llama.attention.key_length", 11, -1),
    _other(b"general.name", _TEXT, b"\xff\xfe"),
    _other(b"general.file_type", 5, -1),
    _other(b"general.alignment", 4, 0),
    _other(b"general.alignment", _TEXT, b"x"),
    _head(_LLAMA, [(b"token_embd.weight", [2**40, 2**40], 0, 0)]) + _END,
    _head(_LLAMA, [(b"token_embd.weight", [8, 4], 250, 0), (b"token_embd.weight", [], 2, 64)]) + _END,
    _head(_LLAMA, [(b"a", [1, 1, 1, 1, 1], 0, 1)]) + _END,
)
_TOKENS = (
    b"GGUF",
    b"general.architecture",
    b"llama.block_count",
    b"token_embd.weight",
    b"output.weight",
    *(struct.pack("<I", kind) for kind in range(13)),
    *(struct.pack("<Q", size) for size in (0, 1, 8, 4096, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)),
)
_NAMES = st.sampled_from([name for name, _, _ in _LLAMA] + [b"general.type", b"general.alignment", b"x", b"\xff"])
_NUMBERS = st.sampled_from([0, 1, 2, 7, 255]) | st.integers(0, 2**64 - 1)


@st.composite
def _values(draw: st.DrawFn, *, in_list: bool = False) -> tuple[int, Any]:
    kind = draw(st.sampled_from([*_FIXED, _TEXT] if in_list else [*_FIXED, _TEXT, _LIST]))
    if kind == _TEXT:
        return kind, draw(st.sampled_from([b"llama", b"adapter", b"mamba", b"\xff"]) | st.binary(max_size=6))
    if kind == _LIST:
        inner, value = draw(_values(in_list=True))
        return kind, (inner, [value] * draw(st.integers(0, 3)))
    if kind in (6, 12):
        return kind, draw(st.floats(width=32))
    size = 8 * struct.calcsize(f"<{_FIXED[kind]}")
    number = draw(_NUMBERS) % 2 ** (size - 1)
    return kind, bool(number) if kind == 7 else number


@st.composite
def _cases(draw: st.DrawFn) -> bytes:
    values = [each for each in _LLAMA if draw(st.integers(0, 9))]
    values += [(draw(_NAMES), *draw(_values())) for _ in range(draw(st.integers(0, 3)))]
    shapes = st.lists(st.sampled_from([0, 1, 8, 32, 256]) | st.integers(0, 2**64 - 1), max_size=5)
    names = st.sampled_from([b"token_embd.weight", b"output.weight", b"blk.0.ffn_up.weight", b"\xff"])
    offsets = st.sampled_from([0, 32, 128]) | st.integers(0, 2**64 - 1)
    tensors = st.tuples(names, shapes, st.sampled_from([0, 1, 2, 8, 30]) | st.integers(0, 2**32 - 1), offsets)
    return _head(values, draw(st.lists(tensors, max_size=3)), version=draw(st.sampled_from([2, 3, 3, 3]))) + _END


@contextmanager
def opened() -> Iterator[Target]:
    with sandbox() as folder:
        yield Target("gguf", _Reader(folder).check, _SEEDS, _cases(), _TOKENS, lines=(60_000, 200), max_bytes=4096)
