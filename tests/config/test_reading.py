"""Files that a configuration is, or names: only regular ones are read, and no more of them than is wanted."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from llama_client import ConfigError, LlamaClient, load_config
from llama_client.config.files import read_regular_file
from tests.cli.conftest import run

posix = pytest.mark.skipif(os.name != "posix", reason="FIFOs and device files are of POSIX systems")
BOM = b"\xef\xbb\xbf"


@pytest.fixture
def fifo(clean_home: Path) -> Path:
    path = clean_home / "work" / "ff"
    os.mkfifo(path)
    return path


@posix
@pytest.mark.parametrize("command", [["doctor", "--config"], ["config", "show", "--config"], ["config", "check"]])
def test_a_fifo_is_no_configuration(fifo: Path, command: list[str]) -> None:
    ran = run(*command, str(fifo))
    assert ran.code == 2
    assert "not a regular file" in ran.out + ran.err


@posix
@pytest.mark.parametrize("place", ["/dev/zero", "link"])
def test_a_device_is_no_configuration_also_behind_a_link(place: str) -> None:
    Path("link").symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="not a regular file"):
        load_config(place, environ={})


@posix
def test_a_fifo_holds_no_key(fifo: Path) -> None:
    with LlamaClient({"providers": {"groq": {"api_key_file": str(fifo)}}}) as client:
        with pytest.raises(ConfigError, match=r"providers\.groq\.api_key_file: .*not a regular file"):
            client.ask("hi", model="groq/x")


@posix
def test_the_doctor_does_not_wait_for_one_either(fifo: Path) -> None:
    Path("llama-client.toml").write_text(f'[providers.groq]\napi_key_file = "{fifo}"\n', encoding="utf-8")
    ran = run("doctor", "--offline")
    assert ran.code == 1
    assert "Traceback" not in ran.err


@posix
def test_a_socket_is_read_from_as_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as there:
        there.bind("s")
        with pytest.raises(OSError, match="not a regular file"):
            read_regular_file(Path("s"), max_bytes=1)


def test_of_a_larger_file_one_byte_more_is_read_than_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)
    assert read_regular_file(tmp_path / "file", max_bytes=10) == b"x" * 11


def test_a_folder_and_what_is_not_there_are_told_as_the_system_tells_them(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_regular_file(tmp_path, max_bytes=1)
    with pytest.raises(FileNotFoundError):
        read_regular_file(tmp_path / "nothing", max_bytes=1)


@pytest.mark.parametrize("name", ["llama-client.toml", "pyproject.toml"])
def test_a_file_that_windows_marks_as_unicode_is_read(name: str) -> None:
    header = b"[tool.llama-client]\n" if name == "pyproject.toml" else b""
    Path(name).write_bytes(BOM + header + b'timezone = "Europe/Berlin"\r\n')
    assert load_config(environ={}).timezone == "Europe/Berlin"
    shown = run("config", "show")
    assert (shown.code, shown.err) == (0, "")
    assert f'timezone = "Europe/Berlin"  # line {2 if header else 1}' in shown.out


def test_what_is_wrong_behind_such_a_mark_has_its_line() -> None:
    Path("llama-client.toml").write_bytes(BOM + b'\r\ntimezone = "\r\n')
    ran = run("config", "check")
    assert ran.code == 2
    assert "llama-client.toml:2: error: " in ran.out


def test_a_key_in_such_a_file_is_the_key(tmp_path: Path) -> None:
    from llama_client.config.api_keys import read_key
    from llama_client.config.provider_tables import ServiceConfig

    file = tmp_path / "key"
    file.write_bytes(BOM + b"gsk_the-key\r\n")
    key = read_key("groq", ServiceConfig(kind="groq", api_key_file=file), default_variable=None, environ={})
    assert key is not None
    assert key.get_secret_value() == "gsk_the-key"


def test_line_ends_of_old_macs_are_line_ends_still() -> None:
    Path("llama-client.toml").write_bytes(b'timezone = "UTC"\rlocal_only = true\r')
    assert load_config(environ={}).local_only is True


@pytest.mark.parametrize("text", ["a = " + "9" * 5000, "a = 0x" + "F" * 5000, "a = [{b = 18446744073709551616}]"])
def test_a_number_that_no_computer_counts_with_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "llama-client.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="is not valid TOML") as caught:
        load_config(path, environ={})
    assert (caught.value.file, caught.value.reason) == (path, "unreadable")


@pytest.mark.parametrize("digits", ["9" * 5000, "0x" + "F" * 5000])
def test_such_a_number_in_a_variable_is_its_text(digits: str) -> None:
    with pytest.raises(ConfigError, match="LOCAL_ONLY: must be true or false"):
        load_config({}, environ={"LLAMA_CLIENT_LOCAL_ONLY": digits})


@pytest.mark.parametrize("values", [{"default_model": 16**5000}, {"providers": {"x": {"kind": 16**5000}}}])
def test_such_a_number_in_a_dict_is_told_by_its_kind(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="got a value of type int"):
        load_config(values, environ={})


@pytest.mark.parametrize("text", ["['{}']\n['{}']\n", "a = {{ '{}' = 1, '{}' = 2 }}\n"])
def test_a_key_in_the_place_of_a_name_is_not_shown_where_the_file_is_no_toml(tmp_path: Path, text: str) -> None:
    secret = "sk-0123456789abcdef"
    path = tmp_path / "llama-client.toml"
    path.write_text(text.format(secret, secret), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"is not valid TOML: .*\*\*\*.* \(at line \d") as caught:
        load_config(path, environ={})
    assert secret not in str(caught.value)
