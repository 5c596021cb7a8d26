"""Metadata of a server: key and value pairs of its owner."""

from __future__ import annotations

from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.lifecycle import VmState
from cellcloud.model.server import ServerRecord
from top_api.operations.servers import change, check_unlocked
from top_api.parts import Parts

_FROM = frozenset({VmState.ACTIVE, VmState.PAUSED, VmState.SUSPENDED, VmState.STOPPED})


def set_metadata(
    parts: Parts, context: RequestContext, record: ServerRecord, metadata: dict[str, str]
) -> dict[str, str]:
    """Replace all of it. Raises QuotaExceeded, Conflict, Unreachable."""
    most = parts.config.quota.metadata_items
    if 0 <= most < len(metadata):
        raise errors.QuotaExceeded(f"Maximum number of metadata items exceeds {most}")
    check_unlocked(context, record)
    if record.vm_state not in _FROM:
        raise errors.Conflict(
            f"Cannot 'update metadata' instance {record.id} while it is in vm_state {record.vm_state}"
        )
    return change(parts, context, record, "update metadata", {"metadata": metadata}).spec.metadata
