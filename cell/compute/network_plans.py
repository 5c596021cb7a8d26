"""The plans of networks that a host holds, in memory and in one file, so that it needs nobody to make them so again;
and how its cell keeps them up to date."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from cell.compute.driver import Driver
from cellcloud import errors
from cellcloud.context import service_context
from cellcloud.model import codec
from cellcloud.model.network_plan import GivenPlan, NetworkPlans, PlanChanges, make_changes
from cellcloud.rpc.network_store import NetworkStore

MOST_FAULTS = 100  # of a host that are told at once
LOG = logging.getLogger(__name__)


class PlanStore:
    """Safe to use from several threads. A file that cannot be read is as none: the cell gives what lacks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._plans: NetworkPlans | None = None

    def get(self) -> NetworkPlans:
        """Return what is held."""
        with self._lock:
            return self._read()

    def change(self, changes: PlanChanges) -> None:
        """Take up new documents and drop others; what is older than what is held is left alone."""
        with self._lock:
            self._plans = self._read().changed(changes)
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = self._path.with_suffix(".new")
            fresh.write_bytes(codec.pack(self._plans))
            fresh.replace(self._path)

    def _read(self) -> NetworkPlans:
        if self._plans is None:
            try:
                self._plans = codec.unpack(self._path.read_bytes(), NetworkPlans)
            except FileNotFoundError:
                self._plans = NetworkPlans()
            except errors.Invalid as error:
                LOG.error("the plans of networks cannot be read", extra={"why": error.detail})
                self._plans = NetworkPlans(known=True)
        return self._plans


class PlanKeeper:
    """Gives drivers their plans: those that the cell tells, and at each look those that they lack."""

    def __init__(self, store: NetworkStore, drivers: Mapping[str, Driver]) -> None:
        self._store = store
        self._drivers = drivers

    def change(self, hosts: Sequence[str], plans: Sequence[GivenPlan], removed: Mapping[str, Sequence[str]]) -> None:
        """Take up what the cell tells."""
        for host in hosts:
            mine = [one for one in plans if host in one.hosts]
            gone = removed.get(host, ())
            if host in self._drivers and (mine or gone):
                self._apply(host, make_changes(mine, gone))

    def compare(self, host: str) -> None:
        """Ask for what a host lacks until it lacks nothing. Of many hosts of one process those are left out that have
        nothing to do with networks."""
        driver = self._drivers[host]
        while True:
            try:
                held = driver.list_plans()
                if len(self._drivers) > 1 and not held and not driver.list_guests():
                    return
                changes = self._store.compare_plans(service_context(), host, held)
            except errors.CellcloudError as error:
                LOG.warning("plans of networks not compared", extra={"host": host, "why": error.message})
                return
            if changes is None or not self._apply(host, changes):
                return
            if not (changes.networks or changes.groups or changes.routers):
                return

    def list_faults(self, host: str) -> list[str]:
        """Return in words which plans a host has not as its cell keeps them, and where it is not as they say."""
        driver = self._drivers[host]
        changes = self._store.compare_plans(service_context(), host, driver.list_plans())
        lacking = NetworkPlans().changed(changes or PlanChanges()).versions()
        found = [f"the host has an older plan of {key}, or none" for key in sorted(lacking)]
        found += [f"the host has a plan of {key}, which it should not" for key in (changes.removed if changes else ())]
        try:
            found += driver.list_network_faults()
        except errors.HostRefused as error:
            found.append(f"its networks cannot be looked at: {error.message} {error.detail}".strip())
        return found[:MOST_FAULTS]

    def _apply(self, host: str, changes: PlanChanges) -> bool:
        try:
            self._drivers[host].change_plans(changes)
        except errors.CellcloudError as error:
            LOG.warning("networks not as planned", extra={"host": host, "why": error.message, "detail": error.detail})
            return False
        return True
