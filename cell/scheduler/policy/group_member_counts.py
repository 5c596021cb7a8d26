"""Server groups: how many members each host has. Few hosts have any, so only these are looked at."""

from __future__ import annotations

from cell.scheduler.state.host_table import HostTable
from cellcloud.model.placement_messages import PlacedGroup


def members_at(table: HostTable, group: PlacedGroup, *, but: str = "") -> dict[int, int]:
    """Count a group's members by position, ``but`` one of them; positions without are left out."""
    counts: dict[int, int] = {}
    for server_id in {*group.members} - {but}:
        for position in table.hosts_of.get(server_id, ()):
            counts[position] = counts.get(position, 0) + 1
    return counts


def count_at(table: HostTable, group: PlacedGroup, position: int) -> int:
    """Return the number of members on one host."""
    return len(table.hosted[position].keys() & set(group.members))
