"""Checks in-process models: the library, the files, memory, GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from llama_client.config.provider_tables import GgufConfig
from llama_client.crossover.fitting.memory import need
from llama_client.crossover.tables import Architecture
from llama_client.diagnostics.finding import Fact, Facts, Finding, Status
from llama_client.diagnostics.machine import MachineFacts, gib
from llama_client.errors import LlamaClientError
from llama_client.providers.gguf.adapters import base_of, problem_of
from llama_client.providers.gguf.engine import DEFAULT_CONTEXT_TOKENS
from llama_client.providers.gguf.header import GgufHeader, read_header, read_model, real_path
from llama_client.providers.gguf.store import DEMO_NAME, ModelStore, not_pulled
from llama_client.providers.gguf.threads import Cores, configured_threads, threads_for

_DEFAULT = "default"
_INSTALL = 'Run `pip install "llama-client[gguf]"`.'
_GPU_BUILDS = "Install a build of xllamacpp for your GPU: its page on PyPI lists those for CUDA, ROCm and Vulkan."
# For a file that does not say how many tokens its model knows: as many as Llama 3.
_VOCAB = 131_072
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class GgufView:
    name: str
    table: GgufConfig
    store: ModelStore
    findings: tuple[Finding, ...]

    def why_not(self, model: str) -> tuple[str, str | None] | None:
        """Why a model of it cannot answer, and a remedy; None: it can."""
        if find_spec("xllamacpp") is None:
            return "the extra gguf is not installed, so no file runs in this process", _INSTALL
        adapter_problem, model = problem_of(model, self.table.lora), base_of(model)
        if adapter_problem is not None:
            return adapter_problem, f"Give an adapter of providers.{self.name}.lora that name, or correct the target."
        if model != _DEFAULT or self.table.model_path is None:
            name = DEMO_NAME if model == _DEFAULT else model
            stored = self.store.find(name)
            if stored is None:
                message, remedy = not_pulled(name, [_DEFAULT, *self.store.names()])
                return message, f"{remedy[0].upper()}{remedy[1:]}."
            checked = _checked(stored.path)
            if isinstance(checked, str):
                return checked, f"Run `llama-client pull {name}` again."
        # Those of the provider itself, not of one of its pulled models.
        problems = [f for f in self.findings if (f.check, f.subject, f.status) == ("gguf_model", self.name, "problem")]
        return (problems[0].message, problems[0].remedy) if problems else None


def engine_findings(hardware: MachineFacts | None, store: ModelStore, *, is_needed: bool) -> Iterator[Finding]:
    names = store.names()
    yield _library(hardware, is_needed=is_needed or bool(names))
    shown = ", ".join(names[:_MAX_NAMED]) + (f" and {len(names) - _MAX_NAMED} more" * (len(names) > _MAX_NAMED))
    remedy = None if names else f"Run `llama-client pull {DEMO_NAME}` for a tiny one that needs no network after."
    facts = {"models": names, "folder": str(store.folder)}
    status: Status = "ok" if names else "info"
    yield Finding("gguf_pulled", "local engines", "models", status, f"pulled: {shown or 'none'}", remedy, facts)
    for gone in sorted({path.stem for path in store.folder.glob("*.json")} - set(names)):
        message = "it was pulled, and its file is gone or its record is damaged"
        remedy = f"Run `llama-client pull` for it again, or delete {store.folder / f'{gone}.json'}."
        yield Finding("gguf_pulled", "local engines", gone, "warning", message, remedy)


def _library(hardware: MachineFacts | None, *, is_needed: bool) -> Finding:
    def finding(status: Status, message: str, remedy: str | None = None, **facts: Fact) -> Finding:
        return Finding("gguf_engine", "local engines", "xllamacpp", status, message, remedy, facts)

    if hardware is None:
        return finding("skipped", "this machine did not answer in time")
    if not hardware.has_library:
        message = "not installed, so no model runs in this process"
        return finding("problem", message, _INSTALL) if is_needed else finding("info", message)
    if hardware.gpu_devices is None:
        remedy = 'See why: `python -c "import xllamacpp"`; reinstalling it may help.'
        return finding("problem" if is_needed else "warning", "installed, and it cannot be loaded", remedy)
    gpus = hardware.gpu_devices
    installed = version("xllamacpp")
    message = f"version {installed}, computes on {', '.join(gpus) or 'the CPU'}"
    if hardware.machine.gpus and not gpus:
        message += f", although there is a GPU ({hardware.machine.gpus[0].title})"
        return finding("warning", message, _GPU_BUILDS, version=installed, gpus=gpus)
    return finding("ok", message, version=installed, gpus=gpus)


def file_findings(name: str, table: GgufConfig, store: ModelStore, hardware: MachineFacts | None) -> Iterator[Finding]:
    if table.model_path is not None:
        remedy = f"Correct providers.{name}.model_path, or download the file again."
        yield from _model(name, table.model_path, remedy, table, hardware)
    else:
        for stored in store.all()[:_MAX_NAMED]:
            remedy = f"Run `llama-client pull` for {stored.source} again."
            yield from _model(f"{name}/{stored.name}", stored.path, remedy, table, hardware)
    parts = [("projector", table.mmproj, f"providers.{name}.mmproj")] if table.mmproj is not None else []
    parts += [("adapter", lora.path, f"providers.{name}.lora") for lora in table.lora]
    if table.draft_model_path is not None:
        parts.append(("draft model", table.draft_model_path, f"providers.{name}.draft_model_path"))
    for what, path, key in parts:
        checked = _checked(path, is_adapter=what == "adapter")
        if isinstance(checked, str):
            yield _file(name, "problem", checked, f"Correct {key}.")
        else:
            yield _file(name, "ok", f"{what} {path.name}, {gib(checked.size_bytes)}")
    if hardware is not None and hardware.has_library:
        yield _threads(name, table.n_threads, hardware.cores)


def _model(
    subject: str, path: Path, remedy: str, table: GgufConfig, hardware: MachineFacts | None
) -> Iterator[Finding]:
    checked = _checked(path)
    if isinstance(checked, str):
        yield _file(subject, "problem", checked, remedy)
        return
    size = checked.size_bytes
    facts: dict[str, Fact] = {"size_bytes": size, "architecture": checked.architecture, "path": str(path)}
    context = checked.context_tokens
    if context is not None:
        facts["context_tokens"] = context
    trained = f", trained for {context:,} tokens" if context else ""
    message = f"{path.name}: {gib(size)}, {checked.architecture or 'unknown architecture'}{trained}"
    yield _file(subject, "ok", message, facts=facts)
    yield from _memory(subject, checked, size, table, hardware)


def _threads(name: str, wanted: int | None, cores: Cores) -> Finding:
    ours = threads_for(cores)
    choice = ours if wanted is None else configured_threads(wanted)
    facts: dict[str, Fact] = {
        "n_threads": choice.n_threads,
        "cores": cores.all,
        "usable_cores": cores.usable,
        "quota_cpus": cores.quota_cpus,
    }
    status: Status = "info" if cores.all is None else "ok"
    message, remedy = str(choice), None
    if cores.all is not None and choice.n_threads > ours.n_threads:
        limit = ours.reason if ours.n_threads < cores.all else f"this machine has {cores.all} cores"
        status, message = "warning", f"{choice}; {limit}"
        remedy = f"Remove providers.{name}.n_threads, or lower it to {ours.n_threads}."
    return Finding("gguf_threads", "local engines", name, status, message, remedy, facts)


def _checked(path: Path, *, is_adapter: bool = False) -> GgufHeader | str:
    """The header of a file, or why it cannot be used."""
    try:
        header = read_header(path) if is_adapter else read_model(real_path(path))
    except LlamaClientError as error:
        return str(error)
    if header.is_adapter and not is_adapter:
        return f"cannot load {path}: it is a LoRA adapter, not a model"
    if is_adapter and not header.is_adapter:
        return f"cannot load {path} as a LoRA adapter: it is not one"
    return header


def _file(subject: str, status: Status, message: str, remedy: str | None = None, facts: Facts | None = None) -> Finding:
    return Finding("gguf_model", "local engines", subject, status, message, remedy, facts or {})


def _memory(
    subject: str, header: GgufHeader, size: int, table: GgufConfig, hardware: MachineFacts | None
) -> Iterator[Finding]:
    """Whether a file fits in memory with the context that it would be loaded with, where that can be computed."""
    model = _shape(header)
    if hardware is None or model is None:
        return
    trained = header.context_tokens or DEFAULT_CONTEXT_TOKENS
    context = table.n_ctx or min(trained, DEFAULT_CONTEXT_TOKENS)
    needed = _bytes_of(model, size, context, table) + (table.prompt_cache_mib << 20)
    draft = None if table.draft_model_path is None else _checked(table.draft_model_path)
    if isinstance(draft, GgufHeader) and (shape := _shape(draft)) is not None:
        needed += _bytes_of(shape, draft.size_bytes, context, table)
    gpu_bytes = hardware.machine.usable_gpu_bytes if hardware.gpu_devices and table.n_gpu_layers != 0 else 0
    slots = f" in each of {table.n_parallel} slots" if table.n_parallel > 1 else ""
    message = f"it needs about {gib(needed)} with {context:,} tokens of context{slots}"
    facts: dict[str, Fact] = {"needed_bytes": needed, "gpu_bytes": gpu_bytes, "context_tokens": context}
    status, memory, remedy = _room(needed, gpu_bytes, hardware, f"providers.{subject.partition('/')[0]}")
    yield Finding("gguf_memory", "local engines", subject, status, f"{message}; {memory}", remedy, facts)


def _bytes_of(model: Architecture, size: int, context: int, table: GgufConfig) -> int:
    # The precision only decides the engine; the size is the file's own.
    return need(model, "Q4_K_M", context_tokens=context, sequences=table.n_parallel, weights_bytes=size).total_bytes


def _room(needed: int, gpu_bytes: int, hardware: MachineFacts, where: str) -> tuple[Status, str, str | None]:
    ram = hardware.machine.usable_ram_bytes
    if needed <= gpu_bytes:
        return "ok", f"the GPUs have {gib(gpu_bytes)}", None
    if ram is None:
        return "info", "the size of the memory is unknown", None
    both = ram if hardware.machine.has_unified_memory else ram + gpu_bytes
    smaller = f"Lower {where}.n_ctx or n_parallel, or take a smaller file."
    if needed > both:
        return "problem", f"this machine has {gib(both)} for programs", smaller
    if gpu_bytes:
        return "info", f"the GPUs have {gib(gpu_bytes)}, so that the CPU computes a part, slowly", None
    available = hardware.available_ram_bytes
    if available is not None and needed > available:
        return "warning", f"only {gib(available)} are available now", f"Close other programs. {smaller}"
    return "ok", f"this machine has {gib(ram)} for programs", None


def _shape(header: GgufHeader) -> Architecture | None:
    kind = header.architecture

    def count(name: str) -> int:
        value = header.values.get(f"{kind}.{name}")
        return value if isinstance(value, int) and value > 0 else 0

    layers, hidden, heads = count("block_count"), count("embedding_length"), count("attention.head_count")
    if not (layers and hidden and heads):
        return None
    return Architecture(
        name=kind,
        parameters=header.size_bytes,
        layers=layers,
        hidden=hidden,
        ffn=count("feed_forward_length") or 4 * hidden,
        heads=heads,
        kv_heads=count("attention.head_count_kv") or heads,
        head_dim=max(count("attention.key_length"), count("attention.value_length")) or hidden // heads,
        vocab=count("vocab_size") or _VOCAB,
        context_tokens=header.context_tokens or DEFAULT_CONTEXT_TOKENS,
    )
