"""Volumes of a domain that may be running: plugged, and taken out once the guest has let go of them.

libvirt drops a device from a running domain when QEMU says that the guest has released it (its DEVICE_REMOVED), and not
before: so a disk that is gone from the domain is one that nothing in the guest or in QEMU holds any more.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import libvirt
import libvirt_qemu

from cell.compute.driver import NOT_RELEASED
from cellcloud import clock, errors

ASK_AGAIN = 10.0  # seconds until a guest that may not have listened is asked for the disk once more
LOOK_AGAIN = 0.5
RESIZE_TRIES = 10
Ask = Callable[[Callable[[Any], Any]], Any]
"""Does something with the guest's domain; None where libvirt does not have it."""


def plug(domain: Any, volume_id: str, disk: ET.Element) -> None:
    """Give a running guest the disk, unless it has it."""
    if domain.isActive() and find_disk(domain, volume_id) is None:
        domain.attachDeviceFlags(ET.tostring(disk, encoding="unicode"), libvirt.VIR_DOMAIN_AFFECT_LIVE)


def unplug(
    ask: Ask, volume_id: str, timeout: float, *, wait: Callable[[float], None], gives_way: Callable[[], bool]
) -> None:
    """Have a running guest let go of the disk, and wait until it has. Raises GuestFailed when it has not within
    ``timeout`` seconds, Stale when a newer command waits."""
    deadline = clock.monotonic() + timeout
    ask_at, refusal = 0.0, ""
    while (disk := ask(lambda domain: find_disk(domain, volume_id))) is not None:
        now = clock.monotonic()
        if gives_way():
            raise errors.Stale("A newer command overtook this one.")
        if now >= deadline:
            raise errors.GuestFailed(NOT_RELEASED, detail=refusal)
        if now >= ask_at:
            refusal = ask(functools.partial(_ask_for, disk)) or refusal
            ask_at = now + ASK_AGAIN
        wait(LOOK_AGAIN)


def _ask_for(disk: ET.Element, domain: Any) -> str:
    """Ask the guest for the disk; why that could not be done, if it could not: it is asked again."""
    try:
        domain.detachDeviceFlags(ET.tostring(disk, encoding="unicode"), libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError as error:
        return str(error)
    return ""


def resize(domain: Any, volume_id: str, size: int) -> None:
    """Let a running guest see that its disk has ``size`` bytes now.

    QEMU takes no other size than the one that it knows of the exporter, which is asked for it anew only where the
    connection was lost: so something is read first, by which it is connected again, once or twice.
    """
    disk = find_disk(domain, volume_id)
    target, alias = (None, None) if disk is None else (disk.find("target"), disk.find("alias"))
    if target is None or alias is None:
        return
    node = _find_node(domain, alias.get("name", ""))
    for tries_left in reversed(range(RESIZE_TRIES)):
        if node:
            reading = f'qemu-io {node} "read 0 512"'
            libvirt_qemu.qemuMonitorCommand(domain, reading, libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP)
        try:
            domain.blockResize(target.get("dev", ""), size, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
        except libvirt.libvirtError:
            if not tries_left:
                raise
            clock.sleep(LOOK_AGAIN)
        else:
            return


def _find_node(domain: Any, alias: str) -> str:
    """Return QEMU's name of what a disk stands on; "" where it has none."""
    answer = libvirt_qemu.qemuMonitorCommand(domain, '{"execute": "query-block"}', 0)
    for one in json.loads(answer)["return"]:
        if alias in str(one.get("qdev", "")).split("/"):
            return str(one.get("inserted", {}).get("node-name", ""))
    return ""


def find_disk(domain: Any, volume_id: str) -> ET.Element | None:
    """Return the disk of a volume that a running guest has: by its serial number. None for a guest that is off."""
    if not domain.isActive():
        return None
    described = ET.fromstring(domain.XMLDesc())  # noqa: S314 -- libvirt's own
    return next((one for one in described.findall("devices/disk") if one.findtext("serial") == volume_id), None)
