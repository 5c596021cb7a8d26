"""Bodies of the identity API. Unknown keys are let pass, as Keystone does; wrong types are not."""

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


def _body(name: str, properties: dict[str, Any], required: tuple[str, ...] = ()) -> Schema:
    inner = {"type": "object", "properties": properties, "required": list(required)}
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
)
_PROJECT = {
    "name": {"type": "string", "minLength": 1, "maxLength": 64},
    "description": {"type": "string", "maxLength": 4096},
    "enabled": {"type": "boolean"},
    "domain_id": {"const": "default"},
}
_USER = {
    "name": _NAME,
    "password": {"type": ["string", "null"]},
    "enabled": {"type": "boolean"},
    "default_project_id": {"type": ["string", "null"], "maxLength": 64},
    "domain_id": {"const": "default"},
}
PROJECT = _body("project", _PROJECT, ("name",))
PROJECT_UPDATE = _body("project", _PROJECT)
USER = _body("user", _USER, ("name",))
USER_UPDATE = _body("user", _USER)
