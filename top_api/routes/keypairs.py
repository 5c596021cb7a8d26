"""/os-keypairs: of the caller, or of a user an administrator names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellcloud.db import keypairs as table
from cellcloud.db.engine import transact
from cellcloud.model.keypair import Keypair
from top_api.answers import keypairs as answers
from top_api.operations.keypairs import create_keypair
from top_api.paging import next_links, page_of
from top_api.request_pipeline import Call, Resource
from top_api.response_schema import NOTHING
from top_api.schemas import keypairs as schemas
from top_api.views.times import show_microsecond

keypairs = Resource("os-keypairs")


def _user(call: Call, named: str | None) -> str:
    """Whose keypairs are meant: the caller's own, unless somebody is named."""
    return call.context.user_id if named is None else named


def _named_in_query(call: Call, arguments: Mapping[str, str]) -> None:
    call.target = {"user_id": _user(call, call.param("user_id"))}


def _named_in_body(call: Call, arguments: Mapping[str, str]) -> None:
    call.target = {"user_id": _user(call, call.body["keypair"].get("user_id"))}


def _shown(call: Call, keypair: Keypair, *, whole: bool = False, owner: bool = False) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": keypair.name,
        "public_key": keypair.public_key,
        "fingerprint": keypair.fingerprint,
    }
    if call.version >= (2, 2):
        shown["type"] = keypair.type
    if owner or whole:
        shown["user_id"] = keypair.user_id
    if whole:
        created = show_microsecond(keypair.created_at)
        shown |= {"id": keypair.id, "created_at": created, "updated_at": None, "deleted": False, "deleted_at": None}
    return shown


@keypairs.route(
    "GET",
    "/os-keypairs",
    "os_compute_api:os-keypairs:index",
    query=schemas.LIST,
    lookup=_named_in_query,
    answer=answers.LIST,
)
def list_keypairs(call: Call) -> dict[str, Any]:
    user_id = _user(call, call.param("user_id"))
    with call.services.database.read() as connection:
        found = table.list_keypairs(connection, user_id)
    page, _ = page_of(call, found, lambda keypair: keypair.name, since=(2, 35))
    links = (
        next_links(call, "keypairs", ("os-keypairs",), [keypair.name for keypair in page])
        if call.version >= (2, 35)
        else {}
    )
    return {"keypairs": [{"keypair": _shown(call, keypair)} for keypair in page], **links}


@keypairs.route(
    "POST",
    "/os-keypairs",
    "os_compute_api:os-keypairs:create",
    later_status=((2, 2), 201),
    body=schemas.CREATE,
    lookup=_named_in_body,
    answer=answers.CREATED,
)
def create(call: Call) -> dict[str, Any]:
    given = call.body["keypair"]
    keypair, private_key = create_keypair(
        call.services,
        project_id=call.context.project_id,
        user_id=_user(call, given.get("user_id")),
        name=given["name"].strip(),
        kind=given.get("type", "ssh"),
        public_key=given.get("public_key"),
    )
    shown = _shown(call, keypair, owner=True)
    if private_key is not None:
        shown["private_key"] = private_key
    return {"keypair": shown}


@keypairs.route(
    "GET",
    "/os-keypairs/<name>",
    "os_compute_api:os-keypairs:show",
    query=schemas.SHOW,
    lookup=_named_in_query,
    answer=answers.SHOW,
)
def show(call: Call, name: str) -> dict[str, Any]:
    user_id = _user(call, call.param("user_id"))
    with call.services.database.read() as connection:
        return {"keypair": _shown(call, table.get_keypair(connection, user_id, name[:256]), whole=True)}


@keypairs.route(
    "DELETE",
    "/os-keypairs/<name>",
    "os_compute_api:os-keypairs:delete",
    status=202,
    later_status=((2, 2), 204),
    query=schemas.SHOW,
    lookup=_named_in_query,
    answer=NOTHING,
)
def delete(call: Call, name: str) -> None:
    user_id = _user(call, call.param("user_id"))
    transact(call.services.database, lambda connection: table.delete_keypair(connection, user_id, name[:256]))
