"""/servers/{id}/os-instance-actions: the operations a server has seen, newest first."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from cellcloud import errors
from cellcloud.model.run import RunRecord
from top_api.answers import instance_actions as answers
from top_api.operations.instance_actions import find_deleted_too, get_action, list_actions
from top_api.paging import next_links, page_of
from top_api.request_pipeline import Call, Resource
from top_api.schemas import instance_actions as schemas
from top_api.server_query import read_changes
from top_api.views import instance_actions as views

instance_actions = Resource("os-instance-actions")
PATH = "/servers/<server_id>/os-instance-actions"


def _look_up(call: Call, arguments: Mapping[str, str]) -> None:
    deleted = call.version >= (2, 21)
    call.server = find_deleted_too(call.services, arguments["server_id"], call.project_filter, deleted=deleted)


@instance_actions.route(
    "GET", PATH, "os_compute_api:os-instance-actions:list", query=schemas.LIST, lookup=_look_up, answer=answers.LIST
)
def list_of_server(call: Call, server_id: str) -> dict[str, Any]:
    runs = list_actions(call.services, call.context, call.server)
    since, before = read_changes(call.query)
    runs = [run for run in runs if _between(run, since, before)]
    page, _ = page_of(call, runs, lambda run: run.request_id, since=(2, 58))
    links = next_links(call, "", ("servers", server_id, "os-instance-actions"), [run.request_id for run in page])
    shown: dict[str, Any] = {"instanceActions": [views.brief(call, run) for run in page]}
    if links and call.version >= (2, 58):
        shown["links"] = links["_links"]
    return shown


@instance_actions.route(
    "GET", PATH + "/<request_id>", "os_compute_api:os-instance-actions:show", lookup=_look_up, answer=answers.SHOW
)
def show(call: Call, server_id: str, request_id: str) -> dict[str, Any]:
    run = get_action(call.services, call.context, call.server, request_id)
    return {"instanceAction": views.detail(call, run, call.server)}


def _between(run: RunRecord, since: dt.datetime | None, before: dt.datetime | None) -> bool:
    at = run.finished_at or run.created_at
    if at is None:
        raise errors.CallHuman("A run has no time.")
    return (since is None or at >= since) and (before is None or at <= before)
