"""Bodies of the identity API about credentials."""

from __future__ import annotations

from typing import Any

from top_api.embedded_api.identity_schemas import body_of
from top_api.validation import Versioned

_ID = {"type": "string", "minLength": 1, "maxLength": 64}
_NULLABLE_ID = {"type": ["string", "null"], "minLength": 1, "maxLength": 64}
_ROLE = {
    "type": "object",
    "properties": {"id": _ID, "name": {"type": "string", "minLength": 1, "maxLength": 255}},
    "anyOf": [{"required": ["id"]}, {"required": ["name"]}],
}
_RULE = {
    "type": "object",
    "properties": {
        "service": {"type": "string", "minLength": 1, "maxLength": 64},
        "method": {"enum": ["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"]},
        "path": {"type": "string", "minLength": 1, "maxLength": 225, "pattern": "(?s)/.*"},
    },
    "required": ["service", "method", "path"],
    "additionalProperties": False,
}
_APPLICATION: dict[str, Any] = {
    "name": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"(?s).*\S.*"},
    "description": {"type": ["string", "null"], "maxLength": 4096},
    "secret": {"type": ["string", "null"], "minLength": 1},
    "expires_at": {"type": ["string", "null"], "maxLength": 64},
    "unrestricted": {"type": ["boolean", "null"]},
    "roles": {"type": "array", "items": _ROLE, "maxItems": 100},
    "access_rules": {"type": "array", "items": _RULE, "maxItems": 100},
}
APPLICATION_CREDENTIAL = Versioned(
    {
        "type": "object",
        "properties": {
            "application_credential": {
                "type": "object",
                "properties": _APPLICATION,
                "required": ["name"],
                "additionalProperties": False,
            }
        },
        "required": ["application_credential"],
    }
)
_CREDENTIAL: dict[str, Any] = {
    "user_id": _ID,
    "project_id": _NULLABLE_ID,
    "type": {"type": "string", "minLength": 1, "maxLength": 255},
    "blob": {"type": ["string", "object"], "maxLength": 16384},
}
CREDENTIAL = body_of("credential", _CREDENTIAL, ("user_id", "type", "blob"))
CREDENTIAL_UPDATE = body_of("credential", _CREDENTIAL, at_least=1)
EC2 = Versioned(
    {
        "type": "object",
        "properties": {"tenant_id": _ID},
        "required": ["tenant_id"],
    }
)
_SIGNED_TEXT = {"type": "string", "maxLength": 16384}
_SIGNED: dict[str, Any] = {
    "type": "object",
    "properties": {
        **dict.fromkeys(("verb", "host", "path", "body_hash", "signature", "token"), _SIGNED_TEXT),
        "access": {"type": "string", "minLength": 1, "maxLength": 255},
        "params": {"type": "object", "additionalProperties": {"type": ["string", "integer", "boolean"]}},
        "headers": {"type": "object", "additionalProperties": _SIGNED_TEXT},
    },
}
SIGNED_PLACES = ("credentials", "credential", "ec2Credentials")  # where clients put it
SIGNED = Versioned({"type": "object", "properties": dict.fromkeys(SIGNED_PLACES, _SIGNED), "minProperties": 1})
