"""/os-instance_usage_audit_log: how far hosts have reported the usage of the last month.

Usage is answered from records here (/os-simple-tenant-usage), so that no host ever reports any: each is told as one
that has not.
"""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import unquote_plus

from cellcloud import clock, errors
from top_api.answers import instance_usage_audit_log as answers
from top_api.operations import services_and_hosts as operations
from top_api.request_pipeline import Call, Resource

instance_usage_audit_log = Resource("os-instance_usage_audit_log")
PATH = "/os-instance_usage_audit_log"
_FORM = "%Y-%m-%d %H:%M:%S"
_RULE = "os_compute_api:os-instance-usage-audit-log"


@instance_usage_audit_log.route("GET", PATH, f"{_RULE}:list", answer=answers.LIST)
def list_of_last_month(call: Call) -> dict[str, Any]:
    return {"instance_usage_audit_logs": _log(call, clock.now())}


@instance_usage_audit_log.route("GET", PATH + "/<before>", f"{_RULE}:show", answer=answers.SHOW)
def show(call: Call, before: str) -> dict[str, Any]:
    text = unquote_plus(before)
    try:
        at = dt.datetime.strptime(text, _FORM + ".%f" if "." in text else _FORM).replace(tzinfo=dt.UTC)
    except ValueError as error:
        raise errors.Invalid(f"Invalid timestamp for date {text[:64]}") from error
    return {"instance_usage_audit_log": _log(call, at)}


def _log(call: Call, before: dt.datetime) -> dict[str, Any]:
    """Of the last whole month that had ended by then."""
    end = before.replace(day=1, hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    if end.year == 1 and end.month == 1:
        raise errors.Invalid(f"Invalid timestamp for date {before}")
    begin = (end - dt.timedelta(days=1)).replace(day=1)
    services = operations.list_services(call.services, call.context)
    hosts = sorted({service.host for service, _ in services if service.binary == operations.COMPUTE})
    return {
        "period_beginning": str(begin),
        "period_ending": str(end),
        "num_hosts": len(hosts),
        "num_hosts_done": 0,
        "num_hosts_running": 0,
        "num_hosts_not_run": len(hosts),
        "hosts_not_run": hosts,
        "total_instances": 0,
        "total_errors": 0,
        "overall_status": f"{'ALL' if not hosts else f'0 of {len(hosts)}'} hosts done. 0 errors.",
        "log": {},
    }
