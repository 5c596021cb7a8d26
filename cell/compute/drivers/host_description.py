"""A host's CPUs, memory and PCI devices as libvirt describes them, and what of them is for guests.

The texts are those of ``virsh capabilities`` and ``virsh nodedev-dumpxml``; hosts that are made up have theirs from a
file with both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from cell.compute.drivers.pci_devices import PciDevice
from cellcloud import errors
from cellcloud.model.host_report_validation import MOST_CPUS
from cellcloud.model.numa import MemoryPages, NumaCell, Placed
from cellcloud.model.numa_request import parse_cpus
from cellcloud.model.pci import PciPool
from cellcloud.safe_regex import Pattern

HEX_ID = Pattern(r"[0-9a-f]{4}")
PARTS = Pattern(r"([0-9a-f]{4}|\*):([0-9a-f]{2}|\*):([0-9a-f]{2}|\*)\.([0-7]|\*)")
SPEC_KEYS = {"vendor_id", "product_id", "address"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpec:
    """Devices that are given to guests: those that have all of these. ``address``: "*" stands for any part of it."""

    vendor_id: str | None = None
    product_id: str | None = None
    address: tuple[str, ...] = ("*", "*", "*", "*")

    def names(self, device: PciDevice) -> bool:
        """Return whether the device is one of them."""
        parts = PARTS.groups(device.address) or ()
        ids = ((self.vendor_id, device.kind.vendor_id), (self.product_id, device.kind.product_id))
        return all(wanted in ("*", part) for wanted, part in zip(self.address, parts, strict=True)) and all(
            wanted in (None, own) for wanted, own in ids
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HostShare:
    """What of a host is for guests. ``shared``: CPUs that guests share, None for all that are not ``dedicated``, if
    none are; ``dedicated``: those that are one guest's each."""

    shared: frozenset[int] | None = None
    dedicated: frozenset[int] = frozenset()
    devices: tuple[DeviceSpec, ...] = ()

    @classmethod
    def parse(cls, shared: str, dedicated: str, devices: Sequence[str]) -> HostShare:
        """``shared``, ``dedicated``: lists of CPUs as 0-3,8,^2; ``devices``: JSON objects. Raises Misconfigured."""
        try:
            own = frozenset(parse_cpus(dedicated, MOST_CPUS))
            common = frozenset(parse_cpus(shared, MOST_CPUS)) if shared or own else None
            specs = tuple(_parse_device_spec(text) for text in devices)
        except errors.Invalid as error:
            raise errors.Misconfigured(error.message) from error
        if common and common & own:
            raise errors.Misconfigured(f"CPUs {sorted(common & own)} are both in cpu_shared_set and cpu_dedicated_set.")
        return cls(shared=common, dedicated=own, devices=specs)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDescription:
    """``cells``: with the CPUs and memory that are for guests; none where the host does not tell."""

    cells: tuple[NumaCell, ...] = ()
    devices: tuple[PciDevice, ...] = ()

    @property
    def resources(self) -> dict[str, int]:
        """Further resource classes, and how much there is of each."""
        dedicated = sum(len(cell.pcpuset) for cell in self.cells)
        return {"PCPU": dedicated} if dedicated else {}

    @property
    def traits(self) -> tuple[str, ...]:
        """Standard traits of its processors."""
        threads = any(len(core) > 1 for cell in self.cells for core in cell.siblings)
        return ("HW_CPU_HYPERTHREADING",) if threads else ()

    def check(self, placed: Placed) -> None:
        """Check that the host has the cells, CPUs and pages that were claimed. Raises HostRefused."""
        cells = {cell.id: cell for cell in self.cells}
        for guest in placed.guest.cells if placed.guest else ():
            host = cells.get(guest.id, NumaCell(id=guest.id))
            sizes = {pages.size_kb for pages in host.mempages}
            pinned = {cpu for _, cpu in guest.cpu_pinning}.union(guest.cpuset_reserved)
            lacks = not pinned.issubset(host.pcpuset) or (guest.cpuset and not host.cpuset)
            if guest.id not in cells or lacks or (guest.pagesize or 0) not in {0, *sizes}:
                raise errors.HostRefused("The host has not what was claimed of it.", detail=f"{guest} on {host}")


def describe(capabilities: str, devices: Iterable[str], share: HostShare) -> HostDescription:
    """Describe a host by the texts that libvirt writes. Raises HostRefused where it has not the CPUs that are to be
    used."""
    return _describe(ET.fromstring(capabilities), map(ET.fromstring, devices), share)  # noqa: S314 - our libvirtd's


def describe_file(path: Path, share: HostShare) -> HostDescription:
    """Describe a host by a file: one element with a ``capabilities`` and any number of ``device``. Raises
    Misconfigured."""
    try:
        root = ET.parse(path).getroot()  # noqa: S314 - the operator's
    except (OSError, ET.ParseError) as error:
        raise errors.Misconfigured(f"The description of hosts in {path} cannot be read: {error}") from error
    capabilities = root.find("capabilities")
    if capabilities is None:
        raise errors.Misconfigured(f"The description of hosts in {path} has no capabilities.")
    return _describe(capabilities, root.findall("device"), share)


def _describe(capabilities: ET.Element, devices: Iterable[ET.Element], share: HostShare) -> HostDescription:
    cells = tuple(_read_cell(cell, share) for cell in capabilities.findall("host/topology/cells/cell"))
    there = {cpu for cell in cells for cpu in (*cell.cpuset, *cell.pcpuset)}
    missing = ((share.shared or frozenset()) | share.dedicated) - there
    if missing:
        raise errors.HostRefused(f"The host has no CPUs {sorted(missing)}, which its options give to guests.")
    found = [(_read_device(one), one) for one in devices] if share.devices else []
    offered = [pair for pair in found if any(spec.names(pair[0]) for spec in share.devices)]
    parents = {_parent(one) for _, one in offered}
    return HostDescription(cells=cells, devices=tuple(device for device, _ in offered if device.address not in parents))


def _read_cell(cell: ET.Element, share: HostShare) -> NumaCell:
    cpus = {int(cpu.get("id", "0")): cpu for cpu in cell.findall("cpus/cpu") if cpu.get("core_id") is not None}
    shared = cpus.keys() if share.shared is None else cpus.keys() & share.shared
    dedicated = cpus.keys() & share.dedicated
    cores = {
        tuple(sorted(parse_cpus(cpu.get("siblings") or str(number), MOST_CPUS) & (shared | dedicated)))
        for number, cpu in cpus.items()
    }
    sockets = {cpu.get("socket_id") for cpu in cpus.values()}
    return NumaCell(
        id=int(cell.get("id", "0")),
        cpuset=tuple(sorted(shared)),
        pcpuset=tuple(sorted(dedicated)),
        memory=_kib(cell.find("memory")) >> 10,
        siblings=tuple(sorted(core for core in cores if core)),
        socket=int(sockets.pop() or 0) if len(sockets) == 1 else None,
        mempages=tuple(
            MemoryPages(size_kb=int(pages.get("size", "0")), total=int(pages.text or 0))
            for pages in cell.findall("pages")
        ),
    )


def _kib(memory: ET.Element | None) -> int:
    return 0 if memory is None else int(memory.text or 0)


def _read_device(device: ET.Element) -> PciDevice:
    own = device.find("capability[@type='pci']")
    if own is None:
        raise errors.HostRefused(
            "The host tells of a PCI device what cannot be read.", detail=str(device.findtext("name"))
        )
    domain, bus, slot, function = (int(own.findtext(part, "0")) for part in ("domain", "bus", "slot", "function"))
    kind = "type-PCI"
    if own.find("capability[@type='phys_function']") is not None:
        kind = "type-VF"
    elif own.find("capability[@type='virt_functions']") is not None:
        kind = "type-PF"
    numa = own.find("numa")
    return PciDevice(
        address=f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}",
        kind=PciPool(
            vendor_id=_hex_id(own.find("vendor")),
            product_id=_hex_id(own.find("product")),
            count=1,
            numa_node=int(numa.get("node", "0")) if numa is not None else None,
            tags={"dev_type": kind},
        ),
    )


def _hex_id(element: ET.Element | None) -> str:
    return (element.get("id", "") if element is not None else "").removeprefix("0x").lower()


def _parent(device: ET.Element) -> str | None:
    """Return the physical function that a virtual one is part of: who has that has all of them."""
    address = device.find("capability/capability[@type='phys_function']/address")
    if address is None:
        return None
    domain, bus, slot, function = (int(address.get(part, "0"), 16) for part in ("domain", "bus", "slot", "function"))
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def _parse_device_spec(text: str) -> DeviceSpec:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict) or not given or not all(isinstance(value, str) for value in given.values()):
        raise errors.Invalid(f"PCI devices {text[:100]!r}: must be a JSON object of texts.")
    if given.keys() - SPEC_KEYS:
        raise errors.Invalid(f"PCI devices {text[:100]!r}: only {', '.join(sorted(SPEC_KEYS))} are known.")
    ids = {name: given[name].lower() for name in ("vendor_id", "product_id") if given.get(name, "*") != "*"}
    address = PARTS.groups(given.get("address", "*:*:*.*").lower())
    if address is None or not all(HEX_ID.matches(value) for value in ids.values()):
        raise errors.Invalid(f"PCI devices {text[:100]!r}: ids have four hex digits, addresses are as 0000:81:*.*.")
    return DeviceSpec(address=address, **ids)
