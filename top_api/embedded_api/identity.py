"""Identity v3 over the embedded identity: discovery, tokens, catalog, projects, users, roles, grants."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, g, request

from cellcloud import errors
from cellcloud.db.listing import ALL, Page
from cellcloud.embedded.identity import DOMAIN_ID, DOMAIN_NAME, REGION, EmbeddedIdentity, Login, Scope
from cellcloud.model.identity import Grant, Project, Role, Token, User
from top_api.embedded_api import identity_lists
from top_api.embedded_api.identity_lists import read_assignments, selected
from top_api.embedded_api.identity_schemas import (
    AUTH,
    PROJECT,
    PROJECT_FIELDS,
    PROJECT_UPDATE,
    USER,
    USER_FIELDS,
    USER_UPDATE,
    fields_of,
)
from top_api.embedded_api.request import Failure, answer, asks, body_of, enforce, set_up
from top_api.policy import Policy, Target

OPEN = {"identity.versions", "identity.version", "identity.issue", "identity.unknown"}
_TITLES = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    409: "Conflict", 413: "Request Entity Too Large", 503: "Service Unavailable",
}  # fmt: skip
_REGION = {"id": REGION, "description": "", "parent_region_id": None}
_DOMAIN = {"id": DOMAIN_ID, "name": DOMAIN_NAME, "enabled": True, "description": "", "tags": [], "options": {}}


@dataclass(frozen=True, slots=True)
class _Holder:
    """Who holds a token, as policy sees them; one that is for no project gives no roles."""

    user_id: str
    project_id: str
    roles: tuple[str, ...]

    @classmethod
    def of(cls, token: Token) -> _Holder:
        project_id = token.project.id if token.project is not None else ""
        return cls(token.user.id, project_id, tuple(role.name for role in token.roles))


def _of_user(arguments: Mapping[str, str]) -> Target:
    return {"target.user.id": arguments["user_id"]}


def _of_project(arguments: Mapping[str, str]) -> Target:
    return {"target.project.id": arguments["project_id"]}


def _of_domain(arguments: Mapping[str, str]) -> Target:
    return {"target.domain.id": arguments["domain_id"]}


def create_blueprint(identity: EmbeddedIdentity, policy: Policy, *, max_body: int) -> Blueprint:
    """Routes below ``/identity``."""
    blueprint = Blueprint("identity", __name__, url_prefix="/identity")
    set_up(blueprint, _form, max_body=max_body)

    def authenticate() -> None:
        if request.endpoint not in OPEN:
            g.token = identity.get_token_facts(request.headers.get("X-Auth-Token", ""))
            enforce(policy, _Holder.of(g.token))

    blueprint.before_request(authenticate)
    _add_discovery(blueprint)
    _add_tokens(blueprint, identity)
    _add_catalog(blueprint, identity)
    _add_projects(blueprint, identity)
    _add_users(blueprint, identity)
    _add_roles(blueprint, identity)
    return blueprint


def _form(failure: Failure) -> Response:
    title = _TITLES.get(failure.status, "Internal Server Error")
    headers = {"WWW-Authenticate": f'Keystone uri="{_root()}"'} if failure.status == 401 else None
    error = {"code": failure.status, "title": title, "message": failure.message}
    return answer({"error": error}, failure.status, headers)


def _root() -> str:
    return f"{request.root_url}identity"


# ---- discovery -----------------------------------------------------------------------------------------------------
def _version() -> dict[str, Any]:
    return {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": f"{_root()}/v3/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }


def _add_discovery(blueprint: Blueprint) -> None:
    @blueprint.get("", endpoint="versions")
    @blueprint.get("/", endpoint="versions")
    def versions() -> Response:
        return answer({"versions": {"values": [_version()]}}, 300, {"Location": f"{_root()}/v3/"})

    @blueprint.get("/v3", endpoint="version")
    @blueprint.get("/v3/", endpoint="version")
    def version() -> Response:
        return answer({"version": _version()})


# ---- tokens --------------------------------------------------------------------------------------------------------
def _add_tokens(blueprint: Blueprint, identity: EmbeddedIdentity) -> None:
    @blueprint.post("/v3/auth/tokens", endpoint="issue")
    def issue() -> Response:
        auth = body_of(AUTH)["auth"]
        token, facts = identity.issue_token(_logins(auth["identity"]), _scope(auth.get("scope")))
        return answer(_token_body(identity, facts), 201, {"X-Subject-Token": token})

    def subject_of(arguments: Mapping[str, str]) -> Target:
        """Raises NotFound for a token that is none."""
        try:
            g.subject_token = identity.get_token_facts(request.headers.get("X-Subject-Token", ""))
        except errors.Unauthenticated:
            raise errors.NotFound("Could not find token.") from None
        return {"target.token.user_id": g.subject_token.user.id}

    @blueprint.get("/v3/auth/tokens")
    @asks("identity:validate_token", subject_of)
    def show_token() -> Response:
        given = {"X-Subject-Token": request.headers["X-Subject-Token"]}
        return answer(_token_body(identity, g.subject_token), 200, given)

    @blueprint.delete("/v3/auth/tokens")
    @asks("identity:revoke_token", subject_of)
    def revoke_token() -> Response:
        identity.revoke_token(request.headers["X-Subject-Token"])
        return Response(status=204)


def _logins(given: dict[str, Any]) -> list[Login]:
    logins = []
    for method in dict.fromkeys(given["methods"]):
        if method == "token" and "token" in given:
            logins.append(Login(token=given["token"]["id"]))
        elif method == "password" and "password" in given:
            user = given["password"]["user"]
            domain = user.get("domain") or {}
            logins.append(
                Login(
                    user_id=user.get("id"),
                    user_name=user.get("name"),
                    domain_id=domain.get("id"),
                    domain_name=domain.get("name"),
                    password=user["password"],
                )
            )
        else:
            raise errors.Unauthenticated("Attempted to authenticate with an unsupported method.")
    return logins


def _scope(given: Any) -> Scope:
    if given is None:
        return Scope()
    if given == "unscoped" or "unscoped" in given:
        return Scope(unscoped=True)
    if "project" not in given:
        raise errors.Unauthenticated("Tokens are for projects: a domain or the system gives no roles.")
    project = given["project"]
    domain = project.get("domain") or {}
    return Scope(
        project_id=project.get("id"),
        project_name=project.get("name"),
        domain_id=domain.get("id"),
        domain_name=domain.get("name"),
    )


def _token_body(identity: EmbeddedIdentity, token: Token) -> dict[str, Any]:
    body: dict[str, Any] = {
        "methods": list(token.methods),
        "user": {
            "id": token.user.id,
            "name": token.user.name,
            "domain": {"id": DOMAIN_ID, "name": DOMAIN_NAME},
            "password_expires_at": None,
        },
        "audit_ids": list(token.audit_ids),
        "issued_at": _stamp(token.issued_at),
        "expires_at": _stamp(token.expires_at),
    }
    if token.project is not None:
        body["is_domain"] = False
        body["project"] = {
            "id": token.project.id,
            "name": token.project.name,
            "domain": {"id": DOMAIN_ID, "name": DOMAIN_NAME},
        }
        body["roles"] = [{"id": role.id, "name": role.name} for role in token.roles]
        if "nocatalog" not in request.args:
            body["catalog"] = identity.catalog(request.root_url)
    return {"token": body}


def _stamp(when: dt.datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# ---- catalog -------------------------------------------------------------------------------------------------------
def _add_catalog(blueprint: Blueprint, identity: EmbeddedIdentity) -> None:
    @blueprint.get("/v3/auth/catalog")
    @asks("identity:get_auth_catalog")
    def catalog() -> Response:
        return answer({"catalog": identity.catalog(request.root_url), "links": identity_lists.links((), ALL)})

    def known_services() -> list[dict[str, Any]]:
        return [
            {"id": s["id"], "type": s["type"], "name": s["name"], "enabled": True}
            for s in identity.catalog(request.root_url)
        ]

    @blueprint.get("/v3/services")
    @asks("identity:list_services")
    def services() -> Response:
        page = identity_lists.SERVICES.page()
        return _listed("services", selected(known_services(), page), page)

    @blueprint.get("/v3/services/<service_id>")
    @asks("identity:get_service")
    def service(service_id: str) -> Response:
        found = [known for known in known_services() if known["id"] == service_id]
        if not found:
            raise errors.NotFound(f"Could not find service: {service_id[:64]}.")
        return answer({"service": found[0]})

    @blueprint.get("/v3/endpoints")
    @asks("identity:list_endpoints")
    def endpoints() -> Response:
        found = [
            {**endpoint, "service_id": service["id"], "enabled": True}
            for service in identity.catalog(request.root_url)
            for endpoint in service["endpoints"]
        ]
        page = identity_lists.ENDPOINTS.page()
        return _listed("endpoints", selected(found, page), page)

    @blueprint.get("/v3/regions")
    @asks("identity:list_regions")
    def regions() -> Response:
        page = identity_lists.REGIONS.page()
        return _listed("regions", selected([_REGION], page), page)

    @blueprint.get("/v3/regions/<region_id>")
    @asks("identity:get_region")
    def region(region_id: str) -> Response:
        if region_id != REGION:
            raise errors.NotFound(f"Could not find region: {region_id[:64]}.")
        return answer({"region": _REGION})

    @blueprint.get("/v3/domains")
    @asks("identity:list_domains")
    def domains() -> Response:
        page = identity_lists.DOMAINS.page()
        return _listed("domains", selected([_DOMAIN], page), page)

    @blueprint.get("/v3/domains/<domain_id>")
    @asks("identity:get_domain", _of_domain)
    def domain(domain_id: str) -> Response:
        if domain_id != DOMAIN_ID:
            raise errors.NotFound(f"Could not find domain: {domain_id[:64]}.")
        return answer({"domain": _DOMAIN})


# ---- projects ------------------------------------------------------------------------------------------------------
def _add_projects(blueprint: Blueprint, identity: EmbeddedIdentity) -> None:
    @blueprint.get("/v3/auth/projects")
    @asks("identity:get_auth_projects")
    def own_projects() -> Response:
        return listed_of(g.token.user.id)

    @blueprint.get("/v3/users/<user_id>/projects")
    @asks("identity:list_user_projects", _of_user)
    def projects_of(user_id: str) -> Response:
        return listed_of(user_id)

    def listed_of(user_id: str) -> Response:
        page = identity_lists.PROJECTS_OF_USER.page()
        return _listed("projects", [_project(p) for p in identity.list_projects(page, user_id=user_id)], page)

    @blueprint.get("/v3/projects")
    @asks("identity:list_projects")
    def projects() -> Response:
        page = identity_lists.PROJECTS.page()
        return _listed("projects", [_project(p) for p in identity.list_projects(page)], page)

    @blueprint.post("/v3/projects")
    @asks("identity:create_project")
    def create_project() -> Response:
        wanted = fields_of(body_of(PROJECT)["project"], PROJECT_FIELDS)
        return answer({"project": _project(identity.create_project(wanted.pop("name"), **wanted))}, 201)

    @blueprint.get("/v3/projects/<project_id>")
    @asks("identity:get_project", _of_project)
    def show_project(project_id: str) -> Response:
        return answer({"project": _project(identity.get_project(project_id))})

    @blueprint.patch("/v3/projects/<project_id>")
    @asks("identity:update_project", _of_project)
    def update_project(project_id: str) -> Response:
        changes = fields_of(body_of(PROJECT_UPDATE)["project"], PROJECT_FIELDS, known_id=project_id)
        return answer({"project": _project(identity.update_project(project_id, changes))})

    @blueprint.delete("/v3/projects/<project_id>")
    @asks("identity:delete_project", _of_project)
    def delete_project(project_id: str) -> Response:
        identity.delete_project(project_id)
        return Response(status=204)


# ---- users ---------------------------------------------------------------------------------------------------------
def _add_users(blueprint: Blueprint, identity: EmbeddedIdentity) -> None:
    @blueprint.get("/v3/users")
    @asks("identity:list_users")
    def users() -> Response:
        page = identity_lists.USERS.page()
        return _listed("users", [_user(user) for user in identity.list_users(page)], page)

    @blueprint.post("/v3/users")
    @asks("identity:create_user")
    def create_user() -> Response:
        wanted = fields_of(body_of(USER)["user"], USER_FIELDS)
        made = identity.create_user(wanted.pop("name"), wanted.pop("password", None), **wanted)
        return answer({"user": _user(made)}, 201)

    @blueprint.get("/v3/users/<user_id>")
    @asks("identity:get_user", _of_user)
    def show_user(user_id: str) -> Response:
        return answer({"user": _user(identity.get_user(user_id))})

    @blueprint.patch("/v3/users/<user_id>")
    @asks("identity:update_user", _of_user)
    def update_user(user_id: str) -> Response:
        changes = fields_of(body_of(USER_UPDATE)["user"], USER_FIELDS, known_id=user_id)
        if "password" in changes and changes["password"] is None:  # nobody can log in with a password any more
            changes["password_hash"] = ""
        password = changes.pop("password", None)
        return answer({"user": _user(identity.update_user(user_id, changes, password=password))})

    @blueprint.delete("/v3/users/<user_id>")
    @asks("identity:delete_user", _of_user)
    def delete_user(user_id: str) -> Response:
        identity.delete_user(user_id)
        return Response(status=204)


# ---- roles and grants ----------------------------------------------------------------------------------------------
def _add_roles(blueprint: Blueprint, identity: EmbeddedIdentity) -> None:
    @blueprint.get("/v3/roles")
    @asks("identity:list_roles")
    def roles() -> Response:
        page = identity_lists.ROLES.page()
        return _listed("roles", selected([_role(role) for role in identity.list_roles()], page), page)

    @blueprint.get("/v3/roles/<role_id>")
    @asks("identity:get_role")
    def role(role_id: str) -> Response:
        for known in identity.list_roles():
            if known.id == role_id:
                return answer({"role": _role(known)})
        raise errors.NotFound(f"Could not find role: {role_id[:64]}.")

    @blueprint.get("/v3/role_assignments")
    @asks("identity:list_role_assignments")
    def assignments() -> Response:
        asked = read_assignments(request.args)
        names: dict[str, str] = {}
        if asked.include_names:
            names |= {user.id: user.name for user in identity.list_users()}
            names |= {project.id: project.name for project in identity.list_projects()}
            names |= {role.id: role.name for role in identity.list_roles()}
        found = [] if asked.nothing else _grants(identity, asked)
        return _listed("role_assignments", [_assignment(grant, prior, names) for grant, prior in found])

    @blueprint.get("/v3/projects/<project_id>/users/<user_id>/roles")
    @asks("identity:list_grants")
    def granted(project_id: str, user_id: str) -> Response:
        names = {role.id: role for role in identity.list_roles()}
        found = identity.list_grants(project_id=project_id, user_id=user_id)
        return _listed("roles", [_role(names[grant.role_id]) for grant in found if grant.role_id in names])

    path = "/v3/projects/<project_id>/users/<user_id>/roles/<role_id>"

    @blueprint.get(path)
    @asks("identity:check_grant")
    def has_grant(project_id: str, user_id: str, role_id: str) -> Response:
        if not identity.list_grants(project_id=project_id, user_id=user_id, role_id=role_id):
            raise errors.NotFound("Could not find role assignment.")
        return Response(status=204)

    @blueprint.put(path)
    @asks("identity:create_grant")
    def add_grant(project_id: str, user_id: str, role_id: str) -> Response:
        identity.add_grant(Grant(user_id=user_id, project_id=project_id, role_id=role_id))
        return Response(status=204)

    @blueprint.delete(path)
    @asks("identity:revoke_grant")
    def remove_grant(project_id: str, user_id: str, role_id: str) -> Response:
        identity.remove_grant(Grant(user_id=user_id, project_id=project_id, role_id=role_id))
        return Response(status=204)


# ---- views and checks ----------------------------------------------------------------------------------------------
def _listed(name: str, items: Sequence[dict[str, Any]], page: Page = ALL) -> Response:
    return answer({name: items, "links": identity_lists.links(items, page)})


def _project(project: Project) -> dict[str, Any]:
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
        "links": {"self": f"{_root()}/v3/projects/{project.id}"},
    }


def _user(user: User) -> dict[str, Any]:
    body: dict[str, Any] = {
        "options": {},
        **user.extra,
        "id": user.id,
        "name": user.name,
        "domain_id": user.domain_id,
        "enabled": user.enabled,
        "password_expires_at": None,
        "links": {"self": f"{_root()}/v3/users/{user.id}"},
    }
    if user.default_project_id:
        body["default_project_id"] = user.default_project_id
    return body


def _role(role: Role) -> dict[str, Any]:
    return {"id": role.id, "name": role.name, "domain_id": None, "description": None, "options": {}}


def _grants(identity: EmbeddedIdentity, asked: identity_lists.AssignmentQuery) -> list[tuple[Grant, str | None]]:
    """Grants that are asked for, each with the id of the role that implies it."""
    if not asked.effective:
        return [(grant, None) for grant in identity.list_grants(**asked.equals)]
    wanted = dict(asked.equals)
    role_id = wanted.pop("role_id", None)
    found = identity.list_effective_grants(**wanted)
    return [(grant, prior) for grant, prior in found if role_id in (None, grant.role_id)]


def _assignment(grant: Grant, prior: str | None, names: Mapping[str, str]) -> dict[str, Any]:
    def named(item_id: str, **more: Any) -> dict[str, Any]:
        return {"id": item_id, "name": names[item_id], **more} if item_id in names else {"id": item_id}

    domain = {"id": DOMAIN_ID, "name": DOMAIN_NAME}
    path = f"projects/{grant.project_id}/users/{grant.user_id}/roles/{prior or grant.role_id}"
    links = {"assignment": f"{_root()}/v3/{path}"}
    if prior is not None:
        links["prior_role"] = f"{_root()}/v3/prior_role/{prior}/implies/{grant.role_id}"
    return {
        "user": named(grant.user_id, domain=domain),
        "scope": {"project": named(grant.project_id, domain=domain)},
        "role": named(grant.role_id),
        "links": links,
    }
