"""Machines that are made up: any number of hosts with their guests, and the faults that tests ask of them."""

from __future__ import annotations

import fcntl
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import TextIO

import msgspec

from cell.compute.driver import GuestWatcher
from cell.compute.drivers.fake_guest import FakeGuest, aside_key
from cell.compute.drivers.host_description import HostDescription
from cellcloud import errors
from cellcloud.model import codec
from cellcloud.model.network_plan import NetworkPlans
from cellcloud.server_states import PowerState

KEPT_TOMBSTONES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectedFault:
    """An error to raise at a verb or at one of spawn's parts: disks, ports, power. ``after``: once its work is done."""

    error: Exception
    after: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What each host offers."""

    vcpus: int = 64
    memory_mb: int = 128 << 10
    disk_gb: int = 2000
    description: HostDescription = field(default_factory=HostDescription)


def described_capacity(description: HostDescription) -> Capacity:
    """Return what hosts of such a description offer."""
    return Capacity(
        vcpus=sum(len(cell.cpuset) for cell in description.cells),
        memory_mb=sum(cell.memory for cell in description.cells),
        description=description,
    )


class FakeHypervisor:
    """The machines: any number of hosts with their guests. Safe to use from several threads.

    ``path``: a journal of every change; only one process may write it, and a second waits until the first has ended.
    """

    def __init__(self, path: Path | None = None, *, delay: float = 0.0) -> None:
        self.delay = delay
        self.lock = threading.RLock()
        self.plans: defaultdict[str, NetworkPlans] = defaultdict(NetworkPlans)  # that each host was given, for a look
        self._hosts: defaultdict[str, dict[str, FakeGuest]] = defaultdict(dict)
        self._tombstones: dict[tuple[str, str], int] = {}
        self._boots: defaultdict[str, int] = defaultdict(int)
        self._faults: defaultdict[str, deque[InjectedFault]] = defaultdict(deque)
        self._watchers: defaultdict[str, list[GuestWatcher]] = defaultdict(list)
        self._lock_file: TextIO | None = None
        self._journal: FileIO | None = None
        if path is not None:
            self._take_over(path)

    @classmethod
    def read(cls, path: Path) -> FakeHypervisor:
        """Return what a journal says now, without taking part: for looking at hosts whose process lives or has died."""
        hypervisor = cls()
        hypervisor._replay(path)
        return hypervisor

    def fail_next(self, verb: str, error: Exception, *, count: int = 1, after: bool = False) -> None:
        """Make the next ``count`` calls of a verb fail, on whichever host; ``after`` its work is done, or instead."""
        with self.lock:
            self._faults[verb].extend([InjectedFault(error=error, after=after)] * count)

    def change_power(self, host: str, server_id: str, power_state: int) -> None:
        """Let a guest change state by itself."""
        with self.lock:
            guest = self.get(host, server_id)
            guest.power_state = power_state
            self.save(host, guest)
            watchers = list(self._watchers[host])
        for watcher in watchers:
            watcher(guest.state)

    def lose_disks(self, host: str, server_id: str) -> None:
        """Lose a guest's disks; it is off."""
        with self.lock:
            guest = self.get(host, server_id)
            guest.power_state, guest.disks = PowerState.SHUTDOWN, []
            self.save(host, guest)

    def lose_power(self, host: str) -> None:
        """Let the host fail and come back: its guests are off, their disks kept."""
        with self.lock:
            for guest in self._hosts[host].values():
                if guest.power_state != PowerState.SUSPENDED:
                    guest.power_state = PowerState.SHUTDOWN
                    self.save(host, guest)
            self._boots[host] += 1
            self._write([host, "", self._boots[host]])

    def get_boot(self, host: str) -> int:
        """Return how often the host has failed and come back."""
        return self._boots[host]

    def list_guests(self, host: str | None = None) -> list[FakeGuest]:
        """Guests of one host, or of all."""
        with self.lock:
            names = list(self._hosts) if host is None else [host]
            return [guest for name in names for guest in self._hosts[name].values()]

    def count_held(self) -> dict[str, int]:
        """Return how much of each kind of thing is on all hosts: for leak checks."""
        guests = self.list_guests()
        return {
            "guests": len(guests),
            "disks": sum(len(guest.disks) + len(guest.snapshots) for guest in guests),
            "taps": sum(len(guest.taps) for guest in guests),
        }

    def find(self, host: str, server_id: str) -> FakeGuest | None:
        return self._hosts[host].get(server_id)

    def get(self, host: str, server_id: str) -> FakeGuest:
        """Find a guest. Raises NotFound."""
        guest = self.find(host, server_id)
        if guest is None:
            raise errors.NotFound("There is no such guest on this host.")
        return guest

    def refuse_stale(self, host: str, server_id: str, generation: int) -> None:
        """Refuse a generation older than the newest seen. Raises Stale."""
        known = (self.find(host, server_id), self.find(host, aside_key(server_id)))
        newest = max((one.generation for one in known if one), default=self.find_tombstone(host, server_id))
        if generation < newest:
            raise errors.Stale(f"The host has seen generation {newest} of this server.")

    def find_tombstone(self, host: str, server_id: str) -> int:
        """Return the generation at which the server was destroyed on the host, 0 if it was not."""
        return self._tombstones.get((host, server_id), 0)

    def save(self, host: str, guest: FakeGuest) -> None:
        """Keep a guest as it is now."""
        self._hosts[host][guest.key] = guest
        if self._journal is not None:
            self._write([host, guest.key, guest])

    def bury(self, host: str, server_id: str, generation: int) -> None:
        """Remove a guest and remember the generation that did, if any."""
        self._hosts[host].pop(server_id, None)
        if generation:
            self._remember(host, server_id, generation)
        if self._journal is not None:
            self._write([host, server_id, generation])

    def work(self, verb: str, action: Callable[[], None]) -> None:
        """Do a verb's work, or fail as asked."""
        faults = self._faults.get(verb)
        fault = faults.popleft() if faults else None
        if fault is not None and not fault.after:
            raise fault.error
        action()
        if fault is not None:
            raise fault.error

    def attach(self, host: str, watcher: GuestWatcher) -> None:
        self._watchers[host].append(watcher)

    def detach(self, host: str, watchers: Sequence[GuestWatcher]) -> None:
        self._watchers[host] = [watcher for watcher in self._watchers[host] if watcher not in watchers]

    def close(self) -> None:
        """Let another process take over the file."""
        for file in (self._journal, self._lock_file):
            if file is not None:
                file.close()
        self._journal = self._lock_file = None

    def _take_over(self, path: Path) -> None:
        """Become the journal's writer: read it, and write it anew with only what still counts."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock_file = path.with_name(f"{path.name}.lock").open("w")
        fcntl.flock(self._lock_file, fcntl.LOCK_EX)
        self._replay(path)
        fresh = path.with_name(f"{path.name}.new")
        self._journal = fresh.open("wb", buffering=0)
        for (host, server_id), generation in self._tombstones.items():
            self._write([host, server_id, generation])
        for host, boot in self._boots.items():
            self._write([host, "", boot])
        for host, guests in self._hosts.items():
            for guest in guests.values():
                self._write([host, guest.key, guest])
        fresh.replace(path)

    def _remember(self, host: str, server_id: str, generation: int) -> None:
        self._tombstones[host, server_id] = max(generation, self._tombstones.get((host, server_id), 0))
        while len(self._tombstones) > KEPT_TOMBSTONES:
            del self._tombstones[next(iter(self._tombstones))]

    def _write(self, entry: list[object]) -> None:
        if self._journal is not None:
            self._journal.write(msgspec.json.encode(entry) + b"\n")

    def _replay(self, path: Path) -> None:
        """Read a journal; a last line cut short by its writer's death never happened."""
        with suppress(FileNotFoundError), path.open() as journal:
            for line in journal:
                if not line.endswith("\n"):
                    break
                host, server_id, content = msgspec.json.decode(line)
                if not server_id:
                    self._boots[host] = content
                elif isinstance(content, int):
                    self._hosts[host].pop(server_id, None)
                    if content:
                        self._remember(host, server_id, content)
                else:
                    self._hosts[host][server_id] = codec.from_plain(content, FakeGuest)
