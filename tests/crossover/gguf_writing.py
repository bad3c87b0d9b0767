"""Small GGUF files of models, with the values that llama.cpp's converter writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

HIDDEN, HEADS, VOCAB, LAYERS, FFN = 64, 4, 320, 3, 128


def write_model(
    path: Path,
    *,
    architecture: str = "llama",
    name: str | None = "Tiny Model",
    file_type: int | None = gguf.LlamaFileType.MOSTLY_Q8_0,
    kv_heads: int | list[int] | None = 2,
    vocabulary: int = VOCAB,
    tied: bool = False,
    experts: int = 0,
    leave_out: str = "",
) -> int:
    """Writes a model and returns the bytes of its tensors, as counted here.

    Args:
        leave_out: A value that is not written, such as `block_count`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(str(path), architecture)
    if name is not None:
        writer.add_name(name)
    if file_type is not None:
        writer.add_file_type(file_type)
    counts: dict[str, Any] = {
        "block_count": LAYERS,
        "embedding_length": HIDDEN,
        "feed_forward_length": FFN,
        "attention.head_count": HEADS,
        "context_length": 4096,
    }
    if experts:
        counts |= {"expert_count": experts, "expert_used_count": 2}
    for key, value in counts.items():
        if key != leave_out:
            writer.add_uint32(f"{architecture}.{key}", value)
    if kv_heads is not None:
        writer.add_head_count_kv(kv_heads)
    # A tokenizer as long as real ones, whose words nothing here reads.
    writer.add_token_list([f"word{number}" for number in range(vocabulary)])
    writer.add_token_scores([0.5] * vocabulary)
    size = 0
    for tensor in ["token_embd.weight", *(() if tied else ("output.weight",))]:
        writer.add_tensor(tensor, np.zeros((VOCAB, HIDDEN), dtype=np.float32))
        size += VOCAB * HIDDEN * 4
    for layer in range(LAYERS):
        # Q8_0: 34 bytes for 32 values.
        blocks = np.zeros((FFN, HIDDEN // 32 * 34), dtype=np.uint8)
        writer.add_tensor(f"blk.{layer}.ffn_up.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        size += blocks.nbytes
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return size
