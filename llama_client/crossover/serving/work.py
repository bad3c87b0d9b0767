"""What one decode step of one replica has to do: bytes read, FLOPs, bytes exchanged. And how long that takes.

`work_of` counts, with nothing fitted in it; `step_time` divides by what the hardware gives, with the constants of
`fitted.py`. All counts are over all GPUs of the replica together.

The parts of a step add up: on every engine that was fitted, a step whose parts overlapped perfectly (the larger of
memory and arithmetic) predicted unseen rows worse than their sum.
"""

from __future__ import annotations

from dataclasses import dataclass

from llama_client.crossover.precisions import (
    Family,
    embedding_parameters,
    family,
    layer_weight_bytes,
    weight_bytes,
)
from llama_client.crossover.serving.fitted import Constants
from llama_client.crossover.tables import Architecture, Gpu
from llama_client.errors import InvalidRequestError

_SIXTEEN_BITS_BYTES = 2


@dataclass(frozen=True, slots=True)
class Work:
    """One decode step at a batch, with the share of prompts that has to be read beside it.

    Attributes:
        batch: Requests that each get one token.
        weight_bytes: Weights read once: all of a dense model but the input embeddings.
        kv_bytes: Keys and values read, of every request at the middle of its answer.
        decode_flops: For the tokens written.
        prefill_flops: For the prompts of the requests that come in while one step passes: their matrices.
        attention_flops: For the pairs of tokens in these prompts: in 16 bits, whatever the weights have.
        exchanged_bytes: What each GPU sends and receives, for both.
        layers: How many.
    """

    batch: float
    weight_bytes: float
    kv_bytes: float
    decode_flops: float
    prefill_flops: float
    attention_flops: float
    exchanged_bytes: float
    layers: int


@dataclass(frozen=True, slots=True)
class Hardware:
    """The data sheets of a replica's GPUs, added up.

    Attributes:
        bytes_per_s: Bandwidth of the memory.
        flops: A second, of the arithmetic that the precision runs in.
        wide_flops: The same in 16 bits.
        flops_family: Which that is; another one than the weights' where the GPU has no units for theirs.
        link_bytes_per_s: Between two of the GPUs, both directions together.
    """

    bytes_per_s: float
    flops: float
    wide_flops: float
    flops_family: Family
    link_bytes_per_s: float


@dataclass(frozen=True, slots=True)
class StepTime:
    """The parts of a step, in milliseconds, which add up to it."""

    read_ms: float
    decode_ms: float
    prefill_ms: float
    exchange_ms: float
    layers_ms: float
    requests_ms: float

    @property
    def total_ms(self) -> float:
        """The whole step: what one output token of each request takes."""
        return self.read_ms + self.decode_ms + self.prefill_ms + self.exchange_ms + self.layers_ms + self.requests_ms


def work_of(
    model: Architecture,
    precision: str,
    kv_value_bytes: float,
    n_gpus: int,
    batch: float,
    isl: int,
    osl: int,
    *,
    own_prompt: bool,
) -> Work:
    """Counts the work of a step.

    Args:
        model: The shape.
        precision: A canonical name.
        kv_value_bytes: Of one value in the KV cache.
        n_gpus: Over how many GPUs each layer is split.
        batch: Requests at once; a mean may be a fraction.
        isl: Tokens of a prompt.
        osl: Tokens of an answer.
        own_prompt: A request's own prompt counts too, as it has to for a rate; not: for the time per output token,
            which only the prompts of the others lengthen.
    """
    # In a steady state each step finishes batch/osl requests and admits as many prompts.
    prompts = (batch if own_prompt else max(batch - 1, 0)) / osl
    # A ring's sum moves 2(g-1)/g of the hidden state through each GPU, twice a layer, in 16 bits.
    per_token = 2 * model.layers * 2 * (n_gpus - 1) / n_gpus * model.hidden * _SIXTEEN_BITS_BYTES
    return Work(
        batch,
        read_weight_bytes(model, precision, batch),
        batch * (isl + osl / 2) * model.kv_bytes_per_token(kv_value_bytes),
        batch * 2 * _matrix_parameters(model),
        prompts * prefill_flops(model, isl),
        prompts * attention_flops(model, isl),
        (batch + prompts * isl) * per_token,
        model.layers,
    )


def prefill_flops(model: Architecture, isl: int) -> float:
    """The FLOPs of one prompt's matrices: two a weight and token; the head is wanted for the last token alone."""
    return 2.0 * (model.parameters_per_token - embedding_parameters(model)) * isl


def attention_flops(model: Architecture, isl: int) -> float:
    """The FLOPs of attention in one prompt: each token looks at those before it."""
    return 2.0 * model.layers * model.heads * model.head_dim * isl**2


def prompt_ms(model: Architecture, isl: int, sheet: Hardware, precision: str, constants: Constants) -> float:
    """Milliseconds of arithmetic for one prompt."""
    matrices_s = prefill_flops(model, isl) / flops_reached(sheet, precision, constants)
    return (matrices_s + attention_flops(model, isl) / (sheet.wide_flops * constants.compute_efficiency)) * 1e3


def read_weight_bytes(model: Architecture, precision: str, batch: float) -> float:
    """The weights that a step reads: without the input embeddings, and of experts those that the batch meets.

    With tokens spread evenly over E experts of which each meets k, a batch of B meets `E (1 - (1 - k/E)^B)`.
    """
    # What is not in the dimensions (a vision tower) does not read text.
    share = model.parameters / model.all_parameters
    table = 0 if model.tied_embeddings else model.vocab * model.hidden * embedding_bytes(model, precision)
    read = weight_bytes(model, precision) * share - table
    if model.moe is None:
        return read
    each = 3 * model.hidden * model.moe.expert_ffn * layer_weight_bytes(model, precision)
    missed: float = (1 - model.moe.experts_per_token / model.moe.experts) ** batch
    return read - (model.layers // model.moe.every_n_layers) * model.moe.experts * missed * each


def embedding_bytes(model: Architecture, precision: str) -> float:
    """Of one weight of the embeddings: 16 bits beside narrow layers; in GGUF files the mean of the file."""
    if family(precision) == "gguf":
        return layer_weight_bytes(model, precision)
    return float(_SIXTEEN_BITS_BYTES)


def hardware(gpu: Gpu, n_gpus: int, precision: str, link_gb_per_s: float) -> Hardware:
    """The data sheet for a precision.

    A GPU without units for 8 or 4 bits (the A100) may still store weights so, and computes in 16 bits.

    Raises:
        InvalidRequestError: The FLOPS that are needed are unknown.
    """
    wanted = family(precision)
    own = {"bf16": gpu.bf16_tflops, "fp8": gpu.fp8_tflops, "fp4": gpu.fp4_tflops}.get(wanted)
    tflops, ran = (own, wanted) if own is not None else (gpu.bf16_tflops, "bf16")
    if tflops is None:
        raise InvalidRequestError(
            f"gpu: the FLOPS of {gpu.name!r} are unknown, and they bound the rate of several requests at once; give a "
            'row of your own with bf16_tflops, or ask for one request under engine="llama.cpp"',
            param="gpu",
        )
    family_run: Family = "bf16" if ran == "bf16" else wanted
    wide = (gpu.bf16_tflops or tflops) * 1e12 * n_gpus
    bytes_per_s = gpu.bandwidth_gb_per_s * 1e9 * n_gpus
    return Hardware(bytes_per_s, tflops * 1e12 * n_gpus, wide, family_run, link_gb_per_s * 1e9)


def flops_reached(sheet: Hardware, precision: str, constants: Constants) -> float:
    """What is left of the data sheet's FLOPS for matrices of a precision."""
    reached = sheet.flops * constants.compute_efficiency
    if sheet.flops_family == "fp4":
        return reached * constants.fp4_flops_factor
    return reached * (constants.unpacking_factor if family(precision) != sheet.flops_family else 1)


def layer_overhead_us(precision: str, engine: str, constants: Constants) -> float:
    """What a layer takes beside its work."""
    engines = {"vllm": constants.vllm_layer_overhead_us, "sglang": constants.sglang_layer_overhead_us}
    quantising = constants.fp4_layer_overhead_us if family(precision) == "fp4" else 0
    return constants.layer_overhead_us + engines.get(engine, 0) + quantising


def step_time(
    work: Work, sheet: Hardware, precision: str, engine: str, constants: Constants, *, served: bool
) -> StepTime:
    """How long a step takes.

    Args:
        work: What there is to do.
        sheet: The hardware.
        precision: Canonical, of the weights.
        engine: `trtllm`, `vllm` or `sglang`.
        constants: What was fitted.
        served: Requests come over the network and their tokens are streamed; not: an offline run.
    """
    flops = flops_reached(sheet, precision, constants)
    wide_flops = sheet.wide_flops * constants.compute_efficiency
    return StepTime(
        (work.weight_bytes + work.kv_bytes) / (sheet.bytes_per_s * constants.bandwidth_efficiency) * 1e3,
        work.decode_flops / flops * 1e3,
        (work.prefill_flops / flops + work.attention_flops / wide_flops) * 1e3,
        work.exchanged_bytes / (sheet.link_bytes_per_s * constants.link_efficiency) * 1e3,
        work.layers * layer_overhead_us(precision, engine, constants) / 1e3,
        work.batch * constants.request_overhead_us / 1e3 if served else 0.0,
    )


def _matrix_parameters(model: Architecture) -> int:
    """The weights that a written token is multiplied with: all that it meets but the table of input embeddings."""
    return model.parameters_per_token - (0 if model.tied_embeddings else model.vocab * model.hidden)
