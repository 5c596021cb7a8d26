"""Image v2: what there is to know of the service itself: schemas, ways to import, stores, what a project uses."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from cellcloud.embedded.image_imports import METHODS, STORE
from top_api.embedded_api.error_formats import IMAGE as API
from top_api.embedded_api.image_schemas import CORE
from top_api.request_pipeline import Call, Resource

discovery = Resource("image_discovery", API)
_TEXT = {"type": "string"}
_TEXT_OR_NONE = {"type": ["null", "string"]}
_NUMBER_OR_NONE = {"type": ["null", "integer"]}
_UUID_FORM = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"
_UUID = {"type": "string", "pattern": _UUID_FORM}  # for clients' validators, which search
_STATUSES = ["queued", "saving", "active", "killed", "deleted", "uploading", "importing", "pending_delete",
             "deactivated"]  # fmt: skip


def _read_only(**properties: dict[str, Any]) -> dict[str, Any]:
    return {name: {**schema, "readOnly": True} for name, schema in properties.items()}


_IMAGE = {
    **{name: {"type": ["null", "string"], **schema} if name.endswith("_format") else schema
       for name, schema in CORE.items()},
    "id": _UUID,
    "visibility": {"type": "string", **CORE["visibility"]},
    **_read_only(
        status={"type": "string", "enum": _STATUSES},
        checksum={**_TEXT_OR_NONE, "maxLength": 32},
        os_hash_algo={**_TEXT_OR_NONE, "maxLength": 64},
        os_hash_value={**_TEXT_OR_NONE, "maxLength": 128},
        size=_NUMBER_OR_NONE,
        virtual_size=_NUMBER_OR_NONE,
        created_at=_TEXT,
        updated_at=_TEXT,
        self=_TEXT,
        file=_TEXT,
        schema=_TEXT,
        direct_url=_TEXT,
        stores=_TEXT,
    ),
}  # fmt: skip
_MEMBER = {
    "member_id": _TEXT,
    "image_id": _UUID,
    "status": {"type": "string", "enum": ["pending", "accepted", "rejected"]},
    "created_at": _TEXT,
    "updated_at": _TEXT,
    "schema": {"type": "string", "readOnly": True},
}
_TASK = {
    "id": _UUID,
    "type": {"type": "string", "enum": ["import", "api_image_import", "location_import"]},
    "status": {"type": "string", "enum": ["pending", "processing", "success", "failure"]},
    **{name: {"type": ["null", "object"]} for name in ("input", "result")},
    **dict.fromkeys(("owner", "message", "image_id", "request_id", "user_id", "created_at", "updated_at"), _TEXT),
    "expires_at": _TEXT_OR_NONE,
    **_read_only(self=_TEXT, schema=_TEXT),
}
_LINKS = [{"rel": rel, "href": f"{{{name}}}"} for rel, name in (
    ("self", "self"), ("enclosure", "file"), ("describedby", "schema"))]  # fmt: skip
_ONE: dict[str, dict[str, Any]] = {
    "image": {"name": "image", "properties": _IMAGE, "additionalProperties": _TEXT, "links": _LINKS},
    "member": {"name": "member", "properties": _MEMBER, "additionalProperties": False},
    "task": {"name": "task", "properties": _TASK, "additionalProperties": False},
}
_PAGED = [{"rel": rel, "href": f"{{{rel}}}"} for rel in ("first", "next", "describedby")]
_PAGED[2]["href"] = "{schema}"


def _schema(kind: str) -> dict[str, Any]:
    """Return the schema of one thing or of a list. Raises NotFound."""
    if kind in _ONE:
        return _ONE[kind]
    one = _ONE.get(kind.removesuffix("s")) if kind.endswith("s") else None
    if one is None:
        raise errors.NotFound("The resource could not be found.")
    items: dict[str, Any] = {kind: {"type": "array", "items": one}, "schema": _TEXT}
    if kind == "members":
        return {"name": kind, "properties": items, "links": _PAGED[2:]}
    return {"name": kind, "properties": {**items, "first": _TEXT, "next": _TEXT}, "links": _PAGED}


@discovery.route("GET", "/v2/schemas/<kind>", "cellcloud:image_discovery")
def show_schema(call: Call, kind: str) -> dict[str, Any]:
    return _schema(kind)


@discovery.route("GET", "/v2/metadefs/namespaces", "get_metadef_namespaces")
def list_metadef_namespaces(call: Call) -> dict[str, Any]:
    """Answer with none, for dashboards that ask: there are no definitions of metadata here."""
    return {
        "namespaces": [],
        "first": "/v2/metadefs/namespaces",
        "schema": "/v2/schemas/metadefs/namespaces",
    }


@discovery.route("GET", "/v2/info/import", "cellcloud:image_discovery")
def show_import_methods(call: Call) -> dict[str, Any]:
    methods = {"description": "Import methods available.", "type": "array", "value": [*METHODS]}
    return {"import-methods": methods}


@discovery.route("GET", "/v2/info/stores", "cellcloud:image_discovery")
def list_stores(call: Call) -> dict[str, Any]:
    return {"stores": [{"id": STORE, "default": "true"}]}


@discovery.route("GET", "/v2/info/stores/detail", "stores_info_detail")
def list_stores_in_detail(call: Call) -> dict[str, Any]:
    one = {"id": STORE, "default": "true", "type": "file", "weight": 0, "properties": {}}
    return {"stores": [one]}


@discovery.route("GET", "/v2/info/usage", "cellcloud:image_discovery")
def show_usage(call: Call) -> dict[str, Any]:
    return {"usage": call.embedded.images.get_usage(call.context.project_id)}
