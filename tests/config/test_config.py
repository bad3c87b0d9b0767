"""Where the configuration is found, what may stand in it, and what an error says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from llama_client import Config, ConfigError, LlamaClient, LocalOnlyError, load_config
from llama_client.config.provider_tables import GgufConfig

LAPTOP = '[providers.laptop]\nkind = "gguf"\n'


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def found(environ: dict[str, str] | None = None) -> str | None:
    return load_config(environ=environ or {}).default_model


def gguf(config: Config, name: str) -> GgufConfig:
    table = config.providers[name]
    assert isinstance(table, GgufConfig)
    return table


def test_without_any_file_everything_has_its_default() -> None:
    assert load_config(environ={}) == Config()


def test_sources_are_found_in_their_order(clean_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    user = write(clean_home / "config" / "llama-client.toml", 'default_model = "x/user"')
    monkeypatch.setattr(platformdirs, "user_config_path", lambda *_, **__: user.parent)
    assert found() == "x/user"
    write(Path("pyproject.toml"), '[tool.llama-client]\ndefault_model = "x/pyproject"')
    assert found() == "x/pyproject"
    write(Path("llama-client.toml"), 'default_model = "x/folder"')
    assert found() == "x/folder"
    named = write(clean_home / "named.toml", 'default_model = "x/named"')
    assert found({"LLAMA_CLIENT_CONFIG": str(named)}) == "x/named"
    given = write(clean_home / "given.toml", 'default_model = "x/given"')
    environ = {"LLAMA_CLIENT_CONFIG": str(named)}
    assert load_config(given, environ=environ).default_model == "x/given"
    assert load_config(str(given), environ=environ).default_model == "x/given"
    assert load_config({"default_model": "x/dict"}, environ=environ).default_model == "x/dict"
    assert load_config(Config(default_model="x/config"), environ=environ).default_model == "x/config"


def test_a_pyproject_of_somebody_else_is_passed_over() -> None:
    write(Path("pyproject.toml"), "[tool.other]\nx = 1")
    assert load_config(environ={}) == Config()


def test_variables_override_the_file() -> None:
    write(Path("llama-client.toml"), 'default_model = "x/file"\n' + LAPTOP + "n_ctx = 512\n")
    environ = {
        "LLAMA_CLIENT_DEFAULT_MODEL": "laptop/default",
        "LLAMA_CLIENT_PROVIDERS__LAPTOP__N_CTX": "4096",
        "LLAMA_CLIENT_PROVIDERS__LAPTOP__N_PARALLEL": "2",
        "LLAMA_CLIENT_CACHE_DIR": "/somewhere",
        "UNRELATED": "1",
    }
    config = load_config(environ=environ)
    assert config.default_model == "laptop/default"
    assert (gguf(config, "laptop").n_ctx, gguf(config, "laptop").n_parallel) == (4096, 2)


def test_a_variable_finds_a_provider_whatever_its_case_and_hyphens() -> None:
    config = load_config(
        {"providers": {"My-Box": {"kind": "gguf"}}}, environ={"LLAMA_CLIENT_PROVIDERS__MY_BOX__N_CTX": "99"}
    )
    assert gguf(config, "My-Box").n_ctx == 99


def test_any_source_that_says_local_only_wins() -> None:
    on = {"LLAMA_CLIENT_LOCAL_ONLY": "true"}
    off = {"LLAMA_CLIENT_LOCAL_ONLY": "false"}
    assert load_config({"local_only": False}, environ=on).local_only is True
    assert load_config({"local_only": True}, environ=off).local_only is True
    assert load_config({}, environ=off).local_only is False


def test_relative_paths_start_at_the_file_that_names_them(clean_home: Path) -> None:
    text = LAPTOP + 'model_path = "models/x.gguf"\nlora = [{ path = "a.gguf", scale = 0.5 }]\nmmproj = "~/eyes.gguf"\n'
    file = write(clean_home / "etc" / "client.toml", text)
    laptop = gguf(load_config(file, environ={}), "laptop")
    assert laptop.model_path == clean_home / "etc" / "models" / "x.gguf"
    assert (laptop.lora[0].path, laptop.lora[0].scale) == (clean_home / "etc" / "a.gguf", 0.5)
    assert laptop.mmproj == clean_home / "eyes.gguf"


def test_a_relative_path_means_the_same_file_after_the_program_has_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    started_in = Path.cwd()
    config = load_config({"providers": {"gguf": {"model_path": "models/x.gguf"}}}, environ={})
    monkeypatch.chdir("/")
    assert gguf(config, "gguf").model_path == started_in / "models" / "x.gguf"


def test_a_tables_kind_is_its_name() -> None:
    assert load_config({"providers": {"gguf": {"n_ctx": 512}}}, environ={}).providers["gguf"].kind == "gguf"


@pytest.mark.parametrize(
    ("values", "key", "sentence"),
    [
        ({"default_modell": "x"}, "default_modell", "unknown name; did you mean 'default_model'"),
        ({"providers": {"gguf": {"n_cxt": 1}}}, "providers.gguf.n_cxt", "unknown name; did you mean 'n_ctx'"),
        ({"providers": {"gguf": {"lora": [{"pth": "x"}]}}}, None, "providers.gguf.lora[0]"),
        ({"providers": {"gguf": {"n_ctx": "many"}}}, "providers.gguf.n_ctx", "must be a whole number, got 'many'"),
        ({"providers": {"gguf": {"n_ctx": 1}}}, "providers.gguf.n_ctx", "greater than or equal to 64"),
        ({"providers": {"gguf": {"n_parallel": 0}}}, "providers.gguf.n_parallel", "greater than or equal to 1"),
        ({"providers": {"gguf": {"n_parallel": True}}}, "providers.gguf.n_parallel", "a whole number"),
        ({"providers": {"gguf": {"model_path": ""}}}, "providers.gguf.model_path", "must be the path of a file"),
        (
            {"providers": {"gguf": {"lora": [{"path": "x", "scale": float("nan")}]}}},
            "providers.gguf.lora[0].scale",
            "finite",
        ),
        *(
            (
                {"providers": {"gguf": {"lora": [{"path": "x", "name": name}]}}},
                "providers.gguf.lora[0].name",
                "64 letters",
            )
            for name in ("", " ", "a+b", "a/b", "a b", "+", ".a", "a" * 65, "\u00e9", "a\n")
        ),
        (
            {"providers": {"gguf": {"lora": [{"path": "x", "name": "a"}, {"path": "y", "name": "a"}]}}},
            "providers.gguf.lora",
            "must have different names, got 'a' twice",
        ),
        (
            {"providers": {"gguf": {"lora": [{"path": "x", "name": "a"}], "prompt_cache_mib": 1}}},
            "providers.gguf.prompt_cache_mib",
            "must be 0 beside adapters with names",
        ),
        (
            {"providers": {"gguf": {"prompt_cache_mib": -1}}},
            "providers.gguf.prompt_cache_mib",
            "greater than or equal to 0",
        ),
        ({"providers": {"gguf": {"prompt_cache_mib": 0.5}}}, "providers.gguf.prompt_cache_mib", "a whole number"),
        ({"providers": {"gguf": {"draft_tokens": 0}}}, "providers.gguf.draft_tokens", "greater than or equal to 1"),
        ({"providers": {"gguf": {"draft_tokens": 65}}}, "providers.gguf.draft_tokens", "less than or equal to 64"),
        ({"providers": {"gguf": {"draft_model_path": ""}}}, "providers.gguf.draft_model_path", "the path of a file"),
        ({"providers": {"laptop": {}}}, "providers.laptop.kind", "'llamacpp', 'litellm', got 'laptop'"),
        ({"providers": {"laptop": {"kind": "gguff"}}}, "providers.laptop.kind", "did you mean 'gguf'"),
        ({"providers": {"a/b": {"kind": "gguf"}}}, "providers", "must not be empty or contain '/'"),
        ({"providers": {"gguf": 5}}, "providers.gguf", "must be a table of keys"),
        ({"providers": []}, "providers", "a mapping of names to values"),
        ({"local_only": "yes"}, "local_only", "true or false"),
        ({"default_model": ""}, "default_model", "must not be empty"),
    ],
)
def test_a_wrong_key_is_named_with_what_would_be_right(values: Any, key: str | None, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(values, environ={})
    assert sentence in str(caught.value)
    if key is not None:
        assert caught.value.key == key
        assert key in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"providers": {"gguf": {"model_path": "~nobody-of-that-name/x"}}},
        {"providers": {"gguf": {"model_path": "a\0b"}}},
        {"providers": {"gguf": {"n_ctx": 2**31}}},
        {"providers": {"gguf": {"n_ctx": 1 << 24, "n_parallel": 256}}},
        {"providers": {5: {"kind": "gguf"}}},
        "~nobody-of-that-name/x.toml",
        "a\0b",
        5,
        b"x",
    ],
    ids=repr,
)
def test_whatever_is_given_as_a_configuration_the_error_is_ours(values: Any) -> None:
    with pytest.raises(ConfigError):
        load_config(values, environ={})


def test_a_configuration_of_nothing_but_brackets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(write(tmp_path / "deep.toml", "a = " + "[" * 20_000), environ={})
    with pytest.raises(ConfigError):
        load_config(environ={"LLAMA_CLIENT_LOCAL_ONLY": "[" * 3_000 + "]" * 3_000})


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not remove a folder in use")
def test_a_process_whose_working_folder_is_gone_can_still_use_a_dict(tmp_path: Path) -> None:
    program = (
        # Imported first: some Pythons cannot load a compiled module from a folder that is gone.
        "import os; from llama_client import LlamaClient\n"
        "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n"
        "LlamaClient({}).close(); LlamaClient.for_provider('gguf').close()"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=60)


def test_an_unknown_variable_is_an_error() -> None:
    with pytest.raises(ConfigError, match="default_mode: unknown name; did you mean 'default_model'"):
        load_config(environ={"LLAMA_CLIENT_DEFAULT_MODE": "x"})


def test_variables_that_contradict_each_other_are_an_error() -> None:
    environ = {"LLAMA_CLIENT_PROVIDERS": "x", "LLAMA_CLIENT_PROVIDERS__GGUF__N_CTX": "512"}
    with pytest.raises(ConfigError, match="providers"):
        load_config(environ=environ)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"= broken", "not valid TOML"), (b"\xff\xfe", "not UTF-8"), (b"# " + b"x" * (1 << 20), "larger than")],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / "client.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=sentence) as caught:
        load_config(file, environ={})
    assert str(file) in str(caught.value)


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load_config(tmp_path / "nothing.toml", environ={})
    with pytest.raises(ConfigError, match="there is no such file"):
        load_config(environ={"LLAMA_CLIENT_CONFIG": str(tmp_path / "nothing.toml")})
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path, environ={})


def test_options_of_a_lone_provider_are_checked_alike() -> None:
    with pytest.raises(ConfigError, match=r"providers\.gguf\.n_ctx"):
        LlamaClient.for_provider("gguf", n_ctx=1)
    with pytest.raises(ConfigError, match=r"must be one of .*'gguf'"):
        LlamaClient.for_provider("telepathy")


def test_a_found_file_does_not_decide_where_the_key_in_a_variable_is_sent() -> None:
    write(Path("llama-client.toml"), '[providers.groq]\nkind = "openai"\nbase_url = "http://elsewhere.example/v1"\n')
    with pytest.raises(ConfigError, match=r"providers\.groq\.base_url: a file found in the working directory"):
        load_config(environ={"LLAMA_CLIENT_PROVIDERS__GROQ__API_KEY": "gsk-secret"})
    load_config(environ={})


def test_a_found_file_does_not_decide_where_a_built_in_key_that_a_variable_names_is_sent() -> None:
    write(Path("llama-client.toml"), '[providers.box]\nkind = "openai"\nbase_url = "http://elsewhere.example/v1"\n')
    with pytest.raises(ConfigError, match=r"providers\.box\.base_url"):
        load_config(environ={"LLAMA_CLIENT_PROVIDERS__BOX__API_KEY_ENV": "OPENAI_API_KEY"})
    load_config(environ={"LLAMA_CLIENT_PROVIDERS__BOX__API_KEY": "a-key-of-that-box"})


def test_a_found_file_does_not_send_another_s_key_to_ollama() -> None:
    write(Path("llama-client.toml"), '[providers.ollama]\napi_key_env = "GROQ_API_KEY"\n')
    with pytest.raises(ConfigError, match=r"providers\.ollama\.api_key_env"):
        load_config(environ={})


def test_local_only_in_the_user_s_own_file_holds_beside_any_other_file(clean_home: Path) -> None:
    own = Path(platformdirs.user_config_path("llama-client", appauthor=False))
    own.mkdir(parents=True)
    write(own / "llama-client.toml", "local_only = true\n")
    write(Path("llama-client.toml"), 'default_model = "gguf/default"\n')
    assert load_config(environ={}).local_only is True
    with LlamaClient.for_provider("groq", api_key="k") as client, pytest.raises(LocalOnlyError):
        client.ask("hi", model="m")


def test_local_only_in_a_variable_holds_for_clients_that_read_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CLIENT_LOCAL_ONLY", "true")
    for client in (LlamaClient.for_provider("groq", api_key="k"), LlamaClient(Config())):
        with client, pytest.raises(LocalOnlyError):
            client.ask("hi", model="groq/m")


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"timeout_s": True}, "timeout_s"),
        ({"timeout_s": 1e10}, "timeout_s"),
        ({"keep_alive": True}, "keep_alive"),
        ({"api_key_command": []}, "api_key_command"),
        ({"api_key_command": "echo 'x"}, "api_key_command"),
    ],
)
def test_a_wrong_key_of_a_provider_behind_http_is_named(table: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"providers": {"ollama": table}}, environ={})
    assert caught.value.key == f"providers.ollama.{key}"


def test_who_puts_the_key_itself_where_its_variable_belongs_does_not_read_it_in_the_error() -> None:
    with LlamaClient({"providers": {"groq": {"api_key_env": "gsk_the-key-itself"}}}) as client:
        with pytest.raises(ConfigError, match=r"providers\.groq\.api_key_env: names no variable that is set") as caught:
            client.ask("hi", model="groq/x")
    assert "gsk_" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "missing"), (b"\xff", "unreadable"), (b"a = = b", "unreadable"), (b"n_ctx = 1", "wrong")],
    ids=["not there", "no text", "no TOML", "wrong key"],
)
def test_an_error_says_which_file_and_why(tmp_path: Path, content: bytes | None, reason: str) -> None:
    file = tmp_path / "it: mine.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(file, environ={})
    assert (caught.value.file, caught.value.variable, caught.value.reason) == (file, None, reason)


def test_an_error_says_which_variable() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(environ={"LLAMA_CLIENT_LOCAL_ONLY": "perhaps"})
    error = caught.value
    assert (error.variable, error.key, error.file) == ("LLAMA_CLIENT_LOCAL_ONLY", "local_only", None)
