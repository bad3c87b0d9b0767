"""Makes a GGUF adapter, which llama.cpp and so llama_client serve, of what peft saves after training a LoRA adapter.

For models of the architecture `llama` (Llama, SmolLM2, Mistral and others) with adapters on their linear layers. It
needs gguf and numpy, and no torch: `pip install gguf numpy`. llama.cpp's own `convert_lora_to_gguf.py` does more.

    python examples/lora/convert.py FOLDER --base MODEL.gguf --out ADAPTER.gguf
"""

import argparse
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import MODEL_ARCH, GGUFReader, GGUFWriter, Keys, get_tensor_name_map

_DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<half>[AB])\.weight")
# What peft can do beside plain LoRA, with the values that mean "not done". An adapter that uses one of these would be
# converted to something that answers otherwise than in training.
_PLAIN = {
    "bias": ("none",),
    "use_dora": (False,),
    "lora_bias": (False,),
    "fan_in_fan_out": (False,),
    "rank_pattern": ({},),
    "alpha_pattern": ({},),
    "modules_to_save": ([],),
    "target_parameters": ([],),
    "trainable_token_indices": ([],),
    "layer_replication": ([],),
    "alora_invocation_tokens": ([],),
}


class Unconvertible(ValueError):  # noqa: N818 - it says what the adapter is
    """The adapter cannot be converted; says why."""


@dataclass(frozen=True, slots=True)
class Base:
    """What the conversion has to know of the model that was trained on.

    Attributes:
        name: Its own name.
        n_blocks: Its layers.
        heads: Attention heads by projection: `attn_q` and `attn_k`.
        shapes: Each tensor as (outputs, inputs).
    """

    name: str
    n_blocks: int
    heads: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of_file(cls, path: Path) -> "Base":
        """Reads it from the GGUF file that the adapter will be served with."""
        reader = GGUFReader(path)

        def value(key: str) -> Any:
            field = reader.get_field(key)
            return None if field is None else field.contents()

        if value(Keys.General.TYPE) == "adapter":
            raise Unconvertible(f"{path} is no model but an adapter")
        architecture = value(Keys.General.ARCHITECTURE)
        if architecture != "llama":
            raise Unconvertible(f"{path} has the architecture {architecture}; this converts for llama alone")
        n_heads = value("llama.attention.head_count")
        return cls(
            name=value(Keys.General.NAME) or path.stem,
            n_blocks=value("llama.block_count"),
            heads={"attn_q": n_heads, "attn_k": value("llama.attention.head_count_kv") or n_heads},
            shapes={tensor.name: tuple(int(size) for size in reversed(tensor.shape)) for tensor in reader.tensors},
        )


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file as float32. Its form: the head's length, the head in JSON, the numbers."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _DTYPES:
            raise Unconvertible(f"{path}: {name} is of the type {entry['dtype']}; {', '.join(_DTYPES)} are known")
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[start + begin : start + end], _DTYPES[entry["dtype"]])
        if entry["dtype"] == "BF16":  # the upper half of a float32
            values = (values.astype("<u4") << 16).view("<f4")
        tensors[name] = values.astype(np.float32).reshape(entry["shape"])
    return tensors


def effective_alpha(settings: Mapping[str, Any]) -> float:
    """The alpha by which llama.cpp, which multiplies by alpha / rank, does what peft did."""
    if settings.get("peft_type") != "LORA":
        raise Unconvertible(f"this is no LoRA adapter but {settings.get('peft_type')}")
    for key, plain in _PLAIN.items():
        if settings.get(key) not in (None, *plain):
            raise Unconvertible(f"the adapter was trained with {key} = {settings[key]!r}, which this does not convert")
    rank, alpha = settings["r"], float(settings["lora_alpha"])
    if alpha <= 0:  # 0 would mean "multiply by 1" to llama.cpp
        raise Unconvertible(f"lora_alpha must be above 0, got {alpha}")
    return alpha * math.sqrt(rank) if settings.get("use_rslora") else alpha


def converted(tensors: Mapping[str, np.ndarray], base: Base) -> dict[str, np.ndarray]:
    """peft's tensors under llama.cpp's names and in its order of rows, checked against the model's own."""
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, base.n_blocks)
    halves: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        match = _NAME.fullmatch(name)
        ours = match and names.get_name(f"{match['module']}.weight", try_suffixes=(".weight",))
        if not match or ours is None:
            raise Unconvertible(f"{name} has no place in a llama of {base.n_blocks} layers")
        halves.setdefault(ours, {})[match["half"]] = tensor
    result = {}
    for name, pair in sorted(halves.items()):
        if set(pair) != {"A", "B"}:
            raise Unconvertible(f"{name} has only one of its two halves")
        a, b = pair["A"], pair["B"]
        shape = base.shapes.get(name)
        if shape is None:
            raise Unconvertible(f"{base.name} has no {name}: another model's adapter")
        if shape != (b.shape[0], a.shape[1]):
            raise Unconvertible(
                f"{name} is {b.shape[0]} x {a.shape[1]} here and {shape} in {base.name}: another model's adapter"
            )
        heads = base.heads.get(name.split(".")[-2])
        result[f"{name}.lora_a"] = a
        result[f"{name}.lora_b"] = b if heads is None else paired(b, heads)
    return result


def paired(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a projection of queries or keys in llama.cpp's order.

    Positions turn the numbers of a head in pairs. Those of a pair lie half a head apart in transformers' Llamas, and
    side by side in llama.cpp's.
    """
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, 2, half, -1).swapaxes(1, 2).reshape(rows.shape)


def convert(folder: Path, base: Base, out: Path) -> None:
    """Reads `adapter_config.json` and `adapter_model.safetensors` of a folder, and writes the GGUF file."""
    alpha = effective_alpha(json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")))
    tensors = converted(read_safetensors(folder / "adapter_model.safetensors"), base)
    writer = GGUFWriter(out, "llama")
    writer.add_type("adapter")
    writer.add_name(out.stem)
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, base.name)
    writer.add_string(Keys.Adapter.TYPE, "lora")
    writer.add_float32(Keys.Adapter.LORA_ALPHA, alpha)
    for name, tensor in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(tensor, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes a GGUF adapter of the folder that peft saved.")
    parser.add_argument("folder", type=Path, help="holds adapter_config.json and adapter_model.safetensors")
    parser.add_argument("--base", type=Path, required=True, help="the GGUF file of the model that was trained on")
    parser.add_argument("--out", type=Path, required=True, help="the GGUF file to write")
    arguments = parser.parse_args()
    try:
        convert(arguments.folder, Base.of_file(arguments.base), arguments.out)
    except (Unconvertible, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
