"""Security groups, their rules, and which ports are in them. Keys decide races: a project has one default group, a
group each rule once."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db import network_quota_usages, network_sharing
from cellcloud.db.engine import racing, utc_now
from cellcloud.db.listing import ALL, Columns, Page, items_of, rows_of
from cellcloud.db.network_quota_usages import UNLIMITED
from cellcloud.db.network_schema import port_security_groups, security_group_rules, security_groups
from cellcloud.db.network_versions import raise_versions
from cellcloud.db.networks import stamp
from cellcloud.db.top_schema import port_addresses, ports
from cellcloud.model.network_sharing import SHARED
from cellcloud.model.security_group import (
    DEFAULT,
    EGRESS,
    INGRESS,
    IPV4,
    IPV6,
    SecurityGroup,
    SecurityGroupRule,
    many_groups,
    unknown_group,
)

_DEFAULT_OF = sa.select(security_groups.c.id).where(security_groups.c.default_of == sa.bindparam("project"))
_RULE = (
    "id", "project_id", "security_group_id", "direction", "ethertype", "protocol", "port_range_min", "port_range_max",
    "remote_group_id", "remote_ip_prefix", "description", "digest",
)  # fmt: skip
_MAYBE = ("protocol", "port_range_min", "port_range_max", "remote_group_id", "remote_ip_prefix")
GROUP_COLUMNS: Columns = {
    **{name: security_groups.c[name] for name in ("id", "name", "project_id", "description", "stateful")},
    **{name: security_groups.c[name] for name in ("created_at", "updated_at")},
    "tenant_id": security_groups.c.project_id,
    "tags": items_of(security_groups.c.tags),
    "revision_number": security_groups.c.revision,
}
RULE_COLUMNS: Columns = {
    **{name: security_group_rules.c[name] for name in _RULE if name != "digest" and name not in _MAYBE},
    **{name: sa.func.coalesce(security_group_rules.c[name], "") for name in _MAYBE if not name.startswith("port_")},
    **{name: sa.func.coalesce(security_group_rules.c[name], -1) for name in _MAYBE if name.startswith("port_")},
    **{name: security_group_rules.c[name] for name in ("created_at", "updated_at")},
    "tenant_id": security_group_rules.c.project_id,
    "revision_number": security_group_rules.c.revision,
}


@contextmanager
def _one_of_each(message: str) -> Iterator[None]:
    try:
        yield
    except sa.exc.IntegrityError as error:
        raise errors.Conflict(message) from error


# ---- groups --------------------------------------------------------------------------------------------------------
def list_groups(c: Connection, *, project_id: str | None, page: Page = ALL) -> list[SecurityGroup]:
    """List groups with their rules, by id unless the page says otherwise. ``project_id``: only its own and those that
    are shared with it; None: all. Raises NotFound for the page's marker."""
    given = network_sharing.given_to(project_id, SHARED)
    shared = security_groups.c.id.in_(given)
    query = sa.select(security_groups, shared.label("shared"))
    if project_id is not None:
        query = query.where((security_groups.c.project_id == project_id) | shared)
    rows = rows_of(c, query, security_groups.c.id, {**GROUP_COLUMNS, "shared": shared}, page)
    rules = _rules_of(c, [row.id for row in rows])
    return [_group(row, rules.get(row.id, ())) for row in rows]


def get_group(c: Connection, project_id: str | None, group_id: str) -> SecurityGroup:
    """Return a group. Raises NotFound, the same for another project's."""
    found = list_groups(c, project_id=project_id, page=Page.of(id=[group_id]))
    if not found:
        raise errors.NotFound(f"Security group {group_id[:64]} does not exist")
    return found[0]


def find_groups(c: Connection, group_ids: Collection[str]) -> dict[str, SecurityGroup]:
    """Id -> group with its rules, of those that there are: anybody's."""
    found = list_groups(c, project_id=None, page=Page.of(id=sorted(group_ids))) if group_ids else []
    return {group.id: group for group in found}


def find_default_group(c: Connection, project_id: str) -> str | None:
    """Return the id of the project's default group, if it has been used."""
    return c.execute(_DEFAULT_OF, {"project": project_id}).scalar_one_or_none()


def ensure_default_group(c: Connection, project_id: str) -> str:
    """Return the id of the project's default group, which is made on first use. Raises LostRace where another request
    makes it just now."""
    known = find_default_group(c, project_id)
    if known is not None:
        return known
    group = SecurityGroup(
        id=str(uuid.uuid4()),
        name=DEFAULT,
        project_id=project_id,
        description="Default security group",
        is_default=True,
    )
    with racing():
        insert_group(c, group, limit=UNLIMITED)
    incoming = [_fresh(group, INGRESS, ethertype, group.id) for ethertype in (IPV4, IPV6)]
    insert_rules(c, incoming, limit=UNLIMITED)
    return group.id


def insert_group(c: Connection, group: SecurityGroup, *, limit: int) -> None:
    """Make a group that lets everything out. ``limit``: of its project's groups. Raises QuotaExceeded."""
    if not network_quota_usages.reserve(c, group.project_id, "security_group", 1, limit):
        raise network_quota_usages.exceeded("security_group")
    values: dict[str, Any] = {
        "id": group.id,
        "name": group.name,
        "project_id": group.project_id,
        "description": group.description,
        "stateful": group.stateful,
        "default_of": group.project_id if group.is_default else None,
    }
    c.execute(security_groups.insert().values(created_at=utc_now(), updated_at=utc_now(), **values))
    insert_rules(c, [_fresh(group, EGRESS, ethertype) for ethertype in (IPV4, IPV6)], limit=UNLIMITED)


def update_group(c: Connection, group_id: str, changes: Mapping[str, Any]) -> None:
    """Change columns of a group."""
    counted = {"revision": security_groups.c.revision + 1, "version": security_groups.c.version + 1}
    mine = security_groups.update().where(security_groups.c.id == group_id)
    c.execute(mine.values(updated_at=utc_now(), **counted, **changes))


def has_ports(c: Connection, group_id: str) -> bool:
    """Return whether ports are in the group."""
    used = sa.select(port_security_groups.c.port_id).where(port_security_groups.c.security_group_id == group_id)
    return c.execute(used.limit(1)).first() is not None


def delete_group(c: Connection, group: SecurityGroup) -> None:
    """Delete a group with its rules, and those of others that name it. Raises Conflict with ports in it."""
    with _one_of_each(f"Security Group {group.id} in use."):
        if has_ports(c, group.id):
            raise errors.Conflict(f"Security Group {group.id} in use.")
        going = (security_group_rules.c.security_group_id == group.id) | (
            security_group_rules.c.remote_group_id == group.id
        )
        _delete_rules(c, going)
        if c.execute(security_groups.delete().where(security_groups.c.id == group.id)).rowcount:
            network_quota_usages.release(c, group.project_id, "security_group", 1)
            network_sharing.delete_policies_of(c, group.id)


def resolve_groups(c: Connection, project_id: str, names: Sequence[str]) -> list[str]:
    """Return the ids of a project's groups that are named by id or by name, each once. Raises Invalid for one that
    there is not, Conflict for a name of several."""
    found: dict[str, None] = {}
    either = security_groups.c.name.in_(names) | security_groups.c.id.in_(names)
    query = sa.select(security_groups.c.id, security_groups.c.name)
    rows = c.execute(query.where(security_groups.c.project_id == project_id, either)).all() if names else ()
    for name in names:
        fitting = [row.id for row in rows if row.id == name] or [row.id for row in rows if row.name == name]
        if not fitting:
            raise errors.Invalid(unknown_group(name))
        if len(fitting) > 1:
            raise errors.Conflict(many_groups(name))
        found[fitting[0]] = None
    return list(found)


# ---- rules ---------------------------------------------------------------------------------------------------------
def list_rules(c: Connection, *, project_id: str | None, page: Page = ALL) -> list[SecurityGroupRule]:
    """Rules, by id unless the page says otherwise. ``project_id``: its own and those of its groups; None: all. Raises
    NotFound for the page's marker."""
    query = sa.select(security_group_rules)
    if project_id is not None:
        own = sa.select(security_groups.c.id).where(security_groups.c.project_id == project_id)
        query = query.where(
            (security_group_rules.c.project_id == project_id) | security_group_rules.c.security_group_id.in_(own)
        )
    return [_rule(row) for row in rows_of(c, query, security_group_rules.c.id, RULE_COLUMNS, page)]


def get_rule(c: Connection, project_id: str | None, rule_id: str) -> SecurityGroupRule:
    """Return a rule. Raises NotFound, the same for another project's."""
    found = list_rules(c, project_id=project_id, page=Page.of(id=[rule_id]))
    if not found:
        raise errors.NotFound(f"Security group rule {rule_id[:64]} does not exist")
    return found[0]


def insert_rules(c: Connection, rules: Sequence[SecurityGroupRule], *, limit: int) -> None:
    """Add rules to groups of one project. ``limit``: of its rules. Raises QuotaExceeded, Conflict for one that its
    group has."""
    raise_versions(c, groups={rule.security_group_id for rule in rules})
    project_id = rules[0].project_id
    if not network_quota_usages.reserve(c, project_id, "security_group_rule", len(rules), limit):
        raise network_quota_usages.exceeded("security_group_rule")
    values = [{name: getattr(rule, name) for name in _RULE} for rule in rules]
    for rule in rules:
        same = (
            security_group_rules.c.security_group_id == rule.security_group_id,
            security_group_rules.c.digest == rule.digest,
        )
        known = c.execute(sa.select(security_group_rules.c.id).where(*same)).scalar_one_or_none()
        if known is not None:
            raise errors.Conflict(f"Security group rule already exists. Rule id is {known}.")
    with racing():
        c.execute(security_group_rules.insert().values(created_at=utc_now(), updated_at=utc_now()), values)


def delete_rule(c: Connection, rule: SecurityGroupRule) -> None:
    """Delete a rule."""
    _delete_rules(c, security_group_rules.c.id == rule.id)


def _delete_rules(c: Connection, which: sa.ColumnElement[bool]) -> None:
    columns = (security_group_rules.c.id, security_group_rules.c.project_id, security_group_rules.c.security_group_id)
    going = c.execute(sa.select(*columns).where(which).order_by(security_group_rules.c.id).with_for_update()).all()
    if not going:
        return
    raise_versions(c, groups={row.security_group_id for row in going})
    c.execute(security_group_rules.delete().where(security_group_rules.c.id.in_([row.id for row in going])))
    for project_id in sorted({row.project_id for row in going}):
        gone = sum(row.project_id == project_id for row in going)
        network_quota_usages.release(c, project_id, "security_group_rule", gone)


# ---- ports in groups -----------------------------------------------------------------------------------------------
def bind_groups(c: Connection, groups_of: Mapping[str, Sequence[str]]) -> None:
    """Note the groups of new ports, by port. Raises LostRace for a group that is gone."""
    pairs = [
        {"port_id": port_id, "security_group_id": group_id}
        for port_id, group_ids in groups_of.items()
        for group_id in group_ids
    ]
    if pairs:
        with racing():
            c.execute(port_security_groups.insert(), pairs)


def bind_other_groups(c: Connection, port_id: str, group_ids: Sequence[str]) -> None:
    """Note other groups of a port than it had."""
    c.execute(port_security_groups.delete().where(port_security_groups.c.port_id == port_id))
    bind_groups(c, {port_id: group_ids})


def list_addresses(c: Connection, group_ids: Collection[str]) -> dict[str, list[str]]:
    """Group -> the addresses of all ports in it, and the ranges that these may use besides, sorted."""
    held = port_security_groups.c.port_id == port_addresses.c.port_id
    columns = (port_security_groups.c.security_group_id, port_addresses.c.ip_address)
    query = sa.select(*columns).join_from(port_security_groups, port_addresses, held)
    found: dict[str, set[str]] = {group_id: set() for group_id in group_ids}
    if not found:
        return {}
    mine = port_security_groups.c.security_group_id.in_(sorted(group_ids))
    for group_id, address in c.execute(query.where(mine)):
        found[group_id].add(address)
    allowed = sa.select(port_security_groups.c.security_group_id, ports.c.allowed_address_pairs)
    allowed = allowed.join_from(port_security_groups, ports, port_security_groups.c.port_id == ports.c.id)
    some = sa.cast(ports.c.allowed_address_pairs, sa.Text) != "[]"
    for group_id, pairs in c.execute(allowed.where(mine, some)):
        found[group_id].update(address for address, _ in pairs)
    return {group_id: sorted(addresses) for group_id, addresses in found.items()}


# ---- rows ----------------------------------------------------------------------------------------------------------
def _fresh(group: SecurityGroup, direction: str, ethertype: str, remote: str | None = None) -> SecurityGroupRule:
    return SecurityGroupRule(
        id=str(uuid.uuid4()),
        security_group_id=group.id,
        project_id=group.project_id,
        direction=direction,
        ethertype=ethertype,
        remote_group_id=remote,
    )


def _rules_of(c: Connection, group_ids: Sequence[str]) -> dict[str, tuple[SecurityGroupRule, ...]]:
    if not group_ids:
        return {}
    mine = sa.select(security_group_rules).where(security_group_rules.c.security_group_id.in_(group_ids))
    found: dict[str, list[SecurityGroupRule]] = {}
    for row in c.execute(mine.order_by(security_group_rules.c.created_at, security_group_rules.c.id)):
        found.setdefault(row.security_group_id, []).append(_rule(row))
    return {group_id: tuple(rules) for group_id, rules in found.items()}


def _group(row: Any, rules: Iterable[SecurityGroupRule]) -> SecurityGroup:
    return SecurityGroup(
        id=row.id,
        name=row.name,
        project_id=row.project_id,
        description=row.description,
        stateful=row.stateful,
        is_default=row.default_of is not None,
        shared=bool(row.shared),
        rules=tuple(rules),
        tags=tuple(row.tags),
        revision=row.revision,
        version=row.version,
        created_at=stamp(row.created_at),
        updated_at=stamp(row.updated_at),
    )


def _rule(row: Any) -> SecurityGroupRule:
    return SecurityGroupRule(
        **{name: getattr(row, name) for name in _RULE if name != "digest"},
        revision=row.revision,
        created_at=stamp(row.created_at),
        updated_at=stamp(row.updated_at),
    )
