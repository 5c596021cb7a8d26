"""What a domain has used so far, from libvirt's own counters."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from cell.compute.driver import NOT_RUNNING
from cell.compute.drivers.libvirt.domain_power import power_of
from cellcloud import errors
from cellcloud.model.guest_questions import DiskFigures, GuestDiagnostics, NicFigures
from cellcloud.server_states import PowerState


def read_diagnostics(domain: Any) -> GuestDiagnostics:
    """Read a running guest's figures. Raises Conflict when the guest does not run."""
    power = power_of(domain)
    if power != PowerState.RUNNING:
        raise errors.Conflict(NOT_RUNNING)
    devices = ET.fromstring(domain.XMLDesc()).find("devices")  # noqa: S314 -- libvirt's own words
    _, most, now, _, _ = domain.info()
    memory: dict[str, int] = {}
    with suppress(libvirt.libvirtError):
        memory = {str(name): int(amount) for name, amount in domain.memoryStats().items()}
    return GuestDiagnostics(
        power_state=power,
        driver="libvirt",
        hypervisor=str(ET.fromstring(domain.XMLDesc()).get("type", "")),  # noqa: S314 -- likewise
        memory_kb=(int(most), int(now)),
        memory_figures=memory,
        cpu_times={int(number): int(nanoseconds) for number, _, nanoseconds, _ in domain.vcpus()[0]},
        disks=tuple(_disk(domain, target) for target in _targets(devices, "disk")),
        nics=tuple(
            _nic(domain, one) for one in (devices.findall("interface") if devices is not None else ()) if _name(one)
        ),
    )


def _targets(devices: ET.Element | None, kind: str) -> list[str]:
    found = devices.findall(kind) if devices is not None else []
    return [name for one in found if (name := _name(one))]


def _name(device: ET.Element) -> str:
    target = device.find("target")
    return str(target.get("dev", "")) if target is not None else ""


def _disk(domain: Any, name: str) -> DiskFigures:
    reads, read_bytes, writes, write_bytes, failed = domain.blockStats(name)
    return DiskFigures(
        name=name,
        read_bytes=read_bytes,
        read_requests=reads,
        write_bytes=write_bytes,
        write_requests=writes,
        errors=failed,
    )


def _nic(domain: Any, device: ET.Element) -> NicFigures:
    name, mac = _name(device), device.find("mac")
    names = ("octets", "packets", "errors", "drop")
    counted = iter(domain.interfaceStats(name))
    figures = {f"{way}_{what}": int(next(counted)) for way in ("rx", "tx") for what in names}
    return NicFigures(name=name, mac_address=str(mac.get("address", "")) if mac is not None else "", **figures)
