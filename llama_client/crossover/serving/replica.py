"""One replica: a server process, its GPUs and the model on them. How fast it is, by batch, and where that ends.

The estimate alone; what was measured or published for the same thing goes before it in `rates.py`. One request under
llama.cpp, which works differently: `single_stream.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from llama_client.crossover.precisions import cached_value_bytes, family
from llama_client.crossover.serving import capacity, single_stream
from llama_client.crossover.serving.engines import canonical_engine, precision_for
from llama_client.crossover.serving.fitted import Constants, fitted
from llama_client.crossover.serving.work import Hardware, StepTime, hardware, prompt_ms, step_time, work_of
from llama_client.crossover.tables import Architecture, Gpu
from llama_client.errors import InvalidRequestError

Binding = Literal["memory", "bandwidth", "compute", "slo"]
MAX_GPUS = 1024
# No server runs with more requests at once; vLLM's default is 256 to 1024, TensorRT-LLM's 2048.
MAX_BATCH = 4096
# llama.cpp's server splits its context into as many slots as it is told to; beyond this nobody has published a figure.
LLAMA_CPP_MAX_BATCH = 32
# If a batch twice as large would give this much more, what is missing is the memory to hold it.
_WORTH_MORE_MEMORY = 1.2
# Of the range of batches, in the search for the largest one: to a millionth of a request.
_HALVINGS = 32


@dataclass(frozen=True, slots=True)
class Saturation:
    """A replica under as much load as something lets it take.

    Attributes:
        output_tokens_per_s: Of all requests together.
        batch: Requests at once, rounded down.
        tpot_ms: Milliseconds per output token of one request.
        ttft_ms: Milliseconds to its first token, waiting behind other prompts included; None: unknown (the GPU's
            FLOPS).
        binding: What keeps the rate from being higher: `memory` (room for more requests), `bandwidth`, `compute`, or
            `slo`, the limits that were asked for.
    """

    output_tokens_per_s: float
    batch: int
    tpot_ms: float
    ttft_ms: float | None
    binding: Binding


@dataclass(frozen=True)
class Replica:
    """A model on GPUs that it is split over, tensor-parallel; under llama.cpp layer by layer.

    Attributes:
        model: Its shape.
        gpu: The data sheet of one GPU.
        n_gpus: How many.
        precision: Of the weights; any spelling is taken and made canonical.
        engine: `trtllm`, `vllm`, `sglang` or `llama.cpp`, as a tuned installation of it behaves.
        constants: Of the servers; None: the package's own.

    Raises:
        InvalidRequestError: An unknown precision or engine, or one that does not go with the other or the GPU.

    Examples:
        >>> from llama_client.crossover.tables import Tables
        >>> tables = Tables.bundled()
        >>> replica = Replica(tables.model("llama-3.1-70b"), tables.gpu("h100_sxm"), 2, "fp8")
        >>> full = replica.max_output_tokens_per_s(1000, 1000)
        >>> 3500 < full.output_tokens_per_s < 5000, full.batch > 100
        (True, True)
    """

    model: Architecture
    gpu: Gpu
    n_gpus: int = 1
    precision: str = "fp8"
    engine: str = "trtllm"
    constants: Constants | None = None

    def __post_init__(self) -> None:
        capacity.require_whole("n_gpus", self.n_gpus, "GPUs")
        if not 1 <= self.n_gpus <= MAX_GPUS:
            raise InvalidRequestError(f"n_gpus: must be from 1 to {MAX_GPUS}, got {self.n_gpus}", param="n_gpus")
        engine = canonical_engine(self.engine)
        object.__setattr__(self, "engine", engine)
        object.__setattr__(self, "precision", precision_for(self.precision, engine, self.gpu))

    @property
    def is_llama_cpp(self) -> bool:
        """Whether llama.cpp runs it, with rules of its own."""
        return self.engine == "llama.cpp"

    @property
    def has_curve(self) -> bool:
        """Whether anything is known of several requests: not on a chip whose FLOPS are unknown."""
        return self.gpu.bf16_tflops is not None or not self.is_llama_cpp

    @cached_property
    def kv_value_bytes(self) -> float:
        """Of one value in the KV cache: 8 bits only where the GPU computes in them."""
        native = {"fp8": self.gpu.fp8_tflops, "fp4": self.gpu.fp4_tflops}.get(family(self.precision), 0.0)
        return 2.0 if native is None else cached_value_bytes(self.precision)

    def room_for(self, isl: int, osl: int) -> float:
        """How many requests' caches the memory holds on average; below 1: not even one.

        A request that is under way holds its prompt and, with some room for those that grow, three quarters of its
        answer.
        """
        each = self.model.kv_bytes_per_token(self.kv_value_bytes) * (isl + 0.75 * osl)
        most = LLAMA_CPP_MAX_BATCH if self.is_llama_cpp else MAX_BATCH
        return min(
            most, capacity.cache_room_bytes(self.model, self.gpu, self.n_gpus, self.precision, self.engine) / each
        )

    def largest_batch(self, isl: int, osl: int) -> int:
        """How many requests run at once at most.

        Args:
            isl: Tokens of a prompt.
            osl: Tokens of an answer.

        Raises:
            InvalidRequestError: Not even one fits; the message says how much is missing and what would fit.
        """
        capacity.require_lengths(self.model, isl, osl)
        capacity.require_room(
            self.model, self.gpu, self.n_gpus, self.precision, self.engine, isl + osl, self.kv_value_bytes
        )
        return math.floor(self.room_for(isl, osl))

    def tpot_ms(self, batch: float, isl: int, osl: int, *, served: bool = True) -> float:
        """Milliseconds per output token of each request.

        Args:
            batch: Requests under way; those beyond the largest batch wait and do not slow the others down.
            isl: Tokens of a prompt.
            osl: Tokens of an answer.
            served: Tokens are streamed to clients one by one; not: an offline run, whose host has less to do.

        Raises:
            InvalidRequestError: The batch is below 1, the model does not fit, or the GPU's FLOPS are unknown.
        """
        capacity.require_number("batch", batch)
        if batch < 1:
            raise InvalidRequestError(f"batch: must be at least 1, got {batch}", param="batch")
        running = min(batch, self.largest_batch(isl, osl))
        return self._tpot_ms(running, isl, osl, served=served)

    def ttft_ms(self, batch: float, isl: int, osl: int, *, served: bool = True) -> float | None:
        """Milliseconds to the first token with a batch under way; None: unknown, for want of the GPU's FLOPS.

        Its own prompt, one step of the others, and the prompts that it waits for when they come at random (M/D/1),
        times what bunches add. Not the wait for a place in a full batch, which has no end.
        """
        if not self.has_curve:
            return None
        own = self._prompt_ms(isl)
        step = self._tpot_ms(min(batch, self.largest_batch(isl, osl)), isl, osl, served=served)
        busy = min(own * (batch - 1) / osl / step, 0.99)
        alone = own + step + own * busy / (2 * (1 - busy))
        return alone * (1 if self.is_llama_cpp and batch == 1 else self._constants.first_token_factor)

    def max_output_tokens_per_s(self, isl: int, osl: int, *, served: bool = False) -> Saturation:
        """The largest batch that fits, always full.

        Raises:
            InvalidRequestError: The model does not fit.
        """
        return self._at(self._useful_batch(isl, osl), isl, osl, served=served)

    def output_tokens_per_s_under(self, isl: int, osl: int, *, tpot_ms: float, ttft_s: float) -> Saturation:
        """The largest batch that keeps to limits.

        Args:
            isl: Tokens of a prompt.
            osl: Tokens of an answer.
            tpot_ms: The longest time per output token, in milliseconds.
            ttft_s: The longest time to the first token, in seconds. Not looked at where it cannot be known.

        Returns:
            `binding` is `slo` where the limits end it; then a rate and batch of 0 mean that even one request is too
            slow.
        """

        def keeps(batch: float) -> bool:
            first = self.ttft_ms(batch, isl, osl)
            return self._tpot_ms(batch, isl, osl, served=True) <= tpot_ms and (first is None or first <= ttft_s * 1e3)

        most = self._useful_batch(isl, osl)
        if not keeps(1):
            return replace(self.alone(isl, osl), output_tokens_per_s=0.0, batch=0, binding="slo")
        if keeps(most):
            return self._at(most, isl, osl, served=True)
        return replace(self._at(_last(keeps, most), isl, osl, served=True), binding="slo")

    def output_tokens_per_s(self, batch: float, isl: int, osl: int, *, own_prompt: bool = True) -> float:
        """The rate of a batch that is always full, served.

        Args:
            batch: Requests under way, at most the largest batch.
            isl: Tokens of a prompt.
            osl: Tokens of an answer.
            own_prompt: Over the whole time that requests are there; not: over the time in which they write.
        """
        known = own_prompt and self.ttft_ms(batch, isl, osl) is not None
        each = self._each_ms if known else self._tpot_ms
        return batch / each(batch, isl, osl, served=True) * 1e3

    def alone(self, isl: int, osl: int) -> Saturation:
        """One request at a time, served."""
        self.largest_batch(isl, osl)
        return self._at(1, isl, osl, served=True)

    def _useful_batch(self, isl: int, osl: int) -> int:
        """The largest batch that anything can be said of."""
        most = self.largest_batch(isl, osl)
        return most if self.has_curve else 1

    def _at(self, batch: float, isl: int, osl: int, *, served: bool) -> Saturation:
        tpot = self._tpot_ms(batch, isl, osl, served=served)
        first = self.ttft_ms(batch, isl, osl, served=served)
        # Where the FLOPS are unknown, so is what reading prompts takes away.
        each = tpot if first is None else self._each_ms(batch, isl, osl, served=served)
        return Saturation(
            batch / each * 1e3, math.floor(batch), tpot, first, self._binding(batch, isl, osl, served=served)
        )

    def _binding(self, batch: float, isl: int, osl: int, *, served: bool) -> Binding:
        if self.is_llama_cpp and batch == 1:
            return "bandwidth"
        step = self._step(batch, isl, osl, served=served, own_prompt=True)
        twice = self._step(2 * batch, isl, osl, served=served, own_prompt=True)
        if batch < MAX_BATCH and 2 * step.total_ms / twice.total_ms >= _WORTH_MORE_MEMORY:
            return "memory"
        return "bandwidth" if step.read_ms > step.decode_ms + step.prefill_ms else "compute"

    def _tpot_ms(self, batch: float, isl: int, osl: int, *, served: bool) -> float:
        """A token's time once the first one is there."""
        if self.is_llama_cpp and batch == 1:
            return single_stream.tpot_ms(self.model, self.gpu, self.precision, context_tokens=isl + osl / 2)
        return self._step(batch, isl, osl, served=served, own_prompt=False).total_ms / self._experts_factor

    def _each_ms(self, batch: float, isl: int, osl: int, *, served: bool) -> float:
        """A token's share of all the time that a request is there, its own prompt's included."""
        if self.is_llama_cpp and batch == 1:
            return self._tpot_ms(1, isl, osl, served=served) + self._prompt_ms(isl) / osl
        return self._step(batch, isl, osl, served=served, own_prompt=True).total_ms / self._experts_factor

    @property
    def _experts_factor(self) -> float:
        return 1.0 if self.model.moe is None or self.is_llama_cpp else self._constants.moe_factor

    def _step(self, batch: float, isl: int, osl: int, *, served: bool, own_prompt: bool) -> StepTime:
        if self.is_llama_cpp:
            capacity.require_known_flops(self.gpu)
            prompts = batch if own_prompt else batch - 1
            return single_stream.step(self.model, self.gpu, self.precision, batch, isl, osl, prompts=prompts)
        work = work_of(
            self.model, self.precision, self.kv_value_bytes, self.n_gpus, batch, isl, osl, own_prompt=own_prompt
        )
        return step_time(work, self._hardware, self.precision, self.engine, self._constants, served=served)

    def _prompt_ms(self, isl: int) -> float:
        """One prompt, read at once."""
        if self.is_llama_cpp:
            return single_stream.prompt_ms(self.model, self.gpu, isl)
        work = work_of(self.model, self.precision, self.kv_value_bytes, self.n_gpus, 1, isl, 1, own_prompt=True)
        exchange_s = work.exchanged_bytes / (self._hardware.link_bytes_per_s * self._constants.link_efficiency)
        return prompt_ms(self.model, isl, self._hardware, self.precision, self._constants) + exchange_s * 1e3

    @cached_property
    def _hardware(self) -> Hardware:
        return hardware(self.gpu, self.n_gpus, self.precision, fitted().link_gb_per_s(self.gpu.name))

    @property
    def _constants(self) -> Constants:
        return self.constants or fitted().servers


def _last(keeps: Callable[[float], bool], most: float) -> float:
    """The largest batch from 1 to `most` that keeps to something, as smaller ones do and `most` does not.

    A mean, so not whole: otherwise a faster GPU could lose a request to rounding.
    """
    low, high = 1.0, most
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return low
