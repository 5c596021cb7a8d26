"""Rows of the embedded identity's roles, of what they imply, and of who has which where."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.engine import racing
from cellcloud.db.identity import below, groups_of
from cellcloud.db.identity_records import IdentityRecords
from cellcloud.db.identity_schema import (
    identity_application_credentials,
    identity_assignments,
    identity_group_members,
    identity_implied_roles,
    identity_projects,
    identity_roles,
)
from cellcloud.model.identity import DOMAIN, GROUP, PROJECT, SYSTEM, USER, Grant, IdentityRole

ROLES = IdentityRecords(
    "role",
    identity_roles,
    IdentityRole,
    columns={name: identity_roles.c[name] for name in ("id", "name", "domain_id")},
    within=("domain_id",),
)
NEVER_IMPLIED = "admin"  # or whoever may have a role imply others could come to it: Keystone's
_A = identity_assignments.c
_COLUMNS = tuple(column.name for column in identity_assignments.c)


# ---- roles -------------------------------------------------------------------------------------------------------
def delete_role(c: Connection, role_id: str) -> None:
    """Delete a role, wherever anybody has it. Raises NotFound."""
    ROLES.delete(c, role_id)
    c.execute(identity_assignments.delete().where(_A.role_id == role_id))
    i = identity_implied_roles
    c.execute(i.delete().where((i.c.prior_role_id == role_id) | (i.c.implied_role_id == role_id)))


def list_implications(c: Connection) -> dict[str, list[str]]:
    """Role's id -> ids of the roles that it implies directly."""
    i = identity_implied_roles.c
    found: dict[str, list[str]] = {}
    for row in c.execute(sa.select(i.prior_role_id, i.implied_role_id).order_by(i.prior_role_id, i.implied_role_id)):
        found.setdefault(row.prior_role_id, []).append(row.implied_role_id)
    return found


def add_implication(c: Connection, prior_id: str, implied_id: str) -> None:
    """Have a role imply another; doing so already is success. Raises NotFound, Forbidden for one of a domain below one
    of the cloud, and for the administrator's."""
    for role_id in sorted({prior_id, implied_id}):
        ROLES.get(c, role_id, lock=True)
    prior, implied = ROLES.get(c, prior_id), ROLES.get(c, implied_id)
    if implied.name == NEVER_IMPLIED or (implied.domain_id and not prior.domain_id):
        raise errors.Forbidden(f"{implied_id} cannot be an implied roles.")
    if implied_id not in list_implications(c).get(prior_id, ()):
        with racing():
            c.execute(identity_implied_roles.insert().values(prior_role_id=prior_id, implied_role_id=implied_id))


def remove_implication(c: Connection, prior_id: str, implied_id: str) -> bool:
    """End it; False when there was none."""
    i = identity_implied_roles
    return c.execute(i.delete().where(i.c.prior_role_id == prior_id, i.c.implied_role_id == implied_id)).rowcount > 0


def with_implied(role_ids: Iterable[str], implications: dict[str, list[str]]) -> dict[str, str | None]:
    """Role's id -> id of the role that implies it; None for those that are given. Cycles end."""
    found: dict[str, str | None] = dict.fromkeys(role_ids)
    todo = list(found)
    while todo:
        prior = todo.pop()
        for implied in implications.get(prior, ()):
            if implied not in found:
                found[implied] = prior
                todo.append(implied)
    return found


# ---- grants ------------------------------------------------------------------------------------------------------
def list_grants(c: Connection, *where: sa.ColumnElement[bool], **equals: Any) -> list[Grant]:
    """Grants with these values, as they were made."""
    query = sa.select(identity_assignments).where(*(_A[name] == value for name, value in equals.items()), *where)
    return [Grant(**row) for row in c.execute(query.order_by(*identity_assignments.primary_key)).mappings()]


def add_grant(c: Connection, grant: Grant) -> None:
    """Give a role; given already is success. Raises LostRace where another request just gives it."""
    values = _values(grant)
    if not list_grants(c, **values):
        with racing():
            c.execute(identity_assignments.insert().values(**values))


def remove_grant(c: Connection, grant: Grant) -> bool:
    """Take a role away; False when it was not given."""
    where = [_A[name] == value for name, value in _values(grant).items()]
    return c.execute(identity_assignments.delete().where(*where)).rowcount > 0


def held_by(user_id: Any) -> sa.ColumnElement[bool]:
    """Grants of a user, or of a group that it is in."""
    return sa.or_(
        sa.and_(_A.actor == USER, _A.actor_id == user_id),
        sa.and_(_A.actor == GROUP, _A.actor_id.in_(groups_of(user_id))),
    )


def in_project(project_id: Any, domain_id: Any) -> sa.ColumnElement[bool]:
    """Grants that count in a project: its own, and those inherited from above."""
    p, q = identity_projects.alias(), identity_projects.alias()
    walk = sa.select(p.c.parent_id.label("id")).where(p.c.id == project_id).cte("above", recursive=True)
    walk = walk.union(sa.select(q.c.parent_id).where(q.c.id == walk.c.id))
    return sa.or_(
        sa.and_(_A.scope == PROJECT, _A.scope_id == project_id, sa.not_(_A.inherited)),
        sa.and_(_A.scope == DOMAIN, _A.scope_id == domain_id, _A.inherited),
        sa.and_(_A.scope == PROJECT, _A.scope_id.in_(sa.select(walk.c.id).where(walk.c.id.is_not(None))), _A.inherited),
    )


def in_domain(domain_id: Any) -> sa.ColumnElement[bool]:
    """Grants that count in a domain."""
    return sa.and_(_A.scope == DOMAIN, _A.scope_id == domain_id, sa.not_(_A.inherited))


def in_system() -> sa.ColumnElement[bool]:
    """Grants that count in the system."""
    return _A.scope == SYSTEM


def _role_ids(where: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(_A.role_id).where(held_by(sa.bindparam("user_id")), where).distinct()


_ROLE_IDS = {
    PROJECT: _role_ids(in_project(sa.bindparam("scope_id"), sa.bindparam("domain_id"))),
    DOMAIN: _role_ids(in_domain(sa.bindparam("scope_id"))),
    SYSTEM: _role_ids(in_system()),
}


def list_role_ids(c: Connection, user_id: str, scope: str, scope_id: str = "", *, domain_id: str = "") -> list[str]:
    """Return ids of the roles that a user has in a scope. ``domain_id``: of a project."""
    given = {"user_id": user_id, "scope_id": scope_id, "domain_id": domain_id}
    wanted = {PROJECT: given, DOMAIN: {"user_id": user_id, "scope_id": scope_id}, SYSTEM: {"user_id": user_id}}
    return list(c.execute(_ROLE_IDS[scope], wanted[scope]).scalars())


def projects_of(user_id: str) -> sa.ColumnElement[bool]:
    """Projects in which a user has a role."""
    p = identity_projects.c
    mine = held_by(user_id)
    direct = sa.select(_A.scope_id).where(mine, _A.scope == PROJECT, sa.not_(_A.inherited))
    domains = sa.select(_A.scope_id).where(mine, _A.scope == DOMAIN, _A.inherited)
    above = sa.select(_A.scope_id).where(mine, _A.scope == PROJECT, _A.inherited)
    return sa.or_(p.id.in_(direct), p.domain_id.in_(domains), p.id.in_(below(above)))


def domains_of(user_id: str) -> sa.Select[Any]:
    """Ids of the domains in which a user has a role."""
    return sa.select(_A.scope_id).where(held_by(user_id), _A.scope == DOMAIN, sa.not_(_A.inherited))


def list_all_members(c: Connection) -> dict[str, list[str]]:
    """Return ids of users by the id of their group."""
    m = identity_group_members.c
    found: dict[str, list[str]] = {}
    for row in c.execute(sa.select(m.group_id, m.user_id).order_by(m.group_id, m.user_id)):
        found.setdefault(row.group_id, []).append(row.user_id)
    return found


def delete_application_credentials(c: Connection, user_id: str, project_id: str | None = None) -> None:
    """Delete those of a user, or of it in one project: what it may do there has become less."""
    a = identity_application_credentials
    where = [a.c.user_id == user_id] + ([a.c.project_id == project_id] if project_id is not None else [])
    c.execute(a.delete().where(*where))


def _values(grant: Grant) -> dict[str, Any]:
    return {name: getattr(grant, name) for name in _COLUMNS}
