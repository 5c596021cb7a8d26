"""Delete: accepted for good in one transaction, whatever the server's cell is doing.

A create that no cell has taken yet is cancelled, and the server is gone at once. Otherwise an intent is written that
is delivered to the cell until it answers.
"""

from __future__ import annotations

from cellcloud.context import RequestContext
from cellcloud.model.server import ServerRecord
from top_api.operations.servers import check_unlocked
from top_api.parts import Parts


def delete_server(parts: Parts, context: RequestContext, record: ServerRecord) -> None:
    """Raises Conflict for a locked server. Idempotent."""
    check_unlocked(context, record)
    intent = parts.acceptance.delete(context, record.id)
    if intent is not None:
        parts.carry([intent])
