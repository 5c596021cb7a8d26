"""Identity v3 over the embedded identity: users, their own passwords, groups and who is in them."""

from __future__ import annotations

from typing import Any

from cellcloud.embedded.identity_collections import new_id
from cellcloud.model.identity import Group
from top_api.embedded_api import identity_list_filters, identity_targets, identity_views
from top_api.embedded_api.error_formats import IDENTITY
from top_api.embedded_api.identity_list_filters import listed
from top_api.embedded_api.identity_schemas import (
    GROUP,
    GROUP_COLUMNS,
    GROUP_UPDATE,
    PASSWORD,
    USER,
    USER_COLUMNS,
    USER_UPDATE,
    check_unchanged,
    fields_of,
)
from top_api.embedded_api.identity_targets import home_of
from top_api.request_pipeline import Call, Resource

users_and_groups = Resource("identity_users", IDENTITY)
_USER = "/v3/users/<user_id>"
_GROUP = "/v3/groups/<group_id>"
_MEMBER = f"{_GROUP}/users/<user_id>"


def _own_domain(call: Call) -> dict[str, str]:
    return {"domain_id": call.context.domain_id} if call.context.domain_id else {}


# ---- users ---------------------------------------------------------------------------------------------------------
@users_and_groups.route("GET", "/v3/users", "identity:list_users", lookup=identity_targets.of_list("target.domain_id"))
def users(call: Call) -> dict[str, Any]:
    page = identity_list_filters.USERS.page(call)
    found = call.embedded.identity.accounts.users.list_all(page, **_own_domain(call))
    return listed(call, "users", [identity_views.user(call, user) for user in found], page)


@users_and_groups.route(
    "POST", "/v3/users", "identity:create_user", lookup=identity_targets.of_new("user"), status=201, body=USER
)
def create_user(call: Call) -> dict[str, Any]:
    given = call.body["user"]
    wanted = fields_of(given, USER_COLUMNS)
    name, password = wanted.pop("name"), wanted.pop("password", None)
    made = call.embedded.identity.accounts.create_user(name, password, domain_id=home_of(call, given), **wanted)
    return {"user": identity_views.user(call, made)}


@users_and_groups.route("GET", _USER, "identity:get_user", lookup=identity_targets.of_path)
def show_user(call: Call, user_id: str) -> dict[str, Any]:
    return {"user": identity_views.user(call, call.embedded.identity.accounts.users.get(user_id))}


@users_and_groups.route("PATCH", _USER, "identity:update_user", lookup=identity_targets.of_path, body=USER_UPDATE)
def update_user(call: Call, user_id: str) -> dict[str, Any]:
    given, identity = call.body["user"], call.embedded.identity
    changes = fields_of(given, USER_COLUMNS, known_id=user_id)
    check_unchanged(given, domain_id=identity.accounts.users.get(user_id).domain_id)
    if "password" in changes and changes["password"] is None:  # nobody can log in with a password any more
        changes["password_hash"] = ""
    password = changes.pop("password", None)
    return {"user": identity_views.user(call, identity.accounts.update_user(user_id, changes, password=password))}


@users_and_groups.route("DELETE", _USER, "identity:delete_user", lookup=identity_targets.of_path, status=204)
def delete_user(call: Call, user_id: str) -> None:
    call.embedded.identity.accounts.users.delete(user_id)


@users_and_groups.route("POST", f"{_USER}/password", None, status=204, body=PASSWORD)
def change_password(call: Call, user_id: str) -> None:
    given = call.body["user"]
    call.embedded.identity.accounts.change_password(user_id, given["original_password"], given["password"])


@users_and_groups.route("GET", f"{_USER}/groups", "identity:list_groups_for_user", lookup=identity_targets.of_path)
def groups_of(call: Call, user_id: str) -> dict[str, Any]:
    page = identity_list_filters.GROUPS.page(call)
    found = call.embedded.identity.directory.list_groups_of(user_id, page)
    shown = [identity_views.group(call, group) | {"membership_expires_at": None} for group in found]
    return listed(call, "groups", shown, page)


# ---- groups --------------------------------------------------------------------------------------------------------
@users_and_groups.route(
    "GET", "/v3/groups", "identity:list_groups", lookup=identity_targets.of_list("target.group.domain_id")
)
def groups(call: Call) -> dict[str, Any]:
    page = identity_list_filters.GROUPS.page(call)
    found = call.embedded.identity.directory.groups.list_all(page, **_own_domain(call))
    return listed(call, "groups", [identity_views.group(call, group) for group in found], page)


@users_and_groups.route(
    "POST", "/v3/groups", "identity:create_group", lookup=identity_targets.of_new("group"), status=201, body=GROUP
)
def create_group(call: Call) -> dict[str, Any]:
    given = call.body["group"]
    group = Group(id=new_id(), domain_id=home_of(call, given), **fields_of(given, GROUP_COLUMNS))
    return {"group": identity_views.group(call, call.embedded.identity.directory.groups.create(group))}


@users_and_groups.route("GET", _GROUP, "identity:get_group", lookup=identity_targets.of_path)
def show_group(call: Call, group_id: str) -> dict[str, Any]:
    return {"group": identity_views.group(call, call.embedded.identity.directory.groups.get(group_id))}


@users_and_groups.route("PATCH", _GROUP, "identity:update_group", lookup=identity_targets.of_path, body=GROUP_UPDATE)
def update_group(call: Call, group_id: str) -> dict[str, Any]:
    given, identity = call.body["group"], call.embedded.identity
    changes = fields_of(given, GROUP_COLUMNS, known_id=group_id)
    check_unchanged(given, domain_id=identity.directory.groups.get(group_id).domain_id)
    return {"group": identity_views.group(call, identity.directory.groups.update(group_id, changes))}


@users_and_groups.route("DELETE", _GROUP, "identity:delete_group", lookup=identity_targets.of_path, status=204)
def delete_group(call: Call, group_id: str) -> None:
    call.embedded.identity.directory.groups.delete(group_id)


@users_and_groups.route("GET", f"{_GROUP}/users", "identity:list_users_in_group", lookup=identity_targets.of_path)
def members(call: Call, group_id: str) -> dict[str, Any]:
    page = identity_list_filters.USERS.page(call)
    found = call.embedded.identity.directory.list_members(group_id, page)
    return listed(call, "users", [identity_views.user(call, user) for user in found], page)


@users_and_groups.route("GET", _MEMBER, "identity:check_user_in_group", lookup=identity_targets.of_path, status=204)
def is_member(call: Call, group_id: str, user_id: str) -> None:
    call.embedded.identity.directory.check_member(group_id, user_id)


@users_and_groups.route("PUT", _MEMBER, "identity:add_user_to_group", lookup=identity_targets.of_path, status=204)
def add_member(call: Call, group_id: str, user_id: str) -> None:
    call.embedded.identity.directory.add_member(group_id, user_id)


@users_and_groups.route(
    "DELETE", _MEMBER, "identity:remove_user_from_group", lookup=identity_targets.of_path, status=204
)
def remove_member(call: Call, group_id: str, user_id: str) -> None:
    call.embedded.identity.directory.remove_member(group_id, user_id)
