"""Queries of migrations, by microversion, and the body of an action on one."""

from __future__ import annotations

from top_api.paging import LIMIT, MARKER
from top_api.schemas.types import DATE, Schema, only
from top_api.validation import Queries, Versioned

_TEXT: Schema = {"type": "string"}
_FILTERS = ("hidden", "host", "instance_uuid", "source_compute", "status", "migration_type")
LIST = Queries(
    {
        "limit": LIMIT,
        "marker": MARKER,
        "changes-since": DATE,
        "changes-before": DATE,
        "user_id": _TEXT,
        "project_id": _TEXT,
    },
    repeated=dict.fromkeys(_FILTERS, _TEXT),
    since={
        "limit": (2, 59),
        "marker": (2, 59),
        "changes-since": (2, 59),
        "changes-before": (2, 66),
        "user_id": (2, 80),
        "project_id": (2, 80),
    },
    strict_since=(2, 59),
)
FORCE_COMPLETE = Versioned(only("force_complete", {"type": "null"}))
