"""/os-server-external-events: what the network service and others tell of servers."""

from __future__ import annotations

from typing import Any

from top_api.answers import server_external_events as answers
from top_api.operations.external_events import tell_cells
from top_api.request_pipeline import Answer, Call, Resource
from top_api.schemas import server_external_events as schemas

server_external_events = Resource("os-server-external-events")


@server_external_events.route(
    "POST",
    "/os-server-external-events",
    "os_compute_api:os-server-external-events:create",
    also=(207,),
    body=schemas.CREATE,
    answer=answers.CREATED,
)
def create(call: Call) -> Answer:
    given = call.body["events"]
    codes = tell_cells(call.services, call.context, given)
    events: list[dict[str, Any]] = [
        {**event, "status": "completed" if code == 200 else "failed", "code": code}
        for event, code in zip(given, codes, strict=True)
    ]
    return Answer(status=200 if set(codes) == {200} else 207, body={"events": events})
