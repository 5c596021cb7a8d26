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


def body_of(name: str, properties: dict[str, Any], required: tuple[str, ...] = (), *, at_least: int = 0) -> Versioned:
    """Return the schema of a body with one key, and these fields within it, ``at_least`` so many of them; it has no
    options but those named."""
    properties = {"options": {"type": "object", "maxProperties": 0}} | properties
    inner = {"type": "object", "properties": properties, "required": list(required), "minProperties": at_least}
    outer = {"type": "object", "properties": {name: inner}, "required": [name], "additionalProperties": False}
    return Versioned(outer)


AUTH = body_of(
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
                "application_credential": {
                    "type": "object",
                    "properties": {"id": _ID, "name": _NAME, "secret": {"type": "string"}, "user": _named()},
                    "required": ["secret"],
                    "anyOf": [{"required": ["id"]}, {"required": ["name", "user"]}],
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
                        "domain": _DOMAIN,
                        "system": {
                            "type": "object",
                            "properties": {"all": {"const": True}},
                            "required": ["all"],
                        },
                    },
                },
            ]
        },
    },
    ("identity",),
)
# What would have to do something here that nothing here does is taken only where it asks for nothing.
_FLAG = {"type": ["boolean", "null"]}
_UNSET = {"enum": [False, None]}
_USER_OPTIONS: dict[str, Any] = {
    **dict.fromkeys(("ignore_password_expiry", "ignore_lockout_failure_attempts", "lock_password"), _FLAG),
    "ignore_change_password_upon_first_use": _UNSET,
    "ignore_user_inactivity": _UNSET,
    "multi_factor_auth_enabled": _UNSET,
    "multi_factor_auth_rules": {"enum": [[], None]},
}
_VISIBLE = r"(?s).*\S.*"
_TAG = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "[^,/]*"}
_TEXT = {"type": ["string", "null"], "maxLength": 4096}
_REFERENCE = {
    "anyOf": [{"type": "string", "minLength": 1, "maxLength": 64, "pattern": "[a-zA-Z0-9-]+"}, {"type": "null"}]
}


def _options(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


_IMMUTABLE = _options({"immutable": _FLAG})
_TAGS = {"type": "array", "items": _TAG, "maxItems": 80, "uniqueItems": True}
_SHORT = {"type": "string", "minLength": 1, "maxLength": 64, "pattern": _VISIBLE}
_DOMAIN_FIELDS = {
    "name": _SHORT,
    "description": _TEXT,
    "enabled": {"type": "boolean"},
    "tags": _TAGS,
    "options": _IMMUTABLE,
}
_PROJECT = {
    "name": _SHORT,
    "description": _TEXT,
    "enabled": {"type": "boolean"},
    "domain_id": _REFERENCE,
    "parent_id": _REFERENCE,
    "is_domain": {"type": "boolean"},
    "tags": _TAGS,
    "options": _IMMUTABLE,
}
_USER = {
    "name": {**_NAME, "pattern": _VISIBLE},
    "password": {"type": ["string", "null"]},
    "enabled": {"type": "boolean"},
    "default_project_id": {"type": ["string", "null"], "maxLength": 64},
    "domain_id": _REFERENCE,
    "description": _TEXT,
    "options": _options(_USER_OPTIONS),
}
_GROUP = {"name": _SHORT, "description": _TEXT, "domain_id": _REFERENCE}
_ROLE = {
    "name": {**_NAME, "pattern": _VISIBLE},
    "description": _TEXT,
    "domain_id": _REFERENCE,
    "options": _IMMUTABLE,
}
_EXPLICIT = {"explicit_domain_id": {"type": "string", "pattern": "[0-9a-f]{32}"}}
DOMAIN = body_of("domain", _DOMAIN_FIELDS | _EXPLICIT, ("name",))
DOMAIN_UPDATE = body_of("domain", _DOMAIN_FIELDS, at_least=1)
PROJECT = body_of("project", _PROJECT, ("name",))
PROJECT_UPDATE = body_of("project", _PROJECT, at_least=1)
USER = body_of("user", _USER, ("name",))
USER_UPDATE = body_of("user", _USER, at_least=1)
PASSWORD = body_of(
    "user",
    {"original_password": {"type": "string"}, "password": {"type": "string"}},
    ("original_password", "password"),
)
GROUP = body_of("group", _GROUP, ("name",))
GROUP_UPDATE = body_of("group", _GROUP, at_least=1)
ROLE = body_of("role", _ROLE, ("name",))
ROLE_UPDATE = body_of("role", _ROLE, at_least=1)
TAGS = Versioned({"type": "object", "properties": {"tags": _TAGS}, "required": ["tags"], "additionalProperties": False})
TAG = _TAG

# What is a column; what stands for another field; the others are attributes of the client's own.
DOMAIN_COLUMNS = ("name", "description", "enabled", "tags")
PROJECT_COLUMNS = ("name", "description", "enabled", "tags")
USER_COLUMNS = ("name", "password", "enabled", "default_project_id")
GROUP_COLUMNS = ("name", "description")
ROLE_COLUMNS = ("name", "description")
_PLACES = frozenset({"domain_id", "parent_id", "is_domain", "explicit_domain_id"})
_SET_HERE = ("links", "password_expires_at", "federated", "password_hash", "extra", "original_password")


def fields_of(
    given: dict[str, Any], columns: tuple[str, ...], *, known_id: str | None = None, nullable: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the fields of a record from a checked body, the client's own under ``extra``. Raises Invalid."""
    if known_id is not None and given.get("id", known_id) != known_id:
        raise errors.Invalid("Invalid input for id. Cannot change ID.")
    if known_id is None and "id" in given:
        raise errors.Invalid("Invalid input for id. It cannot be set here.")
    for name in _SET_HERE:
        if name in given:
            raise errors.Invalid(f"Invalid input for {name}. It cannot be set here.")
    extra = {n: value for n, value in given.items() if n not in columns and n not in _PLACES and n != "id"}
    found = {name: given[name] for name in columns if name in given}
    if "description" in found and "description" not in nullable:
        found["description"] = found["description"] or ""
    if "name" in found:
        found["name"] = found["name"].strip()
    return found | {"extra": extra} if extra else found


def check_unchanged(given: dict[str, Any], **present: Any) -> None:
    """Check that a change leaves these fields as they are. Raises Invalid."""
    for name, value in present.items():
        if name in given and given[name] != value:
            raise errors.Invalid(f"Invalid input for {name}. It cannot be changed.")
