"""The guard alone: what it lets through, what it says of what it refuses, and what it remembers of the hosts file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest

from llama_client import LocalOnlyError, local_only
from llama_client.config.schema import read_config
from llama_client.local_only import ConnectionGuard, is_this_machine
from tests.privacy.asking import FAR_ADDRESS

UNKNOWN = "is neither this machine nor in privacy.allow_hosts"


def guard(*allowed: str, source: str | None = None) -> ConnectionGuard:
    return ConnectionGuard(local_only=True, allow_hosts=allowed, source=source)


def refusal(act: Callable[[], object]) -> LocalOnlyError:
    with pytest.raises(LocalOnlyError) as caught:
        act()
    return caught.value


# What is let through


def test_a_guard_that_is_off_lets_everything_through_and_resolves_nothing(lookups: list[str]) -> None:
    off = ConnectionGuard(allow_hosts=["near.test"])
    assert not off.local_only
    assert off.addresses("far.test", 80) == ["far.test"]
    off.require_allowed("far.test")
    off.refuse("pull", "pulling")
    off.refuse_redirect("http://far.test", "http://other.test")
    assert lookups == []


@pytest.mark.parametrize(
    ("allowed", "host", "is_let_through"),
    [
        ("203.0.113.5", "203.0.113.5", True),
        ("203.0.113.0/24", "203.0.113.255", True),
        ("203.0.113.0/24", "203.0.114.0", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("203.0.113.5", "::ffff:203.0.113.5", True),
        ("far.test", "FAR.test.", True),
        ("Far.Test.", "far.test", True),
        ("m\u00fcnchen.test", "xn--mnchen-3ya.test", True),
        ("far.test", "www.far.test", False),
    ],
)
def test_an_exception_is_let_through_and_nothing_beside_it(allowed: str, host: str, is_let_through: bool) -> None:
    if is_let_through:
        guard(allowed).require_allowed(host)
    else:
        assert refusal(lambda: guard(allowed).require_allowed(host)).rule == "connection"


def test_exceptions_stand_beside_each_other() -> None:
    several = guard("203.0.113.5", "far.test", "198.51.100.0/24")
    for host in ("203.0.113.5", "far.test", "198.51.100.9", "127.0.0.1", "::1", "localhost"):
        several.require_allowed(host)


def test_a_name_is_connected_to_where_all_of_its_addresses_may_be(hosts_file: Path) -> None:
    assert guard().addresses("near.test", 80) == ["127.0.0.1"]
    # One of two leads elsewhere, and any of them may be taken.
    assert FAR_ADDRESS in str(refusal(lambda: guard().addresses("both.test", 80)))
    assert guard(FAR_ADDRESS).addresses("both.test", 80) == ["127.0.0.1", FAR_ADDRESS]


def test_the_system_is_asked_of_an_exception_alone_and_each_address_is_tried_once(
    lookups: list[str], hosts_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    asked: list[tuple[Any, ...]] = []

    def resolve(host: str, port: int, **more: Any) -> list[Any]:
        asked.append((host, port, more))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("198.51.100.1", port))] * 2

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert guard("far.test").addresses("far.test", 443) == ["198.51.100.1"]
    assert [(host, port, more["type"]) for host, port, more in asked] == [("far.test", 443, socket.SOCK_STREAM)]


@pytest.mark.parametrize(
    ("found", "connected_to"),
    [
        (("fe80::1", 443, 0, 3), "fe80::1%3"),
        (("fe80::1%3", 443, 0, 3), "fe80::1%3"),
        (("2001:db8::1", 443, 0, 0), "2001:db8::1"),
        (("198.51.100.1", 443), "198.51.100.1"),
    ],
)
def test_an_address_keeps_the_zone_that_the_system_tells_beside_it(
    found: tuple[Any, ...], connected_to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", found)])
    assert guard("far.test").addresses("far.test", 443) == [connected_to]


@pytest.mark.parametrize("allowed", [("far.test",), None])
def test_what_was_judged_is_not_looked_up_again(allowed: tuple[str] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    asked: list[tuple[Any, ...]] = []

    def resolve(host: str, port: int, **more: int) -> list[Any]:
        asked.append((host, port, more["type"], more.get("flags", 0)))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("198.51.100.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    judge = ConnectionGuard() if allowed is None else guard(*allowed)
    assert [found[-1] for found in judge.resolve("far.test", 443)] == [("198.51.100.1", 443)]
    by_name = ("far.test", 443, socket.SOCK_STREAM, 0)
    by_number = ("198.51.100.1", 443, socket.SOCK_STREAM, socket.AI_NUMERICHOST)
    assert asked == ([by_name] if allowed is None else [by_name, by_number])


def test_localhost_is_this_machine_whatever_the_hosts_file_says(hosts_file: Path) -> None:
    hosts_file.write_text(f"{FAR_ADDRESS} localhost vllm.localhost\n", encoding="utf-8")
    for name in ("localhost", "vllm.localhost", "LOCALHOST."):
        assert guard().addresses(name, 80) == ["127.0.0.1", "::1"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "localhost", "a.localhost."])
def test_this_machine_is_known(host: str) -> None:
    assert is_this_machine(host)


@pytest.mark.parametrize(
    "host", ["128.0.0.1", "0.0.0.0", "::", "::2", "localhost.test", "notlocalhost", "near.test", ""]
)
def test_what_may_be_another_machine_is_not(host: str) -> None:
    assert not is_this_machine(host)


# What is said


def test_a_name_that_is_not_known_here_is_refused_without_being_looked_up(lookups: list[str]) -> None:
    error = refusal(lambda: guard().require_allowed("unknown.test"))
    assert str(error) == (
        f"local_only is on, and unknown.test {UNKNOWN} (its name was not looked up, as that would contact a name "
        "server): nothing was sent (rule: connection)"
    )
    assert (error.rule, error.source) == ("connection", None)
    assert lookups == []


def test_an_address_is_said_beside_the_name_that_leads_there(hosts_file: Path) -> None:
    hosts_file.write_text(f"{FAR_ADDRESS} far.test\n", encoding="utf-8")
    by_name = refusal(lambda: guard().require_allowed("far.test", rule="ledger"))
    assert str(by_name) == (
        f"local_only is on, and far.test ({FAR_ADDRESS}) {UNKNOWN}: nothing was sent (rule: ledger)"
    )
    by_address = refusal(lambda: guard().addresses(FAR_ADDRESS, 80, rule="ledger"))
    assert str(by_address) == f"local_only is on, and {FAR_ADDRESS} {UNKNOWN}: nothing was sent (rule: ledger)"
    assert (by_name.rule, by_address.rule) == ("ledger", "ledger")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_address_to_listen_on_is_told_which_one_to_connect_to(host: str) -> None:
    assert f"{UNKNOWN} (write 127.0.0.1 for this machine): nothing" in str(refusal(lambda: guard().addresses(host, 80)))
    assert "write 127.0.0.1" not in str(refusal(lambda: guard().addresses(FAR_ADDRESS, 80)))


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("config", "the program's own configuration"),
        ("local_only=True", "the argument local_only"),
        ("LLAMA_CLIENT_LOCAL_ONLY", "LLAMA_CLIENT_LOCAL_ONLY"),
    ],
)
def test_a_refusal_says_what_switched_local_only_on(source: str, shown: str) -> None:
    error = refusal(lambda: guard(source=source).refuse("pull", "pulling models"))
    assert str(error) == (
        f"local_only is on, which forbids pulling models: nothing was sent (rule: pull, switched on by {shown})"
    )
    assert error.source == source


def test_a_guard_of_a_configuration_has_all_of_it() -> None:
    config = read_config({"local_only": True, "privacy": {"allow_hosts": ["far.test"]}}, origin="test")
    made = ConnectionGuard.of(config)
    made.require_allowed("far.test")
    error = refusal(lambda: made.require_allowed("other.test"))
    assert error.source == config.local_only_source
    assert not ConnectionGuard.of(read_config({}, origin="test")).local_only


@pytest.mark.parametrize(
    ("location", "to"),
    [
        ("http://far.test:8000/v1?key=k", "to far.test"),
        ("/elsewhere", "elsewhere"),
        ("http://[bad/", "elsewhere"),
        ("http://" + "a" * 300 + ".test/", "to " + "a" * 253),
        ("http://fa\u202er.test/", "to far.test"),
    ],
)
def test_a_redirect_is_refused_with_both_hosts_and_no_more_of_the_addresses(location: str, to: str) -> None:
    error = refusal(lambda: guard().refuse_redirect("http://near.test:9/v1", location))
    assert str(error) == (
        f"local_only is on, and the server at near.test redirects {to}: the redirect was not followed; set base_url to "
        "the right address (rule: redirect)"
    )
    assert error.rule == "redirect"


# The hosts file

# Before the tests put their own in its place.
_where_it_is = local_only.hosts_file


def test_each_system_has_its_hosts_file_at_its_own_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _where_it_is() == Path("/etc/hosts")
    with monkeypatch.context() as windows:
        windows.setattr(local_only, "Path", PureWindowsPath)
        windows.setenv("SYSTEMROOT", "D:\\Win")
        windows.setattr(os, "name", "nt")
        elsewhere = _where_it_is()
        windows.delenv("SYSTEMROOT")
        usual = _where_it_is()
    assert str(elsewhere) == "D:\\Win\\System32\\drivers\\etc\\hosts"
    assert str(usual) == "C:\\Windows\\System32\\drivers\\etc\\hosts"


@pytest.fixture
def reads(hosts_file: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """How often the file is read."""
    opened: list[Path] = []
    to_open = Path.open

    def counted(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if path == hosts_file and "r" in mode:
            opened.append(path)
        return to_open(path, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", counted)
    return opened


def test_a_settled_hosts_file_is_read_once_for_each_name(hosts_file: Path, reads: list[Path]) -> None:
    hosts_file.write_text("127.0.0.1 one.test\n127.0.0.2 two.test\n", encoding="utf-8")
    os.utime(hosts_file, (0, 0))
    for _ in range(3):
        assert guard().addresses("one.test", 80) == ["127.0.0.1"]
        assert guard().addresses("two.test", 80) == ["127.0.0.2"]
    assert len(reads) == 2


def test_a_file_that_was_written_just_now_is_read_anew(hosts_file: Path, reads: list[Path]) -> None:
    """It may change again without its time changing."""
    hosts_file.write_text("127.0.0.1 one.test\n", encoding="utf-8")
    now = time.time()
    os.utime(hosts_file, (now + 60, now + 60))
    for address in ("127.0.0.1", "127.0.0.2"):
        hosts_file.write_text(f"{address} one.test\n", encoding="utf-8")
        os.utime(hosts_file, (now + 60, now + 60))
        assert guard().addresses("one.test", 80) == [address]
    assert len(reads) == 2


@pytest.mark.parametrize("change", ["time", "size", "file"])
def test_a_hosts_file_that_changed_is_read_anew(change: str, hosts_file: Path, tmp_path: Path) -> None:
    hosts_file.write_text("127.0.0.1 one.test\n", encoding="utf-8")
    os.utime(hosts_file, (0, 0))
    assert guard().addresses("one.test", 80) == ["127.0.0.1"]
    if change == "file":
        other = tmp_path / "other"
        other.write_text("127.0.0.2 one.test\n", encoding="utf-8")
        os.utime(other, (0, 0))
        other.replace(hosts_file)
    else:
        hosts_file.write_text("127.0.0.2 one.test\n" + ("# longer\n" if change == "size" else ""), encoding="utf-8")
        at = 0 if change == "size" else 9
        os.utime(hosts_file, (at, at))
    assert guard().addresses("one.test", 80) == ["127.0.0.2"]


def test_names_without_end_are_looked_up_and_stay_right(hosts_file: Path, reads: list[Path]) -> None:
    lines = [f"127.0.{number // 250}.{number % 250 + 1} n{number}.test" for number in range(600)]
    hosts_file.write_text("\n".join(lines), encoding="utf-8")
    os.utime(hosts_file, (0, 0))
    for line in lines + lines[-1:]:
        address, name = line.split()
        assert guard().addresses(name, 80) == [address]
    # The last is still remembered.
    assert len(reads) == 600


@pytest.mark.parametrize(
    "content",
    [
        "127.0.0.1 other.test # one.test",
        "# 127.0.0.1 one.test",
        "127.0.0.1",
        "one.test 127.0.0.1",
        "999.0.0.1 one.test",
        "127.0.0.1 one.test.example xone.test one.testx",
        "",
    ],
)
def test_what_only_looks_like_a_line_of_a_name_is_none(content: str, hosts_file: Path) -> None:
    hosts_file.write_text(content + "\n", encoding="utf-8")
    assert "was not looked up" in str(refusal(lambda: guard().addresses("one.test", 80)))


def test_a_name_on_several_lines_has_each_address_once_in_order(hosts_file: Path) -> None:
    hosts_file.write_text("::1 one.test\n127.0.0.2\tx One.Test.\n::1 one.test\n127.0.0.1 one.test", encoding="utf-8")
    assert guard().addresses("one.test", 80) == ["::1", "127.0.0.2", "127.0.0.1"]


def test_a_line_that_is_no_text_hides_no_other(hosts_file: Path) -> None:
    hosts_file.write_bytes(b"# caf\xe9\n127.0.0.3 one.test\n")
    assert guard().addresses("one.test", 80) == ["127.0.0.3"]


@pytest.mark.parametrize("name", ["m\u00fcnchen.test", "xn--mnchen-3ya.test"])
def test_a_name_in_another_script_is_found_in_both_of_its_forms(name: str, hosts_file: Path) -> None:
    hosts_file.write_text(f"# gr\u00fc\u00dfe\n127.0.0.3 {name}\n", encoding="utf-8")
    assert guard().addresses("M\u00fcnchen.test", 80) == ["127.0.0.3"]
    assert guard().addresses("xn--mnchen-3ya.test", 80) == ["127.0.0.3"]
