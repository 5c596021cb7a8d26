"""A host's attributes under the names that Nova's HostState gives them, for conditions that name any of them.

An attribute is a figure (it changes with each claim) or something the host reported; either way a condition is asked
once per distinct value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cell.scheduler.state.array_types import Codes
from cell.scheduler.state.host_class import text_of
from cell.scheduler.state.host_columns import Figure
from cell.scheduler.state.host_table import HostTable
from cellcloud.model.host import HostState

FIGURES = {figure.name: figure for figure in Figure if figure not in (Figure.pci_weight, Figure.hypervisor_version)}
Path = tuple[str, ...]
NOTHING = object()


def _service(state: HostState) -> dict[str, object]:
    return {"host": state.host, "disabled": not state.enabled, "binary": "nova-compute", "topic": "compute"}


_REPORTED: Mapping[str, Callable[[HostState], Any]] = {
    "host": lambda state: state.host,
    "nodename": lambda state: state.node or state.host,
    "hypervisor_hostname": lambda state: state.node or state.host,
    "uuid": lambda state: state.uuid,
    "cell_uuid": lambda state: state.cell,
    "host_ip": lambda state: state.host_ip,
    "hypervisor_type": lambda state: state.hypervisor_type,
    "hypervisor_version": lambda state: state.hypervisor_version,
    "cpu_info": lambda state: text_of(state.cpu_info),
    "supported_instances": lambda state: [list(one) for one in state.supported_instances],
    "total_usable_ram_mb": lambda state: state.memory_mb or state.capacity.get("MEMORY_MB", 0),
    "total_usable_disk_gb": lambda state: state.local_gb or state.capacity.get("DISK_GB", 0),
    "disk_mb_used": lambda state: 1024 * (state.local_gb_used or state.used.get("DISK_GB", 0)),
    "cpu_allocation_ratio": lambda state: state.cpu_allocation_ratio,
    "ram_allocation_ratio": lambda state: state.ram_allocation_ratio,
    "disk_allocation_ratio": lambda state: state.disk_allocation_ratio,
    "stats": lambda state: state.stats,
    "service": _service,
}
NAMES = frozenset([*FIGURES, *_REPORTED])


def capability(state: HostState, path: Path) -> str | None:
    """Return what a ``capabilities:`` path finds, as text: attributes first, then stats; into objects and JSON texts.

    Source: Nova's ComputeCapabilitiesFilter.
    """
    found: Any = _REPORTED[path[0]](state) if path[0] in _REPORTED else None
    if found is None:
        found = (state.stats or {}).get(path[0])
    for name in path[1:]:
        if isinstance(found, str):
            try:
                found = json.loads(found)
            except ValueError:
                return None
        found = found.get(name) if isinstance(found, dict) else None
    return None if found is None else str(found)


def variable(state: HostState, path: Path) -> object:
    """Return what a ``$name.key`` of a JSON condition finds: None when there is nothing. Source: Nova's JsonFilter."""
    found: Any = _REPORTED[path[0]](state) if path[0] in _REPORTED else None
    for name in path[1:]:
        if found is None:
            return None
        if not isinstance(found, dict):
            return NOTHING
        found = found.get(name)
    return found


def codes_of(table: HostTable, kind: str, path: Path) -> tuple[Codes, list[Any]]:
    """Return an attribute of every host as numbers into its distinct values. ``kind``: capability | variable.

    What hosts reported is kept from request to request, and follows their reports.
    """
    if len(path) == 1 and path[0] in FIGURES:
        values, codes = np.unique(table.columns.figure(FIGURES[path[0]]), return_inverse=True)
        found: list[Any] = [str(value) for value in values] if kind == "capability" else values.tolist()
        return np.asarray(codes, dtype=np.int32), found
    read = capability if kind == "capability" else variable
    return table.reported((kind, path), lambda state: read(state, path))


def value_at(table: HostTable, position: int, kind: str, path: Path) -> Any:
    """Return an attribute of one host."""
    if len(path) == 1 and path[0] in FIGURES:
        value = int(table.columns.figure(FIGURES[path[0]])[position])
        return str(value) if kind == "capability" else value
    state = table.states[position]
    return capability(state, path) if kind == "capability" else variable(state, path)
