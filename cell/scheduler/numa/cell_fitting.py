"""NUMA: whether a guest's cells fit onto a host's, where they go, what they use there, and back.

Source of the rules: Nova's numa_fit_instance_to_host and numa_usage_from_instance_numa. Their order of trying is kept,
and what they remember of one try in the next, for it decides which cells, CPUs and pages are chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from math import floor

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.numa import pci, pinning
from cellcloud.model.numa import ANY_PAGES, LARGE_PAGES, SMALL_PAGES, GuestCell, GuestNuma, NumaCell
from cellcloud.model.numa_pci_usage import free_cpus
from cellcloud.model.pci import PciPool, PciRequest

MOST_ARRANGEMENTS = 20_000
"""Ways to lay a guest's cells onto a host's that are tried before giving up."""
TRIED_BLINDLY = 32
"""Of these, those after which it is asked whether any can be right: few guests need as many."""
KIB = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How far shared CPUs and memory may be overcommitted: guests' amount to real amount."""

    cpu_ratio: float
    memory_ratio: float


@dataclass(slots=True)
class _Trial:
    """A guest's cell as the tries so far left it: where it was laid last, in which pages, on which CPUs."""

    asked: GuestCell
    id: int
    pagesize: int | None
    pins: pinning.Pins

    def placed(self) -> GuestCell:
        asked = self.asked
        return GuestCell(
            id=self.id,
            cpuset=asked.cpuset,
            pcpuset=asked.pcpuset,
            memory=asked.memory,
            pagesize=self.pagesize,
            cpu_policy=asked.cpu_policy,
            cpu_thread_policy=asked.cpu_thread_policy,
            cpu_pinning=self.pins.pairs,
            cpuset_reserved=self.pins.reserved,
        )


def _trial_of(asked: GuestCell) -> _Trial:
    return _Trial(asked, asked.id, asked.pagesize, pinning.Pins(asked.cpu_pinning, asked.cpuset_reserved))


@dataclass(slots=True)
class _Search:
    """One search: the guest's cells, and what is known of pairs (host's cell, guest's cell).

    ``changed``: the last try did more than to remember; ``remembered``: a cell of it was not looked at anew.
    """

    trials: list[_Trial]
    limits: Limits | None
    isolated: bool
    fitting: set[tuple[int, int]] = field(default_factory=set)
    misfits: dict[tuple[int, int], HostRefusal] = field(default_factory=dict)
    changed: bool = False
    remembered: bool = False

    def lay(self, hosts: Sequence[NumaCell]) -> tuple[int, HostRefusal | None]:
        """Lay the guest's cells onto these, in order: how many fit, and why the next does not."""
        self.changed = self.remembered = False
        for place, host in enumerate(hosts):
            trial = self.trials[place]
            pair = (host.id, trial.id)
            if pair in self.misfits:
                return place, self.misfits[pair]
            if pair in self.fitting:
                self.remembered = True
                self.changed = self.changed or trial.id != host.id
                trial.id = host.id
                continue
            self.changed = True
            refusal = self.lay_one(place, host, trial)
            if refusal is not None:
                self.misfits[pair] = refusal
                return place, refusal
            self.fitting.add(pair)
        return len(hosts), None

    def lay_one(self, place: int, host: NumaCell, trial: _Trial) -> HostRefusal | None:
        """Try a guest's cell on a host's. One CPU is kept beside the first, when asked for."""
        return _lay(host, trial, self.limits, 1 if self.isolated and place == 0 else 0)

    def can_succeed(self, hosts: Sequence[NumaCell]) -> bool:
        """Return whether each of the guest's cells could have a cell of the host to itself, in whatever order.

        A cell is laid here as if nothing had been tried before, which allows no less than what the tries remember. So
        a no is final, and spares a search whose length grows with the factorial of the cells.
        """
        taken: dict[int, int] = {}  # place among the host's cells -> place among the guest's
        usable = [
            [at for at, host in enumerate(hosts) if self.lay_one(place, host, _trial_of(trial.asked)) is None]
            for place, trial in enumerate(self.trials)
        ]
        return all(_assign(place, usable, taken, set()) for place in range(len(usable)))

    def settle(self, hosts: Sequence[NumaCell], *, literal: bool) -> tuple[GuestCell, ...] | None:
        """Return the guest's cells once all lie on ``hosts``; those that were only remembered to fit are looked at
        again.

        Nova does not look again, though it remembers by ids that it changes on the way: so it can take one cell for
        another, and let pass a guest that does not fit. ``literal``: as it does.
        """
        trials = self.trials
        if self.remembered and not literal:
            trials = [replace(trial) for trial in trials]
            if any(self.lay_one(place, host, trials[place]) for place, host in enumerate(hosts)):
                return None
        return tuple(trial.placed() for trial in trials)


def fit(
    cells: tuple[NumaCell, ...],
    guest: GuestNuma,
    *,
    limits: Limits | None,
    pools: tuple[PciPool, ...] = (),
    devices: Sequence[PciRequest] = (),
    pack: bool = False,
    literal: bool = False,
) -> GuestNuma | HostRefusal:
    """Place ``guest`` on the cells of a host, with devices near enough to it; or return what is lacking.

    ``limits`` None: overcommitted without end. ``pack``: cells in use first, else those with the most left.
    ``literal``: with Nova's mistakes, see TopologyRequest.
    """
    count = len(guest.cells)
    if len(cells) < count:
        return HostRefusal("NUMA cells", count, len(cells))
    tried = cells if len(cells) == count else _in_order_of_trial(cells, guest, pools, bool(devices), pack)
    search = _Search([_trial_of(cell) for cell in guest.cells], limits, guest.emulator_threads_policy == "isolate")
    far_from_devices: dict[frozenset[int], HostRefusal] = {}
    deepest, nearest = -1, HostRefusal("no NUMA cell can take the guest")
    order: list[int] | None = list(range(count))
    for number in range(MOST_ARRANGEMENTS):
        if order is None or (number == TRIED_BLINDLY and not literal and not search.can_succeed(cells)):
            return nearest
        hosts = [tried[at] for at in order]
        depth, refusal = search.lay(hosts)
        if refusal is None:
            refusal = _far_from_devices(hosts, cells, pools, devices, far_from_devices)
            placed = None if refusal else search.settle(hosts, literal=literal)
            if placed is not None:
                return replace(guest, cells=placed)
        if refusal is not None and (depth > deepest or (depth == deepest and refusal.lack < nearest.lack)):
            deepest, nearest = depth, refusal
        order = _following(order, count - 1 if search.changed else min(depth, count - 1), len(cells))
    return HostRefusal(f"no room found in {MOST_ARRANGEMENTS} ways to lay out the guest's NUMA cells")


def _assign(place: int, usable: Sequence[Sequence[int]], taken: dict[int, int], seen: set[int]) -> bool:
    """Give a guest's cell one that is usable for it, others moving where they can: an augmenting path of a matching."""
    for at in usable[place]:
        if at not in seen:
            seen.add(at)
            if at not in taken or _assign(taken[at], usable, taken, seen):
                taken[at] = place
                return True
    return False


def has_threads(cells: Sequence[NumaCell]) -> bool:
    """Return whether some core of the host has several hardware threads."""
    return any(len(core) > 1 for cell in cells for core in cell.siblings)


def _in_order_of_trial(
    cells: tuple[NumaCell, ...], guest: GuestNuma, pools: Sequence[PciPool], devices: bool, pack: bool
) -> tuple[NumaCell, ...]:
    """Order cells, those with the most left first (least, to pack); before that, those with devices, or when none are
    asked for, those without."""
    there: dict[int | None, int] = {}
    for pool in pools:
        there[pool.numa_node] = there.get(pool.numa_node, 0) + pool.count

    def rank(cell: NumaCell) -> tuple[int, int, int]:
        left = len(free_cpus(cell)) if guest.cells[0].pinned else -cell.cpu_usage
        sign = 1 if pack else -1
        near = there.get(cell.id, 0)
        return -near if devices else near, sign * left, sign * (cell.memory - cell.memory_usage)

    return tuple(sorted(cells, key=rank))


def _following(order: list[int], place: int, size: int) -> list[int] | None:
    """Return the next arrangement in lexical order that differs at ``place`` or before; None after the last."""
    for at in range(place, -1, -1):
        head = order[:at]
        for other in range(order[at] + 1, size):
            if other not in head:
                head.append(other)
                rest = (left for left in range(size) if left not in head)
                return head + list(islice(rest, len(order) - at - 1))
    return None


def _far_from_devices(
    hosts: Sequence[NumaCell],
    cells: tuple[NumaCell, ...],
    pools: tuple[PciPool, ...],
    devices: Sequence[PciRequest],
    known: dict[frozenset[int], HostRefusal],
) -> HostRefusal | None:
    """Find why the devices cannot be had near these cells; the order of the cells does not matter."""
    if not devices:
        return None
    chosen = tuple(host.id for host in hosts)
    key = frozenset(chosen)
    if key not in known:
        refusal = pci.find_lack(pools, devices, pci.Nearness(chosen, cells))
        if refusal is None:
            return None
        known[key] = refusal
    return known[key]


def _lay(host: NumaCell, trial: _Trial, limits: Limits | None, reserve: int) -> HostRefusal | None:
    """Try a guest's cell on a host's, which leaves its marks whether it fits or not; or why it does not."""
    guest = trial.asked
    refusal = _lay_memory(host, trial) or _outgrows(host, guest, reserve)
    if refusal is not None:
        return refusal
    if guest.pinned:
        pins = pinning.pin(host, guest, reserve)
        if isinstance(pins, HostRefusal):
            return pins
        trial.id, trial.pins = host.id, pins
    if limits is not None and guest.cpu_policy != "dedicated":
        refusal = _exceeds(host, guest, limits)
        if refusal is not None:
            return refusal
    trial.id = host.id
    return None


def _lay_memory(host: NumaCell, trial: _Trial) -> HostRefusal | None:
    """Choose the pages; without any asked for, memory is not overcommitted by one guest alone, nor by pinned ones."""
    guest = trial.asked
    if trial.pagesize:
        return _lay_pages(host, trial, trial.pagesize)
    if host.mempages:
        smallest = min(pages.size_kb for pages in host.mempages)
        return _lacks_pages(host, guest, smallest, only_free=guest.pinned)
    there = host.memory - host.memory_usage if guest.pinned else host.memory
    if there < guest.memory:
        return HostRefusal("MiB of memory", guest.memory, there, f"NUMA cell {host.id}")
    return None


def _lay_pages(host: NumaCell, trial: _Trial, asked: int) -> HostRefusal | None:
    """Return the largest pages of those asked for that are free."""
    sizes = sorted((pages.size_kb for pages in host.mempages), reverse=True)
    allowed = {SMALL_PAGES: sizes[-1:], LARGE_PAGES: sizes[:-1], ANY_PAGES: sizes}.get(asked, [asked])
    nearest: HostRefusal | None = None
    for size in allowed:
        refusal = _lacks_pages(host, trial.asked, size, only_free=True)
        if refusal is None:
            trial.pagesize = size
            return None
        if nearest is None or refusal.lack < nearest.lack:
            nearest = refusal
    return nearest or HostRefusal("has no such memory pages", where=f"NUMA cell {host.id}")


def _lacks_pages(host: NumaCell, guest: GuestCell, size: int, *, only_free: bool) -> HostRefusal | None:
    where = f"NUMA cell {host.id}"
    pages = next((pages for pages in host.mempages if pages.size_kb == size), None)
    if pages is None:
        return HostRefusal(f"has no memory pages of {size} KiB", where=where)
    if guest.memory * KIB % size:
        return HostRefusal(f"memory of {guest.memory} MiB is no multiple of pages of {size} KiB", where=where)
    there = pages.total - pages.used - pages.reserved if only_free else pages.total
    if guest.memory * KIB > there * size:
        free = "free " if only_free else ""
        return HostRefusal(f"{free}memory pages of {size} KiB", guest.memory * KIB // size, there, where)
    return None


def _outgrows(host: NumaCell, guest: GuestCell, reserve: int) -> HostRefusal | None:
    """Return why a guest's cell would not fit onto an empty host's cell: no guest overcommits against itself."""
    dedicated, shared = len(guest.pcpuset) + reserve, len(guest.cpuset)
    if guest.pinned and dedicated > len(host.pcpuset):
        return HostRefusal("dedicated CPUs", dedicated, len(host.pcpuset), f"NUMA cell {host.id}")
    if guest.cpu_policy != "dedicated" and shared > len(host.cpuset):
        return HostRefusal("shared CPUs", shared, len(host.cpuset), f"NUMA cell {host.id}")
    return None


def _exceeds(host: NumaCell, guest: GuestCell, limits: Limits) -> HostRefusal | None:
    """Return why shared CPUs or memory would be overcommitted too far."""
    cpus, memory = len(guest.cpuset), guest.memory
    cpus_left = floor(len(host.cpuset) * limits.cpu_ratio) - host.cpu_usage
    if cpus > cpus_left:
        return HostRefusal("shares of shared CPUs", cpus, cpus_left, f"NUMA cell {host.id}")
    memory_left = floor(host.memory * limits.memory_ratio) - host.memory_usage
    if memory > memory_left:
        return HostRefusal("MiB of memory within its ratio", memory, memory_left, f"NUMA cell {host.id}")
    return None
