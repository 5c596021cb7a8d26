"""What lists of users, projects and the rest of identity may be asked for, as Keystone reads it: every value of a query
must hold, texts are compared as the end of a key says, and keys that are no filter are ignored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from flask import g, request
from werkzeug.datastructures import MultiDict

from cellcloud import errors
from cellcloud.db.listing import TEXT_OPERATORS, Condition, Page
from top_api.embedded_api.lists import ORDER, Filter, pairs_of, read_limit, read_value, text, time, walk_of

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
class ListForm:
    """One collection. ``absent``: filters by what nothing here has. ``sorts``: what it may be sorted by."""

    filters: Mapping[str, Filter] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()
    sorts: frozenset[str] = frozenset()

    def page(self) -> Page:
        """What the request asks for. Raises Invalid."""
        args = request.args
        where = [condition for name, value in args.items(multi=True) for condition in self._read(name, value)]
        marker = args.get("marker") or None
        limit = read_limit(args) or None
        walk = walk_of(g.token.project.id if g.token.project else "", g.token.user.id)
        return Page(where=where, sort=self._sort(args), after=marker, limit=limit, walk=walk)

    def _sort(self, args: MultiDict[str, str]) -> list[tuple[str, bool]]:
        key, direction = args.get("sort_key"), args.get("sort_dir", "asc")
        if not self.sorts or (key is None and "sort_dir" not in args):
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
            found = Condition(column, [read_value(name, value, time)])
        elif base in _TAGS:
            found = Condition(column, read_value(name, value, _tags), _TAGS[base])
        else:
            operator = "iequals" if base == "name" else "in"
            found = Condition(column, [read_value(name, value, known.read)], operator)
        if base == "is_domain":  # no project here is one
            return [_NOTHING] if found.values[0] else []
        return [_NOTHING] if base in self.absent else [found]


_FEDERATED = ("idp_id", "protocol_id", "unique_id")
USERS = ListForm(
    filters={
        "domain_id": _ID,
        "enabled": _BOOLEAN,
        "name": _NAME,
        "password_expires_at": Filter(read=time, operators=ORDER),
        **dict.fromkeys(_FEDERATED, _TEXT),
    },
    absent=frozenset({"password_expires_at", *_FEDERATED}),
    sorts=frozenset({"id", "name", "domain_id", "enabled"}),
)
PROJECTS = ListForm(
    filters={
        "domain_id": _ID,
        "parent_id": Filter(read=_identifier, of="domain_id", operators=TEXT_OPERATORS),
        "enabled": _BOOLEAN,
        "is_domain": _BOOLEAN,
        "name": _NAME,
        **dict.fromkeys(_TAGS, Filter(of="tags")),
    }
)
PROJECTS_OF_USER = ListForm(filters={"domain_id": _ID, "enabled": _BOOLEAN, "name": _NAME})
ROLES = ListForm(filters={"domain_id": _ID, "name": _NAME}, absent=frozenset({"domain_id"}))
DOMAINS = ListForm(filters={"enabled": _BOOLEAN, "name": _NAME})
SERVICES = ListForm(filters={"type": _TEXT, "name": _NAME})
ENDPOINTS = ListForm(
    filters={"interface": Filter(read=_interface), "service_id": _TEXT, "region_id": _TEXT},
)
REGIONS = ListForm(filters={"parent_region_id": _TEXT}, absent=frozenset({"parent_region_id"}))


def selected(items: Sequence[dict[str, Any]], page: Page) -> list[dict[str, Any]]:
    """The page of a few items that are no rows: by id, all as they come. Raises NotFound for an unknown marker."""
    found = [item for item in items if all(_holds(item, wanted) for wanted in page.where)]
    if page.limit is None and page.after is None:
        return found
    if page.after is not None and page.after not in {item["id"] for item in items}:
        raise errors.NotFound("The marker was not found.")
    found = sorted((item for item in found if item["id"] > (page.after or "")), key=lambda item: str(item["id"]))
    return found[: page.limit]


def _holds(item: dict[str, Any], wanted: Condition) -> bool:
    value = item[wanted.name]
    if wanted.operator == "in":
        return value in wanted.values
    (given,) = wanted.values
    operator = wanted.operator
    if operator.startswith("i"):
        value, given, operator = value.lower(), given.lower(), operator[1:]
    if operator == "equals":
        return bool(value == given)
    if operator == "contains":
        return given in value
    return bool(value.startswith(given) if operator == "startswith" else value.endswith(given))


def links(items: Sequence[dict[str, Any]], page: Page) -> dict[str, Any]:
    """The list's own address, and the one of the page after a full one; both dispatch the whole query."""
    following = None
    if items and len(items) == page.limit:
        following = _address([*pairs_of(request.args, page.walk), ("marker", items[-1]["id"])])
    return {"next": following, "previous": None, "self": _address(list(request.args.items(multi=True)))}


def _address(pairs: list[tuple[str, str]]) -> str:
    return request.base_url + (f"?{urlencode(pairs)}" if pairs else "")


# ---- role assignments ----------------------------------------------------------------------------------------------
_GRANT_COLUMNS = {"user.id": "user_id", "scope.project.id": "project_id", "role.id": "role_id"}
_ABSENT = ("group.id", "scope.domain.id", "scope.system")
_FLAGS = ("effective", "include_names", "include_subtree")
_INHERITED = "scope.OS-INHERIT:inherited_to"
ASSIGNMENT_FILTERS = frozenset({*_GRANT_COLUMNS, *_ABSENT, *_FLAGS, _INHERITED})
_APART = (("scope.project.id", "scope.domain.id", "scope.system"), ("user.id", "group.id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentQuery:
    """``equals``: columns of the grants. ``nothing``: only such are asked for as nobody here can have."""

    equals: Mapping[str, str]
    nothing: bool
    effective: bool
    include_names: bool


def read_assignments(args: MultiDict[str, str]) -> AssignmentQuery:
    """What a list of role assignments is asked for. Raises Invalid."""
    given = {name: read_value(name, args[name], _word) for name in (*_GRANT_COLUMNS, *_ABSENT) if name in args}
    effective, include_names, include_subtree = (args.get(name, "0") != "0" for name in _FLAGS)
    for names in _APART:
        if sum(name in given for name in names) > 1:
            raise errors.Invalid(f"Specify only one of {', '.join(names)}.")
    if given.get("scope.system", "all") != "all":
        raise errors.Invalid("scope.system is 'all'.")
    if include_subtree and "scope.project.id" not in given:
        raise errors.Invalid("scope.project.id must be specified if include_subtree is also specified.")
    inherited = args.get(_INHERITED) == "projects"
    if effective and ("group.id" in given or (inherited and "scope.domain.id" in given)):
        raise errors.Invalid("Combining effective with that filter will always result in an empty list.")
    return AssignmentQuery(
        equals={column: given[name] for name, column in _GRANT_COLUMNS.items() if name in given},
        nothing=inherited or any(name in given for name in _ABSENT),
        effective=effective,
        include_names=include_names,
    )
