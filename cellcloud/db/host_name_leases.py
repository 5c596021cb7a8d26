"""Which machine a host's name belongs to: one at a time, for as long as it lives, and until its servers are gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.cell_schema import host_names, hosts, servers
from cellcloud.db.engine import utc_after, utc_now
from cellcloud.model.host import HostMachine

RIVAL_SHOWN = 300.0  # seconds for which one that was refused is told of
_ALIVE = host_names.c.held_until > utc_now()


def hold(connection: Connection, names: Sequence[str], machine: HostMachine, *, seconds: float) -> dict[str, str]:
    """Take or renew names for that long; returns those that are another's, and why.

    A name whose machine is mute goes on to the same one when it has started again or moved. To another it goes only
    when no server is on the host: those are on the machine that had it, or on what is not mounted.
    """
    mine = (
        host_names.c.host.in_(names),
        host_names.c.identity == machine.identity,
        host_names.c.place == machine.place,
    )
    renewed = connection.execute(sa.update(host_names).where(*mine).values(held_until=utc_after(seconds)))
    if renewed.rowcount == len(names):
        return {}
    query = sa.select(host_names, _ALIVE.label("alive")).where(host_names.c.host.in_(names)).order_by(host_names.c.host)
    known = {row.host: row for row in connection.execute(query.with_for_update())}
    refused: dict[str, str] = {}
    for name in sorted(names):
        row = known.get(name)
        why = "" if row is None else _why_not(connection, row, machine)
        if why:
            refused[name] = why
            _note_rival(connection, name, machine)
            continue
        values = {"identity": machine.identity, "place": machine.place, "held_until": utc_after(seconds), "rival": ""}
        if row is None:
            connection.execute(sa.insert(host_names).values(host=name, rival_at=utc_now(), **values))
        else:
            connection.execute(sa.update(host_names).where(host_names.c.host == name).values(values))
    return refused


def release(connection: Connection, name: str) -> None:
    """Let whichever machine comes next have the name. Raises NotFound; Conflict while its machine lives."""
    row = connection.execute(
        sa.select(_ALIVE.label("alive")).where(host_names.c.host == name).with_for_update()
    ).one_or_none()
    if row is None:
        raise errors.NotFound(f"No machine has had the name {name}.")
    if row.alive:
        raise errors.Conflict(f"The machine that has the name {name} lives: stop its compute service first.")
    connection.execute(sa.delete(host_names).where(host_names.c.host == name))


def list_rivals(connection: Connection) -> list[tuple[str, str]]:
    """(name, place of another machine that has lately asked for it and was refused)."""
    rows = connection.execute(
        sa.select(host_names.c.host, host_names.c.rival)
        .where(host_names.c.rival != "", host_names.c.rival_at > utc_after(-RIVAL_SHOWN))
        .order_by(host_names.c.host)
    )
    return [(row.host, row.rival) for row in rows]


def _why_not(connection: Connection, row: Any, machine: HostMachine) -> str:
    if (row.identity, row.place) == (machine.identity, machine.place):
        return ""
    if row.alive:
        return f"the name {row.host} belongs to another machine that lives ({row.place})"
    if row.identity == machine.identity:
        return ""
    held = sa.select(servers.c.id).where(servers.c.host == row.host, servers.c.deleted.is_(False)).limit(1)
    if connection.execute(held).first() is None:
        return ""
    seen = connection.execute(sa.select(hosts.c.last_seen).where(hosts.c.host == row.host)).scalar()
    when = f", last heard of at {seen:%Y-%m-%d %H:%M:%S}" if seen else ""
    return (
        f"the servers of {row.host} are on another machine ({row.place}{when}), or this one's state directory is not "
        f"mounted; 'cellctl host release {row.host}' gives the name away"
    )


def _note_rival(connection: Connection, name: str, machine: HostMachine) -> None:
    fresh = sa.and_(host_names.c.rival == machine.place, host_names.c.rival_at > utc_after(-RIVAL_SHOWN / 5))
    connection.execute(
        sa.update(host_names)
        .where(host_names.c.host == name, sa.not_(fresh))
        .values(rival=machine.place, rival_at=utc_now())
    )
