"""Identity v3 over the embedded identity: discovery, tokens, and the catalog of services."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from cellcloud import errors
from cellcloud.db.listing import ALL
from cellcloud.embedded.identity import DOMAIN_ID, DOMAIN_NAME, REGION, Login, Scope
from cellcloud.model.identity import Token
from top_api.authorization import Target
from top_api.embedded_api import identity_list_filters
from top_api.embedded_api.error_formats import IDENTITY
from top_api.embedded_api.identity_list_filters import listed, selected
from top_api.embedded_api.identity_schemas import AUTH
from top_api.request_pipeline import Answer, Call, Resource

identity = Resource("identity", IDENTITY)
_REGION = {"id": REGION, "description": "", "parent_region_id": None}
_DOMAIN = {"id": DOMAIN_ID, "name": DOMAIN_NAME, "enabled": True, "description": "", "tags": [], "options": {}}


def _root(call: Call) -> str:
    return call.base_url + IDENTITY.prefix


def _catalog(call: Call) -> list[dict[str, Any]]:
    return call.embedded.identity.catalog(f"{call.base_url}/")


def _of_domain(arguments: Mapping[str, str]) -> Target:
    return {"target.domain.id": arguments["domain_id"]}


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
    return Answer(status=201, body=_token_body(call, facts), headers={"X-Subject-Token": token})


def _look_up_subject(call: Call, arguments: Mapping[str, str]) -> None:
    """Find the token that the request is about. Raises NotFound."""
    try:
        call.found = call.embedded.identity.get_token_facts(call.headers.get("X-Subject-Token", ""))
    except errors.Unauthenticated:
        raise errors.NotFound("Could not find token.") from None
    call.target = {"target.token.user_id": call.found.user.id}


@identity.route("GET", "/v3/auth/tokens", "identity:validate_token", lookup=_look_up_subject)
def show_token(call: Call) -> Answer:
    given = {"X-Subject-Token": call.headers["X-Subject-Token"]}
    return Answer(body=_token_body(call, call.found), headers=given)


@identity.route("DELETE", "/v3/auth/tokens", "identity:revoke_token", lookup=_look_up_subject, status=204)
def revoke_token(call: Call) -> None:
    call.embedded.identity.revoke_token(call.headers["X-Subject-Token"])


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


def _token_body(call: Call, token: Token) -> dict[str, Any]:
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
        if "nocatalog" not in call.query:
            body["catalog"] = _catalog(call)
    return {"token": body}


def _stamp(when: dt.datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# ---- catalog -------------------------------------------------------------------------------------------------------


@identity.route("GET", "/v3/auth/catalog", "identity:get_auth_catalog")
def catalog(call: Call) -> dict[str, Any]:
    return {"catalog": _catalog(call), "links": identity_list_filters.links(call, (), ALL)}


def _known_services(call: Call) -> list[dict[str, Any]]:
    return [{"id": s["id"], "type": s["type"], "name": s["name"], "enabled": True} for s in _catalog(call)]


@identity.route("GET", "/v3/services", "identity:list_services")
def services(call: Call) -> dict[str, Any]:
    page = identity_list_filters.SERVICES.page(call)
    return listed(call, "services", selected(_known_services(call), page), page)


@identity.route("GET", "/v3/services/<service_id>", "identity:get_service")
def service(call: Call, service_id: str) -> dict[str, Any]:
    found = [known for known in _known_services(call) if known["id"] == service_id]
    if not found:
        raise errors.NotFound(f"Could not find service: {service_id[:64]}.")
    return {"service": found[0]}


@identity.route("GET", "/v3/endpoints", "identity:list_endpoints")
def endpoints(call: Call) -> dict[str, Any]:
    found = [
        {**endpoint, "service_id": service["id"], "enabled": True}
        for service in _catalog(call)
        for endpoint in service["endpoints"]
    ]
    page = identity_list_filters.ENDPOINTS.page(call)
    return listed(call, "endpoints", selected(found, page), page)


@identity.route("GET", "/v3/regions", "identity:list_regions")
def regions(call: Call) -> dict[str, Any]:
    page = identity_list_filters.REGIONS.page(call)
    return listed(call, "regions", selected([_REGION], page), page)


@identity.route("GET", "/v3/regions/<region_id>", "identity:get_region")
def region(call: Call, region_id: str) -> dict[str, Any]:
    if region_id != REGION:
        raise errors.NotFound(f"Could not find region: {region_id[:64]}.")
    return {"region": _REGION}


@identity.route("GET", "/v3/domains", "identity:list_domains")
def domains(call: Call) -> dict[str, Any]:
    page = identity_list_filters.DOMAINS.page(call)
    return listed(call, "domains", selected([_DOMAIN], page), page)


@identity.route("GET", "/v3/domains/<domain_id>", "identity:get_domain", target=_of_domain)
def domain(call: Call, domain_id: str) -> dict[str, Any]:
    if domain_id != DOMAIN_ID:
        raise errors.NotFound(f"Could not find domain: {domain_id[:64]}.")
    return {"domain": _DOMAIN}
