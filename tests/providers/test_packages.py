"""Providers that installed packages add: rows, factories, the package of the examples, and packages that are broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_client.providers.services import GROUP
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer, as_json
from tests.cli.conftest import Ran, run, run_program

EXAMPLE = Path(__file__).parents[2] / "examples" / "third_party_provider"
KEY = "sk-test-secret-1234567890"
ROW = """
from llama_client.providers.services import Quirks, Service

HUM = Service(
    name="hum",
    title="Hum's cloud",
    base_url="https://api.hum.example/v1",
    key_variables=("HUM_API_KEY",),
    keys_url="https://hum.example/keys",
    models={"llama-of-hum": "llama-3.1-8b-instruct"},
    price_source="groq",
    quirks=Quirks(renames={"seed": ("dice",)}),
)
"""
ENGINE = """
from llama_client import ChatCompletionChunk
from llama_client.providers.base import HttpAnswer, Provider, ServedModel
from llama_client.providers.wire.openai_response import ChunkReader

class Engine(Provider):
    def __init__(self, text):
        self.text = text

    def is_free(self, model):
        return True

    def served_models(self):
        return [ServedModel("loud")]

    def chunks(self, call):
        reader = ChunkReader(HttpAnswer(200, {}, b"", 0.0), call, lambda choice, _: None)
        message = {"role": "assistant", "content": self.text}
        yield reader.whole({}, [{"message": message, "finish_reason": "stop"}])

    async def achunks(self, call):
        for chunk in self.chunks(call):
            yield chunk

def open_engine(setup):
    return Engine(setup.options["text"])
"""
# Asks once in each way, and prints what came of it.
ASK = """
import asyncio, sys
from llama_client import AsyncLlamaClient, LlamaClient

model = sys.argv[1]
messages = [{"role": "user", "content": "Hi"}]
with LlamaClient() as client:
    reply = client.chat.completions.create(model=model, messages=messages, seed=7 if "hum/" in model else None)
    print(reply.text, reply.target, reply.cost.status, reply.cost.usd)
    with client.chat.completions.create(model=model, messages=messages, stream=True) as stream:
        print("".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices))

async def ask():
    async with AsyncLlamaClient() as client:
        print((await client.ask("Hi", model=model)).text)

asyncio.run(ask())
"""


def installed(folder: Path, module: str, text: str, **entries: str) -> None:
    """Puts a package there as an installer would: its module, and what says what it adds."""
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(text, encoding="utf-8")
    about = folder / f"{module}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n", encoding="utf-8")
    lines = [f"[{GROUP}]", *(f"{name} = {module}:{value}" for name, value in entries.items())]
    (about / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for packages, which every process of the test looks into."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    return folder


def asked(model: str) -> list[str]:
    ran = run_program(ASK, model)
    assert ran.code == 0, ran.err
    return ran.out.splitlines()


def completed(line: str) -> list[str]:
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    return run(env={"_LLAMA_CLIENT_COMPLETE": "zsh_complete", **words}).out.splitlines()[1::3]


def write(text: str) -> None:
    Path("llama-client.toml").write_text(text, encoding="utf-8")


def named(ran: Ran, subject: str) -> dict[str, dict[str, Any]]:
    """What the doctor found of a subject, by the check."""
    return {each["check"]: each for each in ran.document["findings"] if each["subject"] == subject}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WireServer]:
    """Where the services of the tests are, with both wires. A named file may send a key there, a found one may not."""

    def answer(received: Received) -> Answer:
        if received.path.endswith("/models"):
            return as_json({"data": [{"id": "m-1"}]})
        if received.path.endswith("/speak"):
            usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
            return as_json({"says": f"{received.json['hear'][-1]['content']}!", "usage": usage})
        return OPENAI.good(streams=bool(received.json.get("stream")))

    monkeypatch.setenv("LLAMA_CLIENT_CONFIG", "llama-client.toml")
    with WireServer(answer) as server:
        yield server


def test_a_row_of_a_package_is_known_everywhere(
    site: Path, server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(site, "hum_package", ROW, hum="HUM")
    monkeypatch.setenv("HUM_API_KEY", KEY)
    monkeypatch.delenv("LLAMA_CLIENT_CONFIG")
    ran = run("config", "init", "--yes", "--json")
    assert (ran.document["providers"], ran.document["default_model"]) == (["hum"], "hum/llama-of-hum")
    assert run("config", "check", "--strict").code == 0
    assert "hum/llama-of-hum" in completed("llama-client chat -m hum/")
    wrong = run("config", "check", "--json", env={"LLAMA_CLIENT_PROVIDERS__X__KIND": "humm"}).document["errors"]
    assert (wrong[0]["key"], "did you mean 'hum'?" in wrong[0]["message"]) == ("providers.x.kind", True)
    monkeypatch.setenv("LLAMA_CLIENT_CONFIG", "llama-client.toml")
    write(f'[providers.hum]\nbase_url = "{server.url}"\n')
    assert "serves 1 model" in named(run("doctor", "--json"), "hum")["provider_reachable"]["message"]
    assert run("models", "--json").document["providers"][0]["models"][0]["target"] == "hum/m-1"
    # Its prices are those that it says it asks; and its own name for a field is on the wire.
    assert asked("hum/openai/gpt-oss-20b") == ["Hello hum/openai/gpt-oss-20b exact 8.25E-7", "Hello", "Hello"]
    assert next(each.json for each in server.requests if each.method == "POST")["dice"] == 7
    assert asked("llama-3.1-8b-instruct")[0].startswith("Hello hum/llama-of-hum")
    assert server.requests[-1].headers["authorization"] == f"Bearer {KEY}"
    monkeypatch.delenv("HUM_API_KEY")
    assert "set the variable HUM_API_KEY" in run("config", "check", "--json").out
    assert "Get a key at https://hum.example/keys" in named(run("doctor", "--json"), "hum")["provider_key"]["remedy"]


def test_a_found_file_sends_no_key_of_a_packages_service_elsewhere(site: Path) -> None:
    installed(site, "hum_package", ROW, hum="HUM")
    write('[providers.hum]\nbase_url = "https://evil.test"\n')
    assert "not send HUM_API_KEY to another address" in run("config", "check", "--json").out


def test_the_package_of_the_examples_adds_a_row_and_a_wire(site: Path, server: WireServer) -> None:
    files = [EXAMPLE / "pyproject.toml", *(EXAMPLE / "src").rglob("*.py")]
    lines = [path.read_text(encoding="utf-8").splitlines() for path in files]
    assert sum(map(len, lines)) < 50
    command = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable, "--target", str(site)]
    command += ["--offline", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, str(EXAMPLE)], check=True, capture_output=True, timeout=120)
    env = {"ACME_API_KEY": KEY, "PARROT_API_KEY": KEY}
    ran = run("config", "init", "--yes", "--json", env=env)
    assert ran.document["providers"] == ["acme", "parrot"]
    assert run("config", "check", "--strict", env=env).code == 0
    assert "parrot/polly-1" in completed("llama-client chat -m par")
    price = '[[prices]]\ntarget = "parrot/polly-1"\ninput_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0\n'
    tables = "\n".join(f'[providers.{name}]\nbase_url = "{server.url}"\napi_key = "k"' for name in ("acme", "parrot"))
    write(f"{tables}\n{price}")
    doctor, models = run("doctor", "--json"), run("models", "--json").document["providers"]
    for number, name in enumerate(("acme", "parrot")):
        assert "serves 1 model" in named(doctor, name)["provider_reachable"]["message"]
        assert models[number]["models"][0]["target"] == f"{name}/m-1"
    assert asked("parrot/polly-1") == ["Hi! parrot/polly-1 exact 0.000005", "Hi!", "Hi!"]
    assert asked("acme/openai/gpt-oss-120b")[0].startswith("Hello acme/openai/gpt-oss-120b exact 0.")


def test_a_factory_makes_a_provider_that_is_none_behind_http(site: Path, server: WireServer) -> None:
    installed(site, "engine_package", ENGINE, engine="open_engine")
    write('default_model = "engine/loud"\n[providers.engine]\noptions = { text = "HUM" }\n')
    assert run("config", "check", "--strict").code == 0
    assert asked("engine/loud") == ["HUM engine/loud free 0", "HUM", "HUM"]
    assert named(run("doctor", "--json"), "engine")["provider_reachable"]["status"] == "ok"
    assert run("models", "--json").document["providers"][0]["models"][0]["target"] == "engine/loud"


@pytest.mark.parametrize(
    ("text", "value", "why"),
    [
        ("import a_package_that_is_not_there", "X", "cannot be imported (ModuleNotFoundError"),
        pytest.param("X = 5", "X", "must be a Service or a provider factory, got a int", marks=pytest.mark.long),
        pytest.param("", "X", "cannot be imported (AttributeError", marks=pytest.mark.long),
    ],
)
def test_a_broken_package_is_named_and_spares_the_rest(
    site: Path, server: WireServer, text: str, value: str, why: str
) -> None:
    installed(site, "broken_package", text, broken=value)
    installed(site, "hum_package", ROW, hum="HUM")
    write(f'[providers.hum]\nbase_url = "{server.url}"\napi_key = "k"\n')
    assert run("chat", "-m", "hum/m", "Hi").out == "Hello\n"
    assert run("models", "--json").document["providers"][0]["is_reachable"]
    finding = named(run("doctor", "--json"), "broken_package")["plugin"]
    assert (finding["status"], why in finding["message"]) == ("warning", True)
    assert finding["remedy"] == "Update or uninstall broken_package."
    write("[providers.broken]\n")
    wrong = run("config", "check", "--json")
    assert (wrong.code, why in wrong.out, "broken_package" in wrong.out) == (2, True, True)
    write("")
    told = run("chat", "-m", "broken/m", "Hi")
    assert (told.code, "broken_package" in told.err) == (2, True)


def test_a_factory_that_fails_is_the_packages_fault(site: Path, server: WireServer) -> None:
    installed(site, "engine_package", ENGINE, engine="open_engine")
    write("")
    told = run("chat", "-m", "engine/loud", "Hi")
    assert told.code == 2
    assert "the package engine_package could not make the provider engine (KeyError: 'text')" in told.err


CODEC = """
from llama_client.providers.wire.plain import PlainCodec
from llama_client.providers.services import Service

class Wire(PlainCodec):
    pass

ROW = Service(name="x", title="X", base_url="http://127.0.0.1:9", sdk="", codec="wrong_package:Wire")

def number(setup):
    return 3

def refuse(setup):
    raise ValueError("key sk-abcdef1234567890abcdef1234567890 is bad")
"""


@pytest.mark.parametrize(
    ("value", "why"),
    [
        pytest.param("ROW", "could not make the provider wrong (TypeError", marks=pytest.mark.long),
        ("number", "could not make the provider wrong (its factory gave a int, not a Provider)"),
        ("refuse", "could not make the provider wrong (ValueError: key"),
    ],
)
def test_a_package_that_makes_no_provider_is_named_by_every_command(
    site: Path, server: WireServer, value: str, why: str
) -> None:
    installed(site, "wrong_package", CODEC, wrong=value)
    write("[providers.wrong]\n")
    for command in (("chat", "-m", "wrong/m", "Hi"), ("models",), ("doctor", "--offline")):
        told = run(*command)
        assert "Traceback" not in told.err
        assert "sk-abcdef" not in told.out + told.err
    assert why in " ".join(run("chat", "-m", "wrong/m", "Hi").err.split())


def test_a_name_that_could_not_be_configured_is_the_packages_fault(site: Path, server: WireServer) -> None:
    installed(site, "hum_package", ROW, **{"wrong/name": "HUM"})
    write("")
    assert "before the first /" in named(run("doctor", "--json"), "hum_package")["plugin"]["message"]


def test_no_package_takes_the_name_of_a_built_in_service(site: Path, server: WireServer) -> None:
    installed(site, "hum_package", ROW, groq="HUM")
    write("")
    assert "that name is of a built-in service" in named(run("doctor", "--json"), "hum_package")["plugin"]["message"]
    assert "groq/llama-of-hum" not in completed("llama-client chat -m groq/llama")


# What its author took for granted: other types, numbers in words, one dict for all answers.
ODD_FACTS = (
    ENGINE.replace(
        "    def chunks(self, call):\n",
        """    def chunks(self, call):
        for name, value in ODD.items():
            setattr(call.facts, name, value)
""",
    )
    + """
from decimal import Decimal
from http import HTTPStatus

SHARED = {"requests": {"remaining": 9, "limit": "many"}, "tokens": None}
ODD = {
    "http_status": HTTPStatus.OK, "provider_request_id": object(), "rate_limit": SHARED, "load_s": "1.5",
    "queue_s": object(), "total_s": Decimal(2), "tokens_per_s": float("nan"), "warnings": "slow today", "body": [1],
}
"""
)
ASK_ODD = """
import json
from llama_client import LlamaClient
import odd_package

with LlamaClient() as client:
    reply = client.ask("Hi", model="odd/m")
    odd_package.SHARED["requests"]["remaining"] = 0
    again = type(reply).model_validate_json(reply.model_dump_json())
    assert again.model_dump() == reply.model_dump(), (again.model_dump(), reply.model_dump())
    attempt = reply.attempts[0]
    print(json.dumps([type(attempt.http_status).__name__, attempt.http_status, attempt.rate_limit]))
    print(json.dumps([reply.timing.load_s, reply.timing.total_s, reply.timing.tokens_per_s, reply.warnings]))
    odd_package.ODD["http_status"] = 10**30
    client.ask("Hi", model="odd/m")
    print(client.costs.report().calls)
"""


def test_what_a_packages_provider_sets_gets_the_declared_types(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(site, "odd_package", ODD_FACTS, odd="open_engine")
    write('[providers.odd]\noptions = { text = "Hello" }\n')
    url = f"sqlite:///{(tmp_path / 'odd.db').as_posix()}"
    monkeypatch.setenv("LLAMA_CLIENT_LEDGER__ENABLED", "true")
    monkeypatch.setenv("LLAMA_CLIENT_LEDGER__URL", url)
    ran = run_program(ASK_ODD)
    assert ran.code == 0, ran.err
    assert [json.loads(line) for line in ran.out.splitlines()] == [
        ["int", 200, {"requests": {"remaining": 9}}],
        [1.5, 2.0, None, ["slow today"]],
        2,
    ]
