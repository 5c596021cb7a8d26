"""Quotas of the network API: what a project may have and has, and limits of its own that an administrator gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response

from cellcloud import errors
from cellcloud.db.network_usages import TABLES
from cellcloud.embedded.networks import EmbeddedNetworks
from top_api.embedded_api.request import Schema, answer, asks, body_of
from top_api.policy import Target

_LIMIT = {"type": "integer", "minimum": -1, "maximum": (1 << 31) - 1}
_QUOTA = {
    "type": "object",
    "properties": {**dict.fromkeys(TABLES, _LIMIT), "check_limit": {"type": "boolean"}, "force": {"type": "boolean"}},
    "additionalProperties": False,
}
QUOTA = Schema(
    {"type": "object", "properties": {"quota": _QUOTA}, "required": ["quota"], "additionalProperties": False}
)


def _of_project(arguments: Mapping[str, str]) -> Target:
    """Raises NotFound for what cannot be a project's id."""
    if len(arguments["project_id"]) > 255:
        raise errors.NotFound("No project has an id of more than 255 characters.")
    return {"project_id": arguments["project_id"]}


def _of_nobody(arguments: Mapping[str, str]) -> Target:
    """A list of every project is no single project's."""
    return {}


def add_routes(blueprint: Blueprint, networks: EmbeddedNetworks) -> None:
    """Routes below ``/network/v2.0/quotas``."""

    @blueprint.get("/v2.0/quotas")
    @asks("get_quota", _of_nobody)
    def list_quotas() -> Response:
        found = [
            {"project_id": project_id} | _limits(networks, project_id)
            for project_id in networks.list_limited_projects()
        ]
        return answer({"quotas": found})

    @blueprint.get("/v2.0/quotas/<project_id>")
    @blueprint.get("/v2.0/quotas/<project_id>.json")
    @asks("cellcloud:own_network_quota", _of_project)
    def show_quotas(project_id: str) -> Response:
        return answer({"quota": _limits(networks, project_id)})

    @blueprint.get("/v2.0/quotas/<project_id>/default")
    @blueprint.get("/v2.0/quotas/<project_id>/default.json")
    @asks("cellcloud:own_network_quota", _of_project)
    def show_default_quotas(project_id: str) -> Response:
        return answer({"quota": networks.default_quotas()})

    @blueprint.get("/v2.0/quotas/<project_id>/details")
    @blueprint.get("/v2.0/quotas/<project_id>/details.json")
    @asks("cellcloud:own_network_quota", _of_project)
    def show_quota_details(project_id: str) -> Response:
        found = networks.list_quotas(project_id).items()
        return answer({"quota": {name: {"limit": limit, "used": used, "reserved": 0} for name, (limit, used) in found}})

    @blueprint.put("/v2.0/quotas/<project_id>")
    @blueprint.put("/v2.0/quotas/<project_id>.json")
    @asks("update_quota", _of_project)
    def set_quotas(project_id: str) -> Response:
        wanted: dict[str, Any] = body_of(QUOTA)["quota"]
        limits = {name: wanted[name] for name in TABLES if name in wanted}
        if wanted.get("check_limit") and not wanted.get("force"):
            for name, (_, used) in networks.list_quotas(project_id).items():
                if 0 <= limits.get(name, -1) < used:
                    raise errors.Invalid(f"Quota limit of {name} is below what is in use: {used}.")
        networks.set_quotas(project_id, limits)
        return answer({"quota": _limits(networks, project_id)})

    @blueprint.delete("/v2.0/quotas/<project_id>")
    @blueprint.delete("/v2.0/quotas/<project_id>.json")
    @asks("delete_quota", _of_project)
    def reset_quotas(project_id: str) -> Response:
        networks.set_quotas(project_id, dict.fromkeys(TABLES))
        return Response(status=204)


def _limits(networks: EmbeddedNetworks, project_id: str) -> dict[str, int]:
    return {name: limit for name, (limit, _) in networks.list_quotas(project_id).items()}
