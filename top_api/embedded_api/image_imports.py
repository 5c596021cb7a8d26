"""Image v2: imports, and the tasks that tell of them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from cellcloud import errors
from cellcloud.db.listing import Condition, Page
from cellcloud.embedded.image_imports import METHODS, STORE
from top_api.embedded_api.error_formats import IMAGE as API
from top_api.embedded_api.image_list_filters import PAGE
from top_api.embedded_api.image_schemas import ANYTHING, IMPORT
from top_api.embedded_api.image_views import task_view
from top_api.embedded_api.lists import pairs_of, read_limit
from top_api.request_pipeline import Answer, Call, Resource

imports = Resource("image_imports", API)
_STATUSES = ("pending", "processing", "success", "failure")
_SORTED_BY = ("id", "type", "status", "created_at", "updated_at")
TASKS = "tasks_api_access"


@imports.route("POST", "/v2/images/<image_id>/import", "modify_image", status=202, body=IMPORT)
def import_image(call: Call, image_id: str) -> None:
    _check(call)
    who = call.context
    call.embedded.images.imports.begin_import(
        image_id,
        call.body,
        project_id=who.project_id,
        is_admin=who.is_admin,
        user_id=who.user_id,
        request_id=who.request_id,
    )


def _check(call: Call) -> None:
    """Check a request to import. Raises Invalid, Conflict for a store that there is not."""
    body = call.body
    if "method" not in body:
        raise errors.Invalid("Import request requires a 'method' field.")
    if "name" not in body["method"]:
        raise errors.Invalid("Import request requires a 'name' field.")
    if body["method"]["name"] not in METHODS:
        raise errors.Invalid(f"Unknown import method name '{body['method']['name'][:64]}'.")
    named = call.headers.get("X-Image-Meta-Store")
    if body.get("all_stores") and ("stores" in body or named is not None):
        raise errors.Invalid("All_stores parameter can't be used with x-image-meta-store header or stores parameter")
    stores = body.get("stores", [named or STORE])
    for store in stores:
        if store != STORE:
            raise errors.Conflict(f"Unknown scheme '{store[:64]}' found in URI")
    if not stores:
        raise errors.Invalid("Stores parameter can't be empty")


@imports.route("GET", "/v2/images/<image_id>/tasks", "get_image")
def list_tasks_of_image(call: Call, image_id: str) -> dict[str, Any]:
    who: dict[str, Any] = {"project_id": call.context.project_id, "is_admin": call.context.is_admin}
    found = call.embedded.images.get_image(image_id, **who)
    return {"tasks": [task_view(task) for task in call.embedded.images.imports.list_tasks_of(found.id, **who)]}


@imports.route("DELETE", "/v2/stores/<store_id>/<image_id>", "delete_image_location", status=204)
def delete_from_store(call: Call, store_id: str, image_id: str) -> None:
    if store_id != STORE:
        raise errors.Conflict(f"The selected store {store_id[:64]} is not available on this node.")
    who = call.context
    try:
        found = call.embedded.images.get_image(image_id, project_id=who.project_id, is_admin=who.is_admin)
    except errors.NotFound:
        raise errors.NotFound(f"Failed to find image {image_id[:64]}") from None
    if found.status != "active":
        raise errors.Conflict("It's not allowed to remove image data from store if image status is not 'active'")
    raise errors.Forbidden(
        "Cannot delete image data from the only store containing it. Consider deleting the image instead."
    )


# ---- tasks ---------------------------------------------------------------------------------------------------------
@imports.route("GET", "/v2/tasks", TASKS)
def list_tasks(call: Call) -> dict[str, Any]:
    wanted = _page(call)
    found = call.embedded.images.imports.list_tasks(wanted)
    pairs = pairs_of(call.query)
    body = {
        "tasks": [task_view(task, brief=True) for task in found],
        "first": _link(pairs),
        "schema": "/v2/schemas/tasks",
    }
    full = found and len(found) == wanted.limit
    return body | ({"next": _link([*pairs, ("marker", found[-1].id)])} if full else {})


@imports.route("GET", "/v2/tasks/<task_id>", TASKS)
def show_task(call: Call, task_id: str) -> dict[str, Any]:
    return task_view(call.embedded.images.imports.get_task(task_id))


@imports.route("POST", "/v2/tasks", TASKS, body=ANYTHING)
def create_task(call: Call) -> Answer:
    """Refuse: tasks are those of imports here, as nearly every cloud has it."""
    raise errors.Invalid("Tasks cannot be created at this site. Import images by /v2/images/{image_id}/import.")


def _page(call: Call) -> Page:
    """Return what a request for tasks asks for. Raises Invalid."""
    status, kind = call.param("status"), call.param("type")
    if status not in (None, *_STATUSES):
        raise errors.Invalid(f"Invalid status value: {status[:64]}")
    if kind not in (None, "import", "api_image_import"):
        raise errors.Invalid(f"Invalid type value: {kind[:64]}")
    key, direction = call.param("sort_key", "created_at"), call.param("sort_dir", "desc")
    if key not in _SORTED_BY:
        raise errors.Invalid(f"Invalid sort key: {(key or '')[:64]}. It must be one of: {', '.join(_SORTED_BY)}.")
    if direction not in ("asc", "desc"):
        raise errors.Invalid(f"Invalid sort direction: {(direction or '')[:64]}")
    where = [Condition(name, (value,)) for name, value in (("status", status), ("type", kind)) if value is not None]
    limit = read_limit(call.param("limit"))
    return Page(
        where=where,
        sort=((key, direction == "asc"), ("id", direction == "asc")),
        after=call.param("marker") or None,
        limit=PAGE if limit is None else limit,
    )


def _link(pairs: list[tuple[str, str]]) -> str:
    return "/v2/tasks" + (f"?{urlencode(pairs)}" if pairs else "")
