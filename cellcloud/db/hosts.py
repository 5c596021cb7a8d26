"""A cell's hosts and what they have to give."""

from __future__ import annotations

import functools
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db import bulk, failure_detector_grace_period, runs, scheduler_change_log
from cellcloud.db.cell_schema import (
    claims,
    host_aggregates,
    host_names,
    hosts,
    image_cachings,
    inventories,
    network_plan_hosts,
    servers,
    unknown_guests,
)
from cellcloud.db.engine import utc_after, utc_now
from cellcloud.model import codec
from cellcloud.model.change_log import Changes, HostChange
from cellcloud.model.host import Aggregate, Host, HostedServer, HostFacts, HostReport, HostState, Room
from cellcloud.model.host_report_validation import LONGEST_NAME, find_report_defect
from cellcloud.model.numa import Placed

NOTHING_KNOWN = HostFacts(
    hypervisor_hostname="", hypervisor_type="", hypervisor_version=0, host_ip="", vcpus=0, memory_mb=0, disk_gb=0
)
_FACTS = msgspec.json.Decoder(HostFacts)
_BY_NAME = sa.select(hosts).where(hosts.c.host.in_(sa.bindparam("names", expanding=True)))
_ALL_INVENTORIES = sa.select(
    inventories.c.host,
    inventories.c.resource_class,
    inventories.c.total,
    inventories.c.reserved,
    inventories.c.ratio,
    inventories.c.used,
)
_ALL_CLAIMS = sa.select(claims.c.id, claims.c.server_id, claims.c.host, claims.c.holding)


def report(connection: Connection, reports: Sequence[HostReport]) -> bool:
    """Store what hosts say of themselves; True when anything but the heartbeat changed, which the log then has.

    What cannot be true is not stored: the host keeps what it said before and is put into quarantine, with the reason,
    until it says better. The other reports are not concerned.
    """
    last = {item.host: item for item in reports if 0 < len(item.host) <= LONGEST_NAME}
    known = {row.host: row for row in connection.execute(_BY_NAME, {"names": sorted(last)})}
    stored = _stored_inventories(connection, sorted(known))
    rivals = _list_rivals(connection, list(last.values()))
    troubles = {host: find_report_defect(item) or _second_name(item, rivals) for host, item in last.items()}
    news = [
        item
        for host, item in sorted(last.items())
        if host not in known or _differs(known[host], stored.get(host, {}), item, troubles[host])
    ]
    if known:
        connection.execute(sa.update(hosts).where(hosts.c.host.in_(sorted(known))).values(last_seen=utc_now()))
    if not news:
        return False
    names = [item.host for item in news]
    before = _static_states(connection, names, lock=True)
    for item in news:
        _store(connection, item, troubles[item.host], is_new=item.host not in before)
    found = list(aggregates_of(connection))
    _set_zones(connection, names, found)
    after = _static_states(connection, names)
    runs.wake_on(connection, [host for host in names if after[host].up and host in before and not before[host].up])
    scheduler_change_log.append(connection, Changes(hosts=_differences(before, after)))
    return True


def _list_rivals(connection: Connection, reports: Sequence[HostReport]) -> dict[str, list[str]]:
    """Machine -> the names it is known by already, and those it takes in these reports, the oldest first."""
    machines = sorted({item.facts.hypervisor_hostname for item in reports})
    rows = connection.execute(
        sa.select(hosts.c.host, hosts.c.machine)
        .where(hosts.c.machine.in_(machines), hosts.c.trouble == "", _is_alive_or_used())
        .order_by(hosts.c.created_at, hosts.c.host)
    )
    names: dict[str, list[str]] = {}
    for row in rows:
        names.setdefault(row.machine, []).append(row.host)
    for item in sorted(reports, key=lambda each: each.host):
        taken = names.setdefault(item.facts.hypervisor_hostname, [])
        if item.host not in taken:
            taken.append(item.host)
    return names


def _is_alive_or_used() -> sa.ColumnElement[bool]:
    guests = sa.select(servers.c.id).where(servers.c.host == hosts.c.host, servers.c.deleted.is_(False))
    return sa.or_(hosts.c.up, guests.exists())


def _second_name(item: HostReport, rivals: dict[str, list[str]]) -> str:
    machine = item.facts.hypervisor_hostname
    first = rivals[machine][0] if machine else item.host
    return "" if first == item.host else f"it is the machine {machine}, which is known as host {first}"


def _differs(row: Any, stored: dict[str, tuple[int, int, float]], item: HostReport, trouble: str) -> bool:
    if row.trouble != trouble or row.up == row.forced_down:
        return True
    if trouble:
        return False
    known: HostFacts = codec.from_plain(row.facts, HostFacts)
    same = replace(known, uptime="") == replace(item.facts, uptime="")
    same = same and (row.own_zone, row.queue) == (item.zone, item.queue or item.host)
    return not same or {name: given for name, given in stored.items() if any(given)} != item.inventory


def _store(connection: Connection, item: HostReport, trouble: str, *, is_new: bool) -> None:
    values: dict[str, Any] = {"trouble": trouble, "queue": item.queue or item.host}
    if not trouble or is_new:
        facts = NOTHING_KNOWN if trouble else item.facts
        machine = item.facts.hypervisor_hostname[:LONGEST_NAME]
        values |= {"facts": codec.to_plain(facts), "own_zone": item.zone, "zone": item.zone, "machine": machine}
    if is_new:
        own_id = str(uuid.uuid5(uuid.NAMESPACE_DNS, item.host))
        values |= {"host": item.host, "id": own_id, "up": True, "created_at": utc_now(), "last_seen": utc_now()}
        connection.execute(sa.insert(hosts).values(values))
    else:
        up = sa.not_(hosts.c.forced_down)
        values |= {"up": up, "last_seen": utc_now(), "generation": hosts.c.generation + 1}
        connection.execute(sa.update(hosts).where(hosts.c.host == item.host).values(values))
    if not trouble:
        _store_inventories(connection, item, is_new=is_new)


def _stored_inventories(connection: Connection, names: Sequence[str]) -> dict[str, dict[str, tuple[int, int, float]]]:
    found: dict[str, dict[str, tuple[int, int, float]]] = {}
    for row in connection.execute(sa.select(inventories).where(inventories.c.host.in_(names))):
        found.setdefault(row.host, {})[row.resource_class] = (row.total, row.reserved, row.ratio)
    return found


def _store_inventories(connection: Connection, item: HostReport, *, is_new: bool) -> None:
    found = item.inventory
    if is_new:
        rows = [
            (item.host, name, total, kept, ratio, max(0, math.floor((total - kept) * ratio)), 0)
            for name, (total, kept, ratio) in sorted(found.items())
        ]
        columns = ("host", "resource_class", "total", "reserved", "ratio", "capacity", "used")
        bulk.insert(connection, inventories, columns, rows)
        return
    gone = sa.and_(inventories.c.host == item.host, inventories.c.resource_class.not_in(sorted(found)))
    connection.execute(sa.update(inventories).where(gone).values(total=0, reserved=0, capacity=0))
    for name, (total, reserved, ratio) in sorted(found.items()):
        values = {
            "total": total,
            "reserved": reserved,
            "ratio": ratio,
            "capacity": max(0, math.floor((total - reserved) * ratio)),
        }
        key = (inventories.c.host == item.host, inventories.c.resource_class == name)
        if connection.execute(sa.update(inventories).where(*key).values(**values)).rowcount == 0:
            connection.execute(sa.insert(inventories).values(host=item.host, resource_class=name, used=0, **values))


def is_judged(connection: Connection, *, down_time: float) -> bool:
    """Return whether judging the hosts would change nothing now."""
    return bool(connection.execute(_judged(down_time)).scalar())


@functools.cache
def _judged(down_time: float) -> sa.Select[tuple[bool]]:
    noted = failure_detector_grace_period.is_noted(down_time)
    return sa.select(sa.and_(noted, sa.not_(sa.exists().where(_mute(down_time)))))


def judge(connection: Connection, *, down_time: float) -> int:
    """Log the hosts that have gone mute as down; returns how many. Their next report logs them as up.

    To be called every second, unless they are judged: a cell that has not listened for ``down_time`` seconds itself
    says nothing of anybody.
    """
    if not failure_detector_grace_period.look(connection, down_time=down_time):
        return 0
    mute = _mute(down_time)
    names = list(connection.execute(sa.select(hosts.c.host).where(mute).order_by(hosts.c.host)).scalars())
    if not names:
        return 0
    before = _static_states(connection, names, lock=True)
    connection.execute(sa.update(hosts).where(hosts.c.host.in_(names), mute).values(up=False))
    after = _static_states(connection, names)
    scheduler_change_log.append(connection, Changes(hosts=_differences(before, after)))
    return len(names)


def _mute(down_time: float) -> sa.ColumnElement[bool]:
    return sa.and_(hosts.c.up, hosts.c.last_seen <= utc_after(-down_time))


def aggregates_of(connection: Connection) -> Iterator[Aggregate]:
    """Every aggregate, by id."""
    for row in connection.execute(sa.select(host_aggregates).order_by(host_aggregates.c.id)):
        yield codec.from_plain(row.aggregate, Aggregate)


def lock(connection: Connection, names: Sequence[str]) -> None:
    """Keep the hosts' rows until the transaction ends."""
    connection.execute(sa.select(hosts.c.host).where(hosts.c.host.in_(names)).order_by(hosts.c.host).with_for_update())


def set_zones(connection: Connection, names: Sequence[str], aggregates: Sequence[Aggregate]) -> tuple[HostChange, ...]:
    """Give hosts the zones that aggregates put them into; returns what changed, for the log."""
    before = _static_states(connection, names, lock=True)
    _set_zones(connection, names, aggregates)
    return _differences(before, _static_states(connection, names))


def _set_zones(connection: Connection, names: Sequence[str], aggregates: Sequence[Aggregate]) -> None:
    """Set each host's zone to that of the first of its aggregates that names one, else to its own. Source: Nova's
    rule."""
    zones: dict[str, str] = {}
    for aggregate in sorted(aggregates, key=lambda each: each.id, reverse=True):
        if zone := aggregate.metadata.get("availability_zone"):
            zones |= dict.fromkeys(aggregate.hosts, zone)
    rows = connection.execute(
        sa.select(hosts.c.host, hosts.c.zone, hosts.c.own_zone).where(hosts.c.host.in_(names)).order_by(hosts.c.host)
    ).all()
    for row in rows:
        zone = zones.get(row.host, row.own_zone)
        if zone != row.zone:
            connection.execute(sa.update(hosts).where(hosts.c.host == row.host).values(zone=zone))


def _differences(before: Mapping[str, HostState], after: Mapping[str, HostState]) -> tuple[HostChange, ...]:
    return tuple(
        HostChange(before=before.get(host), after=after.get(host))
        for host in sorted(before.keys() | after.keys())
        if before.get(host) != after.get(host)
    )


def _up(down_time: float) -> sa.ColumnElement[bool]:
    """Heard of lately; or, while the cell itself has not listened for so long, not known to be down."""
    unheard = sa.and_(hosts.c.up, sa.not_(failure_detector_grace_period.has_listened(down_time)))
    return sa.and_(hosts.c.forced_down.is_(False), sa.or_(hosts.c.last_seen > utc_after(-down_time), unheard))


def _static_states(connection: Connection, names: Sequence[str], *, lock: bool = False) -> dict[str, HostState]:
    """Hosts without what claims say of them."""
    query = sa.select(hosts).where(hosts.c.host.in_(names)).order_by(hosts.c.host)
    rows = connection.execute(query.with_for_update() if lock else query).all()
    found = _stored_inventories(connection, names)
    return {row.host: _state_of(row, found.get(row.host, {})) for row in rows}


def _state_of(
    row: Any,
    inventory: Mapping[str, tuple[int, int, float]],
    *,
    up: bool | None = None,
    used: dict[str, int] | None = None,
    hosted: Sequence[HostedServer] = (),
) -> HostState:
    text = isinstance(row.facts, str)
    facts: HostFacts = _FACTS.decode(row.facts) if text else codec.from_plain(row.facts, HostFacts)
    ratios = {name: ratio for name, (_, _, ratio) in inventory.items()}
    return HostState(
        host=row.host,
        queue=row.queue,
        zone=row.zone,
        uuid=row.id,
        enabled=row.enabled and not row.trouble,
        up=row.up if up is None else up,
        capacity={n: max(0, math.floor((total - kept) * ratio)) for n, (total, kept, ratio) in inventory.items()},
        used=used or {},
        servers=len(hosted),
        hosted=tuple(hosted),
        generation=row.generation,
        traits=facts.traits,
        vcpus=facts.vcpus,
        memory_mb=facts.memory_mb,
        local_gb=facts.disk_gb,
        disk_available_least=facts.disk_available_least,
        cpu_allocation_ratio=ratios.get("VCPU", 1.0),
        ram_allocation_ratio=ratios.get("MEMORY_MB", 1.0),
        disk_allocation_ratio=ratios.get("DISK_GB", 1.0),
        hypervisor_type=facts.hypervisor_type,
        hypervisor_version=facts.hypervisor_version,
        host_ip=facts.host_ip,
        cpu_info=facts.cpu_info,
        supported_instances=facts.supported_instances or _guessed_kinds(facts),
        stats=facts.stats,
        metrics=facts.metrics,
        numa=facts.numa,
        pci_pools=facts.pci_pools,
    )


def _guessed_kinds(facts: HostFacts) -> tuple[tuple[str, str, str], ...]:
    architecture = facts.cpu_info.get("arch")
    kinds = ("kvm", "qemu") if facts.virt_type == "kvm" else (facts.virt_type,)
    return tuple((str(architecture), kind, "hvm") for kind in kinds) if architecture else ()


_SEEN = (
    *(hosts.c.host, hosts.c.queue, hosts.c.zone, hosts.c.id, hosts.c.enabled, hosts.c.trouble, hosts.c.generation),
    sa.type_coerce(hosts.c.facts, sa.Text).label("facts"),
)


def list_states(
    connection: Connection, *, down_time: float | None = None, after: str = "", most: int | None = None
) -> list[HostState]:
    """Every host as the scheduler sees it, with its use, in three queries: those behind ``after``, ``most`` at most.

    ``up`` is as the change log has it, or with a ``down_time`` as the clock says now.
    """
    up = hosts.c.up if down_time is None else _up(down_time)
    query = sa.select(*_SEEN, up.label("is_up")).where(hosts.c.host > after).order_by(hosts.c.host).limit(most)
    rows = connection.execute(query).all()
    some = most is not None and len(rows) > 0

    def among(host: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        return host.between(rows[0].host, rows[-1].host) if some else sa.true()

    inventory: dict[str, dict[str, tuple[int, int, float]]] = {}
    used: dict[str, dict[str, int]] = {}
    for host, name, total, reserved, ratio, amount in connection.execute(
        _ALL_INVENTORIES.where(among(inventories.c.host))
    ):
        inventory.setdefault(host, {})[name] = (total, reserved, ratio)
        used.setdefault(host, {})[name] = amount
    hosted: dict[str, list[HostedServer]] = {}
    for claim_id, server_id, host, holding in connection.execute(_ALL_CLAIMS.where(among(claims.c.host))):
        placed = holding.get("placed")
        server = HostedServer(
            uuid=server_id,
            image_props=holding.get("image_props", {}),
            placed=None if placed is None else codec.from_plain(placed, Placed),
            claim_id="" if claim_id == server_id else claim_id,
        )
        hosted.setdefault(host, []).append(server)
    return [
        _state_of(
            row,
            inventory.get(row.host, {}),
            up=bool(row.is_up),
            used=used.get(row.host),
            hosted=hosted.get(row.host, ()),
        )
        for row in rows
    ]


def _room(connection: Connection, first: str, last: str) -> dict[str, dict[str, tuple[int, int, int]]]:
    room: dict[str, dict[str, tuple[int, int, int]]] = {}
    for row in connection.execute(sa.select(inventories).where(inventories.c.host.between(first, last))):
        room.setdefault(row.host, {})[row.resource_class] = (row.total, row.capacity, row.used)
    return room


def is_unconfirmed(connection: Connection, host: str, seconds: float) -> bool:
    """Return whether the host has not shown lately that it holds nothing that is to be destroyed."""
    late = sa.or_(hosts.c.compared_at.is_(None), hosts.c.compared_at < utc_after(-seconds))
    return connection.execute(sa.select(hosts.c.host).where(hosts.c.host == host, late)).first() is not None


def confirm(connection: Connection, host: str) -> None:
    """Note that the host holds nothing that is to be destroyed."""
    connection.execute(sa.update(hosts).where(hosts.c.host == host).values(compared_at=utc_now()))


def list_room(connection: Connection) -> list[Room]:
    """Return what each host has free, up as the change log has it: one row a host and resource class is read, none a
    server."""
    rooms: dict[str, Room] = {}
    usable = sa.and_(hosts.c.up, hosts.c.enabled, hosts.c.trouble == "").label("usable")
    query = sa.select(
        hosts.c.host,
        hosts.c.zone,
        usable,
        inventories.c.resource_class,
        (inventories.c.capacity - inventories.c.used).label("free"),
    ).join_from(hosts, inventories, inventories.c.host == hosts.c.host, isouter=True)
    for host, zone, is_usable, resource_class, free in connection.execute(query):
        room = rooms.get(host)
        if room is None:
            room = rooms[host] = Room(zone=zone, usable=bool(is_usable), free={})
        if resource_class is not None:
            room.free[resource_class] = free
    return list(rooms.values())


def _guests(connection: Connection, first: str, last: str) -> dict[str, int]:
    rows = connection.execute(
        sa.select(servers.c.host, sa.func.count().label("n"))
        .where(servers.c.deleted.is_(False), servers.c.host.between(first, last))
        .group_by(servers.c.host)
    )
    return {row.host: row.n for row in rows}


def list_hosts(
    connection: Connection, *, down_time: float, host: str | None = None, after: str = "", most: int | None = None
) -> list[Host]:
    """Every host with all that is known of it, by name: those behind ``after``, ``most`` at most; or that one."""
    query = sa.select(hosts, _up(down_time).label("is_up")).order_by(hosts.c.host).limit(most)
    rows = connection.execute(query.where(hosts.c.host > after if host is None else hosts.c.host == host)).all()
    ends = (rows[0].host, rows[-1].host) if rows else ("", "")
    room, guests = _room(connection, *ends), _guests(connection, *ends)
    return [
        Host(
            id=row.id,
            host=row.host,
            queue=row.queue,
            zone=row.zone,
            facts=codec.from_plain(row.facts, HostFacts),
            enabled=row.enabled,
            disabled_reason=_reason(row),
            forced_down=row.forced_down,
            up=bool(row.is_up),
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
    """Return whether the host has reported lately and nobody forced it down."""
    return bool(connection.execute(sa.select(_up(down_time)).select_from(hosts).where(hosts.c.host == host)).scalar())


def is_shown_up(connection: Connection, host: str) -> bool:
    """Return whether the host is up as everybody who follows the change log has it."""
    return bool(connection.execute(sa.select(hosts.c.up).where(hosts.c.host == host)).scalar())


def find_place(connection: Connection, host: str) -> tuple[str, str] | None:
    """Return the host's availability zone, and its hypervisor's address."""
    row = connection.execute(sa.select(hosts.c.zone, hosts.c.facts).where(hosts.c.host == host)).one_or_none()
    return None if row is None else (row.zone, str(row.facts.get("host_ip", "")))


def get_connector(connection: Connection, host: str) -> dict[str, str]:
    """Return what a service that exports volumes is told of a host. Raises NotFound."""
    facts = connection.execute(sa.select(hosts.c.facts).where(hosts.c.host == host)).scalar()
    if facts is None:
        raise errors.NotFound(f"Compute host {host} could not be found.")
    told = {"host": host, "platform": "x86_64", "os_type": "linux", "multipath": "False"}
    return told | {"ip": str(facts.get("host_ip", "")), "boot_id": str(facts.get("boot_id", ""))}


def is_fenced(connection: Connection, host: str) -> bool:
    """Return whether an operator has said that nothing runs there any more: the host is forced down, or removed."""
    forced = connection.execute(sa.select(hosts.c.forced_down).where(hosts.c.host == host)).scalar()
    return forced is None or bool(forced)


def _reason(row: Any) -> str | None:
    """Why nothing new is put there, the quarantine before an administrator's words."""
    return f"in quarantine: {row.trouble}" if row.trouble else row.disabled_reason


def list_troubles(connection: Connection) -> list[tuple[str, str]]:
    """(host, reason) of each host in quarantine."""
    rows = connection.execute(sa.select(hosts.c.host, hosts.c.trouble).where(hosts.c.trouble != "").order_by("host"))
    return [(row.host, row.trouble) for row in rows]


def remove(connection: Connection, host: str, *, force: bool) -> None:
    """Forget a host that is gone for good. Raises NotFound; Conflict while it has servers or claims, and unless
    ``force`` while it is up (it would register again) or has guests that no record accounts for."""
    before = _static_states(connection, [host], lock=True)
    if not before:
        raise errors.NotFound(f"Compute host {host} could not be found.")
    placed = sa.select(servers.c.id).where(servers.c.host == host, servers.c.deleted.is_(False))
    held = sa.select(claims.c.server_id).where(claims.c.host == host)
    count = len({row[0] for query in (placed, held) for row in connection.execute(query)})
    if count:
        raise errors.Conflict(f"Compute host {host} has {count} servers: delete or move them first.")
    strangers = connection.execute(
        sa.select(sa.func.count()).select_from(unknown_guests).where(unknown_guests.c.host == host)
    ).scalar_one()
    if strangers and not force:
        text = f"Compute host {host} was last seen with {strangers} guests that no record accounts for"
        raise errors.Conflict(f"{text}: adopt or remove them first, or forget them by force.")
    if before[host].up and not force:
        raise errors.Conflict(f"Compute host {host} is up: stop its compute service first, or it registers again.")
    for table in (inventories, unknown_guests, image_cachings, network_plan_hosts, host_names, hosts):
        connection.execute(sa.delete(table).where(table.c.host == host))
    scheduler_change_log.append(connection, Changes(hosts=(HostChange(before=before[host]),)))


def set_state(
    connection: Connection,
    host: str,
    *,
    enabled: bool | None,
    disabled_reason: str | None,
    forced_down: bool | None,
    down_time: float = 15.0,
) -> None:
    """Enable, disable, force down or release a host; None leaves a value, enabling clears the reason. What changes is
    logged. Raises NotFound."""
    values: dict[str, Any] = {"generation": hosts.c.generation + 1}
    if enabled is not None:
        values |= {"enabled": enabled, "disabled_reason": None if enabled else disabled_reason}
    if forced_down is not None:
        values |= {
            "forced_down": forced_down,
            "up": False if forced_down else hosts.c.last_seen > utc_after(-down_time),
        }
    before = _static_states(connection, [host], lock=True)
    if not before:
        raise errors.NotFound(f"Compute host {host} could not be found.")
    connection.execute(sa.update(hosts).where(hosts.c.host == host).values(**values))
    if forced_down:
        runs.wake_on(connection, [host])
    scheduler_change_log.append(connection, Changes(hosts=_differences(before, _static_states(connection, [host]))))
