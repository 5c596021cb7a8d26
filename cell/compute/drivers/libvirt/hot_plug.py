"""Devices of a domain that may be running: plugged, and taken out once the guest has let go of them.

libvirt drops a device from a running domain when QEMU says that the guest has released it (its DEVICE_REMOVED), and not
before: so one that is gone from the domain is one that nothing in the guest or in QEMU holds any more.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from cell.compute.drivers.libvirt.network_device_names import tap_name
from cellcloud import clock, errors

ASK_AGAIN = 10.0  # seconds until a guest that may not have listened is asked for the device once more
LOOK_AGAIN = 0.5
Ask = Callable[[Callable[[Any], Any]], Any]
"""Does something with the guest's domain; None where libvirt does not have it."""
Find = Callable[[Any], ET.Element | None]
"""Looks for the device in a domain: None where it has it not, or is off."""


def plug(domain: Any, find: Find, device: ET.Element) -> None:
    """Give a running guest the device, unless it has it."""
    if domain.isActive() and find(domain) is None:
        domain.attachDeviceFlags(ET.tostring(device, encoding="unicode"), libvirt.VIR_DOMAIN_AFFECT_LIVE)


def unplug(
    ask: Ask,
    find: Find,
    timeout: float,
    *,
    kept: str,
    wait: Callable[[float], None],
    gives_way: Callable[[], bool],
) -> None:
    """Have a running guest let go of the device, and wait until it has. Raises GuestFailed, which says ``kept``, when
    it has not within ``timeout`` seconds, Stale when a newer command waits."""
    deadline = clock.monotonic() + timeout
    ask_at, refusal = 0.0, ""
    while (device := ask(find)) is not None:
        now = clock.monotonic()
        if gives_way():
            raise errors.Stale("A newer command overtook this one.")
        if now >= deadline:
            raise errors.GuestFailed(kept, detail=refusal)
        if now >= ask_at:
            refusal = ask(functools.partial(_ask_for, device)) or refusal
            ask_at = now + ASK_AGAIN
        wait(LOOK_AGAIN)


def _ask_for(device: ET.Element, domain: Any) -> str:
    """Ask the guest for the device; why that could not be done, if it could not: it is asked again."""
    try:
        domain.detachDeviceFlags(ET.tostring(device, encoding="unicode"), libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError as error:
        return str(error)
    return ""


def find_disk(volume_id: str, domain: Any) -> ET.Element | None:
    """Return the disk of a volume that a running guest has: by its serial number. None for a guest that is off."""
    return next((one for one in _list(domain, "disk") if one.findtext("serial") == volume_id), None)


def find_interface(port_id: str, domain: Any) -> ET.Element | None:
    """Return the interface of a port that a running guest has: by its tap. None for a guest that is off."""
    wanted = tap_name(port_id)
    taps = ((one, one.find("target")) for one in _list(domain, "interface"))
    return next((one for one, tap in taps if tap is not None and tap.get("dev") == wanted), None)


def _list(domain: Any, kind: str) -> list[ET.Element]:
    if not domain.isActive():
        return []
    return ET.fromstring(domain.XMLDesc()).findall(f"devices/{kind}")  # noqa: S314 -- libvirt's own
