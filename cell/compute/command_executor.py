"""Who works on which guest: commands of one generation in turn, a newer one at once, repeats collapsed.

A newer command does not wait here: the driver lets one verb at a time work on a guest, and one that takes long gives
way when a newer waits. Only commands at hand are compared; what a host did earlier is remembered by its driver, which
refuses old commands too. A bounded pool of threads serves all hosts of the process; of the commands that take
long, each host does only so many at once.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from cellcloud import errors
from cellcloud.model.guest_commands import (
    DiscardSnapshot,
    FetchDisks,
    GuestCommand,
    PrepareRebuild,
    Rebuild,
    Snapshot,
    Spawn,
    UploadSnapshot,
)

LONG = (Spawn, Snapshot, UploadSnapshot, PrepareRebuild, Rebuild, FetchDisks)
"""Commands of which each host works on so many at once, and on no more."""
Guest = tuple[str, str]  # host, server id
Perform = Callable[[str, GuestCommand], None]
Refuse = Callable[[str, GuestCommand, errors.CellcloudError], None]


@dataclass(slots=True)
class _Place:
    """What one guest has at hand."""

    running: list[GuestCommand] = field(default_factory=list)
    waiting: GuestCommand | None = None

    @property
    def commands(self) -> list[GuestCommand]:
        return self.running if self.waiting is None else [*self.running, self.waiting]


class CommandExecutor:
    """``perform`` does a command and tells its outcome; ``refuse`` tells why one was not done. Neither may raise."""

    def __init__(self, perform: Perform, refuse: Refuse, *, threads: int, builds_per_host: int) -> None:
        self._perform = perform
        self._refuse = refuse
        self._builds_per_host = builds_per_host
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._places: dict[Guest, _Place] = {}
        self._builds: defaultdict[str, int] = defaultdict(int)
        self._builds_waiting: defaultdict[str, dict[Guest, None]] = defaultdict(dict)  # in order of arrival
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="guest")
        self._closed = False

    def submit(self, host: str, command: GuestCommand) -> None:
        """Take a command; returns at once."""
        with self._lock:
            refused = self._take((host, command.server_id), command)
        if refused is not None:
            self._refuse(host, refused, errors.Stale("A newer command has overtaken this one."))

    def run_later(self, work: Callable[[], None]) -> None:
        """Do something else on the pool, unless it is closing."""
        with self._lock:
            if not self._closed:
                self._pool.submit(work)

    def is_busy(self, host: str, server_id: str) -> bool:
        """Return whether a command for the guest is at work or waits."""
        with self._lock:
            return (host, server_id) in self._places

    def count(self) -> int:
        """Guests with a command at work or waiting."""
        with self._lock:
            return len(self._places)

    def close(self, seconds: float) -> None:
        """Let what is at work end, for at most ``seconds``, and drop what waits: it is sent again."""
        with self._lock:
            self._closed = True
            for guest, place in list(self._places.items()):
                place.waiting = None
                self._advance(guest)
            self._idle.wait_for(lambda: not self._places, timeout=seconds)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _take(self, guest: Guest, command: GuestCommand) -> GuestCommand | None:
        """Let the command wait for its turn; returns the one that is refused for it, or the command itself."""
        at_hand = self._places[guest].commands if guest in self._places else []
        if self._closed or any(_same(command, other) for other in at_hand):
            return None
        if any(command.generation < other.generation for other in at_hand):
            return command
        place = self._places.setdefault(guest, _Place())
        overtaken, place.waiting = place.waiting, command
        self._advance(guest)
        return overtaken

    def _advance(self, guest: Guest) -> None:
        """Begin what waits for the guest if its turn has come."""
        host, place = guest[0], self._places[guest]
        command = place.waiting
        self._builds_waiting[host].pop(guest, None)
        if command is None:
            if not place.running:
                del self._places[guest]
            return
        ends_others = isinstance(command, DiscardSnapshot)
        if any(other.generation == command.generation for other in place.running) and not ends_others:
            return
        if isinstance(command, LONG):
            if self._builds[host] >= self._builds_per_host:
                self._builds_waiting[host][guest] = None
                return
            self._builds[host] += 1
        place.waiting = None
        place.running.append(command)
        self._pool.submit(self._work, guest, command)

    def _work(self, guest: Guest, command: GuestCommand) -> None:
        try:
            self._perform(guest[0], command)
        finally:
            with self._lock:
                self._finish(guest, command)
                self._idle.notify_all()

    def _finish(self, guest: Guest, command: GuestCommand) -> None:
        host = guest[0]
        self._places[guest].running.remove(command)
        if isinstance(command, LONG):
            self._builds[host] -= 1
        self._advance(guest)
        next_build = next(iter(self._builds_waiting[host]), None)
        if next_build is not None:
            self._advance(next_build)


def _same(one: GuestCommand, other: GuestCommand) -> bool:
    return (one.run_id, one.step, one.kind, one.generation) == (
        other.run_id,
        other.step,
        other.kind,
        other.generation,
    )
