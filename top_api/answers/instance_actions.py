"""Answers about what was done with a server, by microversion."""

from __future__ import annotations

from top_api.answers.types import MICROSECOND, NEXT_PAGE, TEXT, UUID, WORD, a_word, only
from top_api.response_schema import FieldParts, Fields, list_of, nullable, optional, shown_by, since, until

EVENTS = "os_compute_api:os-instance-actions:events"
_BRIEF: FieldParts = {
    "action": WORD,
    "instance_uuid": UUID,
    "request_id": TEXT,
    "user_id": TEXT,
    "project_id": TEXT,
    "start_time": MICROSECOND,
    "message": nullable(a_word(("Error",))),
    "updated_at": since(58, MICROSECOND),
}
_EVENT = Fields(
    {
        "event": WORD,
        "start_time": MICROSECOND,
        "finish_time": nullable(MICROSECOND),
        "result": nullable(a_word(("Success", "Error"))),
        "traceback": shown_by(EVENTS, nullable(TEXT)),
        "hostId": since(62, TEXT),
        "host": since(62, shown_by(EVENTS, TEXT)),
        "details": since(84, shown_by(f"{EVENTS}:details", nullable(TEXT))),
    },
    name="InstanceActionEvent",
)
LIST = Fields({"instanceActions": list_of(Fields(_BRIEF)), "links": since(58, optional(NEXT_PAGE))})
_EVENTS = (*until(50, shown_by(EVENTS, list_of(_EVENT))), *since(51, list_of(_EVENT)))
SHOW = only("instanceAction", Fields({**_BRIEF, "events": _EVENTS}))
