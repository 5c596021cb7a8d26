"""NUMA cells and PCI devices together: whether a server fits into a host's topology, and what it then takes of it.

All here is a function of a Topology and a TopologyRequest, both hashable: hosts of equal topology need one answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.numa import cell_fitting, pci
from cellcloud import errors
from cellcloud.model.numa import GuestNuma, Placed, Topology, TopologyRequest
from cellcloud.model.numa_pci_usage import consume_cells


@dataclass(frozen=True, slots=True)
class Settled:
    """What Nova notes of a server on the host it chose: the host's topology, and the request as it goes on.

    ``request``: what the next server of the same request asks for; its guest has the cells and pages that were just
    found for it, or is None when it did not fit. ``complete``: all devices were there; Nova counts no building
    server on a host where they were not.
    """

    topology: Topology
    request: TopologyRequest
    placed: Placed
    complete: bool


def find_numa_lack(topology: Topology, request: TopologyRequest) -> HostRefusal | None:
    """Return why the guest's NUMA cells do not fit, its devices near enough. Source: Nova's NUMATopologyFilter."""
    cells = topology.cells
    if cells and request.needs_threads and not cell_fitting.has_threads(cells):
        return HostRefusal("cores have no threads, which the require policy demands")
    if request.guest is None:
        return None
    if not cells:
        return HostRefusal("reports no NUMA topology")
    fitted = _fit_guest(topology, request, request.guest, limited=True)
    return fitted if isinstance(fitted, HostRefusal) else None


def find_device_lack(topology: Topology, request: TopologyRequest) -> HostRefusal | None:
    """Return which PCI devices are not there at all, wherever they hang. Source: Nova's PciPassthroughFilter."""
    if not request.devices:
        return None
    return pci.find_lack(topology.pools, request.devices)


def fit(topology: Topology, request: TopologyRequest) -> Placed | HostRefusal:
    """Find where the guest's cells go and which devices it gets; or return what is lacking."""
    lack = find_numa_lack(topology, request) or find_device_lack(topology, request)
    return lack or settle(topology, request).placed


def settle(topology: Topology, request: TopologyRequest, *, limited: bool = True) -> Settled:
    """Note a server on a host, as far as it fits: a guest that does not fit uses no cells, and devices are taken up to
    the first request that cannot be met. ``limited``: the NUMA filter is in use, and with it the limits.

    Source: what Nova's HostState.consume_from_request leaves behind.
    """
    cells, guest = topology.cells, request.guest
    if cells and guest is not None:
        fitted = _fit_guest(topology, request, guest, limited=limited)
        guest = None if isinstance(fitted, HostRefusal) else fitted
        try:
            cells = cells if guest is None else consume_cells(cells, guest)
        except errors.ClaimLost:  # a literal answer goes no further here than Nova does
            return Settled(topology, replace(request, guest=guest), Placed(), complete=False)
    near = None
    if guest is not None:
        near = pci.Nearness(tuple(cell.id for cell in guest.cells), topology.cells or ())
    taken = pci.take(topology.pools, request.devices, near)
    return Settled(
        replace(topology, cells=cells, pools=taken.pools),
        replace(request, guest=_asked_again(guest, literal=request.literal)),
        Placed(guest=guest if cells else None, devices=taken.devices),
        complete=taken.refusal is None,
    )


def _asked_again(guest: GuestNuma | None, *, literal: bool) -> GuestNuma | None:
    """Return a placed guest without its CPUs: what they were for one server means nothing to the next."""
    if guest is None or literal:
        return guest
    return replace(guest, cells=tuple(replace(cell, cpu_pinning=(), cpuset_reserved=()) for cell in guest.cells))


def _fit_guest(
    topology: Topology, request: TopologyRequest, guest: GuestNuma, *, limited: bool
) -> GuestNuma | HostRefusal:
    return cell_fitting.fit(
        topology.cells or (),
        guest,
        limits=cell_fitting.Limits(topology.cpu_ratio, topology.memory_ratio) if limited else None,
        pools=topology.pools,
        devices=request.devices,
        literal=request.literal,
    )
