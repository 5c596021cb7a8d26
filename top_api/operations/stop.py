"""Stop: of a server that is running."""

from __future__ import annotations

from cellcloud.context import RequestContext
from cellcloud.lifecycle import Operation
from cellcloud.model.server import ServerRecord
from top_api.operations.servers import begin
from top_api.parts import Parts


def stop_server(parts: Parts, context: RequestContext, record: ServerRecord) -> ServerRecord:
    """Raises Conflict, Unreachable."""
    return begin(parts, context, record, Operation.STOP)
