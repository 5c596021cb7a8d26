"""Compares the guests a host holds with those the cell's records give it, and corrects the host.

What is to be done with a guest that the host should not hold is the cell's word alone, and it says "destroy" only of
one whose record says deleted, or that an operator has removed. Power states that differ are only reported.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from cell.compute.driver import Driver
from cellcloud import errors
from cellcloud.context import service_context
from cellcloud.model.guest_commands import ExpectedGuest, GuestEvent, GuestOrder, OrderKind
from cellcloud.model.observed_guests import GuestState
from cellcloud.rpc.conductor import Conductor
from cellcloud.server_states import PowerState

LOG = logging.getLogger(__name__)


class Reconciler:
    """Looks at one host. ``is_busy``: whether a command for a server is at work, which means leave it alone."""

    def __init__(
        self,
        host: str,
        driver: Driver,
        conductor: Conductor,
        *,
        is_busy: Callable[[str, str], bool],
        report: Callable[[GuestEvent], None],
    ) -> None:
        self.host = host
        self._driver = driver
        self._conductor = conductor
        self._is_busy = is_busy
        self._report = report

    def has_guests(self) -> bool:
        """Return whether the host holds any guest at all."""
        return bool(self._driver.list_guests())

    def compare(self) -> None:
        """Look once. The guests are listed before the records are read, so none can be too new for its record."""
        guests = {guest.server_id: guest for guest in self._driver.list_guests()}
        answer = self._conductor.compare_guests(service_context(), self.host, list(guests.values()))
        for order in answer.orders:
            self._obey(order)
        for entry in answer.expected:
            self._compare_power(entry, guests.get(entry.server_id))

    def _obey(self, order: GuestOrder) -> None:
        if self._is_busy(self.host, order.server_id):
            return
        told = {"host": self.host, "server": order.server_id, "order": order.kind, "why": order.reason}
        LOG.warning("guest not in its place", extra=told)
        try:
            match order.kind:
                case OrderKind.DESTROY:
                    self._driver.destroy(order.server_id, order.generation)
                case OrderKind.STOP:
                    self._driver.stop(order.server_id, order.generation, 0.0)
                case OrderKind.FENCE:
                    self._driver.set_fence(order.server_id, fenced=True)
                case OrderKind.DISCARD:
                    self._driver.discard(order.server_id, order.generation)
        except errors.CellcloudError as error:
            LOG.error("order not obeyed", extra=told | {"error": error.message, "detail": error.detail})
        except Exception:  # of this guest: the others have their turn
            LOG.exception("order not obeyed", extra=told)

    def _let_back(self, server_id: str) -> None:
        """Somebody accounts for the guest now."""
        if self._is_busy(self.host, server_id):
            return
        try:
            self._driver.set_fence(server_id, fenced=False)
        except errors.CellcloudError as error:
            LOG.error("guest still fenced", extra={"host": self.host, "server": server_id, "why": error.message})
        except Exception:
            LOG.exception("guest still fenced", extra={"host": self.host, "server": server_id})

    def _compare_power(self, entry: ExpectedGuest, guest: GuestState | None) -> None:
        if guest is not None and guest.fenced:
            self._let_back(entry.server_id)
        if entry.running is None or _agrees(entry, guest) or self._is_busy(self.host, entry.server_id):
            return
        guest = self._driver.find_guest(entry.server_id)
        if not _agrees(entry, guest):
            self._report(
                GuestEvent(
                    host=self.host,
                    server_id=entry.server_id,
                    generation=max(guest.generation, entry.generation) if guest else entry.generation,
                    power_state=guest.power_state if guest else PowerState.NOSTATE,
                )
            )


def _agrees(entry: ExpectedGuest, guest: GuestState | None) -> bool:
    if guest is None:
        return False
    states = (PowerState.RUNNING, PowerState.PAUSED, PowerState.SUSPENDED)
    return [guest.power_state == state for state in states] == [entry.running, entry.paused, entry.suspended]
