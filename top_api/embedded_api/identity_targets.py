"""Whose the things are that the identity API's rules are asked about: found before, by the words of the path. What does
not exist is nobody's, so that those who may not ask cannot tell it from what does."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cellcloud import errors
from cellcloud.embedded.identity import EmbeddedIdentity
from top_api.request_pipeline import Call, Lookup

Facts = dict[str, str | None]


def _user(identity: EmbeddedIdentity, found_id: str) -> Facts:
    user = identity.accounts.users.get(found_id)
    return {"target.user.domain_id": user.domain_id}


def _group(identity: EmbeddedIdentity, found_id: str) -> Facts:
    return {"target.group.domain_id": identity.directory.groups.get(found_id).domain_id}


def _project(identity: EmbeddedIdentity, found_id: str) -> Facts:
    return {"target.project.domain_id": identity.directory.projects.get(found_id).domain_id}


def _domain(identity: EmbeddedIdentity, found_id: str) -> Facts:
    identity.directory.domains.get(found_id)
    return {}


def _role(identity: EmbeddedIdentity, found_id: str) -> Facts:
    role = identity.assignments.roles.get(found_id)
    return {"target.role.name": role.name, "target.role.domain_id": role.domain_id or None}


_FOUND: dict[str, Callable[[EmbeddedIdentity, str], Facts]] = {
    "user_id": _user,
    "group_id": _group,
    "project_id": _project,
    "domain_id": _domain,
    "role_id": _role,
}


def of_path(call: Call, arguments: Mapping[str, str]) -> None:
    """Set the target by the ids of the path. A Lookup."""
    target: Facts = dict(arguments)
    for name, value in arguments.items():
        if name not in _FOUND:
            continue
        target[f"target.{name.removesuffix('_id')}.id"] = value
        try:
            target |= _FOUND[name](call.embedded.identity, value)
        except errors.NotFound:
            continue
    call.target = target


def of_list(*names: str) -> Lookup:
    """Return the lookup of a list: for a token of a domain, what is in that domain. ``names``: of the target."""

    def look_up(call: Call, arguments: Mapping[str, str]) -> None:
        of_path(call, arguments)
        domain_id = call.context.domain_id
        call.target = {**(call.target or {}), **(dict.fromkeys(names, domain_id) if domain_id else {})}

    return look_up


def of_new(kind: str) -> Lookup:
    """Return the lookup of a new record: it will be in the domain that its body says, or the caller's."""

    def look_up(call: Call, arguments: Mapping[str, str]) -> None:
        call.target = {f"target.{kind}.domain_id": home_of(call, call.body[kind])}

    return look_up


def home_of(call: Call, given: Mapping[str, object]) -> str:
    """Return the domain of a new record: the one it names, or else the token's, or else the default one."""
    named = given.get("domain_id")
    return named if isinstance(named, str) else call.context.domain_id or "default"
