"""Hosts with odd characters: one form is judged, looked up, connected to and shown to the server, on both wires."""

from __future__ import annotations

import os
import re
import socket
import time
from base64 import b64encode
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import idna
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llama_client import ConfigError, InvalidRequestError, LlamaClient, LlamaClientError, LocalOnlyError, load_config
from llama_client import local_only as privacy
from llama_client.hosts import host_of, plain_url, with_plain_host
from llama_client.local_only import ConnectionGuard
from llama_client.providers.http.http1 import RequestHeads
from llama_client.testing.loopback import WireServer, whole
from tests.privacy.asking import FAR_ADDRESS, KEY, MODEL, ONCE, answer_all, ask, calls, local
from tests.wire.certificates import self_signed

wires = pytest.mark.parametrize("wire", ["builtin", "httpx"])
# Of each, two parsers or a parser and a resolver have at some time made two different hosts.
NO_HOST = [
    "127.0.0.1%2efar.test", "127.0.0.1%25far.test", "127.0.0.1%far.test", "%31%32%37.0.0.1", "127.0.0.1%00",
    "127.0.0.1\\.far.test", "127.0.0.1\\@far.test", "far.test\\@127.0.0.1", "user@127.0.0.1", "127.0.0.1:80@far.test",
    "127.0.0.1 .far.test", "127.0.0.1\t.far.test", "127.0.0.1\n.far.test", "127.0.0.1\0.far.test", "127.0.0.1\x7f",
    "127.0.0.1\u3000.far.test", "127.0.0.1\uff0ffar.test", "127.0.0.1\u2100", "127.0.0.1\u202e", "127.0.0.1\u200d",
    "[::1%far.test].far.test", "[::1].far.test", "[::1]far.test", "[::2%far.test]", "[2001:db8::1%25lo]", "[::%25lo]",
    "[[::1]]", "[::ffff:127.0.0.1%25lo]", "[fe80::1%]", "[fe80::1%25a%25b]", "[fe80::1%25a@b]", "[127.0.0.1]",
    "[localhost]", "::1",
    "localhost..", ".localhost", "far..test", "..", "a..b", "x" * 64 + ".test", ".".join(["x" * 60] * 5), "ö" * 2000,
    "fa*r.test", "far,test", "'far.test'", "far.test;x", "far.test|x", "<far>", "xn--\u00fc.test", "\ud800.test",
]  # fmt: skip
# And these are addresses to some resolvers, and names to others.
NUMBERS = [
    "2130706433", "0x7f000001", "017700000001", "0x7f.1", "127.1", "127.0.1", "0177.0.0.1", "127.0.0.01", "0127.0.0.1",
    "0x7f.0x0.0x0.0x1", "0", "1.2.3.4.5", "127.0.0.1.0x", "127.1.",
]  # fmt: skip


def wide(text: str) -> str:
    """The same in full width, as East Asian keyboards write it."""
    return "".join(chr(ord(sign) + 0xFEE0) for sign in text)


# What survives in a variable, and is no other way to write an Ollama server.
IN_A_VARIABLE = [host for host in NO_HOST if "@" not in host and host.isprintable() and host != "::1"]
DOT = "\u3002"
FAR = [
    "far.test.", "FAR.test", wide("far") + ".test", f"far{DOT}test", "far\u00ad.test", "far\u200b.test",
    "fa\u212a.test", "straße.test", "STRASSE.test",
    "xn--strae-oqa.test", "127.0.0.1\u200b.far.test", "lo\u0441alhost", "xn--localhost-",
    "xn--near-.test", f"{FAR_ADDRESS}.", wide(FAR_ADDRESS), f"[::ffff:{FAR_ADDRESS}]", "[::127.0.0.1]",
    "[64:ff9b::7f00:1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "[::ffff:0:127.0.0.1]", "[fe80::1%25lo]",
    "[fd00::1%lo]",
]  # fmt: skip
NEAR = {
    wide("localhost"): "localhost", "LocalHost.": "localhost", "loc\u00adalhost": "localhost",
    wide("127") + ".0.0.1": "127.0.0.1", f"127{DOT}0{DOT}0{DOT}1": "127.0.0.1", "127.0.0.1.": "127.0.0.1",
    "127.0.0.1\u2060": "127.0.0.1", "near.test.": "near.test", f"NEAR{DOT}test": "near.test",
    f"near.test{DOT}": "near.test", "[::1%25lo]": "[::1]", "[::1%lo]": "[::1]", "[0:0:0:0:0:0:0:1]": "[::1]",
    "[::ffff:127.0.0.1]": "",
}  # fmt: skip
# What resolvers take, though registries do not, and what people write for it.
UNUSUAL = {
    "xn--ls8h.la": "xn--ls8h.la", "\U0001f4a9.la": "xn--ls8h.la", "xn--i-7iq.ws": "xn--i-7iq.ws", "xn--zz": "xn--zz",
    "i\u2764.ws": "xn--i-7iq.ws", "my_srv.xn--bcher-kva.example": "my_srv.xn--bcher-kva.example", "_x": "_x",
    "my_srv.bücher.example": "my_srv.xn--bcher-kva.example", "büro_pc": "xn--bro_pc-3ya", "my_llama_1": "my_llama_1",
    "foo-.far.test": "foo-.far.test", "-foo.far.test": "-foo.far.test", "r3---sn.far.test": "r3---sn.far.test",
    "STRAßE.test.": "xn--strae-oqa.test.", "llm.cluster.local.": "llm.cluster.local.", "0x7f.1": "0x7f.1",
    "bu\u0308cher.example": "xn--bcher-kva.example",
}  # fmt: skip
INTERFACE_INDEX, INTERFACE = socket.if_nameindex()[0]
ZONES = {
    f"[fe80::1%25{INTERFACE}]": ("fe80::1", INTERFACE_INDEX), f"[fe80::1%{INTERFACE}]": ("fe80::1", INTERFACE_INDEX),
    f"[FD00::1%25{INTERFACE}]": ("fd00::1", INTERFACE_INDEX), f"[fd00::1%{INTERFACE}]": ("fd00::1", INTERFACE_INDEX),
    f"[fd00:0::1%25{INTERFACE_INDEX}]": ("fd00::1", INTERFACE_INDEX),
    # 25 is also what the escape of a percent sign looks like.
    "[fe80::1%2525]": ("fe80::1", 25), "[fe80::1%25]": ("fe80::1", 25), "[fe80::1%25254]": ("fe80::1", 254),
    "[fe80::1%252525]": ("fe80::1", 2525),
}  # fmt: skip


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Where a socket was to be connected to; nothing gets there."""
    tried: list[tuple[Any, ...]] = []

    def connect(self: socket.socket, address: Any) -> None:
        tried.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    return tried


def config(host: str, wire: str, port: int = 9, scheme: str = "http", **more: Any) -> dict[str, Any]:
    table = local("openai", base_url=f"{scheme}://{host}:{port}/v1", api_key=KEY, **more)
    return {**table, "http": {"wire": wire}, "routing": {"retries": 0}}


@pytest.mark.parametrize("host", NO_HOST)
def test_what_is_no_host_is_neither_looked_up_nor_dialled(host: str, lookups: list[str]) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        LlamaClient(config(host, "builtin", allow=["far.test", "203.0.113.0/24"]))
    assert lookups == []


@pytest.mark.parametrize("host", [*NUMBERS, *FAR])
@wires
@calls
def test_what_is_elsewhere_or_unclear_is_refused_in_every_spelling(
    host: str, wire: str, mode: str, dialled: list[Any], lookups: list[str]
) -> None:
    with pytest.raises(LocalOnlyError):
        ask(mode, config(host, wire, allow=["strasse.example"]), f"openai/{MODEL}")
    assert (dialled, lookups) == ([], [])


@pytest.mark.parametrize("host", NEAR)
@wires
@calls
def test_what_was_judged_is_what_is_dialled(
    host: str, wire: str, mode: str, dialled: list[Any], lookups: list[str]
) -> None:
    with pytest.raises(LlamaClientError) as caught:
        ask(mode, config(host, wire), f"openai/{MODEL}")
    assert not isinstance(caught.value, LocalOnlyError)
    assert lookups == []
    assert {address[0] for address in dialled} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1"}


@pytest.mark.parametrize("host", [host for host in NEAR if "[" not in host])
@wires
@calls
def test_the_server_is_shown_the_same_host(host: str, wire: str, mode: str, there: WireServer) -> None:
    assert ask(mode, config(host, wire, there.port), f"openai/{MODEL}").text == "Hello"
    assert there.requests[0].headers["host"] == f"{NEAR[host]}:{there.port}"


@wires
@calls
def test_a_certificate_is_for_the_name_without_its_final_dot(wire: str, mode: str, tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    if certificate is None:
        pytest.skip("no openssl program to make a certificate with")
    with WireServer(answer_all, tls=certificate.context) as server:
        settings = config("localhost.", wire, server.port, "https", ca_file=str(certificate.certificate))
        assert ask(mode, settings, f"openai/{MODEL}").text == "Hello"


@pytest.mark.parametrize("host", UNUSUAL)
@wires
@calls
def test_a_name_reaches_the_resolver_whatever_registries_allow(
    host: str, wire: str, mode: str, lookups: list[str]
) -> None:
    with pytest.raises(LlamaClientError):
        ask(mode, {**config(host, wire), "local_only": False}, f"openai/{MODEL}")
    expected = UNUSUAL[host]
    # HTTPX's own libraries take no number in place of an address: it gets what that number means.
    assert set(lookups) == ({expected} if (wire, expected) != ("httpx", "0x7f.1") else set())


@pytest.mark.parametrize("host", ["bücher.test", "\U0001f4a9.la", "llm.cluster.local.", "foo-.far.test"])
@wires
@calls
def test_an_allowed_name_is_looked_up_in_the_form_that_was_allowed(
    host: str, wire: str, mode: str, dialled: list[Any], lookups: list[str]
) -> None:
    form = host_of(host)
    for allowed in (host, form, f"{form.removesuffix('.')}."):
        with pytest.raises(LlamaClientError) as caught:
            ask(mode, config(host, wire, allow=[allowed]), f"openai/{MODEL}")
        assert not isinstance(caught.value, LocalOnlyError)
    assert set(lookups) == {form}
    assert dialled == []


@calls
def test_names_of_different_mappings_are_different(mode: str, lookups: list[str]) -> None:
    # By the mapping of 2003 both are "strasse.test".
    with pytest.raises(LocalOnlyError):
        ask(mode, config("straße.test", "builtin", allow=["strasse.test"]), f"openai/{MODEL}")
    assert lookups == []


@pytest.mark.parametrize("host", ZONES)
@wires
@calls
def test_a_zone_is_dialled_however_it_is_written(
    host: str, wire: str, mode: str, dialled: list[Any], lookups: list[str]
) -> None:
    for is_local_only in (True, False):
        settings = {**config(host, wire, allow=["fe80::/10", "fd00::/8"]), "local_only": is_local_only}
        with pytest.raises(LlamaClientError) as caught:
            ask(mode, settings, f"openai/{MODEL}")
        assert not isinstance(caught.value, LocalOnlyError | ConfigError)
    assert {(address[0], address[3]) for address in dialled} == {ZONES[host]}
    assert lookups == []


@wires
@calls
def test_a_zone_that_this_machine_lacks_is_no_connection(wire: str, mode: str, dialled: list[Any]) -> None:
    with pytest.raises(LlamaClientError, match="no network interface no-such-zone"):
        ask(mode, config("[fe80::1%25no-such-zone]", wire, allow=["fe80::1"]), f"openai/{MODEL}")
    assert dialled == []


@wires
@calls
def test_the_zone_that_a_name_leads_to_is_dialled(
    wire: str, mode: str, dialled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def resolved(host: str, *rest: Any, **more: Any) -> Any:
        return resolve(f"fe80::1%{INTERFACE_INDEX}" if host == "link.test" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    with pytest.raises(LlamaClientError):
        ask(mode, config("link.test", wire, allow=["link.test"]), f"openai/{MODEL}")
    assert {(address[0], address[3]) for address in dialled} == {("fe80::1", INTERFACE_INDEX)}


def test_a_server_is_not_shown_a_zone() -> None:
    head = RequestHeads("http://[fe80::1%25eth0]:8080/v1", {}).head("GET", "", {}).content
    assert b"\r\nHost: [fe80::1]:8080\r\n" in head


def test_a_judged_address_is_never_taken_for_a_name(lookups: list[str]) -> None:
    guard = ConnectionGuard(local_only=True, allow_hosts=["fe80::/10", ""])
    with pytest.raises(OSError, match=r"no network interface far\.test"):
        guard.resolve("fe80::1%far.test", 9)
    assert [found[4][0] for found in guard.resolve("::1%lo", 9)] == ["::1"]
    for host in ("127.0.0.1%far.test", "::2%far.test", ""):
        with pytest.raises(LocalOnlyError):
            guard.resolve(host, 9)
    assert lookups == []


# Configuration.


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("bücher.example.", "xn--bcher-kva.example"), ("xn--ls8h.la", "xn--ls8h.la"), ("foo-.lan", "foo-.lan"),
        (wide("10.0.0.5"), "10.0.0.5"), ("10.0.0.5.", "10.0.0.5"), ("fe80::1%eth0", "fe80::1"),
    ],
)  # fmt: skip
def test_an_exception_is_kept_in_the_form_that_is_compared(written: str, kept: str) -> None:
    assert load_config({"privacy": {"allow_hosts": [written]}}, environ={}).privacy.allow_hosts == (kept,)


@pytest.mark.parametrize("address", ["http://{}:9", "{}:9"])
@pytest.mark.parametrize("host", IN_A_VARIABLE)
def test_the_address_in_a_variable_is_parsed_as_that_of_a_table(
    host: str, address: str, lookups: list[str], dialled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", address.format(host))
    with pytest.raises(ConfigError, match="the address in the environment"):
        ask("call-sync", {"local_only": True}, f"ollama/{MODEL}")
    assert (lookups, dialled) == ([], [])


@pytest.mark.parametrize("host", [wide("0.0.0.0"), "0.0.0.0.", "[0:0:0:0::0]"])
@calls
def test_ollamas_wildcard_is_this_machine_in_every_spelling(host: str, mode: str, dialled: list[Any]) -> None:
    with pytest.raises(LlamaClientError) as caught:
        ask(mode, local("ollama", base_url=f"http://{host}:9") | ONCE, f"ollama/{MODEL}")
    assert not isinstance(caught.value, LocalOnlyError)
    assert {address[0] for address in dialled} <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize(
    "host", ["127.0.0.1%2efar.test", "127.0.0.1%00", "far.test", "far.test.", "[::2%25lo]", "127.1"]
)
def test_the_ledgers_host_is_judged_as_libpq_reads_it(
    host: str, lookups: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")
    with pytest.raises(LocalOnlyError) as caught:
        LlamaClient({"local_only": True, "ledger": {"url": f"postgresql://u@{host}/x"}})
    assert caught.value.rule == "ledger"
    assert lookups == []


@pytest.mark.parametrize("host", ["127.0.0.1", "loc%61lhost", "localhost.", "[::1%25lo]", "near.test."])
def test_a_ledger_on_this_machine_is_allowed(host: str, lookups: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")
    LlamaClient({"local_only": True, "ledger": {"url": f"postgresql://u@{host}/x"}}).close()
    assert lookups == []


# Proxies.


@pytest.mark.parametrize("exception", ["bücher.test", "xn--bcher-kva.test", ".BÜCHER.test", "bücher.test.", "test"])
@pytest.mark.parametrize("host", ["bücher.test", "xn--bcher-kva.test", "BU\u0308CHER.test", "bücher.test."])
def test_no_proxy_names_a_host_in_either_form(
    host: str, exception: str, lookups: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with WireServer(lambda _: whole(b"", status=500)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", f"other.test, {exception}")
        with pytest.raises(LlamaClientError, match="cannot be resolved"):
            ask("call-sync", {**config(host, "builtin"), "local_only": False}, f"openai/{MODEL}")
        assert proxy.accepted == 0
    assert {host.removesuffix(".") for host in lookups} == {"xn--bcher-kva.test"}


@pytest.mark.parametrize("exception", ["büche.test", "ücher.test", "xn--bcher-kva.tes", "*.x", "", ".", "bücher..test"])
def test_no_proxy_names_no_other_host(exception: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with WireServer(answer_all) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", f"other.test,{exception}")
        assert (
            ask("call-sync", {**config("bücher.test", "builtin"), "local_only": False}, f"openai/{MODEL}").text
            == "Hello"
        )
        assert proxy.requests[0].path.startswith("http://xn--bcher-kva.test:9/")


@pytest.mark.parametrize("host", [host for host in NO_HOST if "@" not in host])
def test_a_proxy_is_parsed_as_an_address_is(host: str) -> None:
    with pytest.raises(ConfigError, match="proxy"):
        load_config({"providers": {"openai": {"proxy": f"http://u:p@{host}:3128"}}}, environ={})


@calls
def test_a_proxys_host_is_looked_up_in_its_one_form(mode: str, lookups: list[str]) -> None:
    settings = {**config(FAR_ADDRESS, "builtin", proxy="http://PROXY.bücher.test.:1"), "local_only": False}
    with pytest.raises(LlamaClientError):
        ask(mode, settings, f"openai/{MODEL}")
    assert set(lookups) == {"proxy.xn--bcher-kva.test."}


# Images.


def picture(url: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


@pytest.mark.parametrize("host", ["127.0.0.1%2efar.test", "127.0.0.1\\.far.test", "a..b", "[::1].far.test"])
@calls
def test_an_image_that_is_fetched_here_must_have_a_host(
    host: str, mode: str, there: WireServer, lookups: list[str]
) -> None:
    settings = {"providers": {"ollama": {"base_url": there.url}}}
    with pytest.raises(InvalidRequestError, match="its host is no name and no IP"):
        ask(mode, settings, f"ollama/{MODEL}", picture(f"http://{host}/a.png"))
    assert (there.accepted, lookups) == (0, [])


@wires
@calls
def test_the_password_in_an_images_address_is_sent_on_both_wires(wire: str, mode: str, there: WireServer) -> None:
    settings = {"providers": {"ollama": {"base_url": there.url}}, "http": {"wire": wire}}
    url = f"http://ann:pa%40s@127.0.0.1:{there.port}/a.png"
    with pytest.raises(LlamaClientError):
        ask(mode, settings, f"ollama/{MODEL}", picture(url))
    assert there.requests[0].headers["authorization"] == f"Basic {b64encode(b'ann:pa@s').decode()}"


@pytest.mark.parametrize("host", ["xn--ls8h.la", "foo-.far.test", "my_srv.xn--bcher-kva.example", "a..b", "i\u2764.ws"])
@calls
def test_an_image_that_the_provider_fetches_is_its_own_to_judge(host: str, mode: str, there: WireServer) -> None:
    settings = {"providers": {"openai": {"base_url": f"{there.url}/v1", "api_key": KEY}}}
    url = f"https://{host}/a.png"
    assert ask(mode, settings, f"openai/{MODEL}", picture(url)).text == "Hello"
    assert there.requests[0].json["messages"][0]["content"][0]["image_url"]["url"] == url


# The hosts file.


@pytest.mark.parametrize("name", ["bücher.test", "xn--bcher-kva.test", "BÜCHER.test.", "bu\u0308cher.test"])
@pytest.mark.parametrize("written", ["bücher.test", "xn--bcher-kva.test", "BÜCHER.test.", "bu\u0308cher.test"])
def test_the_hosts_file_names_a_host_in_either_form(name: str, written: str, hosts_file: Path) -> None:
    hosts_file.write_text(f"127.0.0.8 x\n127.0.0.9\tother {written}# a\n127.0.0.7 x{written}\n", encoding="utf-8")
    assert ConnectionGuard(local_only=True).addresses(name, 80) == ["127.0.0.9"]


def test_the_names_of_a_large_hosts_file_are_not_mapped_one_by_one(
    hosts_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped: list[str] = []
    remap = idna.uts46_remap

    def counted(domain: str, **rules: Any) -> str:
        mapped.append(domain)
        return remap(domain, **rules)

    monkeypatch.setattr(idna, "uts46_remap", counted)
    lines = [f"0.0.0.0 w{number}.bücher.test  # café" for number in range(5000)]
    hosts_file.write_text("\n".join([*lines, "127.0.0.9 bücher.test"]), encoding="utf-8")
    assert ConnectionGuard(local_only=True).addresses("bücher.test", 80) == ["127.0.0.9"]
    assert len(mapped) < 10


@pytest.mark.parametrize("ahead_s", [0.0, 3600.0], ids=["now", "an hour ahead"])
def test_a_hosts_file_that_was_written_now_is_read_until_it_has_settled(
    ahead_s: float, hosts_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its time is ahead of this machine's clock."""
    opened: list[Path] = []
    to_open = Path.open

    def counted(path: Path, *rest: Any, **more: Any) -> Any:
        opened.extend([path] * (path == hosts_file))
        return to_open(path, *rest, **more)

    now_s = [100.0]
    monkeypatch.setattr(Path, "open", counted)
    monkeypatch.setattr(privacy, "time", SimpleNamespace(time=time.time, monotonic=lambda: now_s[0]))
    written_s = time.time() + ahead_s
    os.utime(hosts_file, (written_s, written_s))
    guard = ConnectionGuard(local_only=True)
    for _ in range(3):
        guard.require_allowed("near.test")
    assert len(opened) == 3
    now_s[0] += 5.0
    for _ in range(3):
        guard.require_allowed("near.test")
    assert len(opened) == 4


# All of them.

ZONE = st.from_regex(re.compile(r"[A-Za-z0-9._~-]{1,12}", re.ASCII), fullmatch=True)


@given(st.sampled_from(["fe80::1", "FD00:0::2", "fec0::3"]), st.sampled_from(["%", "%25"]), ZONE | st.just("25"))
@example("fe80::1", "%25", "251")
@example("fe80::1", "%", "25")
@example("fe80::1", "%25", "25eth0")
def test_the_form_of_a_zone_stays_as_it_is(address: str, percent: str, zone: str) -> None:
    first = plain_url(f"http://[{address}{percent}{zone}]:80/v1")
    assert plain_url(first.text) == first
    assert RequestHeads(first.text, {}).origin.host == first.host == host_of(first.host)
    assert httpx.URL(first.for_httpx).raw_host.decode("ascii") == first.host
    if percent == "%25":
        assert first.host.partition("%")[2] == zone


@given(st.text(st.characters(blacklist_characters="/?#"), max_size=20))
@example("127.0.0.1%25far.test")
@example(wide("AB") + DOT + "c")
@example("[::ffff:127.0.0.1]")
@example("xn--ls8h.la.")
def test_every_parser_finds_the_same_host(text: str) -> None:
    try:
        url = with_plain_host(f"http://{text}/v1")
    except ValueError:
        return
    host = plain_url(url).host
    assert host_of(host) == host == RequestHeads(url, {}).origin.host
    if "%" not in host:
        assert urlsplit(url).hostname == host
    assert with_plain_host(url) == url
    if not re.fullmatch(r"[0-9a-fx.]+", host):
        assert httpx.URL(plain_url(url).for_httpx).raw_host.decode("ascii") == host
