"""Runs the program in a network namespace whose only way out is an interface that swallows packets and counts them.

`unshare --map-root-user --net --mount python -m tests.privacy.confined PARTS...` prints one JSON document: what the
program said, and every packet that left it, of whatever code. Linux alone has this. Names are asked of a name server
behind that interface, so that a lookup is a packet too.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

_WAY_OUT = "way0"
_NAME_SERVER = "198.51.100.53"
_RESOLVER = f"nameserver {_NAME_SERVER}\noptions timeout:1 attempts:1\n"
# A cable whose other end nobody holds; some kernels have only the second.
_KINDS = (f"ip link add {_WAY_OUT} type veth peer name end0", f"ip link add {_WAY_OUT} type dummy")
_SETUP = (
    "ip link set lo up",
    # Nobody is asked for hardware addresses, and the kernel itself looks for no IPv6 routers.
    f"ip link set {_WAY_OUT} arp off addrgenmode none",
    f"ip address add 198.51.100.1/24 dev {_WAY_OUT}",
    f"ip link set {_WAY_OUT} up",
    f"ip route add default dev {_WAY_OUT}",
)
_ALL_PROTOCOLS = 3
_PROGRAM_TIMEOUT_S = 240


def confine() -> None:
    """Makes the interface, and lets names be asked for behind it.

    Raises:
        CalledProcessError: This system has no such thing.
    """
    if subprocess.run(_KINDS[0].split(), check=False, capture_output=True).returncode:
        subprocess.run(_KINDS[1].split(), check=True, capture_output=True)
    else:
        subprocess.run(
            ["ip", "link", "set", "end0", "arp", "off", "addrgenmode", "none", "up"], check=True, capture_output=True
        )
    for command in _SETUP:
        subprocess.run(command.split(), check=True, capture_output=True)
    for path, text in (("/etc/resolv.conf", _RESOLVER), ("/etc/nsswitch.conf", "hosts: files dns\n")):
        if Path(path).exists():
            with tempfile.NamedTemporaryFile("w", delete=False) as file:
                file.write(text)
            subprocess.run(["mount", "--bind", file.name, path], check=True, capture_output=True)


def counted() -> int:
    """How many packets the interface has swallowed. What is mounted at /sys may be another namespace's."""
    for line in Path("/proc/net/dev").read_text(encoding="ascii").splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == _WAY_OUT:
            return int(numbers.split()[9])
    raise LookupError(_WAY_OUT)


def shown(packet: bytes) -> str:
    """Where a packet wanted to go."""
    kind = int.from_bytes(packet[12:14], "big")
    if kind == 0x0800:
        head_bytes = (packet[14] & 15) * 4
        protocol, to = packet[23], ipaddress.ip_address(packet[30:34])
        port = struct.unpack("!H", packet[14 + head_bytes + 2 : 14 + head_bytes + 4])[0] if protocol in (6, 17) else 0
        return f"{ {6: 'tcp', 17: 'udp'}.get(protocol, protocol) } {to} {port}"
    if kind == 0x86DD:
        return f"ipv6 {packet[20]} {ipaddress.ip_address(packet[38:54])}"
    return f"ethernet {kind:#06x}"


def main(parts: list[str]) -> None:
    """Runs the program and tells; without parts, only whether that can be done."""
    confine()
    if not parts:
        return
    packets: list[str] = []
    watcher = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS))
    watcher.bind((_WAY_OUT, 0))

    def look() -> None:
        while True:
            packets.append(shown(watcher.recv(1 << 16)))

    threading.Thread(target=look, daemon=True).start()
    before = counted()
    done = subprocess.run(
        [sys.executable, "-m", "tests.privacy.program", *parts],
        capture_output=True,
        text=True,
        check=False,
        timeout=_PROGRAM_TIMEOUT_S,
    )
    said = json.loads(done.stdout) if done.returncode == 0 else {}
    print(json.dumps({**said, "packets": packets, "sent": counted() - before, "stderr": done.stderr[-4000:]}))


if __name__ == "__main__":
    main(sys.argv[1:])
