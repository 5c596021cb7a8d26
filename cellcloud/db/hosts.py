"""A cell's hosts and what they have to give."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.cell_schema import hosts, inventories, servers
from cellcloud.db.engine import utc_after, utc_now
from cellcloud.model import codec
from cellcloud.model.host import Host, HostFacts, HostReport, HostState


def report(connection: Connection, reports: Sequence[HostReport]) -> bool:
    """Store what hosts say of themselves; True when anything but the heartbeat changed."""
    known = {
        row.host: row
        for row in connection.execute(sa.select(hosts).where(hosts.c.host.in_([item.host for item in reports])))
    }
    stored = _stored_inventories(connection, sorted(known))
    changed = False
    for item in sorted(reports, key=lambda given: given.host):
        _check(item)
        row = known.get(item.host)
        facts = codec.to_plain(item.facts)
        zone, queue = item.zone, item.queue or item.host
        if row is None:
            connection.execute(
                sa.insert(hosts).values(
                    host=item.host,
                    id=str(uuid.uuid5(uuid.NAMESPACE_DNS, item.host)),
                    queue=queue,
                    zone=zone,
                    facts=facts,
                    created_at=utc_now(),
                    last_seen=utc_now(),
                )
            )
        elif _same(row, facts, zone, queue):
            if stored.get(item.host) == _inventory(item):
                continue
        else:
            connection.execute(
                sa.update(hosts)
                .where(hosts.c.host == item.host)
                .values(facts=facts, zone=zone, queue=queue, generation=hosts.c.generation + 1)
            )
        changed = True
        _store_inventories(connection, item)
    if known:
        connection.execute(sa.update(hosts).where(hosts.c.host.in_(sorted(known))).values(last_seen=utc_now()))
    return changed


def _check(item: HostReport) -> None:
    ratios = (item.cpu_ratio, item.memory_ratio, item.disk_ratio)
    figures = (item.facts.vcpus, item.facts.memory_mb, item.facts.disk_gb)
    if not all(math.isfinite(ratio) and 0 < ratio <= 1000 for ratio in ratios):
        raise errors.Invalid(f"Host {item.host} reports a ratio that is not between 0 and 1000.")
    if not all(0 <= figure <= 2**40 for figure in figures):
        raise errors.Invalid(f"Host {item.host} reports a capacity that cannot be.")


def _same(row: Any, facts: dict[str, Any], zone: str, queue: str) -> bool:
    ignored = {"uptime"}
    before = {name: value for name, value in row.facts.items() if name not in ignored}
    after = {name: value for name, value in facts.items() if name not in ignored}
    return before == after and row.zone == zone and row.queue == queue


def _inventory(item: HostReport) -> dict[str, tuple[int, int, float]]:
    return {
        "VCPU": (item.facts.vcpus, item.reserved_vcpus, item.cpu_ratio),
        "MEMORY_MB": (item.facts.memory_mb, item.reserved_memory_mb, item.memory_ratio),
        "DISK_GB": (item.facts.disk_gb, item.reserved_disk_gb, item.disk_ratio),
    }


def _stored_inventories(connection: Connection, names: Sequence[str]) -> dict[str, dict[str, tuple[int, int, float]]]:
    found: dict[str, dict[str, tuple[int, int, float]]] = {}
    for row in connection.execute(sa.select(inventories).where(inventories.c.host.in_(names))):
        found.setdefault(row.host, {})[row.resource_class] = (row.total, row.reserved, row.ratio)
    return found


def _store_inventories(connection: Connection, item: HostReport) -> None:
    for name, (total, reserved, ratio) in _inventory(item).items():
        values = {
            "total": total,
            "reserved": reserved,
            "ratio": ratio,
            "capacity": max(0, math.floor((total - reserved) * ratio)),
        }
        key = (inventories.c.host == item.host, inventories.c.resource_class == name)
        if connection.execute(sa.update(inventories).where(*key).values(**values)).rowcount == 0:
            connection.execute(sa.insert(inventories).values(host=item.host, resource_class=name, used=0, **values))


def _up(down_time: float) -> sa.ColumnElement[bool]:
    return sa.and_(hosts.c.forced_down.is_(False), hosts.c.last_seen > utc_after(-down_time))


def _room(connection: Connection) -> dict[str, dict[str, tuple[int, int, int]]]:
    room: dict[str, dict[str, tuple[int, int, int]]] = {}
    for row in connection.execute(sa.select(inventories)):
        room.setdefault(row.host, {})[row.resource_class] = (row.total, row.capacity, row.used)
    return room


def _guests(connection: Connection) -> dict[str, int]:
    rows = connection.execute(
        sa.select(servers.c.host, sa.func.count().label("n"))
        .where(servers.c.deleted.is_(False), servers.c.host.is_not(None))
        .group_by(servers.c.host)
    )
    return {row.host: row.n for row in rows}


def list_states(connection: Connection, *, down_time: float) -> list[HostState]:
    """Every host as the scheduler sees it, in three queries."""
    room, guests = _room(connection), _guests(connection)
    rows = connection.execute(sa.select(hosts, _up(down_time).label("up")).order_by(hosts.c.host))
    return [
        HostState(
            host=row.host,
            queue=row.queue,
            zone=row.zone,
            enabled=row.enabled,
            up=bool(row.up),
            capacity={name: figures[1] for name, figures in room.get(row.host, {}).items()},
            used={name: figures[2] for name, figures in room.get(row.host, {}).items()},
            generation=row.generation,
            traits=tuple(row.facts.get("traits", ())),
            servers=guests.get(row.host, 0),
        )
        for row in rows
    ]


def list_hosts(connection: Connection, *, down_time: float, host: str | None = None) -> list[Host]:
    """Every host with all that is known of it."""
    room, guests = _room(connection), _guests(connection)
    query = sa.select(hosts, _up(down_time).label("up")).order_by(hosts.c.host)
    rows = connection.execute(query if host is None else query.where(hosts.c.host == host))
    return [
        Host(
            id=row.id,
            host=row.host,
            queue=row.queue,
            zone=row.zone,
            facts=codec.from_plain(row.facts, HostFacts),
            enabled=row.enabled,
            disabled_reason=row.disabled_reason,
            forced_down=row.forced_down,
            up=bool(row.up),
            total={name: figures[0] for name, figures in room.get(row.host, {}).items()},
            capacity={name: figures[1] for name, figures in room.get(row.host, {}).items()},
            used={name: figures[2] for name, figures in room.get(row.host, {}).items()},
            servers=guests.get(row.host, 0),
            created_at=row.created_at,
            last_seen=row.last_seen,
        )
        for row in rows
    ]


def list_queues(connection: Connection) -> dict[str, str]:
    """Host -> server name of the compute service that answers for it."""
    return {row.host: row.queue for row in connection.execute(sa.select(hosts.c.host, hosts.c.queue))}


def list_zones(connection: Connection) -> dict[str, str]:
    """Host -> availability zone."""
    return {row.host: row.zone for row in connection.execute(sa.select(hosts.c.host, hosts.c.zone))}


def is_up(connection: Connection, host: str, *, down_time: float) -> bool:
    """Whether the host has reported lately and nobody forced it down."""
    return bool(connection.execute(sa.select(_up(down_time)).select_from(hosts).where(hosts.c.host == host)).scalar())


def set_state(
    connection: Connection,
    host: str,
    *,
    enabled: bool | None,
    disabled_reason: str | None,
    forced_down: bool | None,
) -> None:
    """Raises NotFound. None leaves a value; enabling clears the reason."""
    values: dict[str, Any] = {"generation": hosts.c.generation + 1}
    if enabled is not None:
        values |= {"enabled": enabled, "disabled_reason": None if enabled else disabled_reason}
    if forced_down is not None:
        values["forced_down"] = forced_down
    if connection.execute(sa.update(hosts).where(hosts.c.host == host).values(**values)).rowcount == 0:
        raise errors.NotFound(f"Compute host {host} could not be found.")
