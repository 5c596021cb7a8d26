"""Giving a guest's CPUs host CPUs of their own, whole cores where there are such.

Source of the rules: Nova's _pack_instance_onto_cores. Of the threads of a core those reported first are taken first;
Nova takes them in the order in which a Python set happens to hold them, the same for threads numbered side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from cell.scheduler.filter_rejection import HostRefusal
from cellcloud.model.numa import GuestCell, NumaCell
from cellcloud.model.numa_pci_usage import free_cpus

Core = Sequence[int]
"""The free threads of a core, in the order reported."""


@dataclass(frozen=True, slots=True)
class Pins:
    """(guest CPU, host CPU), and the host CPUs kept for the hypervisor's own threads."""

    pairs: tuple[tuple[int, int], ...]
    reserved: tuple[int, ...]


def pin(host: NumaCell, guest: GuestCell, reserve: int) -> Pins | HostRefusal:
    """Pin the dedicated CPUs of a guest's cell to free ones of a host's cell, keeping ``reserve`` more."""
    where = f"NUMA cell {host.id}"
    free = free_cpus(host)
    needed = len(guest.pcpuset) + reserve
    if needed > len(free):
        return HostRefusal("free dedicated CPUs", needed, len(free), where)
    siblings = host.siblings or tuple((cpu,) for cpu in host.pcpuset)
    threads = max(map(len, siblings)) or 1
    if guest.cpu_thread_policy == "isolate":
        if threads > 1 and set(host.pcpuset) != set(host.cpuset):
            return HostRefusal("cores have threads, which the isolate policy forbids", where=where)
        pins = _pin_isolated([core for core in siblings if free.issuperset(core)], threads, guest, reserve)
    elif guest.cpu_thread_policy == "require" and threads == 1:
        return HostRefusal("cores have no threads, which the require policy demands", where=where)
    else:
        pins = _pin_packed([[cpu for cpu in core if cpu in free] for core in siblings], guest, reserve)
    if pins is None:
        policy = guest.cpu_thread_policy or "prefer"
        return HostRefusal(f"no free CPUs grouped into cores as the {policy} policy wants", where=where)
    return pins


def _pin_isolated(cores: Sequence[Core], threads: int, guest: GuestCell, reserve: int) -> Pins | None:
    """Pin to one thread on each of so many of these, the wholly free cores; the rest of a core then stays empty."""
    pairs = _pair([core for core in cores if len(core) == threads], 1, guest)
    if not pairs:
        return None
    taken = {cpu for _, cpu in pairs}
    return _keep(pairs, (cpu for core in cores if taken.isdisjoint(core) for cpu in core), reserve)


def _pin_packed(cores: Sequence[Core], guest: GuestCell, reserve: int) -> Pins | None:
    """Pin to as many threads of each core as the free ones allow; without the require policy, at last to any."""
    required = guest.cpu_thread_policy == "require"
    for number in range(max(map(len, cores)), 1 if required else 0, -1):
        pins = _pack([core for core in cores if len(core) >= number], number, cores, guest, reserve)
        if pins is not None:
            return pins
    return None if required else _pack([[cpu] for core in cores for cpu in core], 1, cores, guest, reserve)


def _pack(usable: Sequence[Core], number: int, cores: Sequence[Core], guest: GuestCell, reserve: int) -> Pins | None:
    pairs = _pair(usable, number, guest)
    if pairs is None:
        return None
    taken = {cpu for _, cpu in pairs}
    return _keep(pairs, (cpu for core in cores for cpu in core if cpu not in taken), reserve)


def _pair(cores: Sequence[Core], number: int, guest: GuestCell) -> tuple[tuple[int, int], ...] | None:
    """Return the guest's CPUs in order beside ``number`` threads of each core; None when these are too few."""
    if number * len(cores) < len(guest.pcpuset):
        return None
    return tuple(zip(sorted(guest.pcpuset), (cpu for core in cores for cpu in core[:number]), strict=False))


def _keep(pairs: tuple[tuple[int, int], ...], left: Iterable[int], reserve: int) -> Pins | None:
    """Keep the first of what is left beside the pairs; None when there is nothing to keep, or nothing beside it."""
    if not reserve:
        return Pins(pairs, ())
    kept = tuple(sorted(islice(left, reserve)))
    return Pins(pairs, kept) if pairs and kept else None
