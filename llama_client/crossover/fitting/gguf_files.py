"""Reads a model's shape and the exact size of its weights from a GGUF file, with the package `gguf`."""

from __future__ import annotations

import dataclasses
import re
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_client.crossover.tables import Architecture, Experts, Tables
from llama_client.errors import MissingExtraError, ModelLoadError

_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_MAX_SHARDS = 1000
# Longer arrays belong to the tokenizer, which is not needed here.
_MAX_VALUES = 4096
# What the package raises over lengths, types and texts that are wrong.
_OF_DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, struct.error)
_DIMENSIONS = ("block_count", "embedding_length", "feed_forward_length", "attention.head_count")
# llama.cpp sets these for the architecture `llama4` itself; they are not in the file.
_LLAMA_4_CHUNK_TOKENS, _LLAMA_4_GLOBAL_EVERY = 8192, 4


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A model in a GGUF file, or in the several parts that it was split into."""

    paths: tuple[Path, ...]
    model: Architecture
    precision: str
    weights_bytes: int


def read_gguf(path: Path, *, tables: Tables | None = None) -> GgufFile:
    """Reads a model; of a split one, `path` may be any part."""
    from llama_client.providers.gguf.header import read_header

    paths = _parts(path)
    for part in paths:
        # Its messages name the problem with a file; the package's own do not.
        if read_header(part).is_adapter:
            raise ModelLoadError(f"cannot read {part}: it is a LoRA adapter, not a model", path=str(part))
    readers = [_reader(part) for part in paths]
    try:
        # Values are in the first part.
        values = {name: field.contents() for name, field in readers[0].fields.items() if field.data}
        tensors = [tensor for reader in readers for tensor in reader.tensors]
        return GgufFile(
            paths,
            _model(values, tensors, paths[0], tables or Tables.bundled()),
            _precision(values, tensors),
            sum(int(tensor.n_bytes) for tensor in tensors),
        )
    except _OF_DAMAGE as error:
        raise _damaged(paths[0], error) from error


def _parts(path: Path) -> tuple[Path, ...]:
    shard = _SHARD.fullmatch(path.name)
    if shard is None:
        return (path,)
    count = int(shard["count"])
    if not 1 <= count <= _MAX_SHARDS:
        raise ModelLoadError(f"cannot read {path}: its name claims {count} parts", path=str(path))
    names = (f"{shard['stem']}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1))
    return tuple(path.with_name(name) for name in names)


def _reader(path: Path) -> Any:
    try:
        import gguf
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            'a GGUF file\'s exact size needs gguf: pip install "llama-client[crossover]"', extra="crossover"
        ) from error

    class Reader(gguf.GGUFReader):
        """Skips the tokenizer, of which the package makes an array per word: 11 s for Llama 3's, measured."""

        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            if raw_type == gguf.GGUFValueType.ARRAY:
                data: Any = self.data
                kind, count = struct.unpack_from("<IQ", data, orig_offs)
                if count > _MAX_VALUES and self.byte_order == "I":
                    return _array_bytes(data, orig_offs, kind, count), [], [], [gguf.GGUFValueType.ARRAY]
            return super()._get_field_parts(orig_offs, raw_type)

    def _array_bytes(data: Any, start: int, kind: int, count: int) -> int:
        if kind != gguf.GGUFValueType.STRING:
            return 12 + count * int(gguf.GGUFReader.gguf_scalar_to_np[gguf.GGUFValueType(kind)]().nbytes)
        view, at = memoryview(data), start + 12
        for _ in range(count):
            at += 8 + struct.unpack_from("<Q", view, at)[0]
        return at - start

    try:
        return Reader(path)
    except (*_OF_DAMAGE, OSError, MemoryError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ModelLoadError:
    return ModelLoadError(f"cannot read {path}: it is damaged ({error})", path=str(path))


def _model(values: dict[str, Any], tensors: list[Any], path: Path, tables: Tables) -> Architecture:
    kind = values.get("general.architecture")
    if not kind or not isinstance(kind, str):
        raise ModelLoadError(
            f"cannot read {path}: its header has no general.architecture, so the model's shape is unknown; download it "
            "again, or use another file",
            path=str(path),
        )

    def count(name: str) -> int:
        return _largest(values.get(f"{kind}.{name}"))

    missing = next((name for name in _DIMENSIONS if not count(name)), None)
    if missing is not None:
        message = f"cannot read {path}: it has no {kind}.{missing}, so the size of a KV cache is unknown"
        raise ModelLoadError(message, path=str(path))

    experts = Experts(
        experts=count("expert_count"),
        experts_per_token=count("expert_used_count") or 1,
        shared_experts=count("expert_shared_count"),
        every_n_layers=count("interleave_moe_layer_step") or 1,
        expert_ffn=count("expert_feed_forward_length") or count("feed_forward_length"),
    )
    heads = count("attention.head_count")
    shapes = {tensor.name: [int(size) for size in tensor.shape] for tensor in tensors}
    embeddings = shapes.get("token_embd.weight", [0, 0])
    is_llama_4 = kind == "llama4"
    model = Architecture(
        name=str(values.get("general.name") or path.stem),
        parameters=sum(int(tensor.n_elements) for tensor in tensors),
        layers=count("block_count"),
        hidden=count("embedding_length"),
        ffn=count("feed_forward_length"),
        heads=heads,
        # Where layers differ, the largest: an upper bound.
        kv_heads=count("attention.head_count_kv") or heads,
        head_dim=max(count("attention.key_length"), count("attention.value_length"))
        or count("embedding_length") // heads,
        vocab=embeddings[-1],
        context_tokens=count("context_length") or 1,
        tied_embeddings="output.weight" not in shapes,
        moe=experts if experts.experts else None,
        attention_chunk_tokens=_LLAMA_4_CHUNK_TOKENS if is_llama_4 else None,
        global_attention_every_n_layers=_LLAMA_4_GLOBAL_EVERY if is_llama_4 else None,
        licence=str(values.get("general.license") or "unknown"),
        source=path.name,
    )
    return _with_licence(model, tables)


def _with_licence(model: Architecture, tables: Tables) -> Architecture:
    """The model with its licence from the tables; of the same name but another shape, it is another model."""
    known = tables.find_model(model.name)
    if known is None or (known.layers, known.hidden, known.vocab) != (model.layers, model.hidden, model.vocab):
        return model
    names = ("licence", "released_on", "monthly_users_clause", "eu_multimodal_bar")
    return dataclasses.replace(model, **{name: getattr(known, name) for name in names})


def _precision(values: dict[str, Any], tensors: list[Any]) -> str:
    import gguf

    try:
        name = gguf.LlamaFileType(values["general.file_type"]).name
    except (KeyError, ValueError):
        # The type of most bytes.
        bytes_by_type: Counter[str] = Counter()
        for tensor in tensors:
            bytes_by_type[tensor.tensor_type.name] += int(tensor.n_bytes)
        return max(bytes_by_type, key=bytes_by_type.__getitem__, default="unknown")
    return str(name).removeprefix("MOSTLY_").removeprefix("ALL_")


def _largest(value: Any) -> int:
    """A count, or the largest of one count per layer; 0: there is none."""
    if isinstance(value, list):
        return max((_largest(each) for each in value), default=0)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
