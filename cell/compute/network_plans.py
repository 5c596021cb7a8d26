"""The plans of networks that a host holds, in memory and in one file, so that it needs nobody to make them so again."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from cellcloud import errors
from cellcloud.model import codec
from cellcloud.model.network_plan import NetworkPlans, PlanChanges

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
