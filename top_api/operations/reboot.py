"""Reboot: SOFT asks the guest, HARD does not."""

from __future__ import annotations

from cellcloud.context import RequestContext
from cellcloud.lifecycle import Operation
from cellcloud.model.server import ServerRecord
from top_api.operations.servers import begin
from top_api.parts import Parts


def reboot_server(parts: Parts, context: RequestContext, record: ServerRecord, kind: str) -> ServerRecord:
    """``kind``: SOFT or HARD in any case. Raises Conflict, Unreachable."""
    return begin(parts, context, record, Operation.REBOOT, {"type": kind.upper()})
