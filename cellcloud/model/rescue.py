"""How a guest is shown the disk that it is rescued from. Source of the two ways, and of the texts: Nova.

Without a word of the rescue image's the disk comes first, the guest's root disk second, and no other of its disks is
there. With ``hw_rescue_device`` or ``hw_rescue_bus`` the guest keeps all its devices in their order, and boots from the
rescue disk, which is its last ("stable device rescue").
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cellcloud import errors
from cellcloud.model import image_properties
from cellcloud.model.flavor import Flavor
from cellcloud.model.flavor_image_conflicts import Properties
from cellcloud.model.image import Image
from cellcloud.model.virtual_hardware import Machine, machine_of

DEVICES = ("disk", "cdrom")
BUSES = ("virtio", "scsi", "ide", "usb", "sata")


@dataclass(frozen=True, slots=True, kw_only=True)
class RescueMachine:
    """The hardware that a guest is rescued on. ``device``, ``bus``: of a rescue disk that is its last; "" where the
    rescue disk is its first, one like the others."""

    machine: Machine
    device: str = ""
    bus: str = ""

    @property
    def is_stable(self) -> bool:
        """Whether the guest keeps all its devices as they were."""
        return bool(self.device)


def rescue_machine(flavor: Flavor, own: Image, rescue: Image) -> RescueMachine:
    """Return what a guest of ``flavor`` and its ``own`` image is rescued on. Raises Invalid for what is not offered."""
    properties = image_properties.read(rescue.properties)
    if "hw_rescue_device" not in properties and "hw_rescue_bus" not in properties:
        return RescueMachine(machine=machine_of(flavor, properties))
    machine = machine_of(flavor, image_properties.read(own.properties))
    device = str(properties.get("hw_rescue_device") or "disk")
    if device not in DEVICES:
        raise errors.Invalid(f"Requested rescue device '{device}' is not supported")
    bus = str(properties.get("hw_rescue_bus") or _usual_bus(machine, properties, device))
    if bus not in BUSES or (bus == "ide" and "q35" in machine.type) or (bus == "virtio" and device == "cdrom"):
        raise errors.Invalid(f"Requested rescue bus '{bus}' is not supported by the 'qemu' virt driver")
    return RescueMachine(machine=_with_controller(machine, bus), device=device, bus=bus)


def _usual_bus(machine: Machine, properties: Properties, device: str) -> str:
    if device == "disk":
        return str(properties.get("hw_disk_bus") or "virtio")
    return str(properties.get("hw_cdrom_bus") or ("sata" if "q35" in machine.type else "ide"))


def _with_controller(machine: Machine, bus: str) -> Machine:
    if bus == "usb" and machine.usb_model == "none":
        return replace(machine, usb_model="qemu-xhci")
    if bus == "scsi" and machine.scsi_model is None:
        return replace(machine, scsi_model="virtio-scsi")
    return machine
