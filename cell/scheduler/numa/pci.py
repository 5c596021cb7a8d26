"""PCI devices of a host: whether those that a server asks for are there, which pools they come from, and back.

Source of the rules: Nova's PciDeviceStats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cell.scheduler.filter_rejection import HostRefusal
from cellcloud.model.numa import NumaCell
from cellcloud.model.numa_pci_usage import consume_devices
from cellcloud.model.pci import PciPool, PciRequest

# matched by other means than a pool's own values
UNMATCHED = frozenset({"resource_class", "traits", "rp_uuids", "rp_uuid"})
ASKED_FOR_BY_NAME = ("type-PF", "vdpa")
TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})


@dataclass(frozen=True, slots=True)
class Nearness:
    """Where a guest's memory will be: the host cells of its cells, and which cells the host has."""

    chosen: tuple[int, ...]
    cells: tuple[NumaCell, ...] = ()

    def on_sockets(self) -> set[int]:
        """Return the cells on the same sockets as the chosen; none when a cell's socket is not known."""
        if any(cell.socket is None for cell in self.cells):
            return set()
        sockets = {cell.socket for cell in self.cells if cell.id in self.chosen}
        return {cell.id for cell in self.cells if cell.socket in sockets}


@dataclass(frozen=True, slots=True)
class Taken:
    """What taking devices leaves of the pools (in the order of the pools), and what was taken from which."""

    pools: tuple[PciPool, ...]
    devices: tuple[PciPool, ...]
    refusal: HostRefusal | None = None


def find_lack(
    pools: Sequence[PciPool], requests: Sequence[PciRequest], near: Nearness | None = None
) -> HostRefusal | None:
    """Return which devices cannot be had; None when all can."""
    return _assign(pools, requests, near)[1]


def take(pools: tuple[PciPool, ...], requests: Sequence[PciRequest], near: Nearness | None = None) -> Taken:
    """Take the devices of each request in turn from pools with few tags first; stop at the first that cannot be had.

    ``near`` None: the guest has no NUMA topology, and any place will do.
    """
    assigned, refusal = _assign(pools, requests, near)
    devices = tuple(replace(pools[at], count=number) for at, number in assigned)
    return Taken(consume_devices(pools, devices), devices, refusal)


def _assign(
    pools: Sequence[PciPool], requests: Sequence[PciRequest], near: Nearness | None
) -> tuple[list[tuple[int, int]], HostRefusal | None]:
    """Assign devices, as (pool, how many), to the requests up to the first that cannot be met; and why it cannot."""
    free = [pool.count for pool in pools]
    order = sorted(range(len(pools)), key=lambda at: len(pools[at].tags))
    assigned: list[tuple[int, int]] = []
    for request in requests:
        usable = _usable([at for at in order if free[at] > 0], free, pools, request, near)
        if isinstance(usable, HostRefusal):
            return assigned, usable
        left = request.count
        for at in usable:
            number = min(left, free[at])
            if number:
                free[at] -= number
                left -= number
                assigned.append((at, number))
    return assigned, None


def _usable(
    places: list[int], free: Sequence[int], pools: Sequence[PciPool], request: PciRequest, near: Nearness | None
) -> list[int] | HostRefusal:
    """Return the pools that serve one request, those to take from first in front; or what is lacking."""
    places = [at for at in places if any(_matches(pools[at], spec) for spec in request.spec)]
    there = sum(free[at] for at in places)
    if there < request.count:
        return HostRefusal(_describe(request), request.count, there)
    if near is not None and near.chosen:
        places = _nearest(places, free, pools, request, near)
        there = sum(free[at] for at in places)
        if there < request.count:
            where = "reach of NUMA cell " + ", ".join(str(cell) for cell in near.chosen)
            return HostRefusal(_describe(request), request.count, there, where)
    places = [at for at in places if _may_be_given(pools[at], request)]
    there = sum(free[at] for at in places)
    if not places or there < request.count:
        return HostRefusal(f"{_describe(request)} for such a request", request.count, there)
    return places


def _matches(pool: PciPool, spec: Mapping[str, str]) -> bool:
    """Return whether a pool has every value that ``spec`` names; letters' case does not matter."""
    own: dict[str, str | None] = {"vendor_id": pool.vendor_id, "product_id": pool.product_id}
    for name, value in spec.items():
        if name in UNMATCHED:
            continue
        there = own[name] if name in own else pool.tags.get(name)
        if there is None or there.lower() != value.lower():
            return False
    return True


def _nearest(
    places: list[int], free: Sequence[int], pools: Sequence[PciPool], request: PciRequest, near: Nearness
) -> list[int]:
    """Return the pools near enough to the guest's cells, as strictly as there are enough or the policy demands."""
    policy = request.numa_policy or "legacy"
    inside = [at for at in places if pools[at].numa_node in near.chosen]
    if policy == "required" or sum(free[at] for at in inside) >= request.count:
        return inside
    if policy == "socket":
        reach = near.on_sockets()
        return [at for at in places if pools[at].numa_node in reach]
    unknown = [at for at in places if pools[at].numa_node is None or pools[at].numa_node in near.chosen]
    if policy == "legacy" or sum(free[at] for at in unknown) >= request.count:
        return unknown
    return sorted(places, key=lambda at: at not in unknown)


def _may_be_given(pool: PciPool, request: PciRequest) -> bool:
    """Return whether a request may get such devices: some go only to those who ask for them by kind."""
    kind = pool.tags.get("dev_type")
    if kind in ASKED_FOR_BY_NAME and all(spec.get("dev_type") != kind for spec in request.spec):
        return False
    if _true(pool.tags.get("remote_managed")) and not any(_true(spec.get("remote_managed")) for spec in request.spec):
        return False
    migratable = {spec.get("live_migratable") for spec in request.spec}
    return migratable not in ({"true"}, {"false"}) or {pool.tags.get("live_migratable")} == migratable


def _true(value: str | None) -> bool:
    return value is not None and value.strip().lower() in TRUE


def _describe(request: PciRequest) -> str:
    kinds = " or ".join(" ".join(f"{name}={value}" for name, value in sorted(one.items())) for one in request.spec)
    return f"PCI devices ({kinds})"
