"""Bodies of the identity API. Wrong types are refused; keys that Keystone does not know are kept as attributes of the
client's own, as Keystone does."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from top_api.validation import Versioned

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


def _body(name: str, properties: dict[str, Any], required: tuple[str, ...] = ()) -> Versioned:
    inner = {"type": "object", "properties": properties, "required": list(required)}
    return Versioned({"type": "object", "properties": {name: inner}, "required": [name]})


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
# What would have to do something here that nothing here does is taken only where it asks for nothing.
_USER_OPTIONS: dict[str, Any] = {
    name: {"enum": [False, None]}
    for name in (
        "ignore_change_password_upon_first_use",
        "ignore_password_expiry",
        "ignore_lockout_failure_attempts",
        "ignore_user_inactivity",
        "lock_password",
        "multi_factor_auth_enabled",
    )
} | {"multi_factor_auth_rules": {"enum": [[], None]}}
_VISIBLE = r"(?s).*\S.*"
_TAG = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "[^,/]*"}


def _options(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


_PROJECT = {
    "name": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": _VISIBLE},
    "description": {"type": ["string", "null"], "maxLength": 4096},
    "enabled": {"type": "boolean"},
    "domain_id": {"enum": ["default", None]},
    "parent_id": {"enum": ["default", None]},
    "is_domain": {"const": False},
    "tags": {"type": "array", "items": _TAG, "maxItems": 80, "uniqueItems": True},
    "options": _options({"immutable": {"type": ["boolean", "null"]}}),
}
_USER = {
    "name": {**_NAME, "pattern": _VISIBLE},
    "password": {"type": ["string", "null"]},
    "enabled": {"type": "boolean"},
    "default_project_id": {"type": ["string", "null"], "maxLength": 64},
    "domain_id": {"enum": ["default", None]},
    "description": {"type": ["string", "null"], "maxLength": 4096},
    "options": _options(_USER_OPTIONS),
}
PROJECT = _body("project", _PROJECT, ("name",))
PROJECT_UPDATE = _body("project", _PROJECT)
USER = _body("user", _USER, ("name",))
USER_UPDATE = _body("user", _USER)


# What is a column; what can have one value only; the others are attributes of the client's own.
PROJECT_FIELDS = ("name", "description", "enabled", "tags")
USER_FIELDS = ("name", "password", "enabled", "default_project_id")
_FIXED = frozenset({"domain_id", "parent_id", "is_domain"})
_SET_HERE = ("id", "links", "password_expires_at", "federated", "password_hash", "extra", "original_password")


def fields_of(given: dict[str, Any], columns: tuple[str, ...], *, known_id: str | None = None) -> dict[str, Any]:
    """Return the fields of a record from a checked body, the client's own under ``extra``. Raises Invalid."""
    if known_id is not None and given.get("id") == known_id:
        given = {name: value for name, value in given.items() if name != "id"}
    for name in _SET_HERE:
        if name in given:
            raise errors.Invalid(f"Invalid input for {name}. It cannot be set here.")
    extra = {name: value for name, value in given.items() if name not in columns and name not in _FIXED}
    found = {name: given[name] for name in columns if name in given}
    if "description" in found:
        found["description"] = found["description"] or ""
    return found | {"extra": extra} if extra else found
