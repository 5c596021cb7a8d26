"""/os-aggregates."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from cellcloud.db import aggregates as table
from cellcloud.model.host import Aggregate
from top_api.answers import aggregates as answers
from top_api.operations import aggregates as operations
from top_api.request_pipeline import Actions, Answer, Call, Resource
from top_api.response_schema import NOTHING
from top_api.schemas import aggregates as schemas
from top_api.views import aggregates as views

aggregates = Resource("os-aggregates")
ONE = "/os-aggregates/<aggregate_id>"
actions = Actions()


@aggregates.route("GET", "/os-aggregates", "os_compute_api:os-aggregates:index", answer=answers.LIST)
def list_aggregates(call: Call) -> dict[str, Any]:
    with call.services.database.read() as connection:
        found = table.list_all(connection)
    return {"aggregates": [views.show(one, call.version) for one in found]}


@aggregates.route(
    "POST", "/os-aggregates", "os_compute_api:os-aggregates:create", body=schemas.CREATE, answer=answers.CREATED
)
def create(call: Call) -> dict[str, Any]:
    given = call.body["aggregate"]
    made = operations.create(call.services, call.context, given["name"], given.get("availability_zone"))
    return {"aggregate": views.show_new(made, call.version)}


@aggregates.route("GET", ONE, "os_compute_api:os-aggregates:show", answer=answers.ONE)
def show(call: Call, aggregate_id: str) -> dict[str, Any]:
    with call.services.database.read() as connection:
        found = table.get(connection, _number(aggregate_id))
    return _shown(call, found)


@aggregates.route("PUT", ONE, "os_compute_api:os-aggregates:update", body=schemas.UPDATE, answer=answers.ONE)
def update(call: Call, aggregate_id: str) -> dict[str, Any]:
    given = call.body["aggregate"]
    name = given.get("name")
    zone = {"availability_zone": given["availability_zone"]} if "availability_zone" in given else None
    if name is not None and not name.strip():
        raise errors.Invalid("Invalid input for field/attribute name. A name has other letters than spaces.")
    changed = operations.update(
        call.services, call.context, _number(aggregate_id), name=None if name is None else name.strip(), metadata=zone
    )
    return _shown(call, changed)


@aggregates.route("DELETE", ONE, "os_compute_api:os-aggregates:delete", answer=NOTHING)
def delete(call: Call, aggregate_id: str) -> Answer:
    operations.delete(call.services, call.context, _number(aggregate_id))
    return Answer(status=200)


@aggregates.route("POST", ONE + "/action", actions)
def act(call: Call, aggregate_id: str) -> Answer:
    return actions.perform(call, aggregate_id=aggregate_id)


@actions.action(
    "add_host", "os_compute_api:os-aggregates:add_host", status=200, body=schemas.ADD_HOST, answer=answers.ONE
)
def add_host(call: Call, aggregate_id: str) -> dict[str, Any]:
    host = call.body["add_host"]["host"]
    return _shown(call, operations.add_host(call.services, call.context, _number(aggregate_id), host))


@actions.action(
    "remove_host", "os_compute_api:os-aggregates:remove_host", status=200, body=schemas.REMOVE_HOST, answer=answers.ONE
)
def remove_host(call: Call, aggregate_id: str) -> dict[str, Any]:
    host = call.body["remove_host"]["host"]
    return _shown(call, operations.remove_host(call.services, call.context, _number(aggregate_id), host))


@actions.action(
    "set_metadata",
    "os_compute_api:os-aggregates:set_metadata",
    status=200,
    body=schemas.SET_METADATA,
    answer=answers.ONE,
)
def set_metadata(call: Call, aggregate_id: str) -> dict[str, Any]:
    metadata = call.body["set_metadata"]["metadata"]
    return _shown(call, operations.update(call.services, call.context, _number(aggregate_id), metadata=metadata))


@aggregates.route(
    "POST",
    ONE + "/images",
    "compute:aggregates:images",
    status=202,
    since=(2, 81),
    body=schemas.CACHE_IMAGES,
    answer=NOTHING,
)
def cache_images(call: Call, aggregate_id: str) -> None:
    wanted = [one["id"] for one in call.body["cache"]]
    operations.cache_images(call.services, call.context, _number(aggregate_id), wanted)


def _shown(call: Call, aggregate: Aggregate) -> dict[str, Any]:
    return {"aggregate": views.show(aggregate, call.version)}


def _number(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 10):
        raise errors.Invalid(f"id {text[:64]} is no number of an aggregate.")
    return int(text)
