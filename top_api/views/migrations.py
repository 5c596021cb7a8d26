"""How migrations look at each microversion."""

from __future__ import annotations

from typing import Any

from cellcloud.db.migrations import NumberedMigration
from cellcloud.model.flavor import Flavor
from top_api.request_pipeline import Call
from top_api.views.times import show_microsecond


def item(call: Call, one: NumberedMigration, *, with_hosts: bool) -> dict[str, Any]:
    """Return an item of the list. ``with_hosts``: whether the caller may see them."""
    migration = one.migration
    source = migration.source if with_hosts else None
    destination = (migration.destination or None) if with_hosts else None
    shown: dict[str, Any] = {
        "id": one.number,
        "instance_uuid": one.server_id,
        "status": migration.status,
        "source_compute": source,
        "source_node": source,
        "dest_compute": destination,
        "dest_node": destination,
        "dest_host": (migration.destination_address or None) if with_hosts else None,
        "old_instance_type_id": _number_of(migration.old_flavor),
        "new_instance_type_id": _number_of(migration.new_flavor),
        "created_at": show_microsecond(migration.created_at),
        "updated_at": show_microsecond(migration.updated_at),
    }
    if call.version >= (2, 23):
        shown["migration_type"] = migration.type
    if call.version >= (2, 59):
        shown["uuid"] = migration.id
    if call.version >= (2, 80):
        shown |= {"user_id": migration.user_id, "project_id": migration.project_id}
    return shown


def _number_of(flavor: Flavor) -> int | None:
    """Flavors have no numbers here but those that are their ids."""
    return int(flavor.id) if flavor.id.isdecimal() and len(flavor.id) <= 9 else None
