"""The hosts of a cell as numbers in columns: what choosing reads, and where choices are noted until the records say so.

A column has one element a host; amounts are int64, one row a resource class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellcloud.model.host import HostState

Amounts = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
MOST = 1 << 60  # of anything; sums of amounts stay within int64


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """``free`` is (classes, hosts): capacity with its ratio applied, less what is used. ``take`` writes to it.

    ``usable``: enabled and heard of. ``in_zone``: zone -> which hosts are in it.
    """

    hosts: tuple[str, ...]
    place_of: Mapping[str, int]
    in_zone: Mapping[str, Flags]
    usable: Flags
    classes: tuple[str, ...]
    free: Amounts

    def need(self, resources: Mapping[str, int]) -> Amounts | None:
        """What a request takes, one amount a class; None when no host could ever give it."""
        for name, amount in resources.items():
            if not 0 <= amount <= MOST or (amount and name not in self.classes):
                return None
        return np.array([resources.get(name, 0) for name in self.classes], dtype=np.int64)

    def take(self, place: int, need: Amounts) -> None:
        """Note that a host gives that much away."""
        self.free[:, place] -= need


def build(states: Sequence[HostState]) -> Snapshot:
    """Columns from records, hosts in the order of their names, so that equal records give equal columns."""
    ordered = sorted(states, key=lambda state: state.host)
    hosts = tuple(state.host for state in ordered)
    classes = tuple(sorted({name for state in ordered for name in state.capacity}))
    free = np.zeros((len(classes), len(hosts)), dtype=np.int64)
    for row, name in enumerate(classes):
        free[row] = [state.capacity.get(name, 0) - state.used.get(name, 0) for state in ordered]
    zones = np.array([state.zone for state in ordered], dtype=np.str_)
    return Snapshot(
        hosts=hosts,
        place_of={host: place for place, host in enumerate(hosts)},
        in_zone={zone: zones == zone for zone in {state.zone for state in ordered}},
        usable=np.array([state.enabled and state.up for state in ordered], dtype=np.bool_),
        classes=classes,
        free=free,
    )
