"""What lists of networks, subnets and ports may be asked for, as Neutron reads it: values of one key are alternatives,
unknown filters and keys to sort by are refused."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from cellcloud import errors
from cellcloud.db import pagination_snapshots
from cellcloud.db.listing import Condition, Page
from top_api.embedded_api.lists import (
    MAX_PAGE,
    Filter,
    boolean,
    compared_time,
    number,
    pairs_of,
    read_limit,
    read_value,
    time,
)
from top_api.paging import walk_of
from top_api.request_pipeline import Call

_ASIDE = frozenset({"fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir", pagination_snapshots.NAME})
_TAG_OPERATORS = {"tags": "every", "tags-any": "in", "not-tags": "not_every", "not-tags-any": "not_in"}
_TAGS = frozenset(_TAG_OPERATORS)
_EVERY = {
    **{name: Filter() for name in ("id", "name", "project_id", "tenant_id", "description")},
    **{name: Filter(read=time) for name in ("created_at", "updated_at")},
    "changes_since": Filter(read=time, of="updated_at"),
    "revision_number": Filter(read=number),
    **{name: Filter() for name in _TAGS},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkListForm:
    """One collection: its filters, and those names among them that it may be sorted by."""

    filters: Mapping[str, Filter]
    unsorted: frozenset[str] = frozenset({"shared", "changes_since", *_TAGS})

    def page(self, call: Call) -> Page:
        """Return what the request asks for. Raises Invalid."""
        where = [each for name in call.query if name not in _ASIDE for each in self._read(name, call.query[name])]
        backwards = (call.param("page_reverse") or "").lower() == "true"
        sort = tuple(self._sort(call))
        marker, limit = call.param("marker") or None, read_limit(call.param("limit")) or MAX_PAGE
        return Page(where=where, sort=sort, after=marker, limit=limit, backwards=backwards, walk=walk_of(call))

    def _read(self, name: str, given: list[str]) -> list[Condition]:
        known = self.filters.get(name)
        if known is None:
            raise errors.Invalid(f"['{name[:64]}'] is invalid attribute for filtering")
        values = [read_value(name, value, known.read) for value in given]
        column = known.of or name
        if name in _TAGS:
            wanted = [tag for value in values for tag in value.split(",") if tag]
            return [Condition("tags", wanted, _TAG_OPERATORS[name])] if wanted else []
        if name == "fixed_ips":
            return [_of_address(value) for value in values]
        if known.read is time:
            operator = "gte" if name == "changes_since" else "eq"
            return [compared_time(column, operator, value) for value in values[-1:]]
        return [Condition(column, values)]

    def _sort(self, call: Call) -> list[tuple[str, bool]]:
        keys, directions = call.query.get("sort_key", []), call.query.get("sort_dir", [])
        if len(keys) != len(directions):
            raise errors.Invalid("The number of sort_keys and sort_dirs must be same")
        unknown = [key[:64] for key in keys if key not in self.filters or key in self.unsorted]
        if unknown:
            raise errors.Invalid(f"{unknown} is invalid attribute for sort_keys")
        if not set(directions) <= {"asc", "desc"}:
            raise errors.Invalid("sort_dir is 'asc' or 'desc'")
        return list(dict(zip(keys, (direction == "asc" for direction in directions), strict=True)).items())


_ADDRESS_PARTS = ("ip_address", "ip_address_substr", "subnet_id")


def _of_address(value: str) -> Condition:
    name, _, wanted = value.partition("=")
    if name not in _ADDRESS_PARTS:
        raise errors.Invalid(f"Invalid value '{value[:64]}' for 'fixed_ips' filter.")
    return Condition(name, (wanted,))


NETWORKS = NetworkListForm(
    filters={
        **_EVERY,
        "status": Filter(),
        **{name: Filter(read=boolean) for name in ("admin_state_up", "shared", "router:external")},
        "mtu": Filter(read=number),
    },
    unsorted=frozenset({"shared", "router:external", "changes_since", *_TAGS}),
)
SUBNETS = NetworkListForm(
    filters={
        **_EVERY,
        **{name: Filter() for name in ("network_id", "cidr", "gateway_ip", "subnetpool_id", "segment_id")},
        **{name: Filter() for name in ("ipv6_ra_mode", "ipv6_address_mode")},
        "ip_version": Filter(read=number),
        **{name: Filter(read=boolean) for name in ("enable_dhcp", "shared")},
    }
)
PORTS = NetworkListForm(
    filters={
        **_EVERY,
        **{name: Filter() for name in ("network_id", "device_id", "device_owner", "status", "binding:host_id")},
        "binding:vnic_type": Filter(),
        "mac_address": Filter(read=str.lower),
        "admin_state_up": Filter(read=boolean),
        "fixed_ips": Filter(),
        "security_groups": Filter(),
    },
    unsorted=frozenset(
        {"fixed_ips", "security_groups", "binding:host_id", "binding:vnic_type", "changes_since", *_TAGS}
    ),
)
SECURITY_GROUPS = NetworkListForm(
    filters={**_EVERY, **{name: Filter(read=boolean) for name in ("stateful", "shared")}},
)
SECURITY_GROUP_RULES = NetworkListForm(
    filters={
        **{name: known for name, known in _EVERY.items() if name != "name" and name not in _TAGS},
        **{name: Filter() for name in ("security_group_id", "direction", "ethertype", "protocol")},
        **{name: Filter() for name in ("remote_group_id", "remote_ip_prefix")},
        **{name: Filter(read=number) for name in ("port_range_min", "port_range_max")},
    },
)

ROUTERS = NetworkListForm(
    filters={**_EVERY, "status": Filter(), "admin_state_up": Filter(read=boolean)},
)
FLOATING_IPS = NetworkListForm(
    filters={
        **{name: known for name, known in _EVERY.items() if name != "name"},
        **{name: Filter() for name in ("floating_network_id", "floating_ip_address", "status")},
        **{name: Filter() for name in ("port_id", "fixed_ip_address", "router_id")},
    },
)


RBAC_POLICIES = NetworkListForm(
    filters={
        name: Filter()
        for name in ("id", "project_id", "tenant_id", "object_type", "object_id", "action", "target_tenant")
    },
)
AGENTS = NetworkListForm(
    filters={
        **{name: Filter() for name in ("id", "agent_type", "binary", "host", "topic", "availability_zone")},
        **{name: Filter(read=boolean) for name in ("alive", "admin_state_up")},
    },
)
IP_AVAILABILITIES = NetworkListForm(
    filters={
        **{name: Filter() for name in ("network_id", "network_name", "project_id", "tenant_id")},
        "ip_version": Filter(read=number),
    },
    unsorted=frozenset({"ip_version"}),
)


def _text_of(name: str, item: Mapping[str, Any]) -> str:
    return str(item[name])


def chosen(items: Iterable[dict[str, Any]], page: Page, key: str = "id") -> list[dict[str, Any]]:
    """Return the page of items that no table has. Raises NotFound for its marker."""
    wanted = [(one.name, one.values) for one in page.where]
    found = [item for item in items if all(item.get(name) in values for name, values in wanted)]
    found.sort(key=lambda item: str(item[key]))
    for name, rises in reversed(page.sort):
        found.sort(key=functools.partial(_text_of, name), reverse=not rises)
    if page.after is not None:
        places = [place for place, item in enumerate(found) if item[key] == page.after]
        if not places:
            raise errors.NotFound("The marker was not found.")
        found = found[: places[0]] if page.backwards else found[places[0] + 1 :]
    return found[-(page.limit or MAX_PAGE) :] if page.backwards else found[: page.limit]


def fields(call: Call, item: dict[str, Any]) -> dict[str, Any]:
    """Only those attributes that the request asks for, if it does."""
    wanted = [name for name in call.query.get("fields", ()) if name]
    return {name: value for name, value in item.items() if name in wanted} if wanted else item


def listed(call: Call, name: str, items: Iterable[dict[str, Any]], page: Page, key: str = "id") -> dict[str, Any]:
    """Return a page, and links to those beside it that dispatch the whole query. ``key``: what names an item."""
    found = list(items)
    body: dict[str, Any] = {name: [fields(call, item) for item in found]}
    full, limited = len(found) == page.limit, "limit" in call.query
    links = []
    if found and (full or (limited and page.backwards)):
        links.append(_link(call, "next", found[-1][key], page, backwards=False))
    if found and limited and (full or not page.backwards):
        links.append(_link(call, "previous", found[0][key], page, backwards=True))
    if links:
        body[f"{name}_links"] = links
    return body


def _link(call: Call, rel: str, marker: str, page: Page, *, backwards: bool) -> dict[str, str]:
    pairs = [pair for pair in pairs_of(call.query, page.walk) if pair[0] != "page_reverse"]
    pairs += [("marker", marker), *([("page_reverse", "True")] if backwards else [])]
    return {"rel": rel, "href": f"{call.url_asked}?{urlencode(pairs)}"}
