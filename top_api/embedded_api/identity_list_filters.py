"""What lists of users, projects and the rest of identity may be asked for, as Keystone reads it: every value of a query
must hold, texts are compared as the end of a key says, and keys that are no filter are ignored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from cellcloud import errors
from cellcloud.db.listing import ALL, TEXT_OPERATORS, Condition, Page
from cellcloud.model.identity import DOMAIN, GROUP, PROJECT, SYSTEM, USER
from top_api.embedded_api.lists import (
    ORDER,
    Filter,
    all_pairs,
    compared_time,
    pairs_of,
    read_limit,
    read_value,
    text,
    time,
)
from top_api.paging import walk_of
from top_api.request_pipeline import Call

_TRUE = frozenset({"", "True", "TRUE", "true", "1", "y", "Y", "on", "ON", "yes"})
_FALSE = frozenset({"False", "FALSE", "false", "0", "n", "N", "off", "OFF", "no"})
_TAGS = {"tags": "every", "tags-any": "in", "not-tags": "not_every", "not-tags-any": "not_in"}
_NOTHING = Condition("id", ())


def _boolean(value: str) -> bool:
    if value in _TRUE | _FALSE:
        return value in _TRUE
    raise ValueError("no truth value")


def _word(value: str) -> str:
    if not 0 < len(value) <= 255:
        raise ValueError("no name")
    return text(value)


def _identifier(value: str) -> str:
    if not (0 < len(value) <= 64 and value.isascii() and value.replace("-", "a").isalnum()):
        raise ValueError("no id")
    return value


def _interface(value: str) -> str:
    if value not in ("public", "internal", "admin"):
        raise ValueError("no interface")
    return value


def _tags(value: str) -> list[str]:
    return text(value).split(",")


_NAME = Filter(read=_word, operators=TEXT_OPERATORS)
_ID = Filter(read=_identifier, operators=TEXT_OPERATORS)
_TEXT = Filter(operators=TEXT_OPERATORS)
_BOOLEAN = Filter(read=_boolean)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityListForm:
    """One collection. ``absent``: filters by what nothing here has. ``sorts``: what it may be sorted by."""

    filters: Mapping[str, Filter] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()
    sorts: frozenset[str] = frozenset()

    def page(self, call: Call) -> Page:
        """Return what the request asks for. Raises Invalid."""
        where = [condition for name, value in all_pairs(call.query) for condition in self._read(name, value)]
        marker = call.param("marker") or None
        limit = read_limit(call.param("limit")) or None
        return Page(where=where, sort=self._sort(call), after=marker, limit=limit, walk=walk_of(call))

    def _sort(self, call: Call) -> list[tuple[str, bool]]:
        key, direction = call.param("sort_key"), call.param("sort_dir") or "asc"
        if not self.sorts or (key is None and "sort_dir" not in call.query):
            return []
        if direction not in ("asc", "desc"):
            raise errors.Invalid("sort_dir is 'asc' or 'desc'.")
        if key is not None and key not in self.sorts:
            raise errors.Invalid(f"'{key[:64]}' is no key to sort by.")
        return [(key or "name", direction == "asc")]

    def _read(self, name: str, value: str) -> list[Condition]:
        base, inexact, operator = name.partition("__")
        known = self.filters.get(base)
        if known is None:
            return []
        column = known.of or base
        if inexact:
            if operator not in TEXT_OPERATORS & known.operators:
                raise errors.Invalid(f"'{base}' cannot be filtered by '{operator[:64]}'.")
            found = Condition(column, [read_value(name, value, text)], operator)
        elif known.read is time:
            before, _, value = value.partition(":")
            if before not in known.operators:
                raise errors.Invalid(f"Unable to filter by unknown operator '{before[:64]}'.")
            found = compared_time(column, before, read_value(name, value, time))
        elif base in _TAGS:
            found = Condition(column, read_value(name, value, _tags), _TAGS[base])
        else:
            operator = "iequals" if base == "name" else "in"
            found = Condition(column, [read_value(name, value, known.read)], operator)
        if base == "is_domain":  # a domain is listed as one by itself
            return [_NOTHING] if found.values[0] else []
        return [_NOTHING] if base in self.absent else [found]


_FEDERATED = ("idp_id", "protocol_id", "unique_id")
USERS = IdentityListForm(
    filters={
        "domain_id": _ID,
        "enabled": _BOOLEAN,
        "name": _NAME,
        "password_expires_at": Filter(read=time, operators=ORDER),
        **dict.fromkeys(_FEDERATED, _TEXT),
    },
    absent=frozenset(_FEDERATED),
    sorts=frozenset({"id", "name", "domain_id", "enabled"}),
)
PROJECTS = IdentityListForm(
    filters={
        "domain_id": _ID,
        "parent_id": _ID,
        "enabled": _BOOLEAN,
        "is_domain": _BOOLEAN,
        "name": _NAME,
        **dict.fromkeys(_TAGS, Filter(of="tags")),
    }
)
PROJECTS_OF_USER = IdentityListForm(filters={"domain_id": _ID, "enabled": _BOOLEAN, "name": _NAME})
GROUPS = IdentityListForm(filters={"domain_id": _ID, "name": _NAME})
ROLES = IdentityListForm(filters={"domain_id": _ID, "name": _NAME})
DOMAINS = IdentityListForm(filters={"enabled": _BOOLEAN, "name": _NAME})
SERVICES = IdentityListForm(filters={"type": _TEXT, "name": _NAME})
ENDPOINTS = IdentityListForm(
    filters={"interface": Filter(read=_interface), "service_id": _TEXT, "region_id": _TEXT},
)
APPLICATION_CREDENTIALS = IdentityListForm(filters={"name": _NAME})
ACCESS_RULES = IdentityListForm(filters={"service": _TEXT, "method": _TEXT, "path": _TEXT})
CREDENTIALS = IdentityListForm(filters={"user_id": _TEXT, "type": _TEXT})
REGISTERED_LIMITS = IdentityListForm(filters={"service_id": _TEXT, "region_id": _TEXT, "resource_name": _TEXT})
REGIONS = IdentityListForm(filters={"parent_region_id": _TEXT})


def is_true(value: str) -> bool:
    """Return whether a flag of a query is set, as Keystone reads it."""
    return value != "0"


def wants_domains(call: Call) -> bool:
    """Return whether a list of projects is asked for those that are domains. Raises Invalid."""
    asked = call.param("is_domain")
    return asked is not None and bool(read_value("is_domain", asked, _boolean))


def listed(call: Call, name: str, items: Sequence[dict[str, Any]], page: Page = ALL) -> dict[str, Any]:
    """Return a page of a list as Keystone shows it."""
    return {name: items, "links": links(call, items, page)}


def links(call: Call, items: Sequence[dict[str, Any]], page: Page) -> dict[str, Any]:
    """Return the list's own address, and the one of the page after a full one; both carry the whole query."""
    following = None
    if items and len(items) == page.limit:
        following = _address(call, [*pairs_of(call.query, page.walk), ("marker", items[-1]["id"])])
    return {"next": following, "previous": None, "self": _address(call, all_pairs(call.query))}


def _address(call: Call, pairs: list[tuple[str, str]]) -> str:
    return call.url_asked + (f"?{urlencode(pairs)}" if pairs else "")


# ---- role assignments ----------------------------------------------------------------------------------------------
_ACTORS = ("user.id", "group.id")
_SCOPES = ("scope.project.id", "scope.domain.id", "scope.system")
_FLAGS = ("effective", "include_names", "include_subtree")
_INHERITED = "scope.OS-INHERIT:inherited_to"
ASSIGNMENT_FILTERS = frozenset({*_ACTORS, *_SCOPES, "role.id", *_FLAGS, _INHERITED})


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentQuery:
    """``inherited`` None: both kinds. ``scope``: its kind and id."""

    user_id: str | None
    group_id: str | None
    scope: tuple[str, str] | None
    role_id: str | None
    inherited: bool | None
    effective: bool
    include_names: bool
    subtree: bool

    @property
    def equals(self) -> dict[str, Any]:
        """Columns of grants as they were made."""
        found: dict[str, Any] = {} if self.inherited is None else {"inherited": self.inherited}
        if self.user_id or self.group_id:
            found |= {"actor": USER if self.user_id else GROUP, "actor_id": self.user_id or self.group_id}
        if self.scope is not None:
            found |= {"scope": self.scope[0], "scope_id": self.scope[1]}
        return found | ({"role_id": self.role_id} if self.role_id else {})


def read_assignments(call: Call) -> AssignmentQuery:
    """Return what a list of role assignments is asked for. Raises Invalid."""
    args = {name: values[-1] for name, values in call.query.items()}
    given = {name: read_value(name, args[name], _word) for name in (*_ACTORS, *_SCOPES, "role.id") if name in args}
    effective, include_names, subtree = (is_true(args.get(name, "0")) for name in _FLAGS)
    for names in (_SCOPES, _ACTORS):
        if sum(name in given for name in names) > 1:
            raise errors.Invalid(f"Specify only one of {', '.join(names)}.")
    if given.get("scope.system", "all") != "all":
        raise errors.Invalid("scope.system is 'all'.")
    if subtree and "scope.project.id" not in given:
        raise errors.Invalid("scope.project.id must be specified if include_subtree is also specified.")
    inherited = args[_INHERITED] == "projects" if args.get(_INHERITED) else None
    if effective and ("group.id" in given or (inherited and "scope.domain.id" in given)):
        raise errors.Invalid("Combining effective with that filter will always result in an empty list.")
    kinds = dict(zip(_SCOPES, (PROJECT, DOMAIN, SYSTEM), strict=True))
    return AssignmentQuery(
        user_id=given.get("user.id"),
        group_id=given.get("group.id"),
        scope=next(((kinds[name], given[name]) for name in _SCOPES if name in given), None),
        role_id=given.get("role.id"),
        inherited=inherited,
        effective=effective,
        include_names=include_names,
        subtree=subtree,
    )
