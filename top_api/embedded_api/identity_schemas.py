"""Bodies of the identity API. What is not kept of a user or project is refused; a log-in may say more, as it may in
Keystone."""

from __future__ import annotations

from typing import Any

from top_api.embedded_api.request import Schema

_ID = {"type": "string", "minLength": 1, "maxLength": 64}
_NAME = {"type": "string", "minLength": 1, "maxLength": 255}
_DOMAIN = {
    "type": "object",
    "properties": {"id": _ID, "name": _NAME},
    "anyOf": [{"required": ["id"]}, {"required": ["name"]}],
}


def _named(*required: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"id": _ID, "name": _NAME, "domain": _DOMAIN, **more},
        "required": list(required),
        "anyOf": [{"required": ["id"]}, {"required": ["name", "domain"]}],
    }


def _body(name: str, properties: dict[str, Any], required: tuple[str, ...] = (), *, more: bool = False) -> Schema:
    inner = {"type": "object", "properties": properties, "required": list(required), "additionalProperties": more}
    return Schema({"type": "object", "properties": {name: inner}, "required": [name]})


AUTH = _body(
    "auth",
    {
        "identity": {
            "type": "object",
            "properties": {
                "methods": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 4},
                "token": {
                    "type": "object",
                    "properties": {"id": {"type": "string", "maxLength": 255}},
                    "required": ["id"],
                },
                "password": {
                    "type": "object",
                    "properties": {"user": _named("password", password={"type": "string"})},
                    "required": ["user"],
                },
            },
            "required": ["methods"],
        },
        "scope": {
            "anyOf": [
                {"const": "unscoped"},
                {"type": "null"},
                {
                    "type": "object",
                    "properties": {
                        "project": _named(),
                        "unscoped": {"type": "object"},
                        "domain": {"type": "object"},
                        "system": {"type": "object"},
                    },
                },
            ]
        },
    },
    ("identity",),
    more=True,
)
_VISIBLE = r"(?s).*\S.*"
_EMPTY = {"type": ["object", "array", "null"], "maxProperties": 0, "maxItems": 0}
_PROJECT = {
    "name": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": _VISIBLE},
    "description": {"type": ["string", "null"], "maxLength": 4096},
    "enabled": {"type": "boolean"},
    "domain_id": {"enum": ["default", None]},
    "parent_id": {"enum": ["default", None]},
    "is_domain": {"const": False},
    "tags": _EMPTY,
    "options": _EMPTY,
}
_USER = {
    "name": {**_NAME, "pattern": _VISIBLE},
    "password": {"type": ["string", "null"]},
    "enabled": {"type": "boolean"},
    "default_project_id": {"type": ["string", "null"], "maxLength": 64},
    "domain_id": {"enum": ["default", None]},
    "options": _EMPTY,
}
PROJECT = _body("project", _PROJECT, ("name",))
PROJECT_UPDATE = _body("project", _PROJECT)
USER = _body("user", _USER, ("name",))
USER_UPDATE = _body("user", {**_USER, "password": {"type": "string"}})
