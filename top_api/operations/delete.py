"""Delete: accepted for good in one transaction, whatever the server's cell is doing.

A create that no cell has taken yet is cancelled, and the server is gone at once. Otherwise an intent is written that
is delivered to the cell until it answers. Where deleted servers are kept for a while, one can be restored till then.
"""

from __future__ import annotations

from cellcloud import errors
from cellcloud.config import QuotaConfig
from cellcloud.context import RequestContext
from cellcloud.db import quotas, server_index
from cellcloud.db.engine import Database, retried
from cellcloud.model.operations import FIRST_VARIANTS, Operation
from cellcloud.model.server import ServerRecord
from top_api import quota_limits
from top_api.operations.server_in_cell import begin, check_may_begin, check_unlocked
from top_api.services import ApiServices


def delete_server(
    services: ApiServices, context: RequestContext, record: ServerRecord, *, at_once: bool = False
) -> None:
    """Delete a server. Idempotent. ``at_once``: it cannot be restored. Raises Conflict for a locked one."""
    check_unlocked(context, record)
    soft = services.config.reclaim_instance_interval > 0 and not at_once
    intent = services.admission.delete(context, record.id, soft=soft)
    if intent is not None:
        services.dispatch([intent])


def restore_server(services: ApiServices, context: RequestContext, record: ServerRecord) -> None:
    """Restore a deleted server. Raises Conflict for one that is locked or waits for no reclaim, QuotaExceeded,
    Unreachable."""
    check_unlocked(context, record)
    spec = FIRST_VARIANTS[Operation.RESTORE]
    check_may_begin(record, spec)
    limits = services.config.quota
    try:
        counted = _hold_quota(services.database, limits, record)
    except _RestoreOverQuota:
        mine, cost = record.spec, quotas.cost_of_record(record)
        with services.database.read() as connection:
            raise quota_limits.refusal(connection, mine.project_id, mine.user_id, limits, cost) from None
    try:
        begin(services, context, record, spec)
    except errors.CellcloudError:  # where the cell has begun after all, its next copy counts the server
        if counted:
            _give_back(services.database, record.id)
        raise


class _RestoreOverQuota(Exception):
    """A limit would be exceeded; rolls the transaction back."""


@retried
def _hold_quota(database: Database, config: QuotaConfig, record: ServerRecord) -> bool:
    """Return whether it was this that counted the server again. Raises _RestoreOverQuota."""
    with database.write() as connection:
        limits = quota_limits.limits_of(connection, record.spec.project_id, config)
        counted = server_index.hold_quota(connection, record, limits)
        if counted is False:
            raise _RestoreOverQuota
    return counted is not None


@retried
def _give_back(database: Database, server_id: str) -> None:
    with database.write() as connection:
        server_index.give_back_quota(connection, [server_id])
