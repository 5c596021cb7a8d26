"""What libvirt keeps of a guest besides its devices: the mark that says whose it is, and the state of its links."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from cell.compute.drivers.libvirt.domain_xml import MARK

GONE = (libvirt.VIR_ERR_NO_DOMAIN_METADATA, libvirt.VIR_ERR_NO_DOMAIN)


def is_ours(domain: Any) -> bool:
    """Whether the domain carries our mark."""
    try:
        return bool(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, MARK, 0))
    except libvirt.libvirtError as error:
        if error.get_error_code() in GONE:
            return False
        raise


def set_links(domain: Any, *, up: bool) -> None:
    """Set the link of each of a running guest's network devices; one that is off gets them with its definition."""
    if not domain.isActive():
        return
    for device in ET.fromstring(domain.XMLDesc()).findall("devices/interface"):  # noqa: S314 -- written by our libvirtd
        link = device.find("link")
        if link is None:
            link = ET.SubElement(device, "link")
        link.set("state", "up" if up else "down")
        domain.updateDeviceFlags(ET.tostring(device, encoding="unicode"), libvirt.VIR_DOMAIN_AFFECT_LIVE)
