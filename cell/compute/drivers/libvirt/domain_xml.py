"""A guest's definition for libvirt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from cell.compute.drivers.libvirt import placement_xml
from cell.compute.drivers.libvirt.disks import Disk
from cell.compute.drivers.libvirt.network_device_names import bridge_name, tap_name
from cell.compute.drivers.libvirt.platform_xml import add_board, add_devices, add_serial_ports, text
from cell.compute.drivers.libvirt.volume_xml import volume_disk
from cellcloud.model.network import Port
from cellcloud.model.numa import GuestNuma, NumaCell
from cellcloud.model.rescue import RescueMachine
from cellcloud.model.server import ServerSpec
from cellcloud.model.virtual_hardware import LETTERS, Machine, disk_names
from cellcloud.model.volume_names import names_left

MARK = "https://cellcloud.invalid/guest/1"  # the name space of the mark that says a domain is ours
ET.register_namespace("cellcloud", MARK)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDefinition:
    """All a definition is made of. Paths are those seen by QEMU. ``fenced``: its
    network devices have no link. ``rescue``: the disk that it boots from instead of its own, shown as ``rescued`` says,
    which has the ``machine``. ``host_cells``: the host's, by their ids; ``shared_cpus``: its CPUs that guests share,
    None for all there are; ``host_devices``: addresses of PCI devices of the host that are the guest's. ``listen``:
    where its consoles do, ``serial_port``: on which port its first serial port does, 0 where it does not."""

    spec: ServerSpec
    ports: Sequence[Port]
    disks: Sequence[Disk]
    config_drive: Path | None
    console_log: Path
    listen: str
    virt_type: str
    machine: Machine
    fenced: bool = False
    rescue: Disk | None = None
    rescued: RescueMachine | None = None
    host_cells: Mapping[int, NumaCell] = field(default_factory=dict)
    shared_cpus: Set[int] | None = None
    host_devices: Sequence[str] = ()
    serial_port: int = 0

    def to_xml(self) -> str:
        """Return the domain as libvirt takes it."""
        domain = ET.Element("domain", type=self.virt_type)
        flavor = self.spec.flavor
        text(domain, "name", self.spec.id)
        text(domain, "uuid", self.spec.id)
        ET.SubElement(ET.SubElement(domain, "metadata"), f"{{{MARK}}}guest", server=self.spec.id)
        text(domain, "memory", str(flavor.memory_mb), unit="MiB")
        guest = self.spec.placed.guest if self.spec.placed else None
        text(domain, "vcpu", str(flavor.vcpus), **self._where_guests_share(guest))
        self._add_identity(domain)
        by_order = self._stable is not None
        cpu = add_board(domain, self.machine, virt_type=self.virt_type, boots_by_order=by_order)
        if guest is not None:
            placement_xml.add_cells(cpu, guest)
            shared = self.shared_cpus or frozenset()
            placement_xml.add_placement(domain, guest, self.host_cells, shared, self.machine.realtime_cpus)
        text(domain, "on_poweroff", "destroy")
        text(domain, "on_reboot", "restart")
        text(domain, "on_crash", "destroy")
        devices = ET.SubElement(domain, "devices")
        self._add_media(devices)
        for port in self.ports:
            devices.append(port_interface(port, self.machine, fenced=self.fenced))
        placement_xml.add_host_devices(devices, self.host_devices)
        add_serial_ports(devices, self.machine, self.console_log, listen=self.listen, port=self.serial_port)
        add_devices(devices, self.machine, listen=self.listen)
        return ET.tostring(domain, encoding="unicode")

    @property
    def _stable(self) -> RescueMachine | None:
        """How the rescue disk is shown behind all others, where it is."""
        return self.rescued if self.rescued is not None and self.rescued.is_stable else None

    def _where_guests_share(self, guest: GuestNuma | None) -> dict[str, str]:
        """Return a guest that was given no places runs where no guest has a CPU to itself."""
        if guest is not None or self.shared_cpus is None:
            return {}
        return {"cpuset": placement_xml.cpu_list(self.shared_cpus)}

    def _add_media(self, devices: ET.Element) -> None:
        machine, disks = self.machine, list(self.disks)
        if self.rescue is not None and self._stable is None:
            disks = [self.rescue, disks[0]]
        volumes = self.spec.volumes if self.rescue is None or self._stable is not None else ()
        names = names_left(machine.disk_bus, volumes)
        for volume in (one for one in volumes if one.is_root):
            _set_place(_added(devices, volume_disk(volume, machine)), machine, volume.bus)
        for disk, name in zip(disks, names, strict=False):
            _set_place(_add_disk(devices, disk, machine, name, machine.disk_bus), machine, machine.disk_bus)
        if self.config_drive is not None:
            same = LETTERS[machine.disk_bus] == LETTERS[machine.cdrom_bus]
            name = next(names if same else disk_names(machine.cdrom_bus))
            _set_place(_add_cdrom(devices, self.config_drive, machine.cdrom_bus, name), machine, machine.cdrom_bus)
        for volume in (one for one in volumes if not one.is_root):
            _set_place(_added(devices, volume_disk(volume, machine)), machine, volume.bus)
        if self.rescue is not None and self._stable is not None:
            _add_rescue_disk(devices, self.rescue, self._stable)

    def _add_identity(self, domain: ET.Element) -> None:
        """Show the guest its server's id as serial number, never the host's."""
        system = ET.SubElement(ET.SubElement(domain, "sysinfo", type="smbios"), "system")
        entries = {"manufacturer": "cellcloud", "product": "OpenStack Compute", "family": "Virtual Machine"}
        for name, value in {**entries, "serial": self.spec.id, "uuid": self.spec.id}.items():
            text(system, "entry", value, name=name)


def _added(devices: ET.Element, disk: ET.Element) -> ET.Element:
    devices.append(disk)
    return disk


def _add_disk(
    devices: ET.Element, disk: Disk, machine: Machine, name: str, bus: str, *, device: str = "disk"
) -> ET.Element:
    """Return a disk with its whole chain spelt out, so that nothing has to look into a file to find the next."""
    element = ET.SubElement(devices, "disk", type="file", device=device)
    driver = ET.SubElement(element, "driver", name="qemu", type=disk.format, cache="writeback", discard="unmap")
    if machine.packed_ring and bus == "virtio":
        driver.set("packed", "on")
    ET.SubElement(element, "source", file=str(disk.path))
    backing = ET.SubElement(element, "backingStore")
    if disk.base is not None:
        backing.set("type", "file")
        ET.SubElement(backing, "format", type=disk.base_format)
        source = ET.SubElement(backing, "source", file=str(disk.base))
        ET.SubElement(source, "seclabel", model="dac", relabel="no")
        ET.SubElement(backing, "backingStore")
    ET.SubElement(element, "target", dev=name, bus=bus)
    if machine.disk_limits:
        limits = ET.SubElement(element, "iotune")
        for limit, amount in machine.disk_limits.items():
            text(limits, limit, str(amount))
    return element


def _add_rescue_disk(devices: ET.Element, disk: Disk, shown: RescueMachine) -> None:
    """Add the last of all disks, and the one to boot from."""
    others = [one for one in devices.iter("target") if one.get("dev", "").startswith(LETTERS[shown.bus])]
    name = next(disk_names(shown.bus, len(others)))
    element = _add_disk(devices, disk, shown.machine, name, shown.bus, device=shown.device)
    if shown.device == "cdrom":
        ET.SubElement(element, "readonly")
    ET.SubElement(element, "boot", order="1")
    _set_place(element, shown.machine, shown.bus)


def _add_cdrom(devices: ET.Element, path: Path, bus: str, name: str) -> ET.Element:
    element = ET.SubElement(devices, "disk", type="file", device="cdrom")
    ET.SubElement(element, "driver", name="qemu", type="raw")
    ET.SubElement(element, "source", file=str(path))
    ET.SubElement(element, "target", dev=name, bus=bus)
    ET.SubElement(element, "readonly")
    return element


def _set_place(element: ET.Element, machine: Machine, bus: str) -> None:
    """Give a disk on VMware's controller a target of its own: it takes one a target, which libvirt does not know when
    it chooses their places."""
    name = element.find("target")
    if name is not None and bus == "scsi" and machine.scsi_model == "vmpvscsi":
        target = str("abcdefghij".index(name.get("dev", "")[-1]))
        ET.SubElement(element, "address", type="drive", controller="0", bus="0", target=target, unit="0")


def port_interface(port: Port, machine: Machine, *, fenced: bool) -> ET.Element:
    """Return the network device of a port."""
    element = ET.Element("interface", type="bridge")
    ET.SubElement(element, "mac", address=port.mac_address)
    ET.SubElement(element, "source", bridge=bridge_name(port.network_id))
    ET.SubElement(element, "target", dev=tap_name(port.id))
    ET.SubElement(element, "model", type=machine.vif_model)
    driver = ET.SubElement(element, "driver", name="qemu")
    if machine.vif_queues > 1:
        driver.set("queues", str(machine.vif_queues))
    if machine.packed_ring and machine.vif_model == "virtio":
        driver.set("packed", "on")
    ET.SubElement(element, "mtu", size=str(port.mtu))
    if fenced:
        ET.SubElement(element, "link", state="down")
    return element
