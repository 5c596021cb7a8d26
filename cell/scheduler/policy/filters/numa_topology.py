"""A guest's NUMA cells must fit onto the host's, its PCI devices near enough. Source: Nova's NUMATopologyFilter."""

from __future__ import annotations

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.numa.topology import find_numa_lack
from cellcloud.model.numa import Topology, TopologyRequest


def refuse(topology: Topology, request: TopologyRequest) -> HostRefusal | None:
    """Return what a host of this topology lacks; None when it passes."""
    return find_numa_lack(topology, request)
