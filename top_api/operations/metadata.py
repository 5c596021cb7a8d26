"""Metadata of a server: key and value pairs of its owner."""

from __future__ import annotations

from collections.abc import Mapping

from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.model.server import ServerRecord
from cellcloud.model.tag_metadata_changes import ItemChanges
from top_api import quota_limits
from top_api.operations.server_in_cell import CHANGED_IN, change, change_items, check_state, check_unlocked
from top_api.services import ApiServices


def replace_metadata(
    services: ApiServices, context: RequestContext, record: ServerRecord, metadata: dict[str, str]
) -> dict[str, str]:
    """Replace all of it. Raises QuotaExceeded, Conflict, Unreachable."""
    _most(services, context, record, len(metadata))
    _check(context, record, "update metadata")
    return change(services, context, record, "update metadata", {"metadata": metadata}).spec.metadata


def set_metadata(
    services: ApiServices, context: RequestContext, record: ServerRecord, items: Mapping[str, str]
) -> dict[str, str]:
    """Set some of it, and return all. Raises QuotaExceeded, Conflict, Unreachable."""
    _check(context, record, "update metadata")
    changes = ItemChanges(set_metadata=dict(items), most_metadata=_most(services, context, record, 0))
    return change_items(services, context, record, "update metadata", changes).spec.metadata


def delete_metadata(services: ApiServices, context: RequestContext, record: ServerRecord, key: str) -> None:
    """Take one item away. Raises NotFound, Conflict, Unreachable."""
    try:
        _check(context, record, "delete metadata")
    except errors.Conflict:  # whether it is there is known best by the cell, which is asked but for this
        if key in record.spec.metadata:
            raise
        raise errors.NotFound("Metadata item was not found") from None
    change_items(services, context, record, "delete metadata", ItemChanges(remove_metadata=(key,)))


def _most(services: ApiServices, context: RequestContext, record: ServerRecord, count: int) -> int:
    with services.database.read() as connection:
        return quota_limits.check_metadata(
            connection, record.spec.project_id, context.user_id, services.config.quota, count
        )


def _check(context: RequestContext, record: ServerRecord, verb: str) -> None:
    check_unlocked(context, record)
    check_state(record, verb, CHANGED_IN)
