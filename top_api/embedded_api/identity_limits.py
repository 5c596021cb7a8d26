"""Identity v3 over the embedded identity: registered limits, and those of projects and domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cellcloud import errors
from cellcloud.embedded.identity_collections import new_id
from cellcloud.embedded.identity_limits import WantedLimit
from cellcloud.model.identity import DOMAIN, PROJECT, OwnLimit, RegisteredLimit
from top_api.embedded_api import identity_list_filters, identity_views
from top_api.embedded_api.error_formats import IDENTITY
from top_api.embedded_api.identity_limit_schemas import LIMIT_UPDATE, LIMITS, REGISTERED, REGISTERED_UPDATE
from top_api.embedded_api.identity_list_filters import listed
from top_api.request_pipeline import Call, Resource

limits = Resource("identity_limits", IDENTITY)
_REGISTERED = "/v3/registered_limits/<registered_limit_id>"
_LIMIT = "/v3/limits/<limit_id>"
_MODEL = {
    "name": "flat",
    "description": "Limit enforcement and validation does not take project hierarchy into consideration.",
}


# ---- registered ----------------------------------------------------------------------------------------------------
def _registered(call: Call, limit: RegisteredLimit) -> dict[str, Any]:
    return {
        "id": limit.id,
        "service_id": limit.service_id,
        "region_id": limit.region_id or None,
        "resource_name": limit.resource_name,
        "default_limit": limit.default_limit,
        "description": limit.description,
        "links": {"self": f"{identity_views.root(call)}/v3/registered_limits/{limit.id}"},
    }


def _named(given: Mapping[str, Any]) -> dict[str, Any]:
    return {**given, "region_id": given["region_id"] or ""} if "region_id" in given else dict(given)


@limits.route("GET", "/v3/registered_limits", "identity:list_registered_limits")
def registered_limits(call: Call) -> dict[str, Any]:
    page = identity_list_filters.REGISTERED_LIMITS.page(call)
    found = call.embedded.identity.limits.registered.list_all(page)
    return listed(call, "registered_limits", [_registered(call, limit) for limit in found], page)


@limits.route("POST", "/v3/registered_limits", "identity:create_registered_limits", status=201, body=REGISTERED)
def register_limits(call: Call) -> dict[str, Any]:
    wanted = [RegisteredLimit(id=new_id(), **_named(given)) for given in call.body["registered_limits"]]
    made = call.embedded.identity.limits.register(wanted)
    return {"registered_limits": [_registered(call, limit) for limit in made]}


@limits.route("GET", _REGISTERED, "identity:get_registered_limit")
def show_registered_limit(call: Call, registered_limit_id: str) -> dict[str, Any]:
    found = call.embedded.identity.limits.registered.get(registered_limit_id)
    return {"registered_limit": _registered(call, found)}


@limits.route("PATCH", _REGISTERED, "identity:update_registered_limit", body=REGISTERED_UPDATE)
def update_registered_limit(call: Call, registered_limit_id: str) -> dict[str, Any]:
    changes = _named(call.body["registered_limit"])
    found = call.embedded.identity.limits.registered.update(registered_limit_id, changes)
    return {"registered_limit": _registered(call, found)}


@limits.route("DELETE", _REGISTERED, "identity:delete_registered_limit", status=204)
def delete_registered_limit(call: Call, registered_limit_id: str) -> None:
    call.embedded.identity.limits.registered.delete(registered_limit_id)


# ---- of projects and domains ---------------------------------------------------------------------------------------
def _views(call: Call, found: Sequence[OwnLimit]) -> list[dict[str, Any]]:
    of = call.embedded.identity.limits.registered_of(found)
    return [
        {
            "id": limit.id,
            "project_id": limit.owner_id if limit.owner == PROJECT else None,
            "domain_id": limit.owner_id if limit.owner == DOMAIN else None,
            "service_id": of[limit.registered_limit_id].service_id,
            "region_id": of[limit.registered_limit_id].region_id or None,
            "resource_name": of[limit.registered_limit_id].resource_name,
            "resource_limit": limit.resource_limit,
            "description": limit.description,
            "links": {"self": f"{identity_views.root(call)}/v3/limits/{limit.id}"},
        }
        for limit in found
        if limit.registered_limit_id in of
    ]


@limits.route("GET", "/v3/limits/model", "identity:get_limit_model")
def limit_model(call: Call) -> dict[str, Any]:
    return {"model": _MODEL}


@limits.route("GET", "/v3/limits", "identity:list_limits")
def own_limits(call: Call) -> dict[str, Any]:
    context = call.context
    found = call.embedded.identity.limits.list_own()
    if not (context.is_admin or context.system or "admin" in context.roles):
        mine = {(PROJECT, context.project_id), (DOMAIN, context.domain_id)}
        found = [limit for limit in found if (limit.owner, limit.owner_id) in mine]
    shown = _views(call, found)
    for name in ("service_id", "region_id", "resource_name", "project_id", "domain_id"):
        wanted = call.param(name)
        if wanted is not None:
            shown = [limit for limit in shown if limit[name] == wanted]
    return listed(call, "limits", shown)


@limits.route("POST", "/v3/limits", "identity:create_limits", status=201, body=LIMITS)
def create_limits(call: Call) -> dict[str, Any]:
    made = call.embedded.identity.limits.create([_wanted(given) for given in call.body["limits"]])
    return {"limits": _views(call, made)}


def _wanted(given: Mapping[str, Any]) -> WantedLimit:
    owners = [(kind, given[f"{kind}_id"]) for kind in (PROJECT, DOMAIN) if given.get(f"{kind}_id") is not None]
    if len(owners) != 1:
        raise errors.Invalid("A limit is of a project_id or of a domain_id.")
    return WantedLimit(
        owner=owners[0][0],
        owner_id=owners[0][1],
        service_id=given["service_id"],
        region_id=given.get("region_id") or "",
        resource_name=given["resource_name"],
        resource_limit=given["resource_limit"],
        description=given.get("description"),
    )


def _look_up(call: Call, arguments: Mapping[str, str]) -> None:
    """Find the limit, and whose it is. What there is not is nobody's."""
    call.target = {}
    try:
        call.found = call.embedded.identity.limits.own.get(arguments["limit_id"])
    except errors.NotFound:
        return
    domain_id = call.embedded.identity.limits.domain_of(call.found)
    of_project = call.found.owner == PROJECT
    key = "target.limit.project.domain_id" if of_project else "target.limit.domain.id"
    call.target = {key: domain_id or ""} | ({"target.limit.project_id": call.found.owner_id} if of_project else {})


@limits.route("GET", _LIMIT, "identity:get_limit", lookup=_look_up)
def show_limit(call: Call, limit_id: str) -> dict[str, Any]:
    (shown,) = _views(call, [call.embedded.identity.limits.own.get(limit_id)])
    return {"limit": shown}


@limits.route("PATCH", _LIMIT, "identity:update_limit", body=LIMIT_UPDATE)
def update_limit(call: Call, limit_id: str) -> dict[str, Any]:
    (shown,) = _views(call, [call.embedded.identity.limits.own.update(limit_id, call.body["limit"])])
    return {"limit": shown}


@limits.route("DELETE", _LIMIT, "identity:delete_limit", status=204)
def delete_limit(call: Call, limit_id: str) -> None:
    call.embedded.identity.limits.own.delete(limit_id)
