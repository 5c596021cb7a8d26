"""The PCI devices that a server asks for must be free on the host. Source: Nova's PciPassthroughFilter."""

from __future__ import annotations

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.numa.topology import find_device_lack
from cellcloud.model.numa import Topology, TopologyRequest


def refuse(topology: Topology, request: TopologyRequest) -> HostRefusal | None:
    """Return what a host of this topology lacks; None when it passes."""
    return find_device_lack(topology, request)
