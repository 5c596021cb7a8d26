"""Who works on which guest: one command at a time for each, the newest generation wins, repeats collapse.

A bounded pool of threads serves all hosts of the process; of the commands that build guests, each host does only so
many at once. Only commands at hand are compared here; what a host did earlier is remembered by its driver, which
refuses old commands too.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cellcloud import errors
from cellcloud.model.guest import CommandKind, GuestCommand

Guest = tuple[str, str]  # host, server id
Perform = Callable[[str, GuestCommand], None]
Refuse = Callable[[str, GuestCommand, errors.CellcloudError], None]


@dataclass(slots=True)
class _Place:
    """What one guest has at hand. ``waiting`` begins when ``running`` ends; a build may wait for its turn before."""

    running: GuestCommand
    begun: bool = False
    waiting: GuestCommand | None = None


class Workbench:
    """``perform`` does a command and tells its outcome; ``refuse`` tells why one was not done. Neither may raise."""

    def __init__(self, perform: Perform, refuse: Refuse, *, threads: int, builds_per_host: int) -> None:
        self._perform = perform
        self._refuse = refuse
        self._builds_per_host = builds_per_host
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._places: dict[Guest, _Place] = {}
        self._builds: defaultdict[str, int] = defaultdict(int)
        self._builds_waiting: defaultdict[str, deque[Guest]] = defaultdict(deque)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="guest")
        self._working = 0
        self._closed = False

    def submit(self, host: str, command: GuestCommand) -> None:
        """Take a command; returns at once."""
        guest = (host, command.server_id)
        with self._lock:
            refused = self._place(guest, command)
        if refused is not None:
            self._refuse(host, refused, errors.Stale("A newer command has overtaken this one."))

    def run_later(self, work: Callable[[], None]) -> None:
        """Do something else on the pool, unless it is closing."""
        with self._lock:
            if not self._closed:
                self._pool.submit(work)

    def is_busy(self, host: str, server_id: str) -> bool:
        """Whether a command for the guest is at work or waits."""
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
            self._builds_waiting.clear()
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._idle.wait_for(lambda: not self._working, timeout=seconds)

    def _place(self, guest: Guest, command: GuestCommand) -> GuestCommand | None:
        """Take the command in; returns one that is refused for it, or the command itself."""
        place = self._places.get(guest)
        last = (place.waiting or place.running) if place else None
        if self._closed or (place and (_same(command, place.running) or _same(command, last))):
            return None
        if last is not None and command.generation < last.generation:
            return command
        return self._queue(guest, place, command)

    def _queue(self, guest: Guest, place: _Place | None, command: GuestCommand) -> GuestCommand | None:
        """Begin the command, or let it wait; returns the one whose place it took."""
        if place is not None and place.begun:
            overtaken, place.waiting = place.waiting, command
            return overtaken
        if place is not None:
            self._builds_waiting[guest[0]].remove(guest)
        self._places[guest] = _Place(running=command)
        self._begin(guest, self._places[guest])
        return place.running if place else None

    def _begin(self, guest: Guest, place: _Place) -> None:
        host = guest[0]
        if place.running.kind is CommandKind.SPAWN:
            if self._builds[host] >= self._builds_per_host:
                self._builds_waiting[host].append(guest)
                return
            self._builds[host] += 1
        place.begun = True
        self._pool.submit(self._work, guest, place.running)

    def _work(self, guest: Guest, command: GuestCommand) -> None:
        with self._lock:
            self._working += 1
        try:
            self._perform(guest[0], command)
        finally:
            with self._lock:
                self._working -= 1
                self._finish(guest, command)
                self._idle.notify_all()

    def _finish(self, guest: Guest, command: GuestCommand) -> None:
        host, place = guest[0], self._places[guest]
        if command.kind is CommandKind.SPAWN:
            self._builds[host] -= 1
            if self._builds_waiting[host] and not self._closed:
                ready = self._builds_waiting[host].popleft()
                self._begin(ready, self._places[ready])
        if place.waiting is None or self._closed:
            del self._places[guest]
            return
        place.running, place.begun, place.waiting = place.waiting, False, None
        self._begin(guest, place)


def _same(one: GuestCommand, other: GuestCommand | None) -> bool:
    return other is not None and (one.run_id, one.step, one.kind, one.generation) == (
        other.run_id,
        other.step,
        other.kind,
        other.generation,
    )
