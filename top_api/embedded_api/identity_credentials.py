"""Identity v3 over the embedded identity: application credentials, their rules of access, EC2's, and others."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cellcloud import errors
from cellcloud.embedded.identity_collections import new_id
from cellcloud.embedded.signed_requests import EC2 as EC2_TYPE
from cellcloud.embedded.signed_requests import credential_id_of
from cellcloud.model.identity import AccessRule, ApplicationCredential, Credential, IdentityRole, Token
from top_api.embedded_api import identity_list_filters, identity_targets, identity_views
from top_api.embedded_api.error_formats import IDENTITY
from top_api.embedded_api.identity_credential_schemas import (
    APPLICATION_CREDENTIAL,
    CREDENTIAL,
    CREDENTIAL_UPDATE,
    EC2,
)
from top_api.embedded_api.identity_list_filters import listed
from top_api.embedded_api.identity_schemas import fields_of
from top_api.embedded_api.lists import time as read_time
from top_api.request_pipeline import Call, Resource

credentials = Resource("identity_credentials", IDENTITY)
_APPLICATION = "/v3/users/<user_id>/application_credentials"
_RULES = "/v3/users/<user_id>/access_rules"
_EC2 = "/v3/users/<user_id>/credentials/OS-EC2"


def _token(call: Call) -> Token:
    return call.embedded.identity.get_token_facts(call.headers.get("X-Auth-Token", ""))


def _check_unrestricted(call: Call) -> Token:
    """Return the caller's token. Raises Forbidden for one of an application credential that may make no others."""
    token = _token(call)
    if token.application_credential is not None and not token.application_credential.unrestricted:
        raise errors.Forbidden(
            "You are not authorized to perform the requested action: Using method 'application_credential' is not "
            "allowed for managing additional application credentials."
        )
    return token


# ---- of applications -----------------------------------------------------------------------------------------------
def _applications(call: Call, records: Sequence[ApplicationCredential], user_id: str) -> list[dict[str, Any]]:
    """Return credentials of one user as Keystone shows them; their roles and rules are read once."""
    identity = call.embedded.identity
    roles = {role.id: role for role in identity.assignments.roles.list_all()}
    rules = {rule.id: rule for rule in identity.credentials.access_rules.list_all(user_id=user_id)}
    return [_application(call, record, roles, rules) for record in records]


def _application(
    call: Call,
    record: ApplicationCredential,
    roles: Mapping[str, IdentityRole],
    rules: Mapping[str, AccessRule],
) -> dict[str, Any]:
    own = f"{identity_views.root(call)}/v3/users/{record.user_id}/application_credentials/{record.id}"
    body: dict[str, Any] = {
        "id": record.id,
        "name": record.name,
        "description": record.description,
        "user_id": record.user_id,
        "project_id": record.project_id,
        "expires_at": (identity_views.stamp(record.expires_at) or "").removesuffix("Z") or None,
        "unrestricted": record.unrestricted,
        "system": None,
        "roles": [
            {"id": role.id, "name": role.name, "domain_id": role.domain_id or None, "description": role.description}
            for role_id in record.role_ids
            if (role := roles.get(role_id)) is not None
        ],
        "links": {"self": own},
    }
    if record.access_rule_ids is not None:
        body["access_rules"] = [_rule(rules[one]) for one in record.access_rule_ids if one in rules]
    return body


def _rule(rule: AccessRule) -> dict[str, str]:
    return {"id": rule.id, "service": rule.service, "method": rule.method, "path": rule.path}


@credentials.route("GET", _APPLICATION, "identity:list_application_credentials", lookup=identity_targets.of_path)
def application_credentials(call: Call, user_id: str) -> dict[str, Any]:
    page = identity_list_filters.APPLICATION_CREDENTIALS.page(call)
    found = call.embedded.identity.credentials.of_applications.list_all(page, user_id=user_id)
    return listed(call, "application_credentials", _applications(call, found, user_id), page)


@credentials.route(
    "POST",
    _APPLICATION,
    "identity:create_application_credential",
    lookup=identity_targets.of_path,
    status=201,
    body=APPLICATION_CREDENTIAL,
)
def create_application_credential(call: Call, user_id: str) -> dict[str, Any]:
    token = _check_unrestricted(call)
    if token.project is None:
        raise errors.Invalid("An application credential is for a project: use a token for one.")
    given = call.body["application_credential"]
    credential = ApplicationCredential(
        id=new_id(),
        name=given["name"],
        user_id=user_id,
        project_id=token.project.id,
        description=given.get("description"),
        expires_at=_expiry(given.get("expires_at")),
        unrestricted=given.get("unrestricted") or False,
        role_ids=_role_ids(call, given.get("roles") or []),
    )
    rules = [AccessRule(id=new_id(), user_id=user_id, **rule) for rule in given.get("access_rules") or []]
    made, secret = call.embedded.identity.credentials.create(
        credential, token=token, secret=given.get("secret"), rules=rules or None
    )
    (shown,) = _applications(call, [made], user_id)
    return {"application_credential": shown | {"secret": secret}}


def _expiry(given: str | None) -> dt.datetime | None:
    if given is None:
        return None
    try:
        read_time(given)
        at = dt.datetime.fromisoformat(given)
    except (ValueError, OverflowError):
        raise errors.Invalid(
            f"expires_at: '{given[:64]}' is not a time in the form YYYY-MM-DDTHH:MM:SS.ssssssZ."
        ) from None
    return (at if at.tzinfo is not None else at.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)


def _role_ids(call: Call, given: list[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the ids of roles that are named by id or by name. Raises NotFound."""
    known = call.embedded.identity.assignments.roles.list_all()
    names = {role.name: role.id for role in known if not role.domain_id}
    ids = {role.id for role in known}
    found = []
    for one in given:
        role_id = one["id"] if one.get("id") else names.get(one.get("name") or "", "")
        if role_id not in ids:
            raise errors.NotFound(f"Could not find role: {str(one.get('id') or one.get('name'))[:64]}.")
        found.append(role_id)
    return tuple(dict.fromkeys(found))


def _own_application(call: Call, user_id: str, application_credential_id: str) -> ApplicationCredential:
    """Find a credential of that user. Raises NotFound."""
    found = call.embedded.identity.credentials.of_applications.get(application_credential_id)
    if found.user_id != user_id:
        raise errors.NotFound(f"Could not find application credential: {application_credential_id[:64]}.")
    return found


@credentials.route(
    "GET",
    f"{_APPLICATION}/<application_credential_id>",
    "identity:get_application_credential",
    lookup=identity_targets.of_path,
)
def show_application_credential(call: Call, user_id: str, application_credential_id: str) -> dict[str, Any]:
    found = _own_application(call, user_id, application_credential_id)
    (shown,) = _applications(call, [found], user_id)
    return {"application_credential": shown}


@credentials.route(
    "DELETE",
    f"{_APPLICATION}/<application_credential_id>",
    "identity:delete_application_credential",
    lookup=identity_targets.of_path,
    status=204,
)
def delete_application_credential(call: Call, user_id: str, application_credential_id: str) -> None:
    _check_unrestricted(call)
    found = _own_application(call, user_id, application_credential_id)
    call.embedded.identity.credentials.of_applications.delete(found.id)


# ---- rules of access -----------------------------------------------------------------------------------------------
def _shown_rule(call: Call, rule: AccessRule) -> dict[str, Any]:
    own = f"{identity_views.root(call)}/v3/users/{rule.user_id}/access_rules/{rule.id}"
    return _rule(rule) | {"links": {"self": own}}


@credentials.route("GET", _RULES, "identity:list_access_rules", lookup=identity_targets.of_path)
def access_rules(call: Call, user_id: str) -> dict[str, Any]:
    page = identity_list_filters.ACCESS_RULES.page(call)
    found = call.embedded.identity.credentials.access_rules.list_all(page, user_id=user_id)
    return listed(call, "access_rules", [_shown_rule(call, rule) for rule in found], page)


def _own_rule(call: Call, user_id: str, access_rule_id: str) -> AccessRule:
    found = call.embedded.identity.credentials.access_rules.get(access_rule_id)
    if found.user_id != user_id:
        raise errors.NotFound(f"Could not find access rule: {access_rule_id[:64]}.")
    return found


@credentials.route("GET", f"{_RULES}/<access_rule_id>", "identity:get_access_rule", lookup=identity_targets.of_path)
def show_access_rule(call: Call, user_id: str, access_rule_id: str) -> dict[str, Any]:
    return {"access_rule": _shown_rule(call, _own_rule(call, user_id, access_rule_id))}


@credentials.route(
    "DELETE", f"{_RULES}/<access_rule_id>", "identity:delete_access_rule", lookup=identity_targets.of_path, status=204
)
def delete_access_rule(call: Call, user_id: str, access_rule_id: str) -> None:
    _check_unrestricted(call)
    call.embedded.identity.credentials.access_rules.delete(_own_rule(call, user_id, access_rule_id).id)


# ---- EC2's ---------------------------------------------------------------------------------------------------------
def _ec2(call: Call, record: Credential) -> dict[str, Any]:
    blob = msgspec.json.decode(record.blob)
    own = f"{identity_views.root(call)}/v3/users/{record.user_id}/credentials/OS-EC2/{blob['access']}"
    return {
        "user_id": record.user_id,
        "tenant_id": record.project_id,
        "access": blob["access"],
        "secret": blob.get("secret"),
        "trust_id": None,
        "links": {"self": own},
    }


def _of_user(call: Call, arguments: Mapping[str, str]) -> None:
    """Set the target by the user of the path, whose the credential is or will be. A Lookup."""
    identity_targets.of_path(call, arguments)
    call.target = {**(call.target or {}), "target.credential.user_id": arguments["user_id"]}


@credentials.route("GET", _EC2, "identity:ec2_list_credentials", lookup=_of_user)
def ec2_credentials(call: Call, user_id: str) -> dict[str, Any]:
    call.embedded.identity.accounts.users.get(user_id)
    token = _token(call)
    found = call.embedded.identity.credentials.others.list_all(user_id=user_id, type=EC2_TYPE)
    return listed(call, "credentials", [_ec2(call, one) for one in found if _is_in_reach(token, one.project_id)])


@credentials.route("POST", _EC2, "identity:ec2_create_credential", lookup=_of_user, status=201, body=EC2)
def create_ec2_credential(call: Call, user_id: str) -> dict[str, Any]:
    token, identity = _check_unrestricted(call), call.embedded.identity
    project_id = call.body["tenant_id"]
    identity.accounts.users.get(user_id)
    identity.directory.projects.get(project_id)
    _check_reach(token, project_id)
    access = new_id()
    blob = {"access": access, "secret": secrets.token_hex(16), "trust_id": None}
    if token.application_credential is not None:
        blob["app_cred_id"] = token.application_credential.id
    credential = Credential(
        id=credential_id_of(access),
        user_id=user_id,
        project_id=project_id,
        type=EC2_TYPE,
        blob=msgspec.json.encode(blob).decode(),
    )
    return {"credential": _ec2(call, identity.credentials.others.create(credential))}


def _own_ec2(call: Call, user_id: str, access: str) -> Credential:
    """Find the credential of that user with that key. Raises NotFound, Forbidden."""
    try:
        found = call.embedded.identity.credentials.others.get(credential_id_of(access))
    except errors.NotFound:
        found = None
    if found is None or found.user_id != user_id or found.type != EC2_TYPE:
        raise errors.NotFound(f"Could not find credential: {access[:64]}.")
    _check_reach(_token(call), found.project_id)
    return found


@credentials.route("GET", f"{_EC2}/<access>", "identity:ec2_get_credential", lookup=_of_user)
def show_ec2_credential(call: Call, user_id: str, access: str) -> dict[str, Any]:
    return {"credential": _ec2(call, _own_ec2(call, user_id, access))}


@credentials.route("DELETE", f"{_EC2}/<access>", "identity:ec2_delete_credential", lookup=_of_user, status=204)
def delete_ec2_credential(call: Call, user_id: str, access: str) -> None:
    _check_unrestricted(call)
    call.embedded.identity.credentials.others.delete(_own_ec2(call, user_id, access).id)


# ---- others --------------------------------------------------------------------------------------------------------
def _other(call: Call, record: Credential) -> dict[str, Any]:
    return {
        **{name: value for name, value in record.extra.items() if name != "options"},
        "id": record.id,
        "user_id": record.user_id,
        "project_id": record.project_id,
        "type": record.type,
        "blob": record.blob,
        "links": {"self": f"{identity_views.root(call)}/v3/credentials/{record.id}"},
    }


def _is_in_reach(token: Token, project_id: str | None) -> bool:
    """Return whether a token reaches credentials of a project: one by an application's, those of its own alone."""
    credential = token.application_credential
    return credential is None or credential.project_id == project_id


def _check_reach(token: Token, project_id: str | None) -> None:
    """Check the same. Raises Forbidden."""
    if not _is_in_reach(token, project_id):
        raise errors.Forbidden("Credential project does not match the project scope of the delegated token")


def _of_caller(call: Call, arguments: Mapping[str, str]) -> None:
    call.target = {} if call.context.system else {"target.credential.user_id": call.context.user_id}


def _of_credential(call: Call, arguments: Mapping[str, str]) -> None:
    call.target = {}
    try:
        call.found = call.embedded.identity.credentials.others.get(arguments["credential_id"])
    except errors.NotFound:
        return
    call.target = {"target.credential.user_id": call.found.user_id}


def _found(call: Call, credential_id: str) -> Credential:
    """Return what the lookup found. Raises NotFound, Forbidden."""
    if not isinstance(call.found, Credential):
        raise errors.NotFound(f"Could not find credential: {credential_id[:64]}.")
    _check_reach(_token(call), call.found.project_id)
    return call.found


def _of_new(call: Call, arguments: Mapping[str, str]) -> None:
    call.target = {"target.credential.user_id": call.body["credential"]["user_id"]}


@credentials.route("GET", "/v3/credentials", "identity:list_credentials", lookup=_of_caller)
def other_credentials(call: Call) -> dict[str, Any]:
    page = identity_list_filters.CREDENTIALS.page(call)
    token, shown = _token(call), []
    for one in call.embedded.identity.credentials.others.list_all(page):
        call.target = {"target.credential.user_id": one.user_id}
        if call.allows("identity:get_credential") and _is_in_reach(token, one.project_id):
            shown.append(_other(call, one))
    return listed(call, "credentials", shown, page)


@credentials.route("POST", "/v3/credentials", "identity:create_credential", lookup=_of_new, status=201, body=CREDENTIAL)
def create_credential(call: Call) -> dict[str, Any]:
    given = call.body["credential"]
    ec2 = given["type"].lower() == EC2_TYPE
    token = _check_unrestricted(call) if ec2 else _token(call)
    fields = fields_of(given, ("user_id", "project_id", "type", "blob"))
    fields["blob"] = _blob(given["blob"])
    credential_id = new_id()
    if ec2:
        if fields.get("project_id") is None:
            raise errors.Invalid("project_id: it is required for a credential of type ec2.")
        blob = _ec2_blob(fields["blob"])
        credential_id = credential_id_of(blob["access"])
        if token.application_credential is not None:
            fields["blob"] = msgspec.json.encode(blob | {"app_cred_id": token.application_credential.id}).decode()
    credential = Credential(id=credential_id, **fields)
    _check_reach(token, credential.project_id)
    return {"credential": _other(call, call.embedded.identity.credentials.others.create(credential))}


def _blob(given: Any) -> str:
    return given if isinstance(given, str) else msgspec.json.encode(given).decode()


def _ec2_blob(text: str) -> dict[str, Any]:
    """Return the keys of a credential of EC2's. Raises Invalid."""
    try:
        blob = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        raise errors.Invalid("blob: Invalid blob in credential") from None
    if not isinstance(blob, dict) or not isinstance(blob.get("access"), str):
        raise errors.Invalid("blob: it has no text 'access'.")
    return blob


@credentials.route("GET", "/v3/credentials/<credential_id>", "identity:get_credential", lookup=_of_credential)
def show_credential(call: Call, credential_id: str) -> dict[str, Any]:
    return {"credential": _other(call, _found(call, credential_id))}


@credentials.route(
    "PATCH",
    "/v3/credentials/<credential_id>",
    "identity:update_credential",
    lookup=_of_credential,
    body=CREDENTIAL_UPDATE,
)
def update_credential(call: Call, credential_id: str) -> dict[str, Any]:
    given, before = call.body["credential"], _found(call, credential_id)
    changes = fields_of(given, ("user_id", "project_id", "type", "blob"), known_id=credential_id)
    if "blob" in changes:
        changes["blob"] = _blob(changes["blob"])
    if before.type.lower() == EC2_TYPE or changes.get("type", "").lower() == EC2_TYPE:
        _check_unrestricted(call)
        old, new = (_ec2_blob(text) for text in (before.blob, changes.get("blob", before.blob)))
        for name in ("trust_id", "app_cred_id", "access_token_id"):
            if old.get(name) != new.get(name):
                raise errors.Invalid(f"{name} can not be updated for credential")
    call.target = {"target.credential.user_id": changes.get("user_id", before.user_id)}
    call.check("identity:update_credential")
    _check_reach(_token(call), changes.get("project_id", before.project_id))
    return {"credential": _other(call, call.embedded.identity.credentials.others.update(before.id, changes))}


@credentials.route(
    "DELETE",
    "/v3/credentials/<credential_id>",
    "identity:delete_credential",
    lookup=_of_credential,
    status=204,
)
def delete_credential(call: Call, credential_id: str) -> None:
    call.embedded.identity.credentials.others.delete(_found(call, credential_id).id)
