"""PCI devices of a host that are given to guests: which there are, and whose each is.

The cell claims so many devices of a kind; the host alone chooses which of them, and remembers it with the guest.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from cellcloud import errors
from cellcloud.model.pci import PciPool
from cellcloud.safe_regex import Pattern

ADDRESS = Pattern(r"([0-9a-f]{4}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")


@dataclass(frozen=True, slots=True, kw_only=True)
class PciDevice:
    """``address``: domain:bus:slot.function, hexadecimal. ``kind``: a pool of one."""

    address: str
    kind: PciPool


def split_address(address: str) -> dict[str, str]:
    """Return the parts of an address by libvirt's names. Raises Invalid."""
    parts = ADDRESS.groups(address)
    if parts is None:
        raise errors.Invalid(f"{address[:100]!r} is no address of a PCI device.")
    return {name: f"0x{part}" for name, part in zip(("domain", "bus", "slot", "function"), parts, strict=True)}


def pools_of(devices: Sequence[PciDevice]) -> tuple[PciPool, ...]:
    """Return how many there are of each kind, in the order of the first of each."""
    counts: dict[PciPool, int] = {}
    for device in devices:
        counts[device.kind] = counts.get(device.kind, 0) + 1
    return tuple(replace(kind, count=count) for kind, count in counts.items())


def assign(devices: Sequence[PciDevice], wanted: Sequence[PciPool], taken: Set[str]) -> tuple[str, ...]:
    """Return the addresses of as many of each kind as ``wanted`` says, none of them ``taken``. Raises HostRefused."""
    found: list[str] = []
    for pool in wanted:
        free = [
            device.address
            for device in devices
            if device.kind.same_kind(pool) and device.address not in taken and device.address not in found
        ]
        if len(free) < pool.count:
            raise errors.HostRefused("The host has not the PCI devices that were claimed.", detail=f"{free} of {pool}")
        found += free[: pool.count]
    return tuple(found)
