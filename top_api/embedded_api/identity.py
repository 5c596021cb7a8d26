"""Identity v3 over the embedded identity: discovery, tokens, and the catalog of services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellcloud import errors
from cellcloud.db.listing import ALL
from cellcloud.embedded.identity import Login, Scope
from cellcloud.model.identity import Token
from top_api.embedded_api import identity_list_filters, identity_views
from top_api.embedded_api.error_formats import IDENTITY
from top_api.embedded_api.identity_list_filters import listed
from top_api.embedded_api.identity_schemas import AUTH
from top_api.request_pipeline import Answer, Call, Resource

identity = Resource("identity", IDENTITY)


def _root(call: Call) -> str:
    return call.base_url + IDENTITY.prefix


# ---- discovery -----------------------------------------------------------------------------------------------------
def _version(call: Call) -> dict[str, Any]:
    return {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": f"{_root(call)}/v3/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }


@identity.route("GET", "", None)
@identity.route("GET", "/", None)
def list_versions(call: Call) -> Answer:
    body = {"versions": {"values": [_version(call)]}}
    return Answer(status=300, body=body, headers={"Location": f"{_root(call)}/v3/"})


@identity.route("GET", "/v3", None)
@identity.route("GET", "/v3/", None)
def show_version(call: Call) -> dict[str, Any]:
    return {"version": _version(call)}


# ---- tokens --------------------------------------------------------------------------------------------------------


@identity.route("POST", "/v3/auth/tokens", None, body=AUTH)
def issue_token(call: Call) -> Answer:
    auth = call.body["auth"]
    token, facts = call.embedded.identity.issue_token(_logins(auth["identity"]), _scope(auth.get("scope")))
    return Answer(status=201, body=token_body(call, facts), headers={"X-Subject-Token": token})


def _look_up_subject(call: Call, arguments: Mapping[str, str]) -> None:
    """Find the token that the request is about. Raises NotFound."""
    try:
        call.found = call.embedded.identity.get_token_facts(call.headers.get("X-Subject-Token", ""))
    except errors.Unauthenticated:
        raise errors.NotFound("Could not find token.") from None
    if call.found.access_rules is not None and not _knows_access_rules(call):
        raise errors.NotFound("Could not find token.")
    call.target = {"target.token.user_id": call.found.user.id}


def _knows_access_rules(call: Call) -> bool:
    """Return whether who asks about a token says that it obeys rules of access."""
    try:
        return float(call.headers.get("OpenStack-Identity-Access-Rules", "0")) >= 1.0
    except ValueError:
        return False


@identity.route("GET", "/v3/auth/tokens", "identity:validate_token", lookup=_look_up_subject)
def show_token(call: Call) -> Answer:
    given = {"X-Subject-Token": call.headers["X-Subject-Token"]}
    return Answer(body=token_body(call, call.found), headers=given)


@identity.route("DELETE", "/v3/auth/tokens", "identity:revoke_token", lookup=_look_up_subject, status=204)
def revoke_token(call: Call) -> None:
    call.embedded.identity.revoke_token(call.headers["X-Subject-Token"])


def _logins(given: dict[str, Any]) -> list[Login]:
    logins = []
    methods = dict.fromkeys(given["methods"])
    for method in methods:
        if method not in given:
            raise errors.Invalid(f"Expecting to find {method[:64]} in identity.")
    for method in methods:
        if method == "token":
            logins.append(Login(token=given["token"]["id"]))
        elif method == "password":
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
        elif method == "application_credential":
            logins.append(_application_login(given[method]))
        else:
            raise errors.Unauthenticated("Attempted to authenticate with an unsupported method.")
    return logins


def _application_login(given: dict[str, Any]) -> Login:
    user = given.get("user") or {}
    domain = user.get("domain") or {}
    return Login(
        secret=given["secret"],
        credential_id=given.get("id"),
        credential_name=given.get("name"),
        user_id=user.get("id"),
        user_name=user.get("name"),
        domain_id=domain.get("id"),
        domain_name=domain.get("name"),
    )


def _scope(given: Any) -> Scope:
    """Return what a token is asked to be for. Raises Invalid."""
    if given is None:
        return Scope()
    if given == "unscoped":
        return Scope(unscoped=True)
    if "OS-TRUST:trust" in given:
        raise errors.Invalid("Trusts are not offered: use an application credential.")
    if sum(name in given for name in ("project", "domain", "unscoped", "system")) != 1:
        raise errors.Invalid("A scope is one of system, project, domain or unscoped.")
    if "unscoped" in given:
        return Scope(unscoped=True)
    if "system" in given:
        return Scope(system=True)
    if "domain" in given:
        return Scope(domain_id=given["domain"].get("id"), domain_name=given["domain"].get("name"))
    project = given["project"]
    domain = project.get("domain") or {}
    return Scope(
        project_id=project.get("id"),
        project_name=project.get("name"),
        domain_id=domain.get("id"),
        domain_name=domain.get("name"),
    )


def token_body(call: Call, token: Token) -> dict[str, Any]:
    """Return what a token says, as Keystone shows it."""

    def home(domain_id: str) -> dict[str, str]:
        return {"id": domain_id, "name": token.domain_names.get(domain_id, "")}

    user = token.user
    body: dict[str, Any] = {
        "methods": list(token.methods),
        "user": {
            "id": user.id,
            "name": user.name,
            "domain": home(user.domain_id),
            "password_expires_at": identity_views.user(call, user)["password_expires_at"],
        },
        "audit_ids": list(token.audit_ids),
        "issued_at": identity_views.stamp(token.issued_at),
        "expires_at": identity_views.stamp(token.expires_at),
    }
    if token.application_credential is not None:
        credential = token.application_credential
        body["application_credential"] = {
            "id": credential.id,
            "name": credential.name,
            "restricted": not credential.unrestricted,
        }
        if token.access_rules is not None:
            body["application_credential"]["access_rules"] = [
                {"id": rule.id, "service": rule.service, "method": rule.method, "path": rule.path}
                for rule in token.access_rules
            ]
    if token.project is not None:
        project = token.project
        body["is_domain"] = False
        body["project"] = {"id": project.id, "name": project.name, "domain": home(project.domain_id)}
    elif token.domain is not None:
        body["domain"] = {"id": token.domain.id, "name": token.domain.name}
    elif token.system:
        body["system"] = {"all": True}
    else:
        return {"token": body}
    body["roles"] = [{"id": role.id, "name": role.name} for role in token.roles]
    if "nocatalog" not in call.query:
        project_id = token.project.id if token.project is not None else ""
        body["catalog"] = call.embedded.identity.catalog_of(f"{call.base_url}/", project_id=project_id, user_id=user.id)
    return {"token": body}


# ---- what a caller may have a token for ------------------------------------------------------------------------------
@identity.route("GET", "/v3/auth/catalog", "identity:get_auth_catalog")
def catalog(call: Call) -> dict[str, Any]:
    context = call.context
    if not (context.project_id or context.domain_id or context.system):
        raise errors.Forbidden("An unscoped token has no catalog.")
    found = call.embedded.identity.catalog_of(
        f"{call.base_url}/", project_id=context.project_id, user_id=context.user_id
    )
    return {"catalog": found, "links": identity_list_filters.links(call, (), ALL)}


@identity.route("GET", "/v3/auth/projects", "identity:get_auth_projects")
def own_projects(call: Call) -> dict[str, Any]:
    page = identity_list_filters.PROJECTS_OF_USER.page(call)
    found = call.embedded.identity.assignments.list_projects_of(call.context.user_id, page, enabled=True)
    return listed(call, "projects", [identity_views.project(call, project) for project in found], page)


@identity.route("GET", "/v3/auth/domains", "identity:get_auth_domains")
def own_domains(call: Call) -> dict[str, Any]:
    page = identity_list_filters.DOMAINS.page(call)
    found = call.embedded.identity.assignments.list_domains_of(call.context.user_id, page)
    return listed(call, "domains", [identity_views.domain(call, domain) for domain in found], page)


@identity.route("GET", "/v3/auth/system", "identity:get_auth_system")
def own_system(call: Call) -> dict[str, Any]:
    found = [{"all": True}] if call.embedded.identity.assignments.has_system(call.context.user_id) else []
    return {"system": found, "links": {"self": f"{_root(call)}/v3/auth/system"}}
