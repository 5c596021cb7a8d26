"""Where a guest sees the disk that it is rescued from, and which of its own with it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from cell.compute.drivers.libvirt.disks import Disk
from cell.compute.drivers.libvirt.domain_xml import GuestDefinition
from cellcloud.model.flavor import Flavor
from cellcloud.model.image import Image
from cellcloud.model.rescue import rescue_machine
from tests.unit.cell_world import make_spec

FLAVOR = Flavor(id="1", name="f", vcpus=1, memory_mb=64, root_gb=1, ephemeral_gb=1)
OWN = ["disk vda virtio /disk", "disk vdb virtio /disk-b", "cdrom hda ide /config"]


def disks_of(own: dict[str, str], rescue: dict[str, str]) -> list[str]:
    """Each disk: what it is, its name and bus, its file, and its place in the order of booting where it has one."""
    image = Image(id="o", properties=own)
    rescued = rescue_machine(FLAVOR, image, Image(id="r", properties=rescue))
    definition = GuestDefinition(
        spec=make_spec(1, flavor=FLAVOR, image=image),
        ports=(),
        disks=[Disk(path=Path("/disk"), format="qcow2"), Disk(path=Path("/disk-b"), format="qcow2")],
        config_drive=Path("/config"),
        console_log=Path("/log"),
        listen="127.0.0.1",
        virt_type="qemu",
        machine=rescued.machine,
        rescue=Disk(path=Path("/rescue"), format="qcow2"),
        rescued=rescued,
    )
    domain = ET.fromstring(definition.to_xml())  # noqa: S314 -- our own
    orders = domain.findall("devices/disk/boot")
    assert len(orders) + len(domain.findall("os/boot")) == 1  # libvirt takes no mixture
    found = []
    for disk in domain.findall("devices/disk"):
        target, source, boot = disk.find("target"), disk.find("source"), disk.find("boot")
        assert target is not None
        assert source is not None
        shown = [disk.get("device"), target.get("dev"), target.get("bus"), source.get("file")]
        found.append(" ".join(str(one) for one in [*shown, *(["first"] if boot is not None else [])]))
    for bus, controller in (("scsi", "scsi"), ("usb", "usb")):
        if any(f" {bus} " in one for one in found):
            models = {one.get("model") for one in domain.findall(f"devices/controller[@type='{controller}']")}
            assert models - {"none"}
    return found


@pytest.mark.parametrize(
    ("rescue", "last"),
    [
        ({"hw_rescue_bus": "virtio"}, "disk vdc virtio /rescue first"),
        ({"hw_rescue_device": "disk"}, "disk vdc virtio /rescue first"),
        ({"hw_rescue_device": "disk", "hw_disk_bus": "sata"}, "disk sda sata /rescue first"),
        ({"hw_rescue_device": "disk", "hw_rescue_bus": "scsi"}, "disk sda scsi /rescue first"),
        ({"hw_rescue_device": "disk", "hw_rescue_bus": "usb"}, "disk sda usb /rescue first"),
        ({"hw_rescue_device": "cdrom"}, "cdrom hdb ide /rescue first"),
        ({"hw_rescue_device": "cdrom", "hw_rescue_bus": "sata"}, "cdrom sda sata /rescue first"),
    ],
)
def test_a_stable_rescue_adds_a_disk_behind_all_others(rescue: dict[str, str], last: str) -> None:
    assert disks_of({}, rescue) == [*OWN, last]


@pytest.mark.parametrize(
    ("rescue", "expected"),
    [
        ({}, ["disk vda virtio /rescue", "disk vdb virtio /disk", "cdrom hda ide /config"]),
        ({"hw_disk_bus": "ide"}, ["disk hda ide /rescue", "disk hdb ide /disk", "cdrom hdc ide /config"]),
    ],
)
def test_else_the_rescue_disk_is_the_first_and_the_root_disk_the_second(
    rescue: dict[str, str], expected: list[str]
) -> None:
    assert disks_of({"hw_disk_bus": "scsi"}, rescue) == expected
