"""Which hosts changed lately, so that an index over them can follow."""

from __future__ import annotations

from collections.abc import Sequence


class ChangedHosts:
    """The positions that changed, the latest last; of those long ago only how many there were."""

    def __init__(self) -> None:
        self._forgotten = 0
        self._positions: list[int] = []

    @property
    def count(self) -> int:
        """How many changes of hosts there were."""
        return self._forgotten + len(self._positions)

    def since(self, count: int) -> set[int] | None:
        """Return the positions that changed after so many changes; None when that is too long ago to say."""
        return None if count < self._forgotten else set(self._positions[count - self._forgotten :])

    def note(self, positions: Sequence[int], hosts: int) -> None:
        """Note that these hosts, of so many, changed."""
        if len(self._positions) > 4 * hosts + 4096:
            self._forgotten += len(self._positions)
            self._positions.clear()
        self._positions.extend(positions)

    def copy(self) -> ChangedHosts:
        """Copy them: what changes in one does not in the other."""
        found = ChangedHosts()
        found._forgotten, found._positions = self._forgotten, self._positions.copy()
        return found
