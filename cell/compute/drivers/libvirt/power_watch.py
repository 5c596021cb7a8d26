"""Tells who wants to know when guests change power state by themselves."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from cell.compute.driver import GuestWatcher
from cell.compute.drivers.libvirt.guest_locks import GuestLocks
from cellcloud import errors
from cellcloud.model.observed_guests import GuestState

CHECK_SECONDS = 5.0
SOON_SECONDS = 1.0

log = logging.getLogger(__name__)


class PowerWatch:
    """Turns libvirt's events into news: an event only says "look again", and what is seen then counts.

    Changes made by a verb under way are not news. ``upkeep`` is called every few seconds, or sooner while it returns
    that there is something to do.
    """

    def __init__(
        self, list_guests: Callable[[], list[GuestState]], guest_locks: GuestLocks, upkeep: Callable[[], bool]
    ) -> None:
        self._list_guests = list_guests
        self._guest_locks = guest_locks
        self._upkeep = upkeep
        self._watchers: list[GuestWatcher] = []
        self._known: dict[str, int] = {}
        self._events: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._stopped = threading.Event()

    def add(self, watcher: GuestWatcher) -> None:
        self._watchers.append(watcher)

    def start(self) -> None:
        """Begin to watch, from the states as they are."""
        self._known = {guest.server_id: guest.power_state for guest in self._list_guests()}
        threading.Thread(target=self._run, name="power-watch", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        self._events.put(False)

    def note(self, _name: str) -> None:
        """Something happened to a guest."""
        with self._changed:
            self._changed.notify_all()
        self._events.put(True)

    def wait(self, seconds: float) -> None:
        """Return after that time or at the next event, whichever comes first."""
        with self._changed:
            self._changed.wait(seconds)

    def expect(self, state: GuestState) -> None:
        """Note that a verb has left the guest like this. What happened during the verb is looked at again."""
        self._known[state.server_id] = state.power_state
        self._events.put(True)

    def forget(self, server_id: str) -> None:
        self._known.pop(server_id, None)

    def _run(self) -> None:
        blind, soon = False, False
        while not self._stopped.is_set():
            try:
                looked = self._events.get(timeout=SOON_SECONDS if soon else CHECK_SECONDS)
            except queue.Empty:
                looked = True
            if not looked:
                return
            while not self._events.empty():
                self._events.get()
            try:
                self._look()
                soon = self._upkeep()
                blind = False
            except errors.CellcloudError as error:
                if not blind:
                    log.warning("the hypervisor could not be watched: %s %s", error.message, error.detail)
                blind = True
            except Exception:
                if not blind:
                    log.exception("the hypervisor could not be watched")
                blind = True

    def _look(self) -> None:
        before = dict(self._known)
        for guest in self._list_guests():
            known = self._known.get(guest.server_id)
            overtaken = known != before.get(guest.server_id)  # by a verb, after the list was made
            if overtaken or known == guest.power_state or self._guest_locks.is_busy(guest.server_id):
                continue
            self._known[guest.server_id] = guest.power_state
            if known is not None:
                for watcher in self._watchers:
                    watcher(guest)
