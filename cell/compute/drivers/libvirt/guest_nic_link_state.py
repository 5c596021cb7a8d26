"""The state of the links of a running guest's network devices."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import libvirt


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
