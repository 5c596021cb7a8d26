"""Delete: accepted for good in one transaction, whatever the server's cell is doing.

A create that no cell has taken yet is cancelled, and the server is gone at once. Otherwise an intent is written that
is delivered to the cell until it answers.
"""

from __future__ import annotations

from cellcloud.context import RequestContext
from cellcloud.db import index, intents
from cellcloud.db.engine import Database, retried
from cellcloud.lifecycle import TaskState
from cellcloud.model.intent import Intent, IntentState
from cellcloud.model.server import ServerRecord
from top_api.operations.servers import check_unlocked
from top_api.parts import Parts


def delete_server(parts: Parts, context: RequestContext, record: ServerRecord) -> None:
    """Raises Conflict for a locked server. Idempotent."""
    check_unlocked(context, record)
    intent = _accept(parts.database, parts, context, record.id)
    if intent is not None:
        parts.carry([intent])


@retried
def _accept(database: Database, parts: Parts, context: RequestContext, server_id: str) -> Intent | None:
    """The one transaction; returns the intent to deliver, or None when the server is gone already."""
    with database.write() as connection:
        create = intents.stop_create(connection, server_id)
        record = index.find_record(connection, server_id)
        if record is None:
            return None
        if not record.cell and create != IntentState.RECORDED:
            index.mark_deleted(connection, [server_id])
            return None
        intent = intents.ensure_delete(
            connection,
            server_id,
            context,
            cell=record.cell,
            owner=parts.owner,
            lease=parts.config.top.intent_lease,
            deadline=parts.config.top.intent_deadline,
        )
        index.mark_task(connection, server_id, TaskState.DELETING)
    return intent
