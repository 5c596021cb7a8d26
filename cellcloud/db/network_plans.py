"""The plans of networks that a cell was given, and which of its hosts hold each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.cell_schema import hosts, network_plan_hosts, network_plans
from cellcloud.db.engine import racing, utc_now
from cellcloud.model import codec
from cellcloud.model.network_plan import GivenPlan, HostEndpoint, PlanVersion

GIVEN = "given"  # the key of the row that says that plans are given at all


def store(connection: Connection, given: Sequence[GivenPlan], removed: Sequence[str]) -> dict[str, set[str]]:
    """Keep documents for their hosts and drop others; an older one than is kept is left alone. Return for each host the
    keys of what has changed for it. Raises LostRace."""
    known = _lock(connection, [GIVEN, *(one.key for one in given), *removed])
    before = _hosts_of(connection, known.keys())
    if GIVEN not in known:
        _insert(connection, GIVEN, 0, b"")
    touched: dict[str, set[str]] = {}
    for one in given:
        if one.key in known and known[one.key] > one.version:
            continue
        values = {"version": one.version, "document": codec.pack(one), "updated_at": utc_now()}
        if one.key in known:
            connection.execute(sa.update(network_plans).where(network_plans.c.key == one.key).values(values))
        else:
            _insert(connection, one.key, one.version, codec.pack(one))
        _place(connection, one.key, before.get(one.key, set()), set(one.hosts))
        for host in before.get(one.key, set()) | set(one.hosts):
            touched.setdefault(host, set()).add(one.key)
    for key in removed:
        for host in before.get(key, ()):
            touched.setdefault(host, set()).add(key)
    if removed:
        connection.execute(sa.delete(network_plan_hosts).where(network_plan_hosts.c.key.in_(removed)))
        connection.execute(sa.delete(network_plans).where(network_plans.c.key.in_(removed)))
    return touched


def is_given(connection: Connection) -> bool:
    """Return whether the cell is given plans at all."""
    return connection.execute(sa.select(network_plans.c.key).where(network_plans.c.key == GIVEN)).first() is not None


def list_versions(connection: Connection) -> list[PlanVersion]:
    """Return what is kept, for which hosts, by key."""
    placed = _hosts_of(connection, None)
    rows = connection.execute(sa.select(network_plans.c.key, network_plans.c.version).order_by(network_plans.c.key))
    return [
        PlanVersion(key=row.key, version=row.version, hosts=" ".join(sorted(placed.get(row.key, ()))))
        for row in rows
        if row.key != GIVEN
    ]


def list_versions_of(connection: Connection, host: str) -> dict[str, int]:
    """Return the versions of what a host is to hold, by key."""
    mine = network_plan_hosts.c.key == network_plans.c.key
    query = sa.select(network_plans.c.key, network_plans.c.version).join(network_plan_hosts, mine)
    return dict(connection.execute(query.where(network_plan_hosts.c.host == host)).all())


def find(connection: Connection, keys: Iterable[str]) -> list[GivenPlan]:
    """Return documents, by key; unknown ones are left out."""
    query = sa.select(network_plans.c.document).where(network_plans.c.key.in_(sorted(keys)))
    return [codec.unpack(row.document, GivenPlan) for row in connection.execute(query.order_by(network_plans.c.key))]


def list_endpoints(connection: Connection) -> list[HostEndpoint]:
    """Return where each host takes packets of networks, by host."""
    query = sa.select(hosts.c.host, hosts.c.facts, hosts.c.forced_down).order_by(hosts.c.host)
    return [
        HostEndpoint(
            host=row.host,
            address=str(row.facts.get("tunnel_address") or row.facts.get("host_ip") or ""),
            external=bool(row.facts.get("external_networks")),
            gone=row.forced_down,
        )
        for row in connection.execute(query)
    ]


def _lock(connection: Connection, keys: Collection[str]) -> dict[str, int]:
    query = sa.select(network_plans.c.key, network_plans.c.version).where(network_plans.c.key.in_(sorted(set(keys))))
    return dict(connection.execute(query.order_by(network_plans.c.key).with_for_update()).all())


def _insert(connection: Connection, key: str, version: int, document: bytes) -> None:
    values: dict[str, Any] = {"key": key, "version": version, "document": document, "updated_at": utc_now()}
    with racing():
        connection.execute(sa.insert(network_plans).values(values))


def _hosts_of(connection: Connection, keys: Collection[str] | None) -> dict[str, set[str]]:
    query = sa.select(network_plan_hosts)
    if keys is not None:
        query = query.where(network_plan_hosts.c.key.in_(sorted(keys)))
    found: dict[str, set[str]] = {}
    for row in connection.execute(query):
        found.setdefault(row.key, set()).add(row.host)
    return found


def _place(connection: Connection, key: str, before: set[str], after: set[str]) -> None:
    table = network_plan_hosts
    if gone := before - after:
        connection.execute(sa.delete(table).where(table.c.key == key, table.c.host.in_(sorted(gone))))
    if more := after - before:
        with racing():
            connection.execute(sa.insert(table), [{"key": key, "host": host} for host in sorted(more)])
