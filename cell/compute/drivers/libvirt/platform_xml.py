"""What of a guest's definition follows from its machine alone: board, processor, clock, devices without a medium."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from cellcloud.model.virtual_hardware import Machine

CODE_CACHE_MIB = "32"  # QEMU's own choice would take more memory than a small guest
VIDEO_KIB = 16384  # of the model that every guest has unless it asks for another
DEFAULT_VIDEO = "vga"
PCIE_PORTS = 28  # of a machine that takes a device each; what it does not start with can be plugged in


def add_board(domain: ET.Element, machine: Machine, *, virt_type: str, boots_by_order: bool = False) -> ET.Element:
    """Firmware, features, clock, and the processor, which is returned. ``boots_by_order``: a device says that it is the
    one to boot from."""
    boot = ET.SubElement(domain, "os")
    text(boot, "type", "hvm", arch="x86_64", machine=machine.type)
    if not boots_by_order:
        ET.SubElement(boot, "boot", dev="hd")
    if machine.boot_menu:
        ET.SubElement(boot, "bootmenu", enable="yes")
    ET.SubElement(boot, "smbios", mode="sysinfo")
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    if machine.pmu is not None:
        ET.SubElement(features, "pmu", state="on" if machine.pmu else "off")
    cpu = _add_processor(domain, features, machine, virt_type)
    clock = ET.SubElement(domain, "clock", offset="localtime" if machine.local_time else "utc")
    if machine.hpet is not None:
        ET.SubElement(clock, "timer", name="hpet", present="yes" if machine.hpet else "no")
    return cpu


def _add_processor(domain: ET.Element, features: ET.Element, machine: Machine, virt_type: str) -> ET.Element:
    """Add the processor. A guest that is not to know what it runs on is told of no hypervisor at all by TCG, and of
    another than it is by KVM."""
    if virt_type == "kvm":
        cpu = ET.SubElement(domain, "cpu", mode="host-model")
        if machine.hide_hypervisor:
            ET.SubElement(ET.SubElement(features, "kvm"), "hidden", state="on")
    else:
        text(ET.SubElement(features, "tcg"), "tb-cache", CODE_CACHE_MIB, unit="MiB")
        cpu = ET.SubElement(domain, "cpu", mode="custom", match="exact")
        text(cpu, "model", "qemu64", fallback="forbid")
        if machine.hide_hypervisor:
            ET.SubElement(cpu, "feature", policy="disable", name="hypervisor")
    if machine.address_bits is not None:
        ET.SubElement(cpu, "maxphysaddr", mode="emulate", bits=str(machine.address_bits))
    sizes = {name: str(getattr(machine.cpu, name)) for name in ("sockets", "cores", "threads")}
    ET.SubElement(cpu, "topology", sizes)
    return cpu


def add_serial_ports(devices: ET.Element, machine: Machine, console_log: Path, *, listen: str, port: int) -> None:
    """Add the serial ports. The first is logged, and listens at ``port``, unless that is 0."""
    for number in range(machine.serial_ports):
        serial = ET.SubElement(devices, "serial", type="pty" if number or not port else "tcp")
        if number == 0 and port:
            ET.SubElement(serial, "source", mode="bind", host=listen, service=str(port))
            ET.SubElement(serial, "protocol", type="raw")
        if number == 0:
            ET.SubElement(serial, "log", file=str(console_log), append="on")


def add_devices(devices: ET.Element, machine: Machine, *, listen: str) -> None:
    """Screen, controllers, and what else needs neither a file nor a network."""
    graphics = ET.SubElement(devices, "graphics", type="vnc", port="-1", autoport="yes")
    ET.SubElement(graphics, "listen", type="address", address=listen)
    _add_video(devices, machine)
    if machine.has_pcie:
        ET.SubElement(devices, "controller", type="pci", index="0", model="pcie-root")
        for number in range(PCIE_PORTS):
            ET.SubElement(devices, "controller", type="pci", index=str(number + 1), model="pcie-root-port")
    ET.SubElement(devices, "controller", type="usb", model=machine.usb_model)
    if machine.scsi_model or "scsi" in (machine.disk_bus, machine.cdrom_bus):
        ET.SubElement(devices, "controller", type="scsi", index="0", model=machine.scsi_model or "virtio-scsi")
    if machine.pointer_bus:
        ET.SubElement(devices, "input", type="tablet", bus=machine.pointer_bus)
    if machine.keyboard_bus:
        ET.SubElement(devices, "input", type="keyboard", bus=machine.keyboard_bus)
    if machine.guest_agent:
        channel = ET.SubElement(devices, "channel", type="unix")
        ET.SubElement(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    if machine.watchdog:
        ET.SubElement(devices, "watchdog", model="i6300esb", action=machine.watchdog)
    if machine.sound_model:
        ET.SubElement(devices, "sound", model=machine.sound_model)
    ET.SubElement(devices, "memballoon", model="virtio")
    if machine.rng:
        _add_rng(devices, machine)


def _add_video(devices: ET.Element, machine: Machine) -> None:
    model = ET.SubElement(ET.SubElement(devices, "video"), "model", type=machine.video_model)
    ram = machine.video_ram or (VIDEO_KIB if machine.video_model == DEFAULT_VIDEO else None)
    if ram is not None:
        model.set("vram", str(ram))


def _add_rng(devices: ET.Element, machine: Machine) -> None:
    rng = ET.SubElement(devices, "rng", model="virtio")
    if machine.rng_bytes:
        rate = ET.SubElement(rng, "rate", bytes=str(machine.rng_bytes))
        if machine.rng_period:
            rate.set("period", str(machine.rng_period))
    text(rng, "backend", "/dev/urandom", model="random")


def text(parent: ET.Element, tag: str, content: str, **attributes: str) -> None:
    """Add an element with a text in it."""
    ET.SubElement(parent, tag, attributes).text = content
