"""Volume types: extra specs, who may use them, and which one is meant where none is named."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from cellcloud import errors
from cellcloud.db import pagination_snapshots
from cellcloud.db import volume_types as db
from cellcloud.db.engine import Connection, transact
from cellcloud.embedded.volume.service import DEFAULT_TYPE, default_type
from cellcloud.model.block_storage import MULTIATTACH, VolumeType
from top_api.embedded_api import volume_list_filters as lists
from top_api.embedded_api import volume_schemas as schemas
from top_api.embedded_api.error_formats import VOLUME as API
from top_api.embedded_api.volume_calls import is_true, service_of, viewer_of
from top_api.request_pipeline import Actions, Call, Resource

volume_types = Resource("volume_types", API)
T = TypeVar("T")
VISIBLE = frozenset({MULTIATTACH, "RESKEY:availability_zones", "replication_enabled"})  # to everybody
_SPECS = "volume_extension:types_extra_specs"
_ACCESS = "volume_extension:volume_type_access"
_OBEYED = frozenset({"volume_backend_name", *VISIBLE})


def look_up(call: Call, words: Mapping[str, str]) -> None:
    """Find the type that a path names by its id. Raises NotFound for one that the caller may not use."""
    with service_of(call).database.read() as c:
        call.found = _get(c, call, words["type_id"])


def _get(c: Connection, call: Call, type_id: str) -> VolumeType:
    if type_id == "default":
        return default_type(c, call.context.project_id)
    found = db.find_type(c, type_id, project_id=viewer_of(call).only)
    if found is None or found.id != type_id:
        raise errors.NotFound(f"Volume type {type_id[:64]} could not be found.")
    return found


actions = Actions(look_up, api=API)


@volume_types.route("GET", "/v3/types", "volume_extension:type_get_all")
def list_types(call: Call) -> dict[str, Any]:
    service = service_of(call)
    public = call.param("is_public")
    everybody = call.context.is_admin and public is not None and public.lower() == "none"
    project_id = None if everybody or (call.context.is_admin and public is not None) else call.context.project_id
    if everybody or not call.context.is_admin:  # whoever is no administrator sees what is public, as Cinder has it
        call.query.pop("is_public", None)

    def read(page: Any) -> list[VolumeType]:
        return pagination_snapshots.listed(
            service.database, page.walk, lambda c: db.list_types(c, project_id=project_id, page=page)
        )

    body = lists.listed(call, lists.TYPES, read, lambda kind: _view(call, kind), path=("types",))
    if "volume_types_links" in body:
        body["volume_type_links"] = body.pop("volume_types_links")
    return body


@volume_types.route("POST", "/v3/types", "volume_extension:type_create", body=schemas.TYPE)
def create_type(call: Call) -> dict[str, Any]:
    wanted = call.body["volume_type"]
    made = VolumeType(
        id=str(uuid.uuid4()),
        name=wanted["name"].strip(),
        description=wanted.get("description"),
        is_public=is_true(wanted.get("os-volume-type-access:is_public", True), "os-volume-type-access:is_public"),
        extra_specs=_checked(wanted.get("extra_specs") or {}),
    )

    def work(c: Connection) -> VolumeType:
        db.insert_type(c, made)
        return db.lock_type(c, made.id)

    return {"volume_type": _made(call, _write(call, work))}


@volume_types.route("GET", "/v3/types/<type_id>", "volume_extension:type_get", lookup=look_up)
def show_type(call: Call, type_id: str) -> dict[str, Any]:
    return {"volume_type": _view(call, call.found)}


@volume_types.route(
    "PUT", "/v3/types/<type_id>", "volume_extension:type_update", body=schemas.TYPE_UPDATE, lookup=look_up
)
def update_type(call: Call, type_id: str) -> dict[str, Any]:
    wanted = call.body["volume_type"]
    changes: dict[str, Any] = {name: wanted[name] for name in ("name", "description") if wanted.get(name) is not None}
    if wanted.get("is_public") is not None:
        changes["is_public"] = is_true(wanted["is_public"], "is_public")
    if not changes:
        raise errors.Invalid("Specify volume type name, description, is_public or a combination thereof.")
    if "name" in changes:
        changes["name"] = changes["name"].strip()
        if not changes["name"]:
            raise errors.Invalid("Volume type name can not be empty.")

    def work(c: Connection) -> VolumeType:
        if call.found.name == DEFAULT_TYPE and changes.get("name", DEFAULT_TYPE) != DEFAULT_TYPE:
            raise errors.Invalid(f"The type {DEFAULT_TYPE} keeps its name: volumes without another type have it.")
        db.update_type(c, call.found.id, changes)
        return db.lock_type(c, call.found.id)

    return {"volume_type": _made(call, _write(call, work), access=False)}


@volume_types.route("DELETE", "/v3/types/<type_id>", "volume_extension:type_delete", status=202, lookup=look_up)
def delete_type(call: Call, type_id: str) -> None:
    if call.found.name == DEFAULT_TYPE:
        raise errors.Invalid(f"The volume type {call.found.id} is the default volume type and cannot be deleted.")
    _write(call, lambda c: db.delete_type(c, db.lock_type(c, call.found.id).id))


# ---- extra specs -------------------------------------------------------------------------------------------------
@volume_types.route("GET", "/v3/types/<type_id>/extra_specs", f"{_SPECS}:index", lookup=look_up)
def list_extra_specs(call: Call, type_id: str) -> dict[str, Any]:
    return {"extra_specs": _visible(call, call.found)}


@volume_types.route(
    "POST", "/v3/types/<type_id>/extra_specs", f"{_SPECS}:create", body=schemas.EXTRA_SPECS, lookup=look_up
)
def create_extra_specs(call: Call, type_id: str) -> dict[str, Any]:
    given = _checked(call.body["extra_specs"])
    _change_specs(call, lambda known: {**known, **given})
    return {"extra_specs": given}


@volume_types.route("GET", "/v3/types/<type_id>/extra_specs/<key>", f"{_SPECS}:show", lookup=look_up)
def show_extra_spec(call: Call, type_id: str, key: str) -> dict[str, Any]:
    return {key: _spec(_visible(call, call.found), type_id, key)}


@volume_types.route(
    "PUT", "/v3/types/<type_id>/extra_specs/<key>", f"{_SPECS}:update", body=schemas.EXTRA_SPEC, lookup=look_up
)
def update_extra_spec(call: Call, type_id: str, key: str) -> dict[str, Any]:
    if key not in call.body:
        raise errors.Invalid("Request body and URI mismatch")
    given = _checked(call.body)
    _change_specs(call, lambda known: {**known, **given})
    return given


@volume_types.route("DELETE", "/v3/types/<type_id>/extra_specs/<key>", f"{_SPECS}:delete", status=202, lookup=look_up)
def delete_extra_spec(call: Call, type_id: str, key: str) -> None:
    def without(known: Mapping[str, str]) -> dict[str, str]:
        _spec(known, type_id, key)
        return {name: value for name, value in known.items() if name != key}

    _change_specs(call, without)


def _spec(specs: Mapping[str, str], type_id: str, key: str) -> str:
    if key not in specs:
        raise errors.NotFound(f"Volume Type {type_id} has no extra specs with key {key[:255]}.")
    return specs[key]


def _checked(specs: Mapping[str, Any]) -> dict[str, str]:
    return {name: "" if value is None else str(value) for name, value in specs.items()}


def _change_specs(call: Call, edit: Callable[[Mapping[str, str]], dict[str, str]]) -> None:
    def work(c: Connection) -> None:
        kind = db.lock_type(c, call.found.id)
        if db.is_used(c, kind.id):
            raise errors.Invalid("Volume Type is currently in use.")
        db.update_type(c, kind.id, {"extra_specs": edit(kind.extra_specs)})

    _write(call, work)


# ---- who may use them --------------------------------------------------------------------------------------------
@volume_types.route("POST", "/v3/types/<type_id>/action", actions, status=202)
def act(call: Call, type_id: str) -> Any:
    return actions.perform(call, type_id=type_id)


@actions.action("addProjectAccess", f"{_ACCESS}:addProjectAccess", body=schemas.ACCESS["addProjectAccess"])
def add_access(call: Call, type_id: str) -> None:
    _refuse_public(call.found)
    project_id = call.body["addProjectAccess"]["project"]
    _write(call, lambda c: db.add_project(c, db.lock_type(c, type_id).id, project_id))


@actions.action("removeProjectAccess", f"{_ACCESS}:removeProjectAccess", body=schemas.ACCESS["removeProjectAccess"])
def remove_access(call: Call, type_id: str) -> None:
    _refuse_public(call.found)
    project_id = call.body["removeProjectAccess"]["project"]
    _write(call, lambda c: db.remove_project(c, db.lock_type(c, type_id).id, project_id))


def _refuse_public(kind: VolumeType) -> None:
    if kind.is_public:
        raise errors.Invalid("Type access modification is not applicable to public volume type.")


@volume_types.route("GET", "/v3/types/<type_id>/os-volume-type-access", f"{_ACCESS}:get_all_for_type", lookup=look_up)
def list_access(call: Call, type_id: str) -> dict[str, Any]:
    if call.found.is_public:
        raise errors.NotFound("Access list not available for public volume types.")
    with service_of(call).database.read() as c:
        projects = db.list_projects(c, call.found.id)
    found = [{"volume_type_id": call.found.id, "project_id": project_id} for project_id in projects]
    return {"volume_type_access": found}


# ---- encryption: none --------------------------------------------------------------------------------------------
@volume_types.route(
    "GET", "/v3/types/<type_id>/encryption", "volume_extension:volume_type_encryption:get", lookup=look_up
)
def show_encryption(call: Call, type_id: str) -> dict[str, Any]:
    """No type is encrypted here."""
    return {}


@volume_types.route(
    "POST", "/v3/types/<type_id>/encryption", "volume_extension:volume_type_encryption:create", lookup=look_up
)
def create_encryption(call: Call, type_id: str) -> None:
    raise errors.Invalid("Volumes are not encrypted here.")


# ---- defaults ------------------------------------------------------------------------------------------------------
@volume_types.route("GET", "/v3/default-types", "volume_extension:default_get_all", since=(3, 62))
def list_defaults(call: Call) -> dict[str, Any]:
    with service_of(call).database.read() as c:
        return {"default_types": [_default(*pair) for pair in db.list_defaults(c)]}


@volume_types.route("GET", "/v3/default-types/<project_id>", "volume_extension:default_get", since=(3, 62))
def show_default(call: Call, project_id: str) -> dict[str, Any]:
    with service_of(call).database.read() as c:
        found = db.find_default(c, project_id)
    if found is None:
        raise errors.NotFound(f"Default type for project {project_id[:64]} not found.")
    return {"default_type": _default(project_id, found)}


@volume_types.route(
    "PUT",
    "/v3/default-types/<project_id>",
    "volume_extension:default_set_or_update",
    since=(3, 62),
    body=schemas.DEFAULT_TYPE,
)
def set_default(call: Call, project_id: str) -> dict[str, Any]:
    wanted = call.body["default_type"]["volume_type"]

    def work(c: Connection) -> str:
        found = db.find_type(c, wanted)
        if found is None:
            raise errors.Invalid(f"Volume type {wanted[:64]} could not be found.")
        db.set_default(c, project_id, found.id)
        return found.id

    return {"default_type": _default(project_id, _write(call, work))}


@volume_types.route(
    "DELETE", "/v3/default-types/<project_id>", "volume_extension:default_unset", since=(3, 62), status=204
)
def unset_default(call: Call, project_id: str) -> None:
    _write(call, lambda c: db.set_default(c, project_id, None))


def _default(project_id: str, type_id: str) -> dict[str, str]:
    return {"project_id": project_id, "volume_type_id": type_id}


# ---- answers -----------------------------------------------------------------------------------------------------
def _write(call: Call, work: Callable[[Connection], T]) -> T:
    return transact(service_of(call).database, work)


def _visible(call: Call, kind: VolumeType) -> dict[str, str]:
    """Return the extra specs that the caller may see."""
    everything = call.allows("volume_extension:types_extra_specs:read_sensitive")
    return {name: value for name, value in kind.extra_specs.items() if everything or name in VISIBLE}


def _made(call: Call, kind: VolumeType, *, access: bool = True) -> dict[str, Any]:
    """Return what a type that is written is answered with: less than one that is looked at."""
    left_out = {"qos_specs_id", *(() if access else ("os-volume-type-access:is_public",))}
    return {name: value for name, value in _view(call, kind).items() if name not in left_out}


def _view(call: Call, kind: VolumeType) -> dict[str, Any]:
    call.target = None
    shown: dict[str, Any] = {
        "id": kind.id,
        "name": kind.name,
        "is_public": kind.is_public,
        "description": kind.description,
    }
    if call.allows("volume_extension:access_types_extra_specs"):
        shown["extra_specs"] = _visible(call, kind)
    if call.allows("volume_extension:access_types_qos_specs_id"):
        shown["qos_specs_id"] = None
    if call.allows(_ACCESS):
        shown["os-volume-type-access:is_public"] = kind.is_public
    return shown
