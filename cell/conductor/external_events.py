"""Events of other services: what they tell of is looked at anew, so that an event may come twice, late or never."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cellcloud import errors
from cellcloud.clients.network import NetworkClient
from cellcloud.db import feed, servers
from cellcloud.db.engine import Connection, Database, transact
from cellcloud.model.external_event import NETWORK_EVENTS, PORT_DELETED, POWER_UPDATE, VOLUME_EXTENDED, ExternalEvent
from cellcloud.model.network import Port, as_known, find_port
from cellcloud.model.server import ServerChanges, ServerRecord
from cellcloud.model.volume import AttachedVolume, find

DONE, UNKNOWN, UNPLACED = 200, 404, 422


def apply(
    database: Database,
    networks: NetworkClient,
    have_compared: Callable[[str], None],
    events: Sequence[ExternalEvent],
    extend: Callable[[str, AttachedVolume], None] | None = None,
    detach: Callable[[str, Port], None] | None = None,
) -> list[int]:
    """Have done what the events are about; a status of Nova's for each. ``have_compared``: let a host tell of its
    guests; ``extend``: begin to let a server's guest see a volume's new size; ``detach``: begin to take a port from
    it. Raises TryLater when networks or volumes
    do not answer, or something else is being done with the server."""
    with database.read() as connection:
        found = servers.list_by_id(connection, sorted({event.server_id for event in events}))
    known = {record.id: record for record in found if not record.deleted}
    host_of = {server_id: record.host for server_id, record in known.items() if record.host}
    for event in dict.fromkeys(events):
        if event.name == PORT_DELETED and event.server_id in host_of and detach is not None:
            _detach(known[event.server_id], event.tag, detach)
    wired = sorted({event.server_id for event in events if event.name in NETWORK_EVENTS} & host_of.keys())
    if wired:
        ports = networks.list_ports_of(wired)
        transact(database, lambda connection: _store(connection, ports, known))
    switched = {event.server_id for event in events if event.name == POWER_UPDATE} & host_of.keys()
    for host in sorted({host_of[server_id] for server_id in switched}):
        have_compared(host)
    for event in events:
        if event.name == VOLUME_EXTENDED and event.server_id in known and extend is not None:
            _extend(known[event.server_id], event.tag, extend)
    return [
        UNKNOWN if event.server_id not in known else DONE if event.server_id in host_of else UNPLACED
        for event in events
    ]


def _detach(record: ServerRecord, port_id: str, detach: Callable[[str, Port], None]) -> None:
    """One that the server has not, or that is on its way already, is no news."""
    port = find_port(record.ports, port_id)
    if port is None or port.change is not None:
        return
    try:
        detach(record.id, port)
    except errors.Conflict as error:
        raise errors.Busy(error.message) from error


def _extend(record: ServerRecord, volume_id: str, extend: Callable[[str, AttachedVolume], None]) -> None:
    """One that the server has not is no news. Raises Busy while the server cannot be seen to."""
    held = find(record.volumes, volume_id)
    if held is None:
        return
    try:
        extend(record.id, held)
    except errors.Conflict as error:
        raise errors.Busy(error.message) from error


def _store(connection: Connection, ports: Mapping[str, tuple[Port, ...]], known: Mapping[str, ServerRecord]) -> None:
    """Store the servers' ports as they are now, but for servers whose ports a run has changed meanwhile."""
    stored = []
    for server_id, record in sorted(servers.lock_living(connection, ports.keys()).items()):
        now = as_known(ports[server_id], record.ports)
        if record.ports == known[server_id].ports != now:
            changed = servers.change(connection, server_id, ServerChanges(ports=now))
            stored += [changed] if changed is not None else []
    feed.append(connection, stored)
