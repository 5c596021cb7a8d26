"""Answers about services, by microversion."""

from __future__ import annotations

from top_api.answers.types import BOOLEAN, MICROSECOND, TEXT, UUID, WORD, a_word, only
from top_api.response_schema import FieldParts, Fields, changing, list_of, nullable, one_of, optional, since

_SWITCH = a_word(("enabled", "disabled"))
_NAMED: FieldParts = {"binary": WORD, "host": WORD}
_SERVICE = Fields(
    {
        "id": changing({"type": "integer", "minimum": 1}, {53: UUID}),
        **_NAMED,
        "zone": TEXT,
        "status": _SWITCH,
        "state": a_word(("up", "down")),
        "updated_at": nullable(MICROSECOND),
        "disabled_reason": nullable(TEXT),
        "forced_down": since(11, BOOLEAN),
    },
    name="Service",
)
_AWAY = Fields({**_NAMED, "status": a_word(("UNKNOWN",))}, name="UnknownService")
LIST = only("services", list_of(changing(_SERVICE, {69: one_of(_SERVICE, _AWAY)})))
_SWITCHED = Fields({**_NAMED, "status": _SWITCH, "disabled_reason": optional(TEXT)})
_FORCED = Fields({**_NAMED, "forced_down": BOOLEAN})
UPDATED = only("service", changing(_SWITCHED, {11: one_of(_SWITCHED, _FORCED), 53: _SERVICE}))
