"""/flavors: list, show, and for administrators create, update, delete, extra specs and access."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from cellcloud import errors
from cellcloud.db import flavors as table
from cellcloud.db.engine import transact
from cellcloud.model import extra_specs
from cellcloud.model.flavor import Flavor
from top_api.answers import flavors as answers
from top_api.operations import projects
from top_api.paging import next_links, page_of
from top_api.request_pipeline import Actions, Answer, Call, Resource
from top_api.response_schema import NOTHING
from top_api.schemas import flavors as schemas
from top_api.schemas.types import is_true
from top_api.views import flavors as views

flavors = Resource("flavors")
actions = Actions()
View = Callable[[Call, Flavor], dict[str, Any]]


@flavors.route("GET", "/flavors", "os_compute_api:flavors", query=schemas.LIST, answer=answers.LIST)
def list_flavors(call: Call) -> dict[str, Any]:
    return _page(call, views.brief, ("flavors",))


@flavors.route("GET", "/flavors/detail", "os_compute_api:flavors", query=schemas.LIST, answer=answers.DETAIL)
def list_flavors_in_detail(call: Call) -> dict[str, Any]:
    return _page(call, views.detail, ("flavors", "detail"))


def _page(call: Call, view: View, path: tuple[str, ...]) -> dict[str, Any]:
    least_ram, least_disk = _number(call, "minRam"), _number(call, "minDisk")
    is_public = _wanted_kind(call)
    # Administrators see the private flavors of everybody only when they ask for them.
    project_id = None if call.context.is_admin and is_public is not True else call.context.project_id
    with call.services.database.read() as connection:
        found = table.list_flavors(
            connection,
            project_id=project_id,
            is_public=is_public,
            order=call.param("sort_key") or "flavorid",
            descending=call.param("sort_dir", "asc") == "desc",
        )
    fitting = [flavor for flavor in found if flavor.memory_mb >= least_ram and flavor.root_gb >= least_disk]
    changing = call.param("sort_key") == "description"
    page, walk = page_of(call, fitting, lambda flavor: flavor.id, steady=not changing)
    links = next_links(call, "flavors", path, [flavor.id for flavor in page], walk=walk)
    return {"flavors": [view(call, flavor) for flavor in page], **links}


def _number(call: Call, name: str) -> int:
    text = call.param(name, "0") or "0"
    if not text.isdecimal() or not text.isascii() or len(text) > 12:
        raise errors.Invalid(f"Invalid {name} filter [{text[:64]}]")
    return int(text)


def _wanted_kind(call: Call) -> bool | None:
    """None: public and private ones; others than administrators see what they may use of either kind."""
    if not call.context.is_admin:
        return None
    text = (call.param("is_public") or "true").lower()
    if text == "none":
        return None
    if text in ("t", "true", "yes", "1", "on"):
        return True
    if text in ("f", "false", "no", "0", "off"):
        return False
    raise errors.Invalid(f"Invalid is_public filter [{text[:64]}]")


def _get(call: Call, flavor_id: str) -> Flavor:
    with call.services.database.read() as connection:
        return table.get_flavor(connection, flavor_id[:256], project_id=call.project_filter)


@flavors.route("GET", "/flavors/<flavor_id>", "os_compute_api:flavors", answer=answers.ONE)
def show(call: Call, flavor_id: str) -> dict[str, Any]:
    return {"flavor": views.detail(call, _get(call, flavor_id))}


@flavors.route("POST", "/flavors", "os_compute_api:os-flavor-manage:create", body=schemas.CREATE, answer=answers.ONE)
def create(call: Call) -> dict[str, Any]:
    given = call.body["flavor"]
    flavor_id = given.get("id")
    flavor = Flavor(
        id=str(uuid.uuid4()) if flavor_id in (None, "auto") else str(flavor_id),
        name=given["name"].strip(),
        vcpus=int(given["vcpus"]),
        memory_mb=int(given["ram"]),
        root_gb=int(given["disk"]),
        ephemeral_gb=int(given.get("OS-FLV-EXT-DATA:ephemeral", 0)),
        swap_mb=int(given.get("swap", 0)),
        rxtx_factor=float(given.get("rxtx_factor", 1.0)),
        is_public=is_true(given.get("os-flavor-access:is_public", True)),
        description=given.get("description"),
    )
    transact(call.services.database, lambda connection: table.create_flavor(connection, flavor))
    return {"flavor": views.detail(call, flavor)}


@flavors.route(
    "PUT",
    "/flavors/<flavor_id>",
    "os_compute_api:os-flavor-manage:update",
    since=(2, 55),
    body=schemas.UPDATE,
    answer=answers.ONE,
)
def update(call: Call, flavor_id: str) -> dict[str, Any]:
    description = call.body["flavor"]["description"]
    transact(call.services.database, lambda connection: table.set_description(connection, flavor_id, description))
    return {"flavor": views.detail(call, _get(call, flavor_id))}


@flavors.route("DELETE", "/flavors/<flavor_id>", "os_compute_api:os-flavor-manage:delete", status=202, answer=NOTHING)
def delete(call: Call, flavor_id: str) -> None:
    transact(call.services.database, lambda connection: table.delete_flavor(connection, flavor_id))


@flavors.route(
    "GET",
    "/flavors/<flavor_id>/os-extra_specs",
    "os_compute_api:os-flavor-extra-specs:index",
    answer=answers.EXTRA_SPECS,
)
def list_extra_specs(call: Call, flavor_id: str) -> dict[str, Any]:
    return {"extra_specs": _get(call, flavor_id).extra_specs}


@flavors.route(
    "POST",
    "/flavors/<flavor_id>/os-extra_specs",
    "os_compute_api:os-flavor-extra-specs:create",
    body=schemas.EXTRA_SPECS,
    answer=answers.EXTRA_SPECS,
)
def add_extra_specs(call: Call, flavor_id: str) -> dict[str, Any]:
    added = {key: str(value) for key, value in call.body["extra_specs"].items()}
    _check_extra_specs(call, added)
    _set_extra_specs(call, flavor_id, dict(added))
    return {"extra_specs": added}


@flavors.route(
    "GET",
    "/flavors/<flavor_id>/os-extra_specs/<key>",
    "os_compute_api:os-flavor-extra-specs:show",
    answer=answers.EXTRA_SPEC,
)
def show_extra_spec(call: Call, flavor_id: str, key: str) -> dict[str, Any]:
    return {key: _extra_spec(_get(call, flavor_id), key)}


@flavors.route(
    "PUT",
    "/flavors/<flavor_id>/os-extra_specs/<key>",
    "os_compute_api:os-flavor-extra-specs:update",
    body=schemas.EXTRA_SPEC,
    answer=answers.EXTRA_SPEC,
)
def set_extra_spec(call: Call, flavor_id: str, key: str) -> dict[str, Any]:
    _check_extra_specs(call, {name: str(value) for name, value in call.body.items()})
    if key not in call.body:
        raise errors.Invalid("Request body and URI mismatch")
    _set_extra_specs(call, flavor_id, {key: str(call.body[key])})
    return {key: str(call.body[key])}


@flavors.route(
    "DELETE", "/flavors/<flavor_id>/os-extra_specs/<key>", "os_compute_api:os-flavor-extra-specs:delete", answer=NOTHING
)
def delete_extra_spec(call: Call, flavor_id: str, key: str) -> None:
    transact(call.services.database, lambda connection: table.delete_extra_spec(connection, flavor_id, key))


def _set_extra_specs(call: Call, flavor_id: str, specs: dict[str, str]) -> None:
    transact(call.services.database, lambda connection: table.set_extra_specs(connection, flavor_id, specs))


def _check_extra_specs(call: Call, specs: Mapping[str, str]) -> None:
    """Refuse, since 2.86, names and values that are not in the catalogue. Raises Invalid."""
    if call.version >= (2, 86):
        for name, value in specs.items():
            extra_specs.check(name, value)


def _extra_spec(flavor: Flavor, key: str) -> str:
    if key not in flavor.extra_specs:
        raise errors.NotFound(f"Flavor {flavor.id} has no extra specs with key {key[:255]}.")
    return flavor.extra_specs[key]


@flavors.route("GET", "/flavors/<flavor_id>/os-flavor-access", "os_compute_api:os-flavor-access", answer=answers.ACCESS)
def list_access(call: Call, flavor_id: str) -> dict[str, Any]:
    flavor = _get(call, flavor_id)
    if flavor.is_public:
        raise errors.NotFound("Access list not available for public flavors.")
    return _access(call, flavor.id)


@flavors.route("POST", "/flavors/<flavor_id>/action", actions)
def act(call: Call, flavor_id: str) -> Answer:
    return actions.perform(call, flavor_id=flavor_id)


@actions.action(
    "addTenantAccess",
    "os_compute_api:os-flavor-access:add_tenant_access",
    status=200,
    body=schemas.ADD_ACCESS,
    answer=answers.ACCESS,
)
def add_access(call: Call, flavor_id: str) -> dict[str, Any]:
    project_id = call.body["addTenantAccess"]["tenant"]
    projects.check(call, project_id)
    flavor = _get(call, flavor_id)
    if flavor.is_public and call.version >= (2, 7):
        raise errors.Conflict("Can not add access to a public flavor.")
    transact(call.services.database, lambda connection: table.add_project(connection, flavor.id, project_id))
    return _access(call, flavor.id)


@actions.action(
    "removeTenantAccess",
    "os_compute_api:os-flavor-access:remove_tenant_access",
    status=200,
    body=schemas.REMOVE_ACCESS,
    answer=answers.ACCESS,
)
def remove_access(call: Call, flavor_id: str) -> dict[str, Any]:
    flavor, project_id = _get(call, flavor_id), call.body["removeTenantAccess"]["tenant"]
    transact(call.services.database, lambda connection: table.remove_project(connection, flavor.id, project_id))
    return _access(call, flavor.id)


def _access(call: Call, flavor_id: str) -> dict[str, Any]:
    with call.services.database.read() as connection:
        allowed = table.list_projects(connection, flavor_id)
    return {"flavor_access": [{"flavor_id": flavor_id, "tenant_id": project} for project in allowed]}
