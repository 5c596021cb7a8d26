"""What begins with a move of a server, with the end of one, or with its shelving: in the same transaction, what its
record says of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

from msgspec import UNSET, UnsetType

from cellcloud import clock, errors
from cellcloud.db import hosts
from cellcloud.db.engine import Connection
from cellcloud.model import migration as migrations
from cellcloud.model.migration import TOLD, Migration, MigrationStatus, MigrationType
from cellcloud.model.operations import Operation
from cellcloud.model.run import OperationRequest
from cellcloud.model.server import NO_CHANGES, ServerChanges, ServerRecord
from cellcloud.server_states import VmState

AWAY = "Service is unavailable at this time."
Beginning = Callable[[Connection, ServerRecord, OperationRequest], ServerChanges]


def changes_of(
    connection: Connection, operation: Operation, record: ServerRecord, asked: OperationRequest
) -> ServerChanges:
    """Return what else changes in the server's record as an operation begins. Raises Invalid, Conflict for what cannot
    be."""
    begins = _BEGINNINGS.get(operation)
    return begins(connection, record, asked) if begins else NO_CHANGES


def _resize(connection: Connection, record: ServerRecord, asked: OperationRequest) -> ServerChanges:
    flavor = asked.arguments.flavor
    if flavor is None:
        raise errors.Invalid("A resize needs a flavor.")
    changes = _begin(connection, record, asked, MigrationType.RESIZE)
    if asked.arguments.disk_config:
        changes = changes.followed_by(ServerChanges(spec=replace(record.spec, disk_config=asked.arguments.disk_config)))
    return changes


def _migrate(connection: Connection, record: ServerRecord, asked: OperationRequest) -> ServerChanges:
    host = asked.arguments.host
    if host and host == record.host:
        raise errors.Invalid("Cannot migrate to the host where the server exists.")
    if host and hosts.find_place(connection, host) is None:
        raise errors.Invalid(f"Compute host {host} could not be found.")
    return _begin(connection, record, asked, MigrationType.MIGRATION)


def _begin(connection: Connection, record: ServerRecord, asked: OperationRequest, kind: MigrationType) -> ServerChanges:
    if record.migration is not None:
        raise errors.Conflict(f"The last move of instance {record.id} is neither confirmed nor reverted.")
    _check_up(connection, record.host or "")
    spec = record.spec
    migration = Migration(
        id=str(uuid.uuid4()),
        type=kind,
        status=MigrationStatus.PRE_MIGRATING,
        source=record.host or "",
        source_zone=record.availability_zone or "",
        old_flavor=spec.flavor,
        new_flavor=asked.arguments.flavor or spec.flavor,
        vm_state=record.vm_state,
        power_state=record.power_state,
        user_id=asked.user_id,
        project_id=asked.project_id,
        created_at=clock.now(),
    )
    return ServerChanges(migrations=(*record.migrations[1 - TOLD :], migration))


def _confirm(connection: Connection, record: ServerRecord, asked: OperationRequest) -> ServerChanges:
    _check_up(connection, _unconfirmed(record).source)
    return ServerChanges(migrations=migrations.changed(record.migrations, status=MigrationStatus.CONFIRMING))


def _revert(connection: Connection, record: ServerRecord, asked: OperationRequest) -> ServerChanges:
    _check_up(connection, _unconfirmed(record).source)
    return ServerChanges(migrations=migrations.changed(record.migrations, status=MigrationStatus.REVERTING))


def _unconfirmed(record: ServerRecord) -> Migration:
    migration = record.migration
    if migration is None or migration.status != MigrationStatus.FINISHED:
        raise errors.Invalid("Instance has not been resized.")
    return migration


def _check_up(connection: Connection, host: str) -> None:
    """Nothing is begun that would wait for a host that is away."""
    if not hosts.is_shown_up(connection, host):
        raise errors.Conflict(AWAY)


def _shelve(connection: Connection, record: ServerRecord, asked: OperationRequest) -> ServerChanges:
    """Return the record names the image from the beginning on: whoever deletes the server finds it there."""
    image = asked.arguments.image
    if image is None and record.spec.is_volume_backed:
        return NO_CHANGES
    if image is None:
        raise errors.Invalid("A server is shelved as an image.")
    return ServerChanges(spec=replace(record.spec, shelved_image=image))


def _unshelve(connection: Connection, record: ServerRecord, asked: OperationRequest) -> ServerChanges:
    zone, host = asked.arguments.zone, asked.arguments.host
    if zone is UNSET and not host:
        return NO_CHANGES
    if record.vm_state != VmState.SHELVED_OFFLOADED:
        raise errors.Conflict(
            f'Specifying an availability zone or a host when unshelving server "{record.id}" with status '
            f'"{record.vm_state}" is not supported. The server status must be SHELVED_OFFLOADED.'
        )
    zones = hosts.list_zones(connection)
    pinned = record.spec.availability_zone if isinstance(zone, UnsetType) else zone
    if zone and zone not in zones.values():
        raise errors.Invalid("The requested availability zone is not available")
    if host and host not in zones:
        raise errors.Invalid(f"Compute host {host} could not be found.")
    if host and pinned and zones[host] != pinned:
        raise errors.Conflict(f'Host "{host}" is not in the availability zone "{pinned}".')
    return ServerChanges(spec=replace(record.spec, availability_zone=pinned))


_BEGINNINGS: dict[Operation, Beginning] = {
    Operation.RESIZE: _resize,
    Operation.MIGRATE: _migrate,
    Operation.CONFIRM_RESIZE: _confirm,
    Operation.REVERT_RESIZE: _revert,
    Operation.SHELVE: _shelve,
    Operation.UNSHELVE: _unshelve,
}
