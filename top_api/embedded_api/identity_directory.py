"""Identity v3 over the embedded identity: projects, users, roles and grants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellcloud import errors
from cellcloud.embedded.identity import DOMAIN_ID, DOMAIN_NAME
from cellcloud.model.identity import Grant, IdentityRole, Project, User
from top_api.authorization import Target
from top_api.embedded_api import identity_list_filters
from top_api.embedded_api.error_formats import IDENTITY
from top_api.embedded_api.identity_list_filters import listed, read_assignments, selected
from top_api.embedded_api.identity_schemas import (
    PROJECT,
    PROJECT_FIELDS,
    PROJECT_UPDATE,
    USER,
    USER_FIELDS,
    USER_UPDATE,
    fields_of,
)
from top_api.request_pipeline import Call, Resource

directory = Resource("identity_directory", IDENTITY)


def _root(call: Call) -> str:
    return call.base_url + IDENTITY.prefix


def _of_user(arguments: Mapping[str, str]) -> Target:
    return {"target.user.id": arguments["user_id"]}


def _of_project(arguments: Mapping[str, str]) -> Target:
    return {"target.project.id": arguments["project_id"]}


# ---- projects ------------------------------------------------------------------------------------------------------


@directory.route("GET", "/v3/auth/projects", "identity:get_auth_projects")
def own_projects(call: Call) -> dict[str, Any]:
    return _projects_of(call, call.context.user_id)


@directory.route("GET", "/v3/users/<user_id>/projects", "identity:list_user_projects", target=_of_user)
def projects_of(call: Call, user_id: str) -> dict[str, Any]:
    return _projects_of(call, user_id)


def _projects_of(call: Call, user_id: str) -> dict[str, Any]:
    page = identity_list_filters.PROJECTS_OF_USER.page(call)
    return listed(
        call, "projects", [_project(call, p) for p in call.embedded.identity.list_projects(page, user_id=user_id)], page
    )


@directory.route("GET", "/v3/projects", "identity:list_projects")
def projects(call: Call) -> dict[str, Any]:
    page = identity_list_filters.PROJECTS.page(call)
    return listed(call, "projects", [_project(call, p) for p in call.embedded.identity.list_projects(page)], page)


@directory.route("POST", "/v3/projects", "identity:create_project", status=201, body=PROJECT)
def create_project(call: Call) -> dict[str, Any]:
    wanted = fields_of(call.body["project"], PROJECT_FIELDS)
    return {"project": _project(call, call.embedded.identity.create_project(wanted.pop("name"), **wanted))}


@directory.route("GET", "/v3/projects/<project_id>", "identity:get_project", target=_of_project)
def show_project(call: Call, project_id: str) -> dict[str, Any]:
    return {"project": _project(call, call.embedded.identity.get_project(project_id))}


@directory.route(
    "PATCH", "/v3/projects/<project_id>", "identity:update_project", target=_of_project, body=PROJECT_UPDATE
)
def update_project(call: Call, project_id: str) -> dict[str, Any]:
    changes = fields_of(call.body["project"], PROJECT_FIELDS, known_id=project_id)
    return {"project": _project(call, call.embedded.identity.update_project(project_id, changes))}


@directory.route("DELETE", "/v3/projects/<project_id>", "identity:delete_project", target=_of_project, status=204)
def delete_project(call: Call, project_id: str) -> None:
    call.embedded.identity.delete_project(project_id)


# ---- users ---------------------------------------------------------------------------------------------------------


@directory.route("GET", "/v3/users", "identity:list_users")
def users(call: Call) -> dict[str, Any]:
    page = identity_list_filters.USERS.page(call)
    return listed(call, "users", [_user(call, user) for user in call.embedded.identity.list_users(page)], page)


@directory.route("POST", "/v3/users", "identity:create_user", status=201, body=USER)
def create_user(call: Call) -> dict[str, Any]:
    wanted = fields_of(call.body["user"], USER_FIELDS)
    made = call.embedded.identity.create_user(wanted.pop("name"), wanted.pop("password", None), **wanted)
    return {"user": _user(call, made)}


@directory.route("GET", "/v3/users/<user_id>", "identity:get_user", target=_of_user)
def show_user(call: Call, user_id: str) -> dict[str, Any]:
    return {"user": _user(call, call.embedded.identity.get_user(user_id))}


@directory.route("PATCH", "/v3/users/<user_id>", "identity:update_user", target=_of_user, body=USER_UPDATE)
def update_user(call: Call, user_id: str) -> dict[str, Any]:
    changes = fields_of(call.body["user"], USER_FIELDS, known_id=user_id)
    if "password" in changes and changes["password"] is None:  # nobody can log in with a password any more
        changes["password_hash"] = ""
    password = changes.pop("password", None)
    return {"user": _user(call, call.embedded.identity.update_user(user_id, changes, password=password))}


@directory.route("DELETE", "/v3/users/<user_id>", "identity:delete_user", target=_of_user, status=204)
def delete_user(call: Call, user_id: str) -> None:
    call.embedded.identity.delete_user(user_id)


# ---- roles and grants ----------------------------------------------------------------------------------------------


@directory.route("GET", "/v3/roles", "identity:list_roles")
def roles(call: Call) -> dict[str, Any]:
    page = identity_list_filters.ROLES.page(call)
    return listed(call, "roles", selected([_role(role) for role in call.embedded.identity.list_roles()], page), page)


@directory.route("GET", "/v3/roles/<role_id>", "identity:get_role")
def role(call: Call, role_id: str) -> dict[str, Any]:
    for known in call.embedded.identity.list_roles():
        if known.id == role_id:
            return {"role": _role(known)}
    raise errors.NotFound(f"Could not find role: {role_id[:64]}.")


@directory.route("GET", "/v3/role_assignments", "identity:list_role_assignments")
def assignments(call: Call) -> dict[str, Any]:
    asked = read_assignments(call)
    names: dict[str, str] = {}
    if asked.include_names:
        names |= {user.id: user.name for user in call.embedded.identity.list_users()}
        names |= {project.id: project.name for project in call.embedded.identity.list_projects()}
        names |= {role.id: role.name for role in call.embedded.identity.list_roles()}
    found = [] if asked.nothing else _grants(call, asked)
    return listed(call, "role_assignments", [_assignment(call, grant, prior, names) for grant, prior in found])


@directory.route("GET", "/v3/projects/<project_id>/users/<user_id>/roles", "identity:list_grants")
def granted(call: Call, project_id: str, user_id: str) -> dict[str, Any]:
    names = {role.id: role for role in call.embedded.identity.list_roles()}
    found = call.embedded.identity.list_grants(project_id=project_id, user_id=user_id)
    return listed(call, "roles", [_role(names[grant.role_id]) for grant in found if grant.role_id in names])


_GRANT = "/v3/projects/<project_id>/users/<user_id>/roles/<role_id>"


@directory.route("GET", _GRANT, "identity:check_grant", status=204)
def has_grant(call: Call, project_id: str, user_id: str, role_id: str) -> None:
    if not call.embedded.identity.list_grants(project_id=project_id, user_id=user_id, role_id=role_id):
        raise errors.NotFound("Could not find role assignment.")


@directory.route("PUT", _GRANT, "identity:create_grant", status=204)
def add_grant(call: Call, project_id: str, user_id: str, role_id: str) -> None:
    call.embedded.identity.add_grant(Grant(user_id=user_id, project_id=project_id, role_id=role_id))


@directory.route("DELETE", _GRANT, "identity:revoke_grant", status=204)
def remove_grant(call: Call, project_id: str, user_id: str, role_id: str) -> None:
    call.embedded.identity.remove_grant(Grant(user_id=user_id, project_id=project_id, role_id=role_id))


# ---- views and checks ----------------------------------------------------------------------------------------------
def _project(call: Call, project: Project) -> dict[str, Any]:
    return {
        "options": {},
        **project.extra,
        "id": project.id,
        "name": project.name,
        "domain_id": project.domain_id,
        "parent_id": project.domain_id,
        "description": project.description,
        "enabled": project.enabled,
        "is_domain": False,
        "tags": list(project.tags),
        "links": {"self": f"{_root(call)}/v3/projects/{project.id}"},
    }


def _user(call: Call, user: User) -> dict[str, Any]:
    body: dict[str, Any] = {
        "options": {},
        **user.extra,
        "id": user.id,
        "name": user.name,
        "domain_id": user.domain_id,
        "enabled": user.enabled,
        "password_expires_at": None,
        "links": {"self": f"{_root(call)}/v3/users/{user.id}"},
    }
    if user.default_project_id:
        body["default_project_id"] = user.default_project_id
    return body


def _role(role: IdentityRole) -> dict[str, Any]:
    return {"id": role.id, "name": role.name, "domain_id": None, "description": None, "options": {}}


def _grants(call: Call, asked: identity_list_filters.AssignmentQuery) -> list[tuple[Grant, str | None]]:
    """Grants that are asked for, each with the id of the role that implies it."""
    if not asked.effective:
        return [(grant, None) for grant in call.embedded.identity.list_grants(**asked.equals)]
    wanted = dict(asked.equals)
    role_id = wanted.pop("role_id", None)
    found = call.embedded.identity.list_effective_grants(**wanted)
    return [(grant, prior) for grant, prior in found if role_id in (None, grant.role_id)]


def _assignment(call: Call, grant: Grant, prior: str | None, names: Mapping[str, str]) -> dict[str, Any]:
    def named(item_id: str, **more: Any) -> dict[str, Any]:
        return {"id": item_id, "name": names[item_id], **more} if item_id in names else {"id": item_id}

    domain = {"id": DOMAIN_ID, "name": DOMAIN_NAME}
    path = f"projects/{grant.project_id}/users/{grant.user_id}/roles/{prior or grant.role_id}"
    links = {"assignment": f"{_root(call)}/v3/{path}"}
    if prior is not None:
        links["prior_role"] = f"{_root(call)}/v3/prior_role/{prior}/implies/{grant.role_id}"
    return {
        "user": named(grant.user_id, domain=domain),
        "scope": {"project": named(grant.project_id, domain=domain)},
        "role": named(grant.role_id),
        "links": links,
    }
