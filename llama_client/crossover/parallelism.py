"""How many GPUs one replica can have: what a model is divided into, and the numbers that divide it."""

from __future__ import annotations

from llama_client.crossover.scenario import invalid
from llama_client.crossover.tables import Architecture

# The slots of common servers. A replica is never split over several servers of its own accord.
_SLOTS = (1, 2, 4, 8)
MAX_GPUS = 1024


def splits_tensors(engine: str) -> bool:
    """Whether an engine divides every layer over its GPUs; llama.cpp gives each GPU whole layers."""
    return engine != "llama.cpp"


def obstacle(model: Architecture, engine: str, n_gpus: int) -> str | None:
    """Why a replica cannot have so many GPUs; None: it can."""
    if not splits_tensors(engine):
        if n_gpus <= model.layers:
            return None
        return f"llama.cpp gives each GPU whole layers, and {model.name} has {model.layers} of them"
    # vLLM's `divide` and `LlamaAttention` (vllm/model_executor/models/llama.py) refuse the same. Heads of keys and
    # values are copied where there are more GPUs than heads, each equally often.
    for count, what in (
        (model.heads, "attention heads"),
        (model.ffn, "columns of its feed-forward part"),
        *(((model.moe.expert_ffn, "columns of an expert"),) if model.moe is not None else ()),
    ):
        if count % n_gpus:
            return f"the {count:,} {what} of {model.name} cannot be split by {n_gpus}"
    if max(model.kv_heads, n_gpus) % min(model.kv_heads, n_gpus):
        return f"the {model.kv_heads:,} key-value heads of {model.name} cannot be split by {n_gpus}"
    return None


def degrees(model: Architecture, engine: str, most: int = MAX_GPUS) -> list[int]:
    """The numbers of GPUs that a replica can have, up to `most`."""
    limit = model.heads if splits_tensors(engine) else model.layers
    return [count for count in range(1, min(limit, most) + 1) if obstacle(model, engine, count) is None]


def proposed(model: Architecture, engine: str) -> list[int]:
    """The numbers of GPUs that are tried where none is asked for: powers of two, under llama.cpp any up to 8."""
    slots = _SLOTS if splits_tensors(engine) else range(1, _SLOTS[-1] + 1)
    return [count for count in slots if obstacle(model, engine, count) is None]


def at_least(model: Architecture, engine: str, n_gpus: int) -> int | None:
    """The smallest number of GPUs from `n_gpus` on that a replica can have; None: there is none."""
    found = (count for count in proposed(model, engine) if count >= n_gpus)
    return next(found, None) or next((count for count in degrees(model, engine) if count >= n_gpus), None)


def require_degree(model: Architecture, engine: str, n_gpus: int) -> None:
    """Refuses a number of GPUs that a replica cannot have, with the nearest ones that it can."""
    why = obstacle(model, engine, n_gpus)
    if why is None:
        return
    can = degrees(model, engine)
    near = [*[count for count in can if count < n_gpus][-1:], *[count for count in can if count > n_gpus][:1]]
    raise invalid("n_gpus", f"{why}; the nearest that can be: {' or '.join(map(str, near))}, got {n_gpus}")


def kv_copies(model: Architecture, engine: str, n_gpus: int) -> float:
    """How often a replica keeps each key and value: more than once where there are more GPUs than heads of them."""
    # Each GPU has at least one head: vLLM and TensorRT-LLM copy them.
    return max(1.0, n_gpus / model.kv_heads) if splits_tensors(engine) else 1.0
