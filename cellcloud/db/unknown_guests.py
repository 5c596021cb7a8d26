"""Guests that hosts hold and no record accounts for, as the hosts last told of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.cell_schema import unknown_guests
from cellcloud.db.engine import utc_now
from cellcloud.model.observed_guests import GuestState, UnknownGuest

LONGEST_REASON = 255


def list_all(connection: Connection, host: str | None = None) -> list[UnknownGuest]:
    """Of one host, or of all."""
    query = sa.select(unknown_guests).order_by(unknown_guests.c.host, unknown_guests.c.server_id)
    rows = connection.execute(query if host is None else query.where(unknown_guests.c.host == host))
    return [UnknownGuest(**row._mapping) for row in rows]


def get(connection: Connection, host: str, server_id: str) -> UnknownGuest:
    """Return what is known of a guest without a record. Raises NotFound."""
    for guest in list_all(connection, host):
        if guest.server_id == server_id:
            return guest
    raise errors.NotFound(f"Host {host} has told of no unknown guest {server_id}.")


def replace(
    connection: Connection, host: str, seen: Mapping[str, tuple[GuestState, str]], known: Sequence[UnknownGuest]
) -> None:
    """Make the host's list what it has told now: guest and reason by server id. An operator's wish to remove one
    stays for as long as the guest does. ``known``: the list as it was read."""
    before = {guest.server_id: guest for guest in known}
    gone = sorted(before.keys() - seen.keys())
    if gone:
        connection.execute(sa.delete(unknown_guests).where(_of(host), unknown_guests.c.server_id.in_(gone)))
    for server_id, (guest, reason) in sorted(seen.items()):
        values = {
            "generation": guest.generation,
            "power_state": guest.power_state,
            "project_id": guest.project_id,
            "reason": reason[:LONGEST_REASON],
        }
        changed = connection.execute(
            sa.update(unknown_guests).where(_of(host), unknown_guests.c.server_id == server_id).values(values)
        )
        if changed.rowcount == 0:
            new = {"host": host, "server_id": server_id, "removal": False, "first_seen": utc_now()}
            connection.execute(sa.insert(unknown_guests).values(new | values))


def ask_removal(connection: Connection, host: str, server_id: str) -> None:
    """Note that an operator wants the guest gone. Raises NotFound."""
    changed = connection.execute(
        sa.update(unknown_guests).where(_of(host), unknown_guests.c.server_id == server_id).values(removal=True)
    )
    if changed.rowcount == 0:
        raise errors.NotFound(f"Host {host} has told of no unknown guest {server_id}.")


def forget(connection: Connection, host: str, server_id: str) -> None:
    """Forget a guest that has a record now."""
    connection.execute(sa.delete(unknown_guests).where(_of(host), unknown_guests.c.server_id == server_id))


def _of(host: str) -> sa.ColumnElement[bool]:
    return unknown_guests.c.host == host
