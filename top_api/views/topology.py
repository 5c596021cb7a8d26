"""How the NUMA cells of a guest are shown."""

from __future__ import annotations

from typing import Any

from cellcloud.model.numa import GuestCell, GuestNuma


def show(guest: GuestNuma | None, *, with_host: bool) -> dict[str, Any]:
    """Return the cells of a guest that has some of its own. ``with_host``: and where on the host each lies."""
    cells = () if guest is None else guest.cells
    sizes = [cell.pagesize for cell in cells if cell.pagesize]
    return {"nodes": [_cell(cell, with_host) for cell in cells], "pagesize_kb": sizes[-1] if sizes else None}


def _cell(cell: GuestCell, with_host: bool) -> dict[str, Any]:
    shown = {"vcpu_set": sorted({*cell.cpuset, *cell.pcpuset}), "siblings": [], "memory_mb": cell.memory}
    if not with_host:
        return shown
    return shown | {"host_node": cell.id, "cpu_pinning": {str(own): host for own, host in cell.cpu_pinning}}
