"""Compares the guests a host holds with those the cell's records give it, and corrects the host.

A guest is destroyed when its record says that it is deleted or lives elsewhere, and when two looks running found no
record of it at all. Power states that differ are only reported: what to do about them is the conductor's decision.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from cell.compute.driver import Driver
from cellcloud import errors
from cellcloud.context import service_context
from cellcloud.lifecycle import PowerState
from cellcloud.model.guest import ExpectedGuest, GuestEvent, GuestState
from cellcloud.model.server import ServerRecord
from cellcloud.rpc.conductor import Conductor

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
        self._host = host
        self._driver = driver
        self._conductor = conductor
        self._is_busy = is_busy
        self._report = report
        self._unknown: set[str] = set()

    def has_guests(self) -> bool:
        """Whether the host holds any guest at all."""
        return bool(self._driver.list_guests())

    def compare(self) -> None:
        """Look once. The guests are listed before the records are read, so none can be too new for its record."""
        context = service_context()
        guests = {guest.server_id: guest for guest in self._driver.list_guests()}
        expected = {entry.server_id: entry for entry in self._conductor.list_expected_guests(context, self._host)}
        strangers = [guest for server_id, guest in guests.items() if server_id not in expected]
        records: dict[str, ServerRecord] = {}
        if strangers:
            found = self._conductor.get_servers(context, [guest.server_id for guest in strangers])
            records = {record.id: record for record in found}
        unknown = {guest.server_id for guest in strangers if guest.server_id not in records}
        for guest in strangers:
            self._judge(guest, records.get(guest.server_id))
        self._unknown = unknown
        for entry in expected.values():
            self._compare_power(entry, guests.get(entry.server_id))

    def _judge(self, guest: GuestState, record: ServerRecord | None) -> None:
        if record is not None:
            left = record.deleted or (record.host != self._host and record.task_state is None)
            if left and record.generation >= guest.generation:
                self._remove(guest, record.generation, "deleted" if record.deleted else "not on this host")
        elif guest.server_id in self._unknown:
            self._remove(guest, guest.generation, "unknown")
        else:
            LOG.warning("guest without a record", extra={"host": self._host, "server": guest.server_id})

    def _remove(self, guest: GuestState, generation: int, why: str) -> None:
        if self._is_busy(self._host, guest.server_id):
            return
        LOG.warning("guest removed", extra={"host": self._host, "server": guest.server_id, "why": why})
        try:
            self._driver.destroy(guest.server_id, generation)
        except errors.CellcloudError as error:
            LOG.error("guest not removed", extra={"server": guest.server_id, "why": error.message})

    def _compare_power(self, entry: ExpectedGuest, guest: GuestState | None) -> None:
        if entry.running is None or _agrees(entry, guest) or self._is_busy(self._host, entry.server_id):
            return
        guest = self._driver.find_guest(entry.server_id)
        if not _agrees(entry, guest):
            self._report(
                GuestEvent(
                    host=self._host,
                    server_id=entry.server_id,
                    generation=max(guest.generation, entry.generation) if guest else entry.generation,
                    power_state=guest.power_state if guest else PowerState.NOSTATE,
                )
            )


def _agrees(entry: ExpectedGuest, guest: GuestState | None) -> bool:
    return guest is not None and (guest.power_state == PowerState.RUNNING) == entry.running
