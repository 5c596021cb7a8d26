"""Delete: accepted for good in one transaction, whatever the server's cell is doing.

A create that no cell has taken yet is cancelled, and the server is gone at once. Otherwise an intent is written that
is delivered to the cell until it answers.
"""

from __future__ import annotations

from cellcloud.context import RequestContext
from cellcloud.model.server import ServerRecord
from top_api.operations.server_in_cell import check_unlocked
from top_api.services import ApiServices


def delete_server(services: ApiServices, context: RequestContext, record: ServerRecord) -> None:
    """Raises Conflict for a locked server. Idempotent."""
    check_unlocked(context, record)
    intent = services.admission.delete(context, record.id)
    if intent is not None:
        services.dispatch([intent])
