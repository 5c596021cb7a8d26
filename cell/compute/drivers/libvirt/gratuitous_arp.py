"""Telling all on a link who has an address now, as a host does that takes it over."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from cell.compute.drivers.libvirt.namespace_exec import Namespace

SCRIPT = """\
import socket, struct, sys
device, *told = sys.argv[1:]
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind((device, 0))
own = wire.getsockname()[4]
for one in told:
    address, _, text = one.partition("=")
    held, mac = socket.inet_aton(address), bytes.fromhex(text.replace(":", ""))
    for kind, target in ((1, bytes(6)), (2, mac)):
        body = struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, kind, mac, held, target, held)
        wire.send(b"\\xff" * 6 + own + b"\\x08\\x06" + body)
"""


def announce(namespace: Namespace, device: str, held: Mapping[str, str]) -> None:
    """Say from a device which MAC has each IPv4 address; its own or another's. What fails shows when caches expire."""
    told = [f"{address}={mac}" for address, mac in sorted(held.items()) if ":" not in address]
    if told:
        namespace.run([sys.executable, "-S", "-c", SCRIPT, device, *told], check=False)
