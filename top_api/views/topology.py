"""How the NUMA cells of a guest are shown."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from cellcloud.model.numa import GuestCell, GuestNuma


def show(guest: GuestNuma | None, *, threads: int, with_host: bool) -> dict[str, Any]:
    """Return the cells of a guest that has some of its own, whose cores have so many ``threads``. ``with_host``: and
    where on the host each lies."""
    cells = () if guest is None else guest.cells
    sizes = [cell.pagesize for cell in cells if cell.pagesize]
    return {"nodes": [_cell(cell, threads, with_host) for cell in cells], "pagesize_kb": sizes[-1] if sizes else None}


def _cell(cell: GuestCell, threads: int, with_host: bool) -> dict[str, Any]:
    cpus = sorted({*cell.cpuset, *cell.pcpuset})
    cores = [list(core) for _, core in groupby(cpus, key=lambda cpu: cpu // threads)]
    siblings = [core for core in cores if len(core) > 1]
    shown = {"vcpu_set": cpus, "siblings": siblings, "memory_mb": cell.memory}
    if not with_host:
        return shown
    return shown | {"host_node": cell.id, "cpu_pinning": {str(own): host for own, host in cell.cpu_pinning}}
