"""How fast a Llama is on a GPU: an estimate from the data sheets, for names of the tables.

For shapes and data sheets of one's own, and for limits on time per token: `replica.Replica`. What was measured for the
same configuration goes before an estimate in `rates.py`.
"""

from __future__ import annotations

from llama_client.crossover.serving.replica import Replica
from llama_client.crossover.tables import Tables
from llama_client.errors import InvalidRequestError


def decode_tpot_ms(
    model: str,
    gpu: str,
    *,
    n_gpus: int = 1,
    precision: str = "fp8",
    isl: int,
    osl: int,
    batch: float,
    engine: str = "trtllm",
    tables: Tables | None = None,
) -> float:
    """Milliseconds per output token of each request on a server with `batch` requests under way.

    Prompts that come in meanwhile are included. Requests beyond what the memory holds wait and slow nobody down.

    Args:
        model: A name of the tables, as in `llama-3.1-70b`.
        gpu: The same, as in `h100_sxm`.
        n_gpus: Over how many GPUs the model is split.
        precision: `bf16`, `fp16`, `fp8`, `fp8_block`, `nvfp4` or `int4`; with llama.cpp GGUF's names, as in `Q4_K_M`.
        isl: Tokens of a prompt.
        osl: Tokens of an answer.
        batch: Requests under way at once. llama.cpp is known with 1; more of them read the weights once, and how fast
            it computes then is a judgement.
        engine: `trtllm`, `vllm`, `sglang` or `llama.cpp`.
        tables: Where names are looked up; None: the bundled ones.

    Raises:
        InvalidRequestError: A name is unknown, a number is none or out of range, the model does not fit, or the GPU's
            FLOPS are unknown and needed.

    Examples:
        >>> 15 < decode_tpot_ms("llama-3.1-70b", "h200_sxm", isl=1024, osl=1024, batch=4) < 25
        True
        >>> lengths = {"isl": 16, "osl": 1024}
        >>> alone = decode_tpot_ms("llama-3-8b", "rtx_4090", precision="Q4_K_M", **lengths, batch=1, engine="llama.cpp")
        >>> 6 < alone < 10
        True
    """
    return _replica(model, gpu, n_gpus, precision, engine, tables).tpot_ms(batch, isl, osl)


def max_throughput(
    model: str,
    gpu: str,
    *,
    n_gpus: int = 1,
    precision: str = "fp8",
    isl: int,
    osl: int,
    engine: str = "trtllm",
    tables: Tables | None = None,
) -> float:
    """Output tokens per second of a replica that always has as many requests as its memory holds, offline.

    Args:
        model: A name of the tables, as in `llama-3.1-70b`.
        gpu: The same, as in `h100_sxm`.
        n_gpus: Over how many GPUs the model is split.
        precision: As for `decode_tpot_ms`.
        isl: Tokens of a prompt.
        osl: Tokens of an answer.
        engine: `trtllm`, `vllm`, `sglang` or `llama.cpp`. On a chip whose FLOPS are unknown llama.cpp's is that of one
            request.
        tables: Where names are looked up; None: the bundled ones.

    Raises:
        InvalidRequestError: A name is unknown, a number is none or out of range, the model does not fit, or the GPU's
            FLOPS are unknown and needed.

    Examples:
        >>> 3500 < max_throughput("llama-3.3-70b", "h100_sxm", n_gpus=2, isl=1000, osl=1000) < 5000
        True
    """
    replica = _replica(model, gpu, n_gpus, precision, engine, tables)
    return replica.max_output_tokens_per_s(isl, osl).output_tokens_per_s


def _replica(model: str, gpu: str, n_gpus: int, precision: str, engine: str, tables: Tables | None) -> Replica:
    for param, name in (("model", model), ("gpu", gpu)):
        if not isinstance(name, str):
            raise InvalidRequestError(f"{param}: must be a name of the tables, not {type(name).__name__}", param=param)
    known = tables or Tables.bundled()
    return Replica(known.model(model), known.gpu(gpu), n_gpus, precision, engine)
