"""Where each value comes from, whichever of several sources has it, and which of them is shown in what form."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest
from pydantic import SecretStr

from llama_client import ConfigError, load_config
from llama_client.config.effective import ValueSource, effective_values
from llama_client.config.load import find_config
from llama_client.redaction import shown_value, without_credentials

FILE = """
default_model = "chat"
[providers.My-Box]
kind = "gguf"
n_ctx = 512
[routes.chat]
targets = ["My-Box/default"]
[[budgets]]
usd = 5
window = "day"
"""


@pytest.fixture
def file(clean_home: Path) -> Path:
    path = clean_home / "work" / "llama-client.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def sources(environ: dict[str, str], *, with_defaults: bool = False) -> dict[str, ValueSource]:
    found = find_config(environ=environ)
    values = effective_values(load_config(environ=environ), found, environ, with_defaults=with_defaults)
    return {value.key: value.source for value in values}


def test_a_value_of_the_file_has_its_line(file: Path) -> None:
    found = sources({})
    assert list(found) == [
        "default_model",
        "providers.My-Box.kind",
        "providers.My-Box.n_ctx",
        "routes.chat.targets",
        "budgets[0].usd",
        "budgets[0].window",
    ]
    assert [source.line for source in found.values()] == [2, 4, 5, 7, 9, 10]
    assert {source.file for source in found.values()} == {Path("llama-client.toml")}


def test_a_value_of_a_variable_has_its_name(file: Path) -> None:
    environ = {
        "LLAMA_CLIENT_PROVIDERS__MY_BOX__N_CTX": "1024",
        "LLAMA_CLIENT_ROUTES": '{ chat = { policy = "cheapest" } }',
        "LLAMA_CLIENT_PROVIDERS__NEW__KIND": "gguf",
    }
    found = sources(environ)
    assert found["providers.My-Box.n_ctx"].variable == "LLAMA_CLIENT_PROVIDERS__MY_BOX__N_CTX"
    assert found["routes.chat.policy"].variable == "LLAMA_CLIENT_ROUTES"
    assert found["providers.new.kind"].variable == "LLAMA_CLIENT_PROVIDERS__NEW__KIND"
    assert (found["routes.chat.targets"].kind, found["default_model"].kind) == ("file", "file")


def test_what_nobody_set_has_its_default(file: Path) -> None:
    assert {source.kind for key, source in sources({}, with_defaults=True).items() if key.startswith("routing.")} == {
        "default"
    }


def test_a_kind_that_is_the_table_s_name_is_shown_and_nobody_s(file: Path) -> None:
    file.write_text("[providers.groq]\n", encoding="utf-8")
    assert sources({}) == {"providers.groq.kind": ValueSource("default")}


@pytest.mark.parametrize("said", ["false", None])
def test_local_only_is_of_whoever_says_true(file: Path, said: str | None) -> None:
    file.write_text("" if said is None else f"local_only = {said}\n", encoding="utf-8")
    own = Path(platformdirs.user_config_path("llama-client", appauthor=False)) / "llama-client.toml"
    own.parent.mkdir(parents=True)
    own.write_text("timezone = 'UTC'\nlocal_only = true\n", encoding="utf-8")
    assert sources({})["local_only"] == ValueSource("file", own, 2)
    variable = {"LLAMA_CLIENT_LOCAL_ONLY": "true"}
    assert sources(variable)["local_only"] == ValueSource("environment", variable="LLAMA_CLIENT_LOCAL_ONLY")


def test_a_variable_that_says_false_is_not_the_source_of_a_true(file: Path) -> None:
    file.write_text("local_only = true\n", encoding="utf-8")
    assert sources({"LLAMA_CLIENT_LOCAL_ONLY": "false"})["local_only"].line == 1


def test_a_value_of_a_pyproject_has_its_line(clean_home: Path) -> None:
    (clean_home / "work" / "pyproject.toml").write_text(
        '[project]\nname = "x"\n[tool.llama-client]\ntimezone = "UTC"\n', encoding="utf-8"
    )
    assert sources({})["timezone"] == ValueSource("file", Path("pyproject.toml"), 4)


def test_a_pyproject_s_table_that_is_none_is_an_error(clean_home: Path) -> None:
    (clean_home / "work" / "pyproject.toml").write_text("[tool]\nllama-client = 5\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="must be a table of keys"):
        load_config(environ={})


def test_a_dict_is_a_source_too() -> None:
    found = find_config({"timezone": "UTC"}, environ={})
    assert found.source_of(("timezone",)) == ValueSource("argument")


def test_the_places_say_which_was_taken(file: Path) -> None:
    assert [place.state for place in find_config(environ={}).places] == [
        "absent", "taken", "passed over", "passed over",
    ]  # fmt: skip
    assert find_config(environ={"LLAMA_CLIENT_CONFIG": str(file)}).places[0].state == "taken"
    assert find_config(file, environ={}).places == ()


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("base_url", "http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("base_url", "http://h/v1?key=SECRET#SECRET", "http://h/v1?***"),
        ("base_url", "http://ann:SECRET@h/v1", "http://***@h/v1"),
        ("base_url", "http://ann:SEC/RET@h/v1", "***"),
        ("base_url", "http://ann:SEC?RET@h/v1", "***"),
        ("base_url", "ann:SECRET@h", "***"),
        ("base_url", "http://[SECRET", "***"),
        ("headers", {"X": "SECRET"}, {"X": "***"}),
        ("api_key", SecretStr("gsk_1"), "***"),
        ("url", SecretStr("postgresql://ann:pw@db.example/costs"), "postgresql://***@db.example/costs"),
        ("api_key_env", "GROQ_API_KEY", "GROQ_API_KEY"),
        ("api_key_env", "mine", "mine"),
        ("api_key_env", "gsk_SECRET", "***"),
        ("api_key_command", ["pass", "SECRET"], "***"),
        ("options", {"num_ctx": 1, "deep": [{"api_token": "SECRET"}]}, {"num_ctx": 1, "deep": [{"api_token": "***"}]}),
        ("params", {"max_tokens": 5}, {"max_tokens": 5}),
        ("params", {"use_auth": True}, {"use_auth": True}),
        ("options", {"compass": "N", "passage": "x"}, {"compass": "N", "passage": "x"}),
        ("options", {"api_keys": ["SECRET"]}, {"api_keys": "***"}),
        ("options", {"auth": {"user": "SECRET", "pass": "SECRET"}}, {"auth": "***"}),
        ("options", {"authorization": ["Bearer SECRET"]}, {"authorization": "***"}),
        ("options", {"bearer": "SECRET", "pwd": "SECRET"}, {"bearer": "***", "pwd": "***"}),
        ("options", {"pass": "SECRET", "db_pass": "SECRET"}, {"pass": "***", "db_pass": "***"}),
        ("options", {"token": 1234567890}, {"token": "***"}),
        ("options", {"tokens": {"SECRET": "staging"}}, {"tokens": "***"}),
        ("options", {"hooks": ["http://ann:SECRET@h/x?k=SECRET"]}, {"hooks": ["http://***@h/x?***"]}),
    ],
    ids=str,
)
def test_of_a_value_only_what_is_no_secret_is_shown(key: str, value: object, shown: object) -> None:
    assert shown_value(key, value, {"mine": "1"}) == (shown, shown != value)


def test_an_address_is_shown_without_what_only_its_owner_knows() -> None:
    address = "https://ann:pw@api.example/v1?key=k"
    assert without_credentials(address) == "https://api.example/v1"
    assert without_credentials(address, mark="***") == "https://***@api.example/v1?***"
