"""One point that somebody measured on a server of their own: what `llama-client bench` stores and a rate is scaled by.

Data alone. What is made of it: `rates.replica_rate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

# The `gpu` of a point that was measured without one.
CPU = "cpu"


@dataclass(frozen=True, slots=True)
class MeasuredPoint:
    """The rate of one replica at one concurrency, measured by the user.

    A replica is one server process and the GPUs that it splits the model over. Whoever writes such a point has to hold
    `concurrency` requests open all the time (a new one starts as soon as one ends), leave out the time before the first
    answers and after the last request started, and count what came back, not what was asked for.

    Attributes:
        model: The canonical name, as in `llama-3.1-8b`.
        gpu: Its name in the tables, as in `h100_sxm`.
        n_gpus: How many GPUs the replica has.
        precision: Of the weights, a canonical name: `bf16`, `fp8`, `nvfp4`, `int4`, or GGUF's, as in `Q4_K_M`.
        engine: `trtllm`, `vllm`, `sglang` or `llama.cpp`; None: unknown, taken for whichever is asked for.
        input_tokens: The mean length of the prompts, in tokens of the model.
        output_tokens: The mean length of the answers, in tokens.
        concurrency: Requests under way at once.
        output_tokens_per_s: Output tokens of all requests together, per second of wall time. Input tokens don't count.
        tpot_ms: The mean time of one output token after the first, per request, in milliseconds; None: not measured.
        ttft_ms: The mean time to the first token, in milliseconds; None: not measured.
        measured_on: The day.
    """

    model: str
    gpu: str
    n_gpus: int
    precision: str
    engine: str | None
    input_tokens: int
    output_tokens: int
    concurrency: int
    output_tokens_per_s: float
    tpot_ms: float | None
    ttft_ms: float | None
    measured_on: date
