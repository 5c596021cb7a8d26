"""After a host was down: starts the guests again that ran when it went.

Which boot of a host was seen to is kept in a file, and written once the guests of that boot run again: a service that
dies meanwhile begins anew.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from cell.compute.driver import Driver
from cellcloud import errors
from cellcloud.context import service_context
from cellcloud.model.guest_commands import ExpectedGuest
from cellcloud.rpc.conductor import Conductor
from cellcloud.server_states import PowerState

LOG = logging.getLogger(__name__)
AT_ONCE = 4  # guests started at once: more would only wait for each other's disks
OFF = (PowerState.SHUTDOWN, PowerState.CRASHED, PowerState.NOSTATE, PowerState.SUSPENDED)


class BootLog:
    """The boots whose guests were resumed, by host; one file for all hosts of a process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._boots: dict[str, str] = {}
        with suppress(FileNotFoundError, ValueError):
            self._boots = json.loads(path.read_text())

    def is_new(self, host: str, boot: str) -> bool:
        """Return whether the host has been down since its guests were last seen to."""
        return self._boots.get(host) != boot

    def note(self, boots: dict[str, str]) -> None:
        """Keep these boots as seen to."""
        if boots.items() <= self._boots.items():
            return
        self._boots |= boots
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._path.with_name(f"{self._path.name}.new")
        fresh.write_text(json.dumps(self._boots))
        os.chmod(fresh, 0o600)
        fresh.replace(self._path)


def resume_guests(host: str, driver: Driver, conductor: Conductor, *, may_act: Callable[[], bool]) -> None:
    """Start every guest that its record says runs and that is off. One that cannot be started is left for the
    reconciler to report. Raises Unreachable when the host's name is not held any more: the rest is for the next time.
    """
    guests = {guest.server_id: guest for guest in driver.list_guests()}
    if not guests:
        return
    expected = conductor.list_expected_guests(service_context(), host)
    off = [
        entry
        for entry in expected
        if entry.running and (guest := guests.get(entry.server_id)) is not None and guest.power_state in OFF
    ]

    def start(entry: ExpectedGuest) -> None:
        told = {"host": host, "server": entry.server_id}
        if not may_act():
            raise errors.Unreachable("The host's name is not held any more.")
        try:
            driver.start(entry.server_id, entry.generation)
        except errors.CellcloudError as error:
            LOG.error("guest not resumed", extra={**told, "why": error.message, "detail": error.detail})
        except Exception:
            LOG.exception("guest not resumed", extra=told)
        else:
            LOG.info("guest resumed", extra=told)

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="resume") as pool:
        list(pool.map(start, off))
