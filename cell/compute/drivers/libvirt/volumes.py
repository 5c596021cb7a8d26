"""Sizes of volumes, as running guests see them."""

from __future__ import annotations

import json
from typing import Any

import libvirt
import libvirt_qemu

from cell.compute.drivers.libvirt.hot_plug import LOOK_AGAIN, find_disk
from cellcloud import clock

RESIZE_TRIES = 10


def resize(domain: Any, volume_id: str, size: int) -> None:
    """Let a running guest see that its disk has ``size`` bytes now.

    QEMU takes no other size than the one that it knows of the exporter, which is asked for it anew only where the
    connection was lost: so something is read first, by which it is connected again, once or twice.
    """
    disk = find_disk(volume_id, domain)
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
