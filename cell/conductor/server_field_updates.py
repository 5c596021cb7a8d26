"""Changes of a server's record that need no run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.db import feed, runs, servers
from cellcloud.db.engine import Connection, Database, retried
from cellcloud.model import codec, tag_metadata_changes
from cellcloud.model.run import NewRun, OperationRequest
from cellcloud.model.server import GROUP, IN_SPEC, ServerChanges, ServerRecord, ServerSpec
from cellcloud.model.tag_metadata_changes import ItemChanges
from cellcloud.model.volume import find

LOCK = frozenset({"locked", "locked_by", "locked_reason"})
IN_ROW = LOCK | {"placement"}
WITH_SERVER = "delete_on_termination"  # of volumes, by their ids


@retried
def update_server(database: Database, context: RequestContext, server_id: str, changes: dict[str, Any]) -> ServerRecord:
    """Set whole values of the record. Raises NotFound, Invalid for a value that cannot be set so, Stale for the number
    of a placement before its present one."""
    unknown = set(changes) - IN_SPEC - IN_ROW - {GROUP, WITH_SERVER}
    if unknown or changes.get(GROUP) is not None:
        raise errors.Invalid(f"A server has no settable {', '.join(sorted(unknown) or [GROUP])}.")
    with database.write() as connection:
        record = servers.get(connection, server_id, lock=True)
        wanted: ServerChanges = codec.from_plain(
            {name: value for name, value in changes.items() if name in IN_ROW}, ServerChanges
        )
        if changes.get("placement", record.placement) < record.placement:
            raise errors.Stale(f"Instance {server_id} was placed anew since.")
        if wanted.locked is False and record.locked_by == "admin" and not context.is_admin:
            raise errors.Forbidden(f"Instance {server_id} was locked by an administrator.")
        in_spec = {name: value for name, value in changes.items() if name in IN_SPEC or name == GROUP}
        if in_spec:
            plain = codec.to_plain(record.spec) | in_spec
            spec = replace(record.spec, **_fields(codec.from_plain(plain, ServerSpec), in_spec))
            wanted = wanted.followed_by(ServerChanges(spec=spec))
        if WITH_SERVER in changes:
            wanted = wanted.followed_by(_kept_or_not(record, changes[WITH_SERVER]))
        changed = servers.change(connection, server_id, wanted)
        if changed is None:
            raise errors.NotFound(f"Instance {server_id} could not be found.")
        if "locked" in changes:
            _record_lock(connection, context, changed)
        feed.append(connection, [changed])
    return changed


def _kept_or_not(record: ServerRecord, wanted: Mapping[str, bool]) -> ServerChanges:
    """Say of some of the server's volumes whether they are deleted with it. Raises NotFound for one it has not."""
    for volume_id in wanted:
        if find(record.volumes, volume_id) is None:
            raise errors.NotFound(f"The server is not attached to volume {volume_id}")
    return ServerChanges(
        volumes=tuple(
            replace(one, delete_on_termination=wanted.get(one.volume_id, one.delete_on_termination))
            for one in record.volumes
        )
    )


def _record_lock(connection: Connection, context: RequestContext, record: ServerRecord) -> None:
    """Locking and unlocking are among a server's actions."""
    asked = OperationRequest(request_id=context.request_id, user_id=context.user_id, project_id=context.project_id)
    runs.insert_finished(
        connection,
        NewRun(
            server_id=record.id,
            operation="lock" if record.locked else "unlock",
            generation=record.generation,
            asked=asked,
            deadline=0,
            host=record.host or "",
        ),
    )


@retried
def change_items(database: Database, context: RequestContext, server_id: str, changes: ItemChanges) -> ServerRecord:
    """Change single items of the record's sets. Raises NotFound, Invalid, QuotaExceeded."""
    with database.write() as connection:
        record = servers.get(connection, server_id, lock=True)
        spec = tag_metadata_changes.applied(record.spec, changes)
        if spec == record.spec:
            return record
        changed = servers.change(connection, server_id, ServerChanges(spec=spec))
        if changed is None:
            raise errors.NotFound(f"Instance {server_id} could not be found.")
        feed.append(connection, [changed])
    return changed


@retried
def keep_posted_password(database: Database, host: str, server_id: str, password: str) -> None:
    """Keep the password that a server's guest on that host has posted, unless there is one. Raises NotFound."""
    with database.write() as connection:
        record = servers.get(connection, server_id, lock=True)
        if record.host != host or record.deleted or record.spec.sealed_password:
            return
        changed = servers.change(
            connection, server_id, ServerChanges(spec=replace(record.spec, sealed_password=password))
        )
        feed.append(connection, [changed] if changed else [])


def _fields(spec: ServerSpec, names: dict[str, Any]) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in names}
