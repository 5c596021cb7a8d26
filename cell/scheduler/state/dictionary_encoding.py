"""What hosts report, as numbers into its distinct values: a condition is then asked once for each value."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from cell.scheduler.state.array_types import Codes
from cellcloud.model.host import HostState

READERS_KEPT = 64
Read = Callable[[HostState], Any]


class ReportedValues:
    """Made when they are first asked for, and kept by key while hosts report anew."""

    def __init__(self) -> None:
        self._columns: dict[Hashable, _Column] = {}

    def read(self, key: Hashable, read: Read, states: Sequence[HostState], room: int) -> tuple[Codes, list[Any]]:
        """Return what ``read`` finds in every host's report, as numbers into its distinct values, and these.

        ``room``: for how many hosts there is to be room.
        """
        found = self._columns.get(key)
        if found is None:
            if len(self._columns) >= READERS_KEPT:
                del self._columns[next(iter(self._columns))]
            found = self._columns[key] = _Column(read, np.zeros(room, dtype=np.int32))
            for position, state in enumerate(states):
                found.note(position, state)
        return found.codes[: len(states)], found.values

    def note(self, position: int, state: HostState, hosts: int) -> None:
        """Take in what a host reports, of so many hosts."""
        for key, found in list(self._columns.items()):
            found.note(position, state)
            if len(found.values) > 4 * hosts + 1024:  # values that come and go
                del self._columns[key]

    def grow(self, more: int) -> None:
        """Make room for more hosts."""
        for found in self._columns.values():
            found.codes = np.pad(found.codes, (0, more))


class _Column:
    """One thing that hosts report; values of other types are other values."""

    def __init__(self, read: Read, codes: Codes) -> None:
        self.codes = codes
        self.values: list[Any] = []
        self._read = read
        self._known: dict[tuple[str, Hashable], int] = {}

    def note(self, position: int, state: HostState) -> None:
        value = self._read(state)
        key = (type(value).__name__, value if isinstance(value, Hashable) else repr(value))
        code = self._known.setdefault(key, len(self.values))
        if code == len(self.values):
            self.values.append(value)
        self.codes[position] = code
