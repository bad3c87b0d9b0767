"""What a GGUF file says of its model: the exact bytes of its weights, and the shape that its KV cache follows from.

It reads with the `gguf` package, of the extra `crossover`.
"""

from __future__ import annotations

import dataclasses
import re
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_client.crossover.tables import Architecture, Experts, Tables
from llama_client.errors import InvalidRequestError, MissingExtraError, ModelLoadError

_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_MAX_SHARDS = 1000
# Arrays of more values are of the tokenizer, which nothing here needs.
_MAX_VALUES = 4096
_DIMENSIONS = ("block_count", "embedding_length", "feed_forward_length", "attention.head_count")
# llama.cpp sets these for the architecture `llama4` itself; the file does not hold them.
_LLAMA_4_CHUNK_TOKENS, _LLAMA_4_GLOBAL_EVERY = 8192, 4


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A model in a GGUF file, or in the several that it was split into."""

    paths: tuple[Path, ...]
    model: Architecture
    precision: str
    weights_bytes: int


def read_gguf(path: Path, *, tables: Tables | None = None) -> GgufFile:
    """Reads a model's shape and the size of its weights; of a split one, any part will do."""
    from llama_client.providers.gguf.header import read_header

    paths = _parts(path)
    for part in paths:
        # Its messages say what is wrong with a file; the package's own do not.
        if read_header(part).is_adapter:
            raise ModelLoadError(f"cannot read {part}: it is a LoRA adapter, not a model", path=str(part))
    readers = [_reader(part) for part in paths]
    # Values stand in the first part; a name without shards is its own.
    values = {name: field.contents() for name, field in readers[0].fields.items() if field.data}
    tensors = [tensor for reader in readers for tensor in reader.tensors]
    return GgufFile(
        paths,
        _model(values, tensors, paths[0], tables or Tables.bundled()),
        _precision(values, tensors),
        sum(int(tensor.n_bytes) for tensor in tensors),
    )


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
        """Passes over the tokenizer, whose words the package makes an array each: 11 s for Llama 3's, measured."""

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
    except (ValueError, KeyError, IndexError, OSError, struct.error) as error:
        raise ModelLoadError(f"cannot read {path}: it is damaged ({error})", path=str(path)) from error


def _model(values: dict[str, Any], tensors: list[Any], path: Path, tables: Tables) -> Architecture:
    kind = values.get("general.architecture")
    if not kind or not isinstance(kind, str):
        raise ModelLoadError(
            f"cannot read {path}: its head does not say of which architecture the model is (general.architecture), so "
            "nothing follows from it; download it again, or take another file",
            path=str(path),
        )
    missing = next((name for name in _DIMENSIONS if not _largest(values.get(f"{kind}.{name}"))), None)
    if missing is not None:
        raise ModelLoadError(
            f"cannot read {path}: it has no {kind}.{missing}, so the size of a KV cache does not follow from it",
            path=str(path),
        )

    def count(name: str) -> int:
        return _largest(values.get(f"{kind}.{name}"))

    heads = count("attention.head_count")
    shapes = {tensor.name: [int(size) for size in tensor.shape] for tensor in tensors}
    embeddings = shapes.get("token_embd.weight", [0, 0])
    is_llama_4 = kind == "llama4"
    name = str(values.get("general.name") or path.stem)
    model = Architecture(
        name=name,
        parameters=sum(int(tensor.n_elements) for tensor in tensors),
        layers=count("block_count"),
        hidden=count("embedding_length"),
        ffn=count("feed_forward_length"),
        heads=heads,
        # Where layers differ, the most of any: a bound.
        kv_heads=count("attention.head_count_kv") or heads,
        head_dim=max(count("attention.key_length"), count("attention.value_length"))
        or count("embedding_length") // heads,
        vocab=embeddings[-1],
        context_tokens=count("context_length") or 1,
        tied_embeddings="output.weight" not in shapes,
        moe=_experts(count) if count("expert_count") else None,
        attention_chunk_tokens=_LLAMA_4_CHUNK_TOKENS if is_llama_4 else None,
        global_attention_every_n_layers=_LLAMA_4_GLOBAL_EVERY if is_llama_4 else None,
        licence=str(values.get("general.license") or "unknown"),
        source=path.name,
    )
    return _with_licence(model, tables)


def _experts(count: Any) -> Experts:
    return Experts(
        experts=count("expert_count"),
        experts_per_token=count("expert_used_count") or 1,
        shared_experts=count("expert_shared_count"),
        every_n_layers=count("interleave_moe_layer_step") or 1,
        expert_ffn=count("expert_feed_forward_length") or count("feed_forward_length"),
    )


def _with_licence(model: Architecture, tables: Tables) -> Architecture:
    """The model with what the tables know of its licence; a shape of its own is another model, whatever its name."""
    try:
        known = tables.model(model.name)
    except InvalidRequestError:
        return model
    if (known.layers, known.hidden, known.vocab) != (model.layers, model.hidden, model.vocab):
        return model
    return dataclasses.replace(
        model,
        licence=known.licence,
        released_on=known.released_on,
        monthly_users_clause=known.monthly_users_clause,
        eu_multimodal_bar=known.eu_multimodal_bar,
    )


def _precision(values: dict[str, Any], tensors: list[Any]) -> str:
    import gguf

    try:
        name = gguf.LlamaFileType(values["general.file_type"]).name
    except (KeyError, ValueError):
        # What most bytes are in.
        bytes_by_type: Counter[str] = Counter()
        for tensor in tensors:
            bytes_by_type[tensor.tensor_type.name] += int(tensor.n_bytes)
        return bytes_by_type.most_common(1)[0][0] if bytes_by_type else "unknown"
    return str(name).removeprefix("MOSTLY_").removeprefix("ALL_")


def _largest(value: Any) -> int:
    """A count, or the largest of a count a layer; 0: there is none."""
    if isinstance(value, list):
        return max((_largest(each) for each in value), default=0)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
