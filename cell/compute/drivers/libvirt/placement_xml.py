"""What of a guest's definition says where it lies on its host: CPUs, memory and devices of the host's own.

Source of what runs where: Nova's libvirt driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from xml.etree import ElementTree as ET

from cell.compute.drivers.pci_devices import split_address
from cellcloud import errors
from cellcloud.model.numa import GuestCell, GuestNuma, NumaCell

REALTIME_PRIORITY = "1"  # the lowest that goes before all guests without one


def add_placement(
    domain: ET.Element, guest: GuestNuma, cells: Mapping[int, NumaCell], shared: Set[int], realtime: Sequence[int]
) -> None:
    """Each of the guest's cells on the host's cell that was claimed for it. ``cells``: the host's, by their ids;
    ``shared``: its CPUs that were set apart for guests to share. Raises HostRefused where the emulator can run nowhere.
    """
    pins = {cpu: cpus for cell in guest.cells for cpu, cpus in _pins(cell, cells[cell.id]).items()}
    tune = ET.SubElement(domain, "cputune")
    for cpu, cpus in sorted(pins.items()):
        ET.SubElement(tune, "vcpupin", vcpu=str(cpu), cpuset=cpu_list(cpus))
    ET.SubElement(tune, "emulatorpin", cpuset=cpu_list(_emulator_cpus(guest, pins, shared, realtime)))
    if realtime:
        ET.SubElement(tune, "vcpusched", vcpus=cpu_list(realtime), scheduler="fifo", priority=REALTIME_PRIORITY)
    _add_memory(domain, guest, cells, locked=bool(realtime))


def add_cells(cpu: ET.Element, guest: GuestNuma) -> None:
    """Add the cells as the guest sees them, numbered from 0."""
    numa = ET.SubElement(cpu, "numa")
    for number, cell in enumerate(guest.cells):
        cpus = cpu_list((*cell.cpuset, *cell.pcpuset))
        ET.SubElement(numa, "cell", id=str(number), cpus=cpus, memory=str(cell.memory), unit="MiB")


def add_host_devices(devices: ET.Element, addresses: Iterable[str]) -> None:
    """PCI devices of the host. libvirt takes each from its driver there, and gives it back behind the guest."""
    for address in addresses:
        element = ET.SubElement(devices, "hostdev", mode="subsystem", type="pci", managed="yes")
        ET.SubElement(ET.SubElement(element, "source"), "address", split_address(address))


def _pins(cell: GuestCell, host: NumaCell) -> dict[int, Sequence[int]]:
    """Guest CPU -> the host CPUs that it runs on: its own, or those of the host's cell that guests share."""
    own = dict(cell.cpu_pinning)
    return {cpu: (own[cpu],) if cpu in own else host.cpuset for cpu in (*cell.cpuset, *cell.pcpuset)}


def _emulator_cpus(
    guest: GuestNuma, pins: Mapping[int, Sequence[int]], shared: Set[int], realtime: Sequence[int]
) -> Iterable[int]:
    """Where what is not a virtual CPU runs: on CPUs kept for it, on those that guests share, or where the guest does
    that is in no hurry."""
    if guest.emulator_threads_policy == "isolate":
        return (cpu for cell in guest.cells for cpu in cell.cpuset_reserved)
    if guest.emulator_threads_policy == "share" and shared:
        return shared
    found = {host for cpu, cpus in pins.items() if cpu not in realtime for host in cpus}
    if not found:
        raise errors.HostRefused("The host has no CPUs that guests share, to run a realtime guest's emulator on.")
    return found


def _add_memory(domain: ET.Element, guest: GuestNuma, cells: Mapping[int, NumaCell], *, locked: bool) -> None:
    tune = ET.SubElement(domain, "numatune")
    ET.SubElement(tune, "memory", mode="strict", nodeset=cpu_list(cell.id for cell in guest.cells))
    backing = ET.Element("memoryBacking")
    pages: dict[int, list[int]] = {}
    for number, cell in enumerate(guest.cells):
        ET.SubElement(tune, "memnode", cellid=str(number), mode="strict", nodeset=str(cell.id))
        smallest = min((one.size_kb for one in cells[cell.id].mempages), default=None)
        if cell.pagesize and cell.pagesize != smallest:
            pages.setdefault(cell.pagesize, []).append(number)
    if pages:
        huge = ET.SubElement(backing, "hugepages")
        for size, numbers in sorted(pages.items()):
            ET.SubElement(huge, "page", size=str(size), unit="KiB", nodeset=cpu_list(numbers))
    if locked:
        ET.SubElement(backing, "nosharepages")
        ET.SubElement(backing, "locked")
    if len(backing):
        domain.append(backing)


def cpu_list(numbers: Iterable[int]) -> str:
    return ",".join(map(str, sorted(set(numbers))))
