"""Quotas of the network API: what a project may have and has, and limits of its own that an administrator gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellcloud import errors
from cellcloud.db.network_quota_usages import TABLES
from top_api.authorization import Target
from top_api.embedded_api.error_formats import NETWORK as API
from top_api.request_pipeline import Call, Resource
from top_api.validation import Versioned

quotas = Resource("network_quotas", API)
_LIMIT = {"type": "integer", "minimum": -1, "maximum": (1 << 31) - 1}
_QUOTA = {
    "type": "object",
    "properties": {**dict.fromkeys(TABLES, _LIMIT), "check_limit": {"type": "boolean"}, "force": {"type": "boolean"}},
    "additionalProperties": False,
}
QUOTA = Versioned(
    {"type": "object", "properties": {"quota": _QUOTA}, "required": ["quota"], "additionalProperties": False}
)


def _of_project(arguments: Mapping[str, str]) -> Target:
    """Return the project of the path. Raises NotFound for what cannot be a project's id."""
    if len(arguments["project_id"]) > 255:
        raise errors.NotFound("No project has an id of more than 255 characters.")
    return {"project_id": arguments["project_id"]}


def _of_nobody(arguments: Mapping[str, str]) -> Target:
    """Return no target: a list of every project is no single project's."""
    return {}


@quotas.route("GET", "/v2.0/quotas", "get_quota", target=_of_nobody)
def list_quotas(call: Call) -> dict[str, Any]:
    found = [
        {"project_id": project_id} | _limits(call, project_id)
        for project_id in call.embedded.networks.list_limited_projects()
    ]
    return {"quotas": found}


@quotas.route("GET", "/v2.0/quotas/<project_id>", "cellcloud:own_network_quota", target=_of_project)
@quotas.route("GET", "/v2.0/quotas/<project_id>.json", "cellcloud:own_network_quota", target=_of_project)
def show_quotas(call: Call, project_id: str) -> dict[str, Any]:
    return {"quota": _limits(call, project_id)}


@quotas.route("GET", "/v2.0/quotas/<project_id>/default", "cellcloud:own_network_quota", target=_of_project)
@quotas.route("GET", "/v2.0/quotas/<project_id>/default.json", "cellcloud:own_network_quota", target=_of_project)
def show_default_quotas(call: Call, project_id: str) -> dict[str, Any]:
    return {"quota": call.embedded.networks.default_quotas()}


@quotas.route("GET", "/v2.0/quotas/<project_id>/details", "cellcloud:own_network_quota", target=_of_project)
@quotas.route("GET", "/v2.0/quotas/<project_id>/details.json", "cellcloud:own_network_quota", target=_of_project)
def show_quota_details(call: Call, project_id: str) -> dict[str, Any]:
    found = call.embedded.networks.list_quotas(project_id).items()
    return {"quota": {name: {"limit": limit, "used": used, "reserved": 0} for name, (limit, used) in found}}


@quotas.route("PUT", "/v2.0/quotas/<project_id>", "update_quota", target=_of_project, body=QUOTA)
@quotas.route("PUT", "/v2.0/quotas/<project_id>.json", "update_quota", target=_of_project, body=QUOTA)
def set_quotas(call: Call, project_id: str) -> dict[str, Any]:
    wanted: dict[str, Any] = call.body["quota"]
    limits = {name: wanted[name] for name in TABLES if name in wanted}
    if wanted.get("check_limit") and not wanted.get("force"):
        for name, (_, used) in call.embedded.networks.list_quotas(project_id).items():
            if 0 <= limits.get(name, -1) < used:
                raise errors.Invalid(f"Quota limit of {name} is below what is in use: {used}.")
    call.embedded.networks.set_quotas(project_id, limits)
    return {"quota": _limits(call, project_id)}


@quotas.route("DELETE", "/v2.0/quotas/<project_id>", "delete_quota", target=_of_project, status=204)
@quotas.route("DELETE", "/v2.0/quotas/<project_id>.json", "delete_quota", target=_of_project, status=204)
def reset_quotas(call: Call, project_id: str) -> None:
    call.embedded.networks.set_quotas(project_id, dict.fromkeys(TABLES))


def _limits(call: Call, project_id: str) -> dict[str, int]:
    return {name: limit for name, (limit, _) in call.embedded.networks.list_quotas(project_id).items()}
