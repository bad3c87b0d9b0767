"""`llama-client config`: the file that `init` writes, what `show` shows and hides, and all that `check` finds."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from llama_client import load_config
from llama_client.cli.app import main
from llama_client.config.load import find_config
from llama_client.providers.gguf.store import ModelStore
from llama_client.testing.loopback import Answer, Received, WireServer, as_json
from tests.cli.conftest import Ran, on_terminal, run

FILE = Path("llama-client.toml")
GROQ = {"GROQ_API_KEY": "gsk_a-key-of-nobody"}
JAPAN = "What is the capital of Japan?"
TOKYO = "The capital of Japan is Tokyo.\n"


@contextmanager
def ollama(*models: str) -> Iterator[dict[str, str]]:
    """An Ollama that has these models, of which the last is loaded; the variables that lead to it."""

    def answer(request: Received) -> Answer:
        rows = [{"model": model, "name": model} for model in models]
        return as_json({"models": rows[-1:] if request.path.endswith("ps") else rows})

    with WireServer(answer) as server:
        yield {"OLLAMA_HOST": server.url.removeprefix("http://")}


def written() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def test_what_is_found_becomes_a_file_that_answers(demo_pulled: ModelStore) -> None:
    ran = run("config", "init", "--yes")
    assert (ran.code, ran.out) == (0, "llama-client.toml written. Targets: gguf/smollm2-135m.\n")
    assert [line.split(maxsplit=1)[1] for line in ran.err.splitlines()][:2] == [
        'llama-client chat "Why do llamas hum?"',
        "llama-client config check",
    ]
    assert run("config", "check", "--strict").code == 0
    assert run("chat", "--temperature", "0", JAPAN, env={"LLAMA_CLIENT_PROVIDERS__GGUF__N_THREADS": "1"}).out == TOKYO


def test_a_cloud_comes_first_and_what_runs_here_behind_it(demo_pulled: ModelStore) -> None:
    with ollama("llama3.1:8b", "qwen3:4b") as here:
        ran = run("config", "init", "--yes", "--json", env={**GROQ, **here})
    providers = ["groq", "ollama", "gguf"]
    assert ran.document == {"path": str(FILE.absolute()), "default_model": "chat", "providers": providers}
    targets = ["groq/openai/gpt-oss-20b", "ollama/qwen3:4b", "gguf/smollm2-135m"]
    assert written()["routes"]["chat"]["targets"] == targets
    assert written()["providers"]["groq"] == {"api_key_env": "GROQ_API_KEY"}


def test_no_key_is_written_or_printed(demo_pulled: ModelStore) -> None:
    ran = run("config", "init", "--yes", env={**GROQ, "TOGETHER_API_KEY": "tgp_another-key"})
    assert ran.code == 0
    assert not any(key in FILE.read_text(encoding="utf-8") + ran.out + ran.err for key in ("gsk_", "tgp_"))


def test_where_nothing_is_found_the_command_that_gets_a_model_is_said() -> None:
    ran = run("config", "init", "--yes")
    assert ran.code == 0
    assert written()["default_model"] == "gguf/smollm2-135m"
    assert "run `llama-client pull smollm2-135m`" in ran.err


def test_under_local_only_nothing_of_a_cloud_is_written() -> None:
    assert run("config", "init", "--yes", env={**GROQ, "LLAMA_CLIENT_LOCAL_ONLY": "true"}).code == 0
    assert (written()["local_only"], list(written()["providers"])) == (True, ["gguf"])


def test_a_file_that_is_there_stays() -> None:
    FILE.write_text("# mine\n", encoding="utf-8")
    ran = run("config", "init", "--yes", "--json")
    assert (ran.code, ran.document["error"]["type"]) == (2, "ConfigError")
    assert ran.err == "llama-client: llama-client.toml: file exists; use --force to overwrite\n"
    assert FILE.read_text(encoding="utf-8") == "# mine\n"
    assert run("config", "init", "--yes", "--force").code == 0
    assert written()["default_model"]
    assert os.listdir() == ["llama-client.toml"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_through_a_link_the_file_behind_it_is_replaced(clean_home: Path) -> None:
    behind = clean_home / "dotfiles.toml"
    behind.write_text("# mine\n", encoding="utf-8")
    behind.chmod(0o640)
    FILE.symlink_to(behind)
    assert run("config", "init", "--yes").code == 2
    assert run("config", "init", "--yes", "--force").code == 0
    assert FILE.is_symlink()
    assert "default_model" in behind.read_text(encoding="utf-8")
    assert behind.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("place", ["missing/folder.toml", "."], ids=["no folder", "a folder"])
def test_a_place_that_cannot_be_written_is_told_in_one_line(place: str) -> None:
    ran = run("config", "init", "--yes", "--path", place)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert os.listdir() == []


@pytest.mark.skipif(sys.platform == "win32", reason="folders are not closed by a mode there")
def test_a_folder_that_may_not_be_written_is_told_in_one_line(clean_home: Path) -> None:
    if os.geteuid() == 0:
        place = Path("/proc/llama-client.toml")
        if not place.parent.is_dir():
            pytest.skip("root may write everywhere here")
    else:
        closed = clean_home / "closed"
        closed.mkdir(mode=0o500)
        place = closed / "x.toml"
    ran = run("config", "init", "--yes", "--path", str(place))
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert "cannot be written" in ran.err


def test_the_user_s_own_file_is_made_with_its_folder() -> None:
    ran = run("config", "init", "--yes", "--user", "--json")
    own = Path(platformdirs.user_config_path("llama-client", appauthor=False)) / "llama-client.toml"
    assert ran.document["path"] == str(own)
    assert find_config(environ={}).document.file == own


def test_a_file_elsewhere_is_named_in_the_next_steps() -> None:
    ran = run("config", "init", "--yes", "--path", "staging.toml")
    assert 'llama-client chat --config staging.toml "' in ran.err
    assert "llama-client config check staging.toml" in ran.err


def test_who_cannot_be_asked_is_told_of_yes() -> None:
    ran = run("config", "init")
    assert (ran.code, ran.out) == (2, "")
    assert "--yes" in ran.err
    assert run("config", "init", "--yes", "--path", "x", "--user").code == 2
    assert os.listdir() == []


def test_answers_on_a_terminal_become_the_file(demo_pulled: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "gsk_a-key-of-nobody")
    with on_terminal("config", "init") as terminal:
        for question, answer in [
            ("y or n [n]: ", "perhaps"),
            ("Answer y or n.", None),
            ("y or n [n]: ", ""),
            ("[groq, gguf]: ", "gguf groc"),
            ("did you mean 'groq'?", None),
            ("[groq, gguf]: ", "gguf, groq"),
            ("[smollm2-135m]: ", ""),
            ("[openai/gpt-oss-20b]: ", "llama-3.1-8b-instant"),
            ("its replacement there", None),
            ("[openai/gpt-oss-20b]: ", "openai/gpt-oss-120b"),
            ("[no limit]: ", "5 a week"),
            ("The time is one of", None),
            ("[no limit]: ", "$0.50 per day"),
        ]:
            terminal.read_until(question)
            if answer is not None:
                terminal.type(f"{answer}\n")
        terminal.read_until("toml written")
        assert terminal.end() == 0
    config = load_config()
    assert [row.target for row in config.routes["chat"].targets] == ["gguf/smollm2-135m", "groq/openai/gpt-oss-120b"]
    assert [(str(b.usd), b.window, b.on_exceeded) for b in config.budgets] == [("0.5", "day", "local")]


def test_under_local_only_a_cloud_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "gsk_a-key-of-nobody")
    with on_terminal("config", "init") as terminal:
        terminal.read_until("y or n [n]: ")
        terminal.type("y\n")
        terminal.read_until("[gguf]: ")
        terminal.type("groq\n")
        terminal.read_until("local_only refuses groq")
        terminal.read_until("[gguf]: ")
        terminal.type("\n")
        terminal.read_until("[smollm2-135m]: ")
        terminal.type("\n")
        assert terminal.end() == 0
    assert written()["local_only"] is True


@pytest.mark.parametrize("key", ["\x03", "\x04"], ids=["Ctrl-C", "Ctrl-D"])
def test_who_leaves_leaves_nothing(key: str) -> None:
    with on_terminal("config", "init") as terminal:
        terminal.read_until("y or n [n]: ")
        # Python's input() loses a signal that comes between its question and its reading, until the next key.
        time.sleep(0.3)
        terminal.type(key)
        assert terminal.end() == 130
    assert os.listdir() == []


def test_nobody_answers_questions_for_a_file_that_stays() -> None:
    FILE.write_text("# mine\n", encoding="utf-8")
    with on_terminal("config", "init") as terminal:
        assert "Found on this machine" not in terminal.read_until("file exists")
        assert terminal.end() == 2


SECRETS = """
default_model = "chat"
[providers.groq]
api_key = "SECRET-1"
headers = { X-Auth = "SECRET-2" }
proxy = "http://ann:SECRET-3@proxy.example:3128"
[providers.together]
api_key_env = "tgp_SECRET-4"
[providers.vllm]
kind = "openai"
base_url = "http://127.0.0.1:8000/v1?key=SECRET-5"
api_key_command = ["echo", "SECRET-6"]
[providers.ollama]
options = { num_ctx = 8192, access_token = "SECRET-7", api_keys = ["SECRET-16"], auth = { user = "SECRET-17" } }
[routes.chat]
targets = [
    { target = "vllm/x", params = { extra_body = { password = "SECRET-8", bearer = ["SECRET-18"] } } },
    "groq/openai/gpt-oss-20b",
]
[ledger]
url = "postgresql://ann:SECRET-9@db.example/costs?sslpassword=SECRET-10"
"""
# A key of a variable's, and keys where none belongs.
SECRET_VARIABLES = {
    "LLAMA_CLIENT_PROVIDERS__MINE__KIND": "groq",
    "LLAMA_CLIENT_PROVIDERS__MINE__API_KEY": "SECRET-11",
    "GROQ_API_KEY": "SECRET-12",
}


@pytest.fixture
def secrets() -> Path:
    path = Path("named.toml")
    path.write_text(SECRETS, encoding="utf-8")
    return path


@pytest.mark.parametrize("form", [[], ["--json"], ["--all"], ["--all", "--json"]], ids=" ".join)
def test_no_secret_is_shown(secrets: Path, form: list[str]) -> None:
    ran = run("config", "show", "--config", str(secrets), *form, env=SECRET_VARIABLES)
    assert ran.code == 0
    assert "SECRET" not in ran.out + ran.err
    assert "proxy.example" in ran.out


@pytest.mark.parametrize("form", [[], ["--json"]], ids=" ".join)
@pytest.mark.parametrize("is_wrong", [False, True], ids=["right", "wrong"])
def test_no_secret_is_told_by_a_check(secrets: Path, form: list[str], is_wrong: bool) -> None:
    if is_wrong:
        more = 'api_kye = "SECRET-13"\nheaders = "SECRET-14"\nproxy = ["SECRET-15"]\n'
        text = SECRETS.replace('headers = { X-Auth = "SECRET-2" }\n', more).replace('proxy = "http', 'caa = "http')
        secrets.write_text(text.replace("ann:SECRET-9", "ann:SECRET/9"), encoding="utf-8")
    ran = run("config", "check", str(secrets), *form, env=SECRET_VARIABLES)
    assert ran.code == (2 if is_wrong else 0)
    assert "SECRET" not in ran.out + ran.err


def test_what_is_shown_can_be_copied(secrets: Path) -> None:
    """Masked lines are switched off: nobody's key becomes three stars."""
    ran = run("config", "show", "--config", str(secrets), "--all")
    config = load_config(tomllib.loads(ran.out), environ={})
    assert config.default_model == "chat"
    assert list(config.providers) == ["groq", "together", "vllm", "ollama"]
    assert config.routes["chat"].targets[0].params == {"extra_body": {}}
    assert not any("***" in line for line in ran.out.splitlines() if not line.startswith("#"))


def test_each_value_is_shown_with_its_source() -> None:
    FILE.write_text('default_model = "chat"\n\n[routes.chat]\ntargets = ["groq/x"]\n', encoding="utf-8")
    out = run("config", "show", env={"LLAMA_CLIENT_ROUTING__RETRIES": "5"}).out
    assert "used          ./llama-client.toml" in out
    assert 'default_model = "chat"  # line 1\n' in out
    assert '[routes.chat]\ntargets = ["groq/x"]  # line 4\n' in out
    assert "[routing]\nretries = 5  # $LLAMA_CLIENT_ROUTING__RETRIES\n" in out
    assert "deadline_s" not in out
    assert "deadline_s = 120.0" in run("config", "show", "--all").out


def test_scripts_read_the_same() -> None:
    FILE.write_text('timezone = "UTC"\n[[budgets]]\nusd = 0.1\nwindow = "day"\n', encoding="utf-8")
    document = run("config", "show", "--json", env={"LLAMA_CLIENT_DEFAULT_MODEL": "groq/x"}).document
    assert document["file"] == "llama-client.toml"
    values = {value["key"]: (value["value"], value["source"]) for value in document["values"]}
    assert values["budgets[0].usd"] == (0.1, {"kind": "file", "file": "llama-client.toml", "line": 3})
    assert values["default_model"] == ("groq/x", {"kind": "environment", "variable": "LLAMA_CLIENT_DEFAULT_MODEL"})
    assert [place["state"] for place in document["looked_for"]] == ["absent", "taken", "passed over", "passed over"]


def test_without_a_file_show_says_where_it_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")
    ran = run("config", "show")
    assert (ran.code, ran.out.count("not found")) == (0, 4)
    assert "Nothing is set" in ran.out
    assert run("config", "show", "--json").document["file"] is None


def check(text: str, *arguments: str, env: dict[str, str] | None = None) -> Ran:
    """Checks a file; within this process, since a hundred processes would take minutes."""
    FILE.write_text(text, encoding="utf-8")
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        code = main(["config", "check", *arguments])
    return Ran(code, out.getvalue(), "")


def test_everything_wrong_is_told_with_its_line() -> None:
    ran = check(
        'defalt_model = "x"\n[providers.gguf]\nn_cxt = 1\nn_ctx = "many"\n[[budgets]]\nusd = -1\nwindow = "day"\n'
    )
    assert ran.code == 2
    assert ran.out.splitlines() == [
        "llama-client.toml:1: error: defalt_model: unknown name; did you mean 'default_model'?",
        "llama-client.toml:3: error: providers.gguf.n_cxt: unknown name; did you mean 'n_ctx'?",
        "llama-client.toml:4: error: providers.gguf.n_ctx: must be a whole number, got 'many'",
        "llama-client.toml:6: error: budgets[0].usd: must be greater than 0, got -1",
        "llama-client.toml: 4 errors.",
    ]


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ('default_model = "gorq/x"', "default_model", "did you mean 'groq'"),
        ('default_model = "no-such-model"', "default_model", "a route, or a name that the catalogue knows"),
        ('[routes.r]\ntargets = ["no-such-model"]', "routes.r.targets[0]", "a name that the catalogue knows"),
        ('[providers.gguf]\nmodel_path = "nowhere.gguf"', "providers.gguf.model_path", "there is no file"),
        ('[providers.gguf]\nlora = [{ path = "nowhere.gguf" }]', "providers.gguf.lora[0].path", "there is no file"),
        ('[providers.groq]\napi_key_file = "nowhere"', "providers.groq.api_key_file", "there is no file"),
        ('[providers.groq]\napi_key_command = "pass groq"', "providers.groq.api_key_command", "may not run commands"),
        ('[providers.groq]\nbase_url = "http://x.example"', "providers.groq.base_url", "may not send GROQ_API_KEY"),
        ('[ledger]\nurl = "postgresql://db.example/x"', "ledger.url", "beside or below itself"),
    ],
)
def test_what_cannot_work_is_an_error(text: str, key: str, says: str) -> None:
    ran = check(text, "--json", env=GROQ)
    assert (ran.code, ran.document["ok"]) == (2, False)
    assert [(row["key"], says in row["message"]) for row in ran.document["errors"]] == [(key, True)]


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("[providers.together]", "providers.together", "set the variable TOGETHER_API_KEY"),
        ('[providers.groq]\napi_key_env = "MY_KEY"', "providers.groq.api_key_env", "the variable MY_KEY is not set"),
        ('[providers.groq]\napi_key = "x"', "providers.groq.api_key", "can read this key"),
        ('default_model = "together/openai/gpt-oss-120b"', "default_model", "TOGETHER_API_KEY is not set"),
        ('default_model = "groq/llama-3.1-8b-instant"', "default_model", "its replacement there is openai/gpt-oss-20b"),
        ('default_model = "groq/openai/gpt-oss-20x"', "default_model", "did you mean 'groq/openai/gpt-oss-20b'"),
        ('default_model = "gguf/smollm2-135m"', "default_model", "`llama-client pull smollm2-135m` gets it"),
        ('default_model = "gguf/default"', "default_model", "has not been pulled"),
        (
            '[providers.ollama]\nbase_url = "http://127.0.0.1:1/v1"',
            "providers.ollama.base_url",
            "it should be http://127.0.0.1:1",
        ),
        (
            '[providers.mine]\nkind = "openai"\nbase_url = "http://127.0.0.1:1/v1/chat/completions"',
            "providers.mine.base_url",
            "it should be http://127.0.0.1:1/v1",
        ),
        ('local_only = true\ndefault_model = "groq/openai/gpt-oss-20b"', "default_model", "refuses api.groq.com"),
        (
            'default_model = "vllm/x"\n[providers.vllm]\nkind = "openai"\nbase_url = "http://127.0.0.1:1/v1"\n'
            '[[budgets]]\nusd = 1\nwindow = "day"',
            "budgets[0]",
            "no price known for vllm/x",
        ),
        (
            '[[prices]]\ntarget = "grok/x"\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 1',
            "prices[0].target",
            "did you mean 'groq'",
        ),
    ],
)
def test_what_will_not_do_what_it_looks_like_is_a_warning(text: str, key: str, says: str) -> None:
    ran = check(text, "--json", env=GROQ)
    assert ran.code == 0
    told = [(row["key"], row["message"]) for row in ran.document["warnings"]]
    assert [(name, says in message) for name, message in told] == [(key, True)]
    assert check(text, "--strict", env=GROQ).code == 2


def test_a_key_of_a_variable_s_is_no_warning() -> None:
    ran = check("[providers.groq]", "--strict", env={"LLAMA_CLIENT_PROVIDERS__GROQ__API_KEY": "x"})
    assert ran.code == 0


def test_providers_without_a_default_are_a_note() -> None:
    ran = check("[providers.groq]\n[providers.ollama]", "--json", env=GROQ)
    assert [(row["key"], row["line"]) for row in ran.document["notes"]] == [("default_model", None)]


def test_a_provider_that_nothing_names_is_a_note() -> None:
    ran = check('default_model = "gguf/default"\n[providers.gguf]\n[providers.ollama]', "--json")
    assert [row["key"] for row in ran.document["notes"]] == ["providers.ollama"]


def test_a_price_and_a_free_model_fit_a_budget(demo_pulled: ModelStore) -> None:
    text = (
        'default_model = "r"\n[routes.r]\ntargets = ["groq/openai/gpt-oss-20b", "gguf/smollm2-135m"]\n'
        '[[budgets]]\nusd = 1\nwindow = "day"'
    )
    assert check(text, "--strict", env=GROQ).code == 0


def test_a_named_file_is_trusted_and_the_rule_for_found_ones_is_told() -> None:
    FILE.write_text('[providers.groq]\napi_key_command = ["sh"]\n', encoding="utf-8")
    assert run("config", "check").code == 2
    ran = run("config", "check", "llama-client.toml")
    assert ran.code == 0
    assert "is refused where it is found" in ran.out


def test_a_variable_that_is_wrong_is_named() -> None:
    ran = check("", env={"LLAMA_CLIENT_DEFAULT_MODE": "x"})
    assert ran.code == 2
    assert ran.out.startswith("$LLAMA_CLIENT_DEFAULT_MODE: error: default_mode: unknown name; did you mean")


@pytest.mark.parametrize(
    ("text", "line", "says"), [("a = 1\nb = ", 2, "not valid TOML"), ("a = 1\na = 2\n", 2, "not valid TOML")]
)
def test_what_is_no_toml_is_told_with_its_line(text: str, line: int, says: str) -> None:
    ran = check(text, "--json")
    assert ran.code == 2
    [error] = ran.document["errors"]
    assert (error["file"], error["line"], says in error["message"]) == ("llama-client.toml", line, True)


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"LLAMA_CLIENT_LOCAL_ONLY": "perhaps"}, "LLAMA_CLIENT_LOCAL_ONLY"),
        ({"LLAMA_CLIENT_ROUTES": "x", "LLAMA_CLIENT_ROUTES__A__POLICY": "y"}, "LLAMA_CLIENT_ROUTES__A__POLICY"),
    ],
    ids=["no truth", "contradicted"],
)
def test_a_variable_that_nobody_can_read_is_named(variables: dict[str, str], name: str) -> None:
    ran = check("", "--json", env=variables)
    assert (ran.code, [row["variable"] for row in ran.document["errors"]]) == (2, [name])


def test_a_pyproject_that_is_wrong_is_named_with_its_line() -> None:
    Path("pyproject.toml").write_text("[tool.llama-client]\nn = 1\n", encoding="utf-8")
    ran = run("config", "check")
    assert (ran.code, ran.out.splitlines()[0]) == (2, "pyproject.toml:2: error: n: unknown name")


def test_a_named_file_that_is_not_there_is_an_error() -> None:
    ran = run("config", "check", "nowhere.toml")
    assert (ran.code, ran.out.splitlines()[0]) == (2, "nowhere.toml: error: there is no such file")


def test_without_a_file_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")
    ran = run("config", "check", "--strict")
    assert (ran.code, ran.out) == (0, "No file found; every key has its default.\n")


def test_on_a_terminal_lines_end_between_words() -> None:
    FILE.write_text('default_model = "groq/llama-3.1-8b-instant"\n', encoding="utf-8")
    with on_terminal("config", "check") as terminal:
        seen = terminal.read_until("warnings.")
        assert terminal.end() == 0
    lines = seen.replace("\r", "").splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith("    ")


@pytest.mark.skipif(os.name == "nt", reason="no name of a file holds a colon there")
@pytest.mark.parametrize("content", ["a = = b", None], ids=["no TOML", "not there"])
def test_the_name_of_a_file_that_cannot_be_read_is_whole(content: str | None) -> None:
    file = Path("it: mine [x].toml")
    if content is not None:
        file.write_text(content, encoding="utf-8")
    ran = run("config", "check", str(file), "--json")
    document = json.loads(ran.out)
    assert (ran.code, document["file"], document["errors"][0]["file"]) == (2, str(file), str(file))
    assert document["errors"][0]["message"].startswith("is not valid TOML" if content else "there is no such file")
