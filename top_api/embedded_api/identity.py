"""Identity v3 over the embedded identity: discovery, tokens, catalog, projects, users, roles, grants."""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, g, request

from cellcloud import errors
from cellcloud.embedded.identity import DOMAIN_ID, DOMAIN_NAME, EmbeddedIdentity, Login, Scope
from cellcloud.model.identity import Grant, Project, Role, Token, User
from top_api.embedded_api.identity_schemas import AUTH, PROJECT, PROJECT_UPDATE, USER, USER_UPDATE
from top_api.embedded_api.lists import pairs_of, read_limit
from top_api.embedded_api.request import Failure, answer, body_of, set_up

_OPEN = {"identity.versions", "identity.version", "identity.issue", "identity.unknown"}
_TITLES = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    409: "Conflict", 413: "Request Entity Too Large", 503: "Service Unavailable",
}  # fmt: skip
# The attributes that each list is filtered by, as in Keystone.
FILTERS: dict[str, tuple[str, ...]] = {
    "projects": ("name", "domain_id", "parent_id", "enabled", "is_domain"),
    "users": ("name", "domain_id", "enabled"),
    "roles": ("name", "domain_id"),
    "domains": ("name", "enabled"),
    "services": ("type", "name"),
    "endpoints": ("interface", "service_id", "region_id"),
}
_WAYS: dict[str, Callable[[str, str], bool]] = {
    "": operator.eq,
    "contains": operator.contains,
    "startswith": str.startswith,
    "endswith": str.endswith,
}
_FALSE = frozenset({"0", "false", "f", "no", "n", "off"})
# Nobody comes from elsewhere or has a password that ends, and nobody has a role but as a user in a project.
_NO_USERS = ("idp_id", "protocol_id", "unique_id", "password_expires_at")
_NO_GRANTS = ("group.id", "scope.domain.id", "scope.system", "scope.OS-INHERIT:inherited_to")
_DOMAIN = {"id": DOMAIN_ID, "name": DOMAIN_NAME, "enabled": True, "description": "", "tags": [], "options": {}}


def create_blueprint(identity: EmbeddedIdentity, *, max_body: int) -> Blueprint:
    """Routes below ``/identity``."""
    blueprint = Blueprint("identity", __name__, url_prefix="/identity")
    set_up(blueprint, _form, max_body=max_body)

    def authenticate() -> None:
        if request.endpoint not in _OPEN:
            g.token = identity.get_token_facts(request.headers.get("X-Auth-Token", ""))

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

    @blueprint.get("/v3/auth/tokens")
    def show_token() -> Response:
        token, facts = _subject(identity)
        return answer(_token_body(identity, facts), 200, {"X-Subject-Token": token})

    @blueprint.delete("/v3/auth/tokens")
    def revoke_token() -> Response:
        token, _ = _subject(identity)
        identity.revoke_token(token)
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


def _subject(identity: EmbeddedIdentity) -> tuple[str, Token]:
    """The token asked about. One's own, or anybody's for administrators and services; else it is not there."""
    token = request.headers.get("X-Subject-Token", "")
    try:
        facts = identity.get_token_facts(token)
    except errors.Unauthenticated:
        raise errors.NotFound("Could not find token.") from None
    if facts.user.id != g.token.user.id and not _roles() & {"admin", "service"}:
        raise errors.Forbidden("You are not authorized to perform the requested action.")
    return token, facts


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
    def catalog() -> Response:
        return answer({"catalog": identity.catalog(request.root_url), "links": _links("auth/catalog")})

    def known_services() -> list[dict[str, Any]]:
        return [
            {"id": s["id"], "type": s["type"], "name": s["name"], "enabled": True}
            for s in identity.catalog(request.root_url)
        ]

    @blueprint.get("/v3/services")
    def services() -> Response:
        return _listed("services", known_services())

    @blueprint.get("/v3/services/<service_id>")
    def service(service_id: str) -> Response:
        found = [known for known in known_services() if known["id"] == service_id]
        if not found:
            raise errors.NotFound(f"Could not find service: {service_id[:64]}.")
        return answer({"service": found[0]})

    @blueprint.get("/v3/endpoints")
    def endpoints() -> Response:
        found = [
            {**endpoint, "service_id": service["id"], "enabled": True}
            for service in identity.catalog(request.root_url)
            for endpoint in service["endpoints"]
        ]
        return _listed("endpoints", found)

    @blueprint.get("/v3/domains")
    def domains() -> Response:
        return _listed("domains", [_DOMAIN])

    @blueprint.get("/v3/domains/<domain_id>")
    def domain(domain_id: str) -> Response:
        if domain_id != DOMAIN_ID:
            raise errors.NotFound(f"Could not find domain: {domain_id[:64]}.")
        return answer({"domain": _DOMAIN})


# ---- projects ------------------------------------------------------------------------------------------------------
def _add_projects(blueprint: Blueprint, identity: EmbeddedIdentity) -> None:
    @blueprint.get("/v3/auth/projects")
    def own_projects() -> Response:
        return _listed("projects", map(_project, identity.list_projects(user_id=g.token.user.id)))

    @blueprint.get("/v3/users/<user_id>/projects")
    def projects_of(user_id: str) -> Response:
        _require_admin_or(user_id == g.token.user.id)
        return _listed("projects", map(_project, identity.list_projects(user_id=user_id)))

    @blueprint.get("/v3/projects")
    def projects() -> Response:
        _require_admin_or(False)
        return _listed("projects", map(_project, identity.list_projects()))

    @blueprint.post("/v3/projects")
    def create_project() -> Response:
        _require_admin_or(False)
        wanted = body_of(PROJECT)["project"]
        made = identity.create_project(
            wanted["name"], description=wanted.get("description") or "", enabled=wanted.get("enabled", True)
        )
        return answer({"project": _project(made)}, 201)

    @blueprint.get("/v3/projects/<project_id>")
    def show_project(project_id: str) -> Response:
        _require_admin_or(g.token.project is not None and project_id == g.token.project.id)
        return answer({"project": _project(identity.get_project(project_id))})

    @blueprint.patch("/v3/projects/<project_id>")
    def update_project(project_id: str) -> Response:
        _require_admin_or(False)
        wanted = body_of(PROJECT_UPDATE)["project"]
        changes = {name: wanted[name] for name in ("name", "description", "enabled") if name in wanted}
        changes |= {"description": changes["description"] or ""} if "description" in changes else {}
        return answer({"project": _project(identity.update_project(project_id, changes))})

    @blueprint.delete("/v3/projects/<project_id>")
    def delete_project(project_id: str) -> Response:
        _require_admin_or(False)
        identity.delete_project(project_id)
        return Response(status=204)


# ---- users ---------------------------------------------------------------------------------------------------------
def _add_users(blueprint: Blueprint, identity: EmbeddedIdentity) -> None:
    @blueprint.get("/v3/users")
    def users() -> Response:
        _require_admin_or(False)
        return _listed("users", map(_user, identity.list_users()))

    @blueprint.post("/v3/users")
    def create_user() -> Response:
        _require_admin_or(False)
        wanted = body_of(USER)["user"]
        made = identity.create_user(
            wanted["name"],
            wanted.get("password"),
            default_project_id=wanted.get("default_project_id"),
            enabled=wanted.get("enabled", True),
        )
        return answer({"user": _user(made)}, 201)

    @blueprint.get("/v3/users/<user_id>")
    def show_user(user_id: str) -> Response:
        _require_admin_or(user_id == g.token.user.id)
        return answer({"user": _user(identity.get_user(user_id))})

    @blueprint.patch("/v3/users/<user_id>")
    def update_user(user_id: str) -> Response:
        _require_admin_or(False)
        wanted = body_of(USER_UPDATE)["user"]
        changes = {name: wanted[name] for name in ("name", "enabled", "default_project_id") if name in wanted}
        return answer({"user": _user(identity.update_user(user_id, changes, password=wanted.get("password")))})

    @blueprint.delete("/v3/users/<user_id>")
    def delete_user(user_id: str) -> Response:
        _require_admin_or(False)
        identity.delete_user(user_id)
        return Response(status=204)


# ---- roles and grants ----------------------------------------------------------------------------------------------
def _add_roles(blueprint: Blueprint, identity: EmbeddedIdentity) -> None:
    @blueprint.get("/v3/roles")
    def roles() -> Response:
        _require_admin_or(False)
        return _listed("roles", map(_role, identity.list_roles()))

    @blueprint.get("/v3/roles/<role_id>")
    def role(role_id: str) -> Response:
        _require_admin_or(False)
        for known in identity.list_roles():
            if known.id == role_id:
                return answer({"role": _role(known)})
        raise errors.NotFound(f"Could not find role: {role_id[:64]}.")

    @blueprint.get("/v3/role_assignments")
    def assignments() -> Response:
        _require_admin_or(False)
        given = request.args
        wanted = {"user_id": given.get("user.id"), "project_id": given.get("scope.project.id")}
        wanted["role_id"] = given.get("role.id")
        found = identity.list_grants(**{name: value for name, value in wanted.items() if value})
        if any(name in given for name in _NO_GRANTS):
            found = []
        names: dict[str, str] = {}
        if given.get("include_names", "false").lower() in ("true", "1", ""):
            names |= {user.id: user.name for user in identity.list_users()}
            names |= {project.id: project.name for project in identity.list_projects()}
            names |= {role.id: role.name for role in identity.list_roles()}
        return _listed("role_assignments", (_assignment(grant, names) for grant in found))

    @blueprint.get("/v3/projects/<project_id>/users/<user_id>/roles")
    def granted(project_id: str, user_id: str) -> Response:
        _require_admin_or(False)
        names = {role.id: role for role in identity.list_roles()}
        found = identity.list_grants(project_id=project_id, user_id=user_id)
        return _listed("roles", (_role(names[grant.role_id]) for grant in found if grant.role_id in names))

    path = "/v3/projects/<project_id>/users/<user_id>/roles/<role_id>"

    @blueprint.get(path)
    def has_grant(project_id: str, user_id: str, role_id: str) -> Response:
        _require_admin_or(False)
        if not identity.list_grants(project_id=project_id, user_id=user_id, role_id=role_id):
            raise errors.NotFound("Could not find role assignment.")
        return Response(status=204)

    @blueprint.put(path)
    def add_grant(project_id: str, user_id: str, role_id: str) -> Response:
        _require_admin_or(False)
        identity.add_grant(Grant(user_id=user_id, project_id=project_id, role_id=role_id))
        return Response(status=204)

    @blueprint.delete(path)
    def remove_grant(project_id: str, user_id: str, role_id: str) -> Response:
        _require_admin_or(False)
        identity.remove_grant(Grant(user_id=user_id, project_id=project_id, role_id=role_id))
        return Response(status=204)


# ---- views and checks ----------------------------------------------------------------------------------------------
def _roles() -> set[str]:
    return {role.name for role in g.token.roles}


def _require_admin_or(allowed: bool) -> None:
    if not allowed and "admin" not in _roles():
        raise errors.Forbidden("You are not authorized to perform the requested action.")


def _matches(item: Mapping[str, Any], name: str, wanted: str) -> bool:
    """Whether an attribute equals, or, after two underscores in the filter's name, has the wanted text in it."""
    name, _, way = name.partition("__")
    value = item[name]
    if isinstance(value, bool):
        return value == (wanted.lower() not in _FALSE)
    value, wanted = str(value), str(wanted)
    if way[:1] == "i" or (name == "name" and not way):
        value, wanted = value.lower(), wanted.lower()
    return bool(_WAYS[way.removeprefix("i")](value, wanted))


def _filtered(kind: str, items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the query's filters leave; Keystone ignores those that a list does not have."""
    wanted = [
        (name, value)
        for name, value in request.args.items(multi=True)
        if name.partition("__")[0] in FILTERS[kind] and name.partition("__")[2].removeprefix("i") in _WAYS
    ]
    if kind == "users" and any(name in request.args for name in _NO_USERS):
        return []
    return [item for item in items if all(_matches(item, name, value) for name, value in wanted)]


def _paged(items: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str | None]:
    """One page, and the marker of the next. Raises Invalid."""
    limit, marker = read_limit(request.args), request.args.get("marker")
    if marker:
        places = [place for place, item in enumerate(items) if item["id"] == marker]
        if not places:
            raise errors.Invalid(f"The marker {marker[:64]} was not found.")
        items = items[places[0] + 1 :]
    if not limit or len(items) <= limit:
        return items, None
    return items[:limit], str(items[limit - 1]["id"])


def _links(path: str, following: str | None = None) -> dict[str, Any]:
    root = f"{_root()}/v3/{path}"
    pairs = [*pairs_of(request.args), ("marker", following)]
    return {"next": f"{root}?{urlencode(pairs)}" if following else None, "previous": None, "self": root}


def _listed(kind: str, items: Iterable[dict[str, Any]]) -> Response:
    path = request.path.partition("/v3/")[2]
    if kind == "role_assignments":
        return answer({kind: list(items), "links": _links(path)})
    page, following = _paged(_filtered(kind, items))
    return answer({kind: page, "links": _links(path, following)})


def _project(project: Project) -> dict[str, Any]:
    return {
        "id": project.id,
        "name": project.name,
        "domain_id": project.domain_id,
        "parent_id": project.domain_id,
        "description": project.description,
        "enabled": project.enabled,
        "is_domain": False,
        "tags": [],
        "options": {},
        "links": {"self": f"{_root()}/v3/projects/{project.id}"},
    }


def _user(user: User) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": user.id,
        "name": user.name,
        "domain_id": user.domain_id,
        "enabled": user.enabled,
        "password_expires_at": None,
        "options": {},
        "links": {"self": f"{_root()}/v3/users/{user.id}"},
    }
    if user.default_project_id:
        body["default_project_id"] = user.default_project_id
    return body


def _role(role: Role) -> dict[str, Any]:
    return {"id": role.id, "name": role.name, "domain_id": None, "description": None, "options": {}}


def _assignment(grant: Grant, names: Mapping[str, str]) -> dict[str, Any]:
    def named(item_id: str, **more: Any) -> dict[str, Any]:
        return {"id": item_id, "name": names[item_id], **more} if item_id in names else {"id": item_id}

    domain = {"id": DOMAIN_ID, "name": DOMAIN_NAME}
    return {
        "user": named(grant.user_id, domain=domain),
        "scope": {"project": named(grant.project_id, domain=domain)},
        "role": named(grant.role_id),
        "links": {},
    }
