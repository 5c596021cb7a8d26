"""/servers: create, list, show, update, delete."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cellcloud import errors
from cellcloud.db import user_data
from cellcloud.model.server import ServerRecord
from top_api import server_query
from top_api.answers import servers as answers
from top_api.operations.create import create_servers
from top_api.operations.delete import delete_server
from top_api.operations.server_in_cell import look_up_server
from top_api.operations.update import update_server
from top_api.paging import next_links, servers_page
from top_api.request_acceptance import CreateResult
from top_api.request_pipeline import Answer, Call, Resource
from top_api.response_schema import NOTHING
from top_api.schemas import servers as schemas
from top_api.schemas.types import is_true
from top_api.views.servers import ServerView

servers = Resource("servers")
_INDEX, _DETAIL = "os_compute_api:servers:index", "os_compute_api:servers:detail"


@servers.route("GET", "/servers", _INDEX, query=schemas.LIST, answer=answers.LIST)
def list_servers(call: Call) -> dict[str, Any]:
    records, walk = _list(call, _INDEX)
    view = ServerView(call)
    shown = [view.brief(record) for record in records]
    links = next_links(call, "servers", ("servers",), [record.id for record in records], walk=walk)
    return {"servers": shown, **links}


@servers.route("GET", "/servers/detail", _DETAIL, query=schemas.LIST, answer=answers.DETAIL)
def list_servers_in_detail(call: Call) -> dict[str, Any]:
    records, walk = _list(call, _DETAIL)
    view = ServerView(call, call.services.cells.unreachable_cells(), records)
    shown = [view.detail(record) for record in _with_user_data(call, records)]
    links = next_links(call, "servers", ("servers", "detail"), [record.id for record in records], walk=walk)
    return {"servers": shown, **links}


def _list(call: Call, rule: str) -> tuple[list[ServerRecord], str]:
    try:
        return servers_page(call, server_query.read(call, rule))
    except errors.NotFound as error:
        raise errors.Invalid(error.message) from error


def _with_user_data(call: Call, records: list[ServerRecord]) -> list[ServerRecord]:
    """Return the records with the user data and the hints that the caller is going to see."""
    sees_all = call.version >= (2, 3) and call.allows("os_compute_api:os-extended-server-attributes")
    if not sees_all and (call.version < (2, 100) or not any(record.spec.hints_id for record in records)):
        return records
    with call.services.database.read() as connection:
        attach = user_data.attach if sees_all else user_data.attach_hints
        specs = attach(connection, user_data.TOP, [record.spec for record in records])
    return [replace(record, spec=spec) for record, spec in zip(records, specs, strict=True)]


@servers.route(
    "POST", "/servers", "os_compute_api:servers:create", status=202, body=schemas.CREATE, answer=answers.CREATED
)
def create(call: Call) -> Answer:
    body = call.body
    if call.version < (2, 19):  # where a description cannot be given, the name is one
        body = {**body, "server": {**body["server"], "description": body["server"]["name"].strip()}}
    accepted = create_servers(call.services, call.context, body, key=call.idempotency_key, version=call.version)
    if is_true(call.body["server"].get("return_reservation_id")):
        return Answer(status=202, body={"reservation_id": accepted.reservation_id})
    server_id = accepted.server_ids[0]
    location = {"Location": call.url("servers", server_id)}
    return Answer(status=202, body={"server": _created(call, accepted)}, headers=location)


def _created(call: Call, accepted: CreateResult) -> dict[str, Any]:
    server_id = accepted.server_ids[0]
    return {
        "id": server_id,
        "links": call.links("servers", server_id),
        "OS-DCF:diskConfig": accepted.disk_config,
        "security_groups": [{"name": name} for name in accepted.security_groups],
        "adminPass": accepted.admin_pass,
    }


@servers.route("GET", "/servers/<server_id>", "os_compute_api:servers:show", lookup=look_up_server, answer=answers.SHOW)
def show(call: Call, server_id: str) -> dict[str, Any]:
    (whole,) = _with_user_data(call, [call.server])
    return {"server": ServerView(call, call.services.cells.unreachable_cells(), [whole]).show(whole)}


@servers.route(
    "PUT",
    "/servers/<server_id>",
    "os_compute_api:servers:update",
    body=schemas.UPDATE,
    lookup=look_up_server,
    answer=answers.UPDATED,
)
def update(call: Call, server_id: str) -> dict[str, Any]:
    changed = update_server(call.services, call.context, call.server, call.body["server"])
    (whole,) = _with_user_data(call, [changed])
    return {"server": ServerView(call, call.services.cells.unreachable_cells(), [whole]).updated(whole)}


@servers.route(
    "DELETE", "/servers/<server_id>", "os_compute_api:servers:delete", status=204, lookup=look_up_server, answer=NOTHING
)
def delete(call: Call, server_id: str) -> None:
    delete_server(call.services, call.context, call.server)
