"""Ports of the embedded network service after its database fell back: those that servers have are stored again, before
their addresses are given to others, and those of servers that are gone go.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.engine import LostRace, utc_now
from cellcloud.db.network_quota_usages import UNLIMITED, addresses_of, reserve
from cellcloud.db.network_versions import raise_versions
from cellcloud.db.ports import move_ports, release_ports
from cellcloud.db.security_groups import bind_groups, ensure_default_group, find_groups
from cellcloud.db.top_schema import networks, port_addresses, ports, server_index
from cellcloud.model.network import Port
from cellcloud.model.server import ServerRecord


def store_again(connection: Connection, records: Sequence[ServerRecord]) -> list[str]:
    """Store the ports that these servers have, as their cells say. Returns the ids of those that cannot be: their
    network is gone, or another port has their address."""
    wanted = {port.id: (record, index, port) for record in records for index, port in enumerate(record.ports)}
    if not wanted:
        return []
    query = sa.select(ports.c.id, ports.c.device_id, ports.c.placement).where(ports.c.id.in_(wanted))
    known = connection.execute(query).all()
    for row in known:
        record, index, port = wanted[row.id]
        if not row.device_id:
            _bind(connection, record, index, port)
        elif row.device_id == record.id and row.placement < record.placement:
            move_ports(connection, record.id, record.host or "", record.placement)
    missing = wanted.keys() - {row.id for row in known}
    mine = {wanted[port_id][2].network_id for port_id in missing}
    here = set(connection.execute(sa.select(networks.c.id).where(networks.c.id.in_(mine))).scalars())
    return [one for one in sorted(missing) if wanted[one][2].network_id in here and not _add(connection, *wanted[one])]


def release_left(connection: Connection, limit: int = 1000) -> list[str]:
    """Release the ports of servers that are deleted, or that nobody knows; returns the servers' ids."""
    rows = connection.execute(
        sa.select(ports.c.device_id)
        .join_from(ports, server_index, ports.c.device_id == server_index.c.id, isouter=True)
        .where(ports.c.device_index.is_not(None), sa.func.coalesce(server_index.c.deleted, sa.true()))
        .distinct()
        .limit(limit)
    )
    left = sorted(rows.scalars())
    for server_id in left:
        release_ports(connection, server_id)
    return left


def _owner(record: ServerRecord) -> str:
    return f"compute:{record.availability_zone or 'nova'}"


def _bind(connection: Connection, record: ServerRecord, index: int, port: Port) -> None:
    connection.execute(
        sa.update(ports)
        .where(ports.c.id == port.id, ports.c.device_id == "")
        .values(
            device_id=record.id,
            device_index=index,
            device_owner=_owner(record),
            host_id=record.host or "",
            placement=record.placement,
            revision=ports.c.revision + 1,
            updated_at=utc_now(),
        )
    )


def _add(connection: Connection, record: ServerRecord, index: int, port: Port) -> bool:
    values = {
        "id": port.id,
        "network_id": port.network_id,
        "project_id": port.project_id or record.spec.project_id,
        "device_id": record.id,
        "device_owner": _owner(record),
        "device_index": index,
        "placement": record.placement,
        "owned": port.owned,
        "mac_address": port.mac_address,
        "host_id": record.host or "",
        "port_security_enabled": port.port_security_enabled,
        "allowed_address_pairs": port.allowed_address_pairs,
        "dns_name": port.dns_name,
        "created_at": utc_now(),
        "updated_at": utc_now(),
    }
    addresses = [{"subnet_id": ip.subnet_id, "ip_address": ip.ip_address, "port_id": port.id} for ip in port.fixed_ips]
    project_id, addressed = str(values["project_id"]), addresses_of(port.network_id)
    try:
        with connection.begin_nested():
            reserve(connection, project_id, "port", 1, UNLIMITED)
            reserve(connection, project_id, addressed, len(addresses), UNLIMITED)
            known = find_groups(connection, port.security_groups)
            groups = [group_id for group_id in port.security_groups if group_id in known]
            if port.port_security_enabled and port.security_groups and not groups:
                groups = [ensure_default_group(connection, project_id)]
            raise_versions(connection, networks=[port.network_id], groups=groups)
            connection.execute(sa.insert(ports).values(security_groups=groups, **values))
            bind_groups(connection, {port.id: groups})
            if addresses:
                connection.execute(sa.insert(port_addresses), addresses)
    except (sa.exc.IntegrityError, LostRace):
        return False
    return True
