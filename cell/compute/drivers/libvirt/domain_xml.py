"""A guest's definition for libvirt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from cell.compute.drivers.libvirt.disks import Disk
from cell.compute.drivers.libvirt.names import bridge_name, tap_name
from cellcloud.model.network import Port
from cellcloud.model.server import ServerSpec

MARK = "https://cellcloud.invalid/guest/1"  # the name space of the mark that says a domain is ours
ET.register_namespace("cellcloud", MARK)
CODE_CACHE_MIB = "32"  # QEMU's own choice would take more memory than a small guest


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDefinition:
    """All a definition is made of. Paths are those seen by QEMU. ``fenced``: its network devices have no link."""

    spec: ServerSpec
    ports: Sequence[Port]
    disks: Sequence[Disk]
    config_drive: Path | None
    console_log: Path
    listen: str
    virt_type: str
    fenced: bool = False

    def to_xml(self) -> str:
        """The domain as libvirt takes it."""
        domain = ET.Element("domain", type=self.virt_type)
        flavor = self.spec.flavor
        _text(domain, "name", self.spec.id)
        _text(domain, "uuid", self.spec.id)
        ET.SubElement(ET.SubElement(domain, "metadata"), f"{{{MARK}}}guest", server=self.spec.id)
        _text(domain, "memory", str(flavor.memory_mb), unit="MiB")
        _text(domain, "vcpu", str(flavor.vcpus))
        self._add_machine(domain)
        _text(domain, "on_poweroff", "destroy")
        _text(domain, "on_reboot", "restart")
        _text(domain, "on_crash", "destroy")
        devices = ET.SubElement(domain, "devices")
        for disk in self.disks:
            _add_disk(devices, disk)
        if self.config_drive is not None:
            _add_cdrom(devices, self.config_drive)
        for port in self.ports:
            _add_interface(devices, port, fenced=self.fenced)
        self._add_consoles(devices)
        return ET.tostring(domain, encoding="unicode")

    def _add_machine(self, domain: ET.Element) -> None:
        """Firmware, board and processor. The guest sees its server's id as serial number, never the host's."""
        system = ET.SubElement(ET.SubElement(domain, "sysinfo", type="smbios"), "system")
        entries = {"manufacturer": "cellcloud", "product": "OpenStack Compute", "family": "Virtual Machine"}
        for name, value in {**entries, "serial": self.spec.id, "uuid": self.spec.id}.items():
            _text(system, "entry", value, name=name)
        boot = ET.SubElement(domain, "os")
        _text(boot, "type", "hvm", arch="x86_64", machine="pc")
        ET.SubElement(boot, "boot", dev="hd")
        ET.SubElement(boot, "smbios", mode="sysinfo")
        features = ET.SubElement(domain, "features")
        ET.SubElement(features, "acpi")
        ET.SubElement(features, "apic")
        if self.virt_type == "kvm":
            ET.SubElement(domain, "cpu", mode="host-model")
        else:
            _text(ET.SubElement(features, "tcg"), "tb-cache", CODE_CACHE_MIB, unit="MiB")
            cpu = ET.SubElement(domain, "cpu", mode="custom", match="exact")
            _text(cpu, "model", "qemu64", fallback="forbid")
        ET.SubElement(domain, "clock", offset="utc")

    def _add_consoles(self, devices: ET.Element) -> None:
        serial = ET.SubElement(devices, "serial", type="pty")
        ET.SubElement(serial, "log", file=str(self.console_log), append="on")
        graphics = ET.SubElement(devices, "graphics", type="vnc", port="-1", autoport="yes")
        ET.SubElement(graphics, "listen", type="address", address=self.listen)
        ET.SubElement(ET.SubElement(devices, "video"), "model", type="vga", vram="16384")
        ET.SubElement(devices, "controller", type="usb", model="none")
        ET.SubElement(devices, "memballoon", model="virtio")
        rng = ET.SubElement(devices, "rng", model="virtio")
        _text(rng, "backend", "/dev/urandom", model="random")


def _add_disk(devices: ET.Element, disk: Disk) -> None:
    """A disk with its whole chain spelt out, so that nothing has to look into a file to find the next."""
    element = ET.SubElement(devices, "disk", type="file", device="disk")
    ET.SubElement(element, "driver", name="qemu", type=disk.format, cache="writeback", discard="unmap")
    ET.SubElement(element, "source", file=str(disk.path))
    backing = ET.SubElement(element, "backingStore")
    if disk.base is not None:
        backing.set("type", "file")
        ET.SubElement(backing, "format", type=disk.base_format)
        source = ET.SubElement(backing, "source", file=str(disk.base))
        ET.SubElement(source, "seclabel", model="dac", relabel="no")
        ET.SubElement(backing, "backingStore")
    ET.SubElement(element, "target", dev=disk.target, bus="virtio")


def _add_cdrom(devices: ET.Element, path: Path) -> None:
    element = ET.SubElement(devices, "disk", type="file", device="cdrom")
    ET.SubElement(element, "driver", name="qemu", type="raw")
    ET.SubElement(element, "source", file=str(path))
    ET.SubElement(element, "target", dev="hda", bus="ide")
    ET.SubElement(element, "readonly")


def _add_interface(devices: ET.Element, port: Port, *, fenced: bool) -> None:
    element = ET.SubElement(devices, "interface", type="bridge")
    ET.SubElement(element, "mac", address=port.mac_address)
    ET.SubElement(element, "source", bridge=bridge_name(port.network_id))
    ET.SubElement(element, "target", dev=tap_name(port.id))
    ET.SubElement(element, "model", type="virtio")
    ET.SubElement(element, "driver", name="qemu")
    ET.SubElement(element, "mtu", size=str(port.mtu))
    if fenced:
        ET.SubElement(element, "link", state="down")


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text
