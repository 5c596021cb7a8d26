"""What a server's guest has used, the password that was set in it, and how its processors and memory lie."""

from __future__ import annotations

from typing import Any

from top_api.answers import server_guests as answers
from top_api.operations import guest_questions
from top_api.operations.server_in_cell import look_up_server
from top_api.request_pipeline import Call, Resource
from top_api.response_schema import NOTHING
from top_api.views import diagnostics, topology

server_guests = Resource("server-guests")
_PASSWORD = "/servers/<server_id>/os-server-password"  # noqa: S105 -- a path


@server_guests.route(
    "GET",
    "/servers/<server_id>/diagnostics",
    "os_compute_api:os-server-diagnostics",
    also=(409, 501),
    lookup=look_up_server,
    answer=answers.DIAGNOSTICS,
)
def show_diagnostics(call: Call, server_id: str) -> dict[str, Any]:
    found = guest_questions.get_diagnostics(call.services, call.context, call.server)
    if call.version < (2, 48):
        return diagnostics.by_driver(found)
    return diagnostics.in_one_form(found, call.server)


@server_guests.route(
    "GET", _PASSWORD, "os_compute_api:os-server-password:show", lookup=look_up_server, answer=answers.PASSWORD
)
def show_password(call: Call, server_id: str) -> dict[str, Any]:
    return {"password": call.server.spec.sealed_password}


@server_guests.route(
    "DELETE", _PASSWORD, "os_compute_api:os-server-password:clear", status=204, lookup=look_up_server, answer=NOTHING
)
def clear_password(call: Call, server_id: str) -> None:
    guest_questions.clear_password(call.services, call.context, call.server)


@server_guests.route(
    "GET",
    "/servers/<server_id>/topology",
    "compute:server:topology:index",
    since=(2, 78),
    lookup=look_up_server,
    answer=answers.TOPOLOGY,
)
def show_topology(call: Call, server_id: str) -> dict[str, Any]:
    placed = guest_questions.get_placed(call.services, call.context, call.server)
    threads = guest_questions.count_threads(call.server)
    return topology.show(placed, threads=threads, with_host=call.allows("compute:server:topology:host:index"))
