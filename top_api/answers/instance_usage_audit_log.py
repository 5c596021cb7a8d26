"""Answers about how far hosts have reported usage."""

from __future__ import annotations

from top_api.answers.types import COUNT, TEXT, only
from top_api.response_schema import Fields, list_of

_TIME = {"type": "string", "pattern": "[0-9]{1,4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}"}
_COUNTS = ("num_hosts", "num_hosts_done", "num_hosts_running", "num_hosts_not_run", "total_instances", "total_errors")
_LOG = Fields(
    {
        "period_beginning": _TIME,
        "period_ending": _TIME,
        **dict.fromkeys(_COUNTS, COUNT),
        "hosts_not_run": list_of(TEXT),
        "overall_status": TEXT,
        "log": Fields({}),
    }
)
LIST = only("instance_usage_audit_logs", _LOG)
SHOW = only("instance_usage_audit_log", _LOG)
