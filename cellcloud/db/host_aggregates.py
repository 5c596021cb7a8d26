"""A cell's copy of the host aggregates, pushed down from where administrators make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db import hosts, scheduler_change_log
from cellcloud.db.cell_schema import aggregates_version, host_aggregates
from cellcloud.db.engine import racing, utc_now
from cellcloud.model import codec
from cellcloud.model.change_log import AggregateChange, Changes
from cellcloud.model.host import Aggregate


def list_all(connection: Connection) -> list[Aggregate]:
    """By id."""
    rows = connection.execute(sa.select(host_aggregates).order_by(host_aggregates.c.id))
    return [codec.from_plain(row.aggregate, Aggregate) for row in rows]


def store(connection: Connection, given: Sequence[Aggregate], removed: Sequence[int], *, version: int) -> None:
    """Set aggregates and forget the removed ones, with what that makes of their hosts' zones, and log it.

    Nothing changes when a newer version has been stored. Version 0: one above the newest. Raises LostRace.
    """
    newest = _lock_version(connection)
    version = version or newest + 1
    if version < newest:
        return
    if version > newest:
        connection.execute(sa.update(aggregates_version).values(value=version))
    known = {
        row.id: row
        for row in connection.execute(sa.select(host_aggregates).order_by(host_aggregates.c.id).with_for_update())
    }
    made = [_put(connection, each, known.get(each.id), version) for each in given]
    made += [_drop(connection, known[number]) for number in removed if number in known]
    changed = [change for change in made if change.before != change.after]
    if not changed:
        return
    touched = {host for change in changed for side in (change.before, change.after) if side for host in side.hosts}
    hosts.lock(connection, sorted(touched))  # before the aggregates are read again: others may just have named them
    moved = hosts.set_zones(connection, sorted(touched), list_all(connection))
    scheduler_change_log.append(connection, Changes(aggregates=tuple(changed), hosts=tuple(moved)))


def _lock_version(connection: Connection) -> int:
    found = connection.execute(sa.select(aggregates_version.c.value).with_for_update()).scalar_one_or_none()
    if found is None:
        with racing():
            connection.execute(sa.insert(aggregates_version).values(id=1, value=0))
    return found or 0


def _put(connection: Connection, aggregate: Aggregate, row: Any, version: int) -> AggregateChange:
    values = {"version": version, "aggregate": codec.to_plain(aggregate), "updated_at": utc_now()}
    if row is None:
        with racing():
            connection.execute(sa.insert(host_aggregates).values(id=aggregate.id, **values))
        return AggregateChange(after=aggregate)
    connection.execute(sa.update(host_aggregates).where(host_aggregates.c.id == aggregate.id).values(values))
    return AggregateChange(before=codec.from_plain(row.aggregate, Aggregate), after=aggregate)


def _drop(connection: Connection, row: Any) -> AggregateChange:
    connection.execute(sa.delete(host_aggregates).where(host_aggregates.c.id == row.id))
    return AggregateChange(before=codec.from_plain(row.aggregate, Aggregate))
