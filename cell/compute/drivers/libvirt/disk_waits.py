"""Guests that QEMU has halted because a volume's exporter was lost: nothing fails in them, and they go on where they
were once it is back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import libvirt

from cell.compute.drivers.libvirt.guest_locks import GuestLocks
from cellcloud import clock, errors

AGAIN = 1.0  # seconds after which a guest is let try again
_WAITING = [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR]


def waits(domain: Any) -> bool:
    """Return whether the guest is halted until its volume answers."""
    return list(domain.state()) == _WAITING


def pause(domain: Any) -> None:
    """Halt a guest's processors. Raises Busy for one that a volume halts: libvirt would not know it from one that its
    user did."""
    if waits(domain):
        raise errors.Busy("The guest waits for one of its volumes.")
    domain.suspend()


class DiskWaits:
    """Lets guests that wait try again. ``call``: does something with libvirt's connection."""

    def __init__(self, call: Callable[[Callable[[Any], Any]], Any], guest_locks: GuestLocks) -> None:
        self._call = call
        self._guest_locks = guest_locks
        self._tried: dict[str, float] = {}

    def look(self) -> bool:
        """Let each try once, unless it just has, or a verb works on it; return whether there is one."""
        stats = self._call(lambda opened: opened.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE, 0))
        states = ((domain, [told.get("state.state"), told.get("state.reason")]) for domain, told in stats)
        waiting = {domain.name(): domain for domain, state in states if state == _WAITING}
        now = clock.monotonic()
        self._tried = {name: tried for name, tried in self._tried.items() if name in waiting}
        for name, domain in waiting.items():
            if now - self._tried.get(name, -AGAIN) >= AGAIN:
                with self._guest_locks.take_idle(name) as is_idle:
                    if is_idle:
                        self._tried[name] = now
                        self._call(functools.partial(_try_again, domain))
        return bool(waiting)


def _try_again(domain: Any, _opened: Any) -> None:
    if waits(domain):
        domain.resume()
