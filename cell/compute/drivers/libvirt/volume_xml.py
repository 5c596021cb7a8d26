"""Disks of a guest that are volumes: what the volumes' service says of each, in libvirt's words.

Whatever the service says, QEMU is told the format and never looks for it in the volume's bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from xml.etree import ElementTree as ET

from cellcloud import errors
from cellcloud.model.virtual_hardware import Machine
from cellcloud.model.volume import READ_ONLY, AttachedVolume

FORMATS = ("raw", "qcow2")
_POLICIES = {"nbd": {"error_policy": "stop", "rerror_policy": "stop"}}
"""Of kinds whose exporters come back: while one is away the guest is halted (``disk_waits``), and sees no error."""
Data = Mapping[str, Any]


def volume_disk(volume: AttachedVolume, machine: Machine) -> ET.Element:
    """Return the disk. Raises GuestFailed for a kind of volume, or a format, that
    is not served."""
    kind = str(volume.connection.get("driver_volume_type", ""))
    data: Data = volume.connection.get("data") or {}
    add_source = _SOURCES.get(kind)
    if add_source is None:
        raise errors.GuestFailed(f"Volumes of kind '{kind[:32]}' cannot be attached here.")
    disk_format = str(data.get("format") or "raw")
    if disk_format not in FORMATS:
        raise errors.GuestFailed(f"Volumes of format '{disk_format[:32]}' cannot be attached here.")
    disk = ET.Element("disk", type="network", device=volume.device_type)
    driver = {"name": "qemu", "type": disk_format, "cache": "none", "discard": "unmap"} | _POLICIES.get(kind, {})
    ET.SubElement(disk, "driver", driver)
    try:
        add_source(disk, data)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise errors.GuestFailed("The volume's service does not say how it is reached.", detail=repr(error)) from error
    ET.SubElement(disk, "target", dev=volume.name, bus=volume.bus)
    if volume.multiattach:
        ET.SubElement(disk, "shareable")
    if data.get("access_mode") == READ_ONLY or volume.device_type == "cdrom":
        ET.SubElement(disk, "readonly")
    ET.SubElement(disk, "serial").text = volume.volume_id
    _add_limits(disk, machine, data.get("qos_specs"))
    return disk


def _add_limits(disk: ET.Element, machine: Machine, given: Any) -> None:
    """Add the flavor's limits of every disk, and the volume's own instead where its type has some."""
    limits = dict(machine.disk_limits)
    if isinstance(given, Mapping):
        limits |= {str(name): int(amount) for name, amount in given.items() if name in LIMITS}
    if limits:
        tune = ET.SubElement(disk, "iotune")
        for name, amount in limits.items():
            ET.SubElement(tune, name).text = str(amount)


LIMITS = frozenset(f"{way}_{what}_sec" for way in ("total", "read", "write") for what in ("bytes", "iops"))


def _nbd(disk: ET.Element, data: Data) -> None:
    source = ET.SubElement(disk, "source", protocol="nbd", name=str(data["export"]))
    if data.get("socket"):
        ET.SubElement(source, "host", transport="unix", socket=str(data["socket"]))
    else:
        if data.get("tls"):
            source.set("tls", "yes")
        if data.get("tls_hostname"):
            source.set("tlsHostname", str(data["tls_hostname"]))
        ET.SubElement(source, "host", name=str(data["host"]), port=str(data["port"]))


def _rbd(disk: ET.Element, data: Data) -> None:
    source = ET.SubElement(disk, "source", protocol="rbd", name=str(data["name"]))
    for host, port in zip(data.get("hosts") or (), data.get("ports") or (), strict=True):
        ET.SubElement(source, "host", name=str(host), port=str(port))
    if data.get("auth_enabled"):
        auth = ET.SubElement(disk, "auth", username=str(data["auth_username"]))
        ET.SubElement(auth, "secret", type="ceph", uuid=str(data["secret_uuid"]))


def _iscsi(disk: ET.Element, data: Data) -> None:
    portal = str(data["target_portal"])
    host, _, port = portal.rpartition(":")
    name = f"{data['target_iqn']}/{data.get('target_lun', 0)}"
    source = ET.SubElement(disk, "source", protocol="iscsi", name=name)
    ET.SubElement(source, "host", name=host.strip("[]"), port=port)
    if data.get("auth_method"):
        raise errors.GuestFailed("Volumes behind iSCSI with a password cannot be attached here.")


def _file(disk: ET.Element, data: Data) -> None:
    disk.set("type", "file")
    ET.SubElement(disk, "source", file=str(data["device_path"]))


def _block(disk: ET.Element, data: Data) -> None:
    disk.set("type", "block")
    ET.SubElement(disk, "source", dev=str(data["device_path"]))


def _nfs(disk: ET.Element, data: Data) -> None:
    host, _, path = str(data["export"]).partition(":")
    source = ET.SubElement(disk, "source", protocol="nfs", name=f"{path}/{data['name']}")
    ET.SubElement(source, "host", name=host.strip("[]"))


_SOURCES: dict[str, Callable[[ET.Element, Data], None]] = {
    "nbd": _nbd,
    "rbd": _rbd,
    "iscsi": _iscsi,
    "local": _block,
    "file": _file,
    "nfs": _nfs,
}
"""What Cinder calls each kind -> what adds its source."""
