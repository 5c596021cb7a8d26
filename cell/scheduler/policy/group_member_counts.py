"""Server groups: how many members each host has. Few hosts have any, so only these are looked at."""

from __future__ import annotations

from collections.abc import Collection

from cell.scheduler.state.host_table import HostTable
from cellcloud import errors
from cellcloud.model.placement_messages import PlacedGroup
from cellcloud.model.server_group import RULES


def members_at(table: HostTable, group: PlacedGroup, *, but: str = "") -> dict[int, int]:
    """Count a group's members by position, ``but`` one of them; positions without are left out."""
    counts: dict[int, int] = {}
    for server_id in {*group.members} - {but}:
        for position in table.hosts_of.get(server_id, ()):
            counts[position] = counts.get(position, 0) + 1
    return counts


def check_obeyed(group: PlacedGroup | None, filters: Collection[str]) -> None:
    """Raise Invalid for a strict group that no filter of a policy sees to."""
    rule = None if group is None else RULES.get(group.policy)
    if rule is not None and rule not in filters:
        raise errors.Invalid(f"The server group is not obeyed here: the policy has no {rule}.")


def count_at(table: HostTable, group: PlacedGroup, position: int) -> int:
    """Return the number of members on one host."""
    return len(table.hosted[position].keys() & set(group.members))
