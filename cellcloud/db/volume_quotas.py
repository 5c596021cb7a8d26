"""What a project has of the embedded volume service: a counter each, moved by conditional updates in the transaction
that changes it. A project's own limit stands beside its counter, a class's in the row of ``class:NAME``."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.engine import racing
from cellcloud.db.volume_schema import volume_snapshots, volume_tasks, volume_types, volume_usages, volumes

UNLIMITED = -1
DEFAULTS: Mapping[str, int] = {
    "volumes": 10,
    "snapshots": 10,
    "gigabytes": 1000,
    "per_volume_gigabytes": UNLIMITED,
    "backups": 10,
    "backup_gigabytes": 1000,
    "groups": 10,
}
"""Cinder's."""
COUNTED = ("volumes", "snapshots", "gigabytes")
_CLASS = "class:"
DEFAULT_CLASS = "default"


def of_type(resource: str, type_name: str) -> str:
    """Return the resource of a type's own limit."""
    return f"{resource}_{type_name}"


def amounts(type_name: str, **counted: int) -> dict[str, int]:
    """Return what is counted, in all and of the type."""
    return {**counted, **{of_type(name, type_name): amount for name, amount in counted.items()}}


def list_limits(c: Connection, project_id: str, names: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Resource -> (limit, used) of a project. ``names``: every resource with its default."""
    rows = c.execute(sa.select(volume_usages).where(volume_usages.c.project_id.in_([project_id, _class_row()])))
    own: dict[str, tuple[int | None, int]] = {}
    defaults = dict(names)
    for row in rows:
        if row.project_id == project_id:
            own[row.resource] = (row.hard_limit, row.used)
        elif row.hard_limit is not None and row.resource in defaults:
            defaults[row.resource] = row.hard_limit
    return {
        name: (default if own.get(name, (None, 0))[0] is None else int(own[name][0] or 0), own.get(name, (None, 0))[1])
        for name, default in defaults.items()
    }


def list_class(c: Connection, class_name: str) -> dict[str, int]:
    """Resource -> limit of a class, as far as it was set."""
    mine = volume_usages.c.project_id == _class_row(class_name)
    rows = c.execute(sa.select(volume_usages).where(mine, volume_usages.c.hard_limit.is_not(None)))
    return {row.resource: row.hard_limit for row in rows}


def reserve(c: Connection, project_id: str, wanted: Mapping[str, int], names: Mapping[str, int]) -> None:
    """Count up everything, if each stays within its limit. Raises QuotaExceeded; the caller rolls back."""
    limits = list_limits(c, project_id, names)
    for name in sorted(wanted):
        limit, amount = limits.get(name, (UNLIMITED, 0))[0], wanted[name]
        if not _count_up(c, project_id, name, amount, limit):
            used = list_limits(c, project_id, names)[name][1]
            raise errors.QuotaExceeded(_words(name, amount, limit, used))


def release(c: Connection, project_id: str, given_back: Mapping[str, int]) -> None:
    """Count down."""
    for name in sorted(given_back):
        mine = (volume_usages.c.project_id == project_id, volume_usages.c.resource == name)
        c.execute(sa.update(volume_usages).where(*mine).values(used=volume_usages.c.used - given_back[name]))


def set_limits(c: Connection, project_id: str, limits: Mapping[str, int | None]) -> None:
    """Give a project limits of its own; None: the default again."""
    for name, limit in sorted(limits.items()):
        _begin(c, project_id, name)
        mine = (volume_usages.c.project_id == project_id, volume_usages.c.resource == name)
        c.execute(sa.update(volume_usages).where(*mine).values(hard_limit=limit))


def set_class_limits(c: Connection, class_name: str, limits: Mapping[str, int]) -> None:
    """Give a class its limits."""
    set_limits(c, _class_row(class_name), limits)


def reset_limits(c: Connection, project_id: str) -> None:
    """Give a project the default limits again."""
    c.execute(sa.update(volume_usages).where(volume_usages.c.project_id == project_id).values(hard_limit=None))


def recount(c: Connection) -> list[tuple[str, str, int, int]]:
    """(project, resource, counted, what there is) of every counter that is wrong."""
    actual = _actual(c)
    rows = c.execute(sa.select(volume_usages))
    found = [(row.project_id, row.resource, row.used, actual.get((row.project_id, row.resource), 0)) for row in rows]
    return sorted(each for each in found if each[2] != each[3])


def mend(c: Connection, project_id: str, resource: str) -> None:
    """Let a counter be what there is: whoever changes that waits for it."""
    mine = (volume_usages.c.project_id == project_id, volume_usages.c.resource == resource)
    c.execute(sa.update(volume_usages).where(*mine).values(used=volume_usages.c.used))
    used = _actual(c).get((project_id, resource), 0)
    c.execute(sa.update(volume_usages).where(*mine).values(used=used))


def _actual(c: Connection) -> dict[tuple[str, str], int]:
    """(project, resource) -> what there is. What grows counts for what it becomes."""
    found: dict[tuple[str, str], int] = {}
    growing = {
        row.volume_id: int(row.task["size"])
        for row in c.execute(sa.select(volume_tasks.c.volume_id, volume_tasks.c.task))
        if row.task["kind"] == "extend"
    }
    for table, name in ((volumes, "volumes"), (volume_snapshots, "snapshots")):
        query = sa.select(table.c.id, table.c.project_id, table.c.size, volume_types.c.name.label("type"))
        for row in c.execute(query.join(volume_types, volume_types.c.id == table.c.type_id)):
            size = growing.get(row.id, row.size)
            for resource, amount in amounts(row.type, **{name: 1, "gigabytes": size}).items():
                key = (row.project_id, resource)
                found[key] = found.get(key, 0) + amount
    return found


def _count_up(c: Connection, project_id: str, name: str, amount: int, limit: int) -> bool:
    mine = (volume_usages.c.project_id == project_id, volume_usages.c.resource == name)
    own = sa.func.coalesce(volume_usages.c.hard_limit, limit)
    fits = sa.or_(own == UNLIMITED, volume_usages.c.used + amount <= own)
    query = sa.update(volume_usages).where(*mine, fits).values(used=volume_usages.c.used + amount)
    if c.execute(query).rowcount:
        return True
    _begin(c, project_id, name)  # or somebody else has just begun
    return c.execute(query).rowcount > 0


def _begin(c: Connection, project_id: str, name: str) -> None:
    mine = (volume_usages.c.project_id == project_id, volume_usages.c.resource == name)
    if c.execute(sa.select(volume_usages.c.used).where(*mine)).first() is None:
        with racing():
            c.execute(sa.insert(volume_usages).values(project_id=project_id, resource=name, used=0))


def _class_row(class_name: str = DEFAULT_CLASS) -> str:
    return f"{_CLASS}{class_name}"


def _words(name: str, amount: int, limit: int, used: int) -> str:
    """Say as Cinder does which limit would be exceeded."""
    if name.startswith("gigabytes"):
        return (
            f"VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed {name} quota. Requested "
            f"{amount}G, quota is {limit}G and {used}G has been consumed."
        )
    if name.startswith("snapshots"):
        return f"SnapshotLimitExceeded: Maximum number of snapshots allowed ({limit}) exceeded"
    return f"VolumeLimitExceeded: Maximum number of volumes allowed ({limit}) exceeded for quota '{name}'."
