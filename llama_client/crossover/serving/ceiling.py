"""What no engine can exceed: the data sheet at 100%, with the work that every token needs."""

from __future__ import annotations

from llama_client.crossover.precisions import weight_bytes
from llama_client.crossover.serving.capacity import require_number
from llama_client.crossover.serving.replica import Replica
from llama_client.crossover.serving.single_stream import active_bytes
from llama_client.crossover.serving.work import hardware, read_weight_bytes, work_of
from llama_client.errors import InvalidRequestError

# By whether llama.cpp runs it: servers cache in 8 bits at the least, llama.cpp in q4_0.
_NARROWEST_CACHED_VALUE_BYTES = {False: 1.0, True: 18 / 32}


def ceiling_tokens_per_s(replica: Replica, *, isl: int, osl: int, batch: float | None = None) -> float:
    """The output tokens per second that no engine exceeds without guessing ahead (speculative decoding).

    Per step, at least the weights that a token needs and every request's keys and values are read at the data sheet's
    bandwidth, and at least two FLOPs a weight and token are spent at its FLOPS; whichever takes longer. Prompts, which
    may come from a cache, and everything else are free here.

    Args:
        replica: Which machine and model.
        isl: Tokens of a prompt.
        osl: Tokens of an answer.
        batch: Requests at once; None: the most that the whole memory holds beside the weights, nothing set aside.

    Examples:
        >>> from llama_client.crossover.tables import Tables
        >>> tables = Tables.bundled()
        >>> one = Replica(tables.model("llama-3.1-8b"), tables.gpu("h100_sxm"), 1, "bf16")
        >>> round(ceiling_tokens_per_s(one, isl=1, osl=1, batch=1))
        223
    """
    # Whatever engines do by default, nothing keeps them from a narrower cache.
    kv_value_bytes = min(replica.kv_value_bytes, _NARROWEST_CACHED_VALUE_BYTES[replica.is_llama_cpp])
    at_once = _most(replica, kv_value_bytes, isl, osl) if batch is None else batch
    if replica.is_llama_cpp and at_once == 1:
        # Cards take turns: one card's bandwidth.
        cache = replica.model.kv_bytes_per_token(kv_value_bytes) * (isl + osl / 2)
        return replica.gpu.bandwidth_gb_per_s * 1e9 / (active_bytes(replica.model, replica.precision) + cache)
    work = work_of(
        replica.model, replica.precision, kv_value_bytes, replica.n_gpus, at_once, isl, osl, own_prompt=False
    )
    # Of experts, those of one token: all requests might happen to ask for the same.
    weights = read_weight_bytes(replica.model, replica.precision, 1)
    sheet_bytes_per_s = replica.gpu.bandwidth_gb_per_s * 1e9 * replica.n_gpus
    slowest_s = (weights + work.kv_bytes) / sheet_bytes_per_s
    if replica.gpu.bf16_tflops is not None:
        sheet = hardware(replica.gpu, replica.n_gpus, replica.precision, 1)
        slowest_s = max(slowest_s, work.decode_flops / sheet.flops)
    return at_once / slowest_s


def require_possible(
    tokens_per_s: float,
    replica: Replica,
    *,
    isl: int,
    osl: int,
    batch: float | None = None,
    param: str = "tokens_per_second",
) -> None:
    """Refuses a rate above the ceiling.

    Args:
        tokens_per_s: Output tokens per second of one replica.
        replica: Which machine and model.
        isl: Tokens of a prompt.
        osl: Tokens of an answer.
        batch: Requests at once; None: unknown.
        param: The field that the error names.

    Raises:
        InvalidRequestError: It is above, or not a positive number; the message has the ceiling.
    """
    require_number(param, tokens_per_s)
    if tokens_per_s <= 0:
        raise InvalidRequestError(f"{param}: must be above 0, got {tokens_per_s:g}", param=param)
    ceiling = ceiling_tokens_per_s(replica, isl=isl, osl=osl, batch=batch)
    if tokens_per_s > ceiling:
        load = "" if batch is None else f" with {batch:g} at once"
        raise InvalidRequestError(
            f"{param}: {tokens_per_s:,.0f} output tokens per second are impossible: {replica.model.name} in "
            f"{replica.precision} on {replica.n_gpus} x {replica.gpu.name}{load} cannot exceed {ceiling:,.0f}, the "
            "data sheet's bandwidth and FLOPS at 100%; count output tokens alone, of one replica",
            param=param,
        )


def _most(replica: Replica, kv_value_bytes: float, isl: int, osl: int) -> float:
    memory = replica.gpu.memory_gib * 2**30 * replica.n_gpus - weight_bytes(replica.model, replica.precision)
    each = replica.model.kv_bytes_per_token(kv_value_bytes) * (isl + osl / 2)
    return max(1.0, memory / each)
