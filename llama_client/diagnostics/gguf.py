"""Checks in-process models: the library, the files, memory, GPUs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llama_client.config.provider_tables import GgufConfig
from llama_client.diagnostics.finding import Fact, Finding, Status
from llama_client.diagnostics.machine import MachineFacts, gib
from llama_client.errors import LlamaClientError
from llama_client.providers.gguf.engine import DEFAULT_CONTEXT_TOKENS
from llama_client.providers.gguf.header import GgufHeader, read_header
from llama_client.providers.gguf.store import DEMO_NAME

if TYPE_CHECKING:
    from llama_client.crossover.tables import Architecture
    from llama_client.providers.gguf.store import ModelStore


_DEFAULT = "default"
_INSTALL = 'Run `pip install "llama-client[gguf]"`.'
_GPU_BUILDS = "Install a build of xllamacpp for your GPU: its page on PyPI lists those for CUDA, ROCm and Vulkan."
# Where a file does not say how many words its model knows: as many as Llama 3.
_VOCAB = 131_072
_SHARD = re.compile(r"(?P<stem>.*)-\d{5}-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_MAX_NAMED = 5

Wrong = tuple[str, str]
"""What is wrong with a file, and what to do."""


@dataclass(frozen=True, slots=True)
class GgufView:
    """A provider of files, as it was found."""

    name: str
    table: GgufConfig
    is_installed: bool
    store: ModelStore
    wrong: Wrong | None = None
    findings: tuple[Finding, ...] = ()

    def why_not(self, model: str) -> Wrong | None:
        """Why a model of it cannot answer, and what to do; None: it can."""
        if not self.is_installed:
            return "the extra gguf is not installed, so no file runs in this process", _INSTALL
        if model == _DEFAULT and self.table.model_path is not None:
            return self.wrong
        name = DEMO_NAME if model == _DEFAULT else model
        stored = self.store.find(name)
        if stored is None:
            return f"no model named {name!r} has been pulled", f"Run `llama-client pull {name}`."
        checked = _checked(stored.path, is_adapter=False)
        return (checked[0], f"Run `llama-client pull {name}` again.") if isinstance(checked, tuple) else self.wrong


@dataclass(slots=True)
class _Found:
    """What was found of one provider."""

    findings: list[Finding] = field(default_factory=list)
    wrong: Wrong | None = None


def examine_files(
    tables: Mapping[str, GgufConfig], store: ModelStore, hardware: MachineFacts | None
) -> dict[str, GgufView]:
    """Each provider of kind `gguf`."""
    from importlib.util import find_spec

    is_installed = find_spec("xllamacpp") is not None
    views = {}
    for name, table in tables.items():
        found = _provider(name, table, store, hardware)
        views[name] = GgufView(name, table, is_installed, store, found.wrong, tuple(found.findings))
    return views


def engine_findings(hardware: MachineFacts | None, store: ModelStore, *, is_needed: bool) -> Iterator[Finding]:
    """The library and what was pulled."""
    yield from _library(hardware, is_needed=is_needed or bool(store.names()))
    names = store.names()
    if names:
        shown = ", ".join(names[:_MAX_NAMED]) + (f" and {len(names) - _MAX_NAMED} more" * (len(names) > _MAX_NAMED))
        message, remedy = f"pulled: {shown}", None
    else:
        message, remedy = (
            "none was pulled",
            "`llama-client pull smollm2-135m` gets a tiny one that needs no network after.",
        )
    facts: dict[str, Fact] = {"models": names, "folder": str(store.folder)}
    yield Finding("gguf_pulled", "local engines", "models", "info" if not names else "ok", message, remedy, facts)
    for gone in sorted({path.stem for path in store.folder.glob("*.json")} - set(names)):
        message = "it was pulled, and its file is gone or its record is damaged"
        remedy = f"Run `llama-client pull` for it again, or delete {store.folder / f'{gone}.json'}."
        yield Finding("gguf_pulled", "local engines", gone, "warning", message, remedy)


def _library(hardware: MachineFacts | None, *, is_needed: bool) -> Iterator[Finding]:
    subject = "xllamacpp"
    if hardware is None:
        yield Finding("gguf_engine", "local engines", subject, "skipped", "this machine did not answer in time")
        return
    if not hardware.has_library:
        status: Status = "problem" if is_needed else "info"
        message = "not installed, so no model runs in this process"
        yield Finding("gguf_engine", "local engines", subject, status, message, _INSTALL if is_needed else None)
        return
    if hardware.devices is None:
        remedy = 'See why: `python -c "import xllamacpp"`; installing it anew may help.'
        message = "installed, and it cannot be loaded"
        yield Finding("gguf_engine", "local engines", subject, "problem" if is_needed else "warning", message, remedy)
        return
    from importlib.metadata import version

    gpus = [device.title for device in hardware.devices if device.is_gpu]
    facts: dict[str, Fact] = {"version": version(subject), "gpus": gpus}
    on = f"computes on {', '.join(gpus)}" if gpus else "computes on the CPU"
    message = f"version {version(subject)}, {on}"
    if hardware.machine.gpus and not gpus:
        message += f", although there is a GPU ({hardware.machine.gpus[0].title})"
        yield Finding("gguf_engine", "local engines", subject, "warning", message, _GPU_BUILDS, facts)
    else:
        yield Finding("gguf_engine", "local engines", subject, "ok", message, facts=facts)


def _provider(name: str, table: GgufConfig, store: ModelStore, hardware: MachineFacts | None) -> _Found:
    found = _Found()
    if table.model_path is not None:
        correct = f"Correct providers.{name}.model_path, or download the file again."
        found.wrong = _look_at(found, name, table.model_path, correct, table, hardware)
    else:
        for stored in store.all()[:_MAX_NAMED]:
            again = f"Run `llama-client pull` for {stored.source} again."
            _look_at(found, f"{name}/{stored.name}", stored.path, again, table, hardware)
    beside = [(table.mmproj, f"providers.{name}.mmproj", False)] if table.mmproj is not None else []
    beside += [(lora.path, f"providers.{name}.lora", True) for lora in table.lora]
    for path, key, is_adapter in beside:
        checked = _checked(path, is_adapter=is_adapter)
        if isinstance(checked, tuple):
            found.wrong = found.wrong or (checked[0], f"Correct {key}.")
            found.findings.append(_file(name, "problem", checked[0], f"Correct {key}."))
        else:
            what = "adapter" if is_adapter else "projector"
            found.findings.append(_file(name, "ok", f"{what} {path.name}, {gib(checked.size_bytes)}"))
    return found


def _look_at(
    found: _Found, subject: str, path: Path, remedy: str, table: GgufConfig, hardware: MachineFacts | None
) -> Wrong | None:
    """Adds what is found of a file; returns what is wrong with it."""
    checked = _checked(path, is_adapter=False)
    if isinstance(checked, tuple):
        found.findings.append(_file(subject, "problem", checked[0], remedy))
        return checked[0], remedy
    size = _size_bytes(path, checked)
    facts: dict[str, Fact] = {"size_bytes": size, "architecture": checked.architecture, "path": str(path)}
    context = checked.context_tokens
    if context is not None:
        facts["context_tokens"] = context
    trained = f", trained for {context:,} tokens" if context else ""
    message = f"{path.name}: {gib(size)}, {checked.architecture or 'unknown architecture'}{trained}"
    found.findings.append(_file(subject, "ok", message, facts=facts))
    memory = _memory(subject, checked, size, table, hardware)
    if memory is not None:
        found.findings.append(memory)
    return None


def _checked(path: Path, *, is_adapter: bool) -> GgufHeader | Wrong:
    try:
        header = read_header(path)
    except LlamaClientError as error:
        return str(error), "Correct its path, or download it again."
    if header.is_adapter and not is_adapter:
        return f"cannot load {path}: it is a LoRA adapter, not a model", "Name a model, and the adapter in lora."
    if is_adapter and not header.is_adapter:
        return f"cannot load {path} as a LoRA adapter: it is not one", "Name an adapter."
    return header


def _file(
    subject: str, status: Status, message: str, remedy: str | None = None, facts: Mapping[str, Fact] | None = None
) -> Finding:
    return Finding("gguf_model", "local engines", subject, status, message, remedy, facts or {})


def _size_bytes(path: Path, header: GgufHeader) -> int:
    """All parts of a model that was split into several files."""
    shard = _SHARD.fullmatch(path.name)
    if shard is None:
        return header.size_bytes
    return sum(part.stat().st_size for part in path.parent.glob(f"{shard['stem']}-*-of-{shard['count']}.gguf"))


def _memory(
    subject: str, header: GgufHeader, size: int, table: GgufConfig, hardware: MachineFacts | None
) -> Finding | None:
    """Whether a file finds room with the context that it would be loaded with; None: nobody can tell."""
    from llama_client.crossover.fitting.memory import need

    model = _shape(header)
    if hardware is None or model is None:
        return None
    trained = header.context_tokens or DEFAULT_CONTEXT_TOKENS
    context = table.n_ctx or min(trained, DEFAULT_CONTEXT_TOKENS)
    # Its precision decides only which engine runs it; the bytes are the file's own.
    needed = need(model, "Q4_K_M", context_tokens=context, sequences=table.n_parallel, weights_bytes=size).total_bytes
    on_gpus = any(device.is_gpu for device in hardware.devices or ()) and table.n_gpu_layers != 0
    gpu_bytes = hardware.machine.usable_gpu_bytes if on_gpus else 0
    slots = f" in each of {table.n_parallel} slots" if table.n_parallel > 1 else ""
    message = f"it needs about {gib(needed)} with {context:,} tokens of context{slots}"
    facts: dict[str, Fact] = {"needed_bytes": needed, "gpu_bytes": gpu_bytes, "context_tokens": context}
    status, told, remedy = _room(needed, gpu_bytes, hardware, f"providers.{subject.partition('/')[0]}")
    return Finding("gguf_memory", "local engines", subject, status, f"{message}; {told}", remedy, facts)


def _room(needed: int, gpu_bytes: int, hardware: MachineFacts, where: str) -> tuple[Status, str, str | None]:
    ram = hardware.machine.usable_ram_bytes
    if needed <= gpu_bytes:
        return "ok", f"the GPUs have {gib(gpu_bytes)}", None
    if ram is None:
        return "info", "how much memory there is, is not known", None
    both = ram if hardware.machine.has_unified_memory else ram + gpu_bytes
    smaller = f"Lower {where}.n_ctx or n_parallel, or take a smaller file."
    if needed > both:
        return "problem", f"programs have {gib(both)} here", smaller
    if gpu_bytes:
        return "info", f"the GPUs have {gib(gpu_bytes)}, so that a part is computed by the CPU, slowly", None
    available = hardware.available_ram_bytes
    if available is not None and needed > available:
        return "warning", f"only {gib(available)} are available now", f"Close other programs. {smaller}"
    return "ok", f"programs have {gib(ram)} here", None


def _shape(header: GgufHeader) -> Architecture | None:
    """A model's shape, as far as the head of its file tells; where layers differ, the most of any."""
    from llama_client.crossover.tables import Architecture

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
