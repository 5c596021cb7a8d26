"""Rows of the embedded identity's directory: domains, projects in trees, users, groups and their members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.engine import racing
from cellcloud.db.identity_records import IdentityRecords
from cellcloud.db.identity_schema import (
    identity_access_rules,
    identity_application_credentials,
    identity_assignments,
    identity_credentials,
    identity_domains,
    identity_group_members,
    identity_groups,
    identity_limits,
    identity_old_passwords,
    identity_projects,
    identity_roles,
    identity_tokens,
    identity_users,
)
from cellcloud.db.listing import ALL, Condition, Page, items_of
from cellcloud.model.identity import DOMAIN, GROUP, PROJECT, USER, Domain, Group, Project, User

MAX_DEPTH = 5  # of projects below a domain: Keystone's


def _named(table: sa.Table, *names: str) -> dict[str, Any]:
    return {name: table.c[name] for name in ("id", "name", *names)}


def _tags(table: sa.Table) -> Any:
    return items_of(sa.func.coalesce(sa.type_coerce(table.c.tags, sa.Text), "[]"))


def _expiry(condition: Condition) -> sa.ColumnElement[bool]:
    """Compare the time at which a password expires; one that never does compares with none."""
    column = identity_users.c.password_expires_at
    if condition.operator in ("within", "outside"):
        low, high = condition.values
        inside = sa.and_(column >= low, column < high)
        return inside if condition.operator == "within" else sa.not_(inside)
    (value,) = condition.values
    late: sa.ColumnElement[bool] = column >= value
    return late if condition.operator == "gte" else column < value


DOMAINS = IdentityRecords(
    "domain",
    identity_domains,
    Domain,
    columns=_named(identity_domains, "enabled") | {"tags": _tags(identity_domains)},
    within=(),
)
PROJECTS = IdentityRecords(
    "project",
    identity_projects,
    Project,
    columns=_named(identity_projects, "domain_id", "enabled")
    | {
        "tags": _tags(identity_projects),
        "parent_id": sa.func.coalesce(identity_projects.c.parent_id, identity_projects.c.domain_id),
    },
    within=("domain_id",),
)
USERS = IdentityRecords(
    "user",
    identity_users,
    User,
    columns=_named(identity_users, "domain_id", "enabled") | {"password_expires_at": _expiry},
    within=("domain_id",),
    hidden=("password_hash", "failures", "failed_at"),
)
GROUPS = IdentityRecords(
    "group", identity_groups, Group, columns=_named(identity_groups, "domain_id"), within=("domain_id",)
)


# ---- domains -----------------------------------------------------------------------------------------------------
def delete_domain(c: Connection, domain_id: str) -> None:
    """Delete a disabled domain with all that is in it. Raises NotFound, Forbidden for an enabled one."""
    if DOMAINS.get(c, domain_id, lock=True).enabled:
        raise errors.Forbidden("Cannot delete a domain that is enabled, please disable it first.")
    _delete_users(c, sa.select(identity_users.c.id).where(identity_users.c.domain_id == domain_id))
    _delete_projects(c, sa.select(identity_projects.c.id).where(identity_projects.c.domain_id == domain_id))
    _delete_groups(c, sa.select(identity_groups.c.id).where(identity_groups.c.domain_id == domain_id))
    roles = sa.select(identity_roles.c.id).where(identity_roles.c.domain_id == domain_id)
    c.execute(identity_assignments.delete().where(identity_assignments.c.role_id.in_(roles)))
    c.execute(identity_roles.delete().where(identity_roles.c.domain_id == domain_id))
    _delete_grants_in(c, DOMAIN, [domain_id])
    c.execute(identity_limits.delete().where(_owned(DOMAIN, [domain_id])))
    c.execute(identity_tokens.delete().where(identity_tokens.c.domain_id == domain_id))
    DOMAINS.delete(c, domain_id)


# ---- projects ----------------------------------------------------------------------------------------------------
_P, _D = identity_projects.c, identity_domains.c
_ENABLED = PROJECTS.select().join(identity_domains, (_D.id == _P.domain_id) & _D.enabled).where(_P.enabled)
_NAMED = _ENABLED.where(sa.func.lower(_P.name) == sa.bindparam("name", type_=sa.String))
_OPEN = {
    "id": _ENABLED.where(_P.id == sa.bindparam("id")),
    "domain_id": _NAMED.where(_P.domain_id == sa.bindparam("domain_id")),
    "domain_name": _NAMED.where(sa.func.lower(_D.name) == sa.bindparam("domain_name", type_=sa.String)),
}


def find_open_project(
    c: Connection,
    *,
    project_id: str | None = None,
    name: str | None = None,
    domain_id: str | None = None,
    domain_name: str | None = None,
) -> Project | None:
    """Return the enabled project of an enabled domain, by its id, or by its name and its domain's id or name."""
    if project_id:
        way, given = "id", {"id": project_id[:255]}
    elif domain_id:
        way, given = "domain_id", {"name": (name or "").lower(), "domain_id": domain_id[:255]}
    else:
        way, given = "domain_name", {"name": (name or "").lower(), "domain_name": (domain_name or "").lower()}
    row = c.execute(_OPEN[way], given).mappings().first()
    return None if row is None else PROJECTS.read(row)


def list_ancestors(c: Connection, project_id: str) -> list[Project]:
    """Return the projects above one, the nearest first."""
    p = identity_projects
    above = sa.select(p.c.parent_id.label("id"), sa.literal(1).label("distance")).where(p.c.id == project_id)
    walk = above.cte("above", recursive=True)
    q = p.alias()
    walk = walk.union_all(
        sa.select(q.c.parent_id, walk.c.distance + 1).where(q.c.id == walk.c.id, walk.c.distance < MAX_DEPTH + 1)
    )
    query = PROJECTS.select().join(walk, walk.c.id == p.c.id).order_by(walk.c.distance)
    return [PROJECTS.read(row) for row in c.execute(query).mappings()]


def below(project_ids: Any) -> sa.Select[Any]:
    """Return the query for the ids of the projects below those, without themselves."""
    p = identity_projects.alias()
    walk = sa.select(p.c.id).where(p.c.parent_id.in_(project_ids)).cte("below", recursive=True)
    q = identity_projects.alias()
    walk = walk.union(sa.select(q.c.id).where(q.c.parent_id == walk.c.id))
    return sa.select(walk.c.id)


def list_descendants(c: Connection, project_id: str) -> list[Project]:
    """Return the projects below one."""
    return PROJECTS.list_all(c, ALL, identity_projects.c.id.in_(below([project_id])))


def insert_project(c: Connection, project: Project) -> None:
    """Store a project below its parent. Raises NotFound, Conflict, Forbidden for too deep a tree, Invalid for a parent
    of another domain or a branch that is disabled."""
    domain = DOMAINS.get(c, project.domain_id, lock=True)
    branch: list[Project] = []
    if project.parent_id is not None:
        parent = PROJECTS.get(c, project.parent_id, lock=True)
        if parent.domain_id != domain.id:
            raise errors.Invalid("Cannot create project, since it specifies a parent in a different domain.")
        branch = [parent, *list_ancestors(c, parent.id)]
    disabled = [above.id for above in branch if not above.enabled] + ([] if domain.enabled else [domain.id])
    if disabled:
        raise errors.Invalid(f"cannot create a project in a branch containing a disabled project: {disabled[0]}")
    if len(branch) >= MAX_DEPTH:
        raise errors.Forbidden(f"Max hierarchy depth reached for {project.parent_id} branch.")
    PROJECTS.insert(c, project)


def update_project(c: Connection, project_id: str, changes: Mapping[str, Any]) -> Project:
    """Change a project. Raises NotFound, Conflict, Forbidden for one that is to be disabled with others below it, or to
    be enabled below one that is not."""
    before = PROJECTS.get(c, project_id, lock=True)
    # What is above an enabled project is enabled, so that its parent says it all.
    falls, rises = before.enabled and changes.get("enabled") is False, not before.enabled and changes.get("enabled")
    if falls and any(project.enabled for project in list_descendants(c, project_id)):
        raise errors.Forbidden(f"Cannot disable project {project_id} since its subtree contains enabled projects.")
    if rises and before.parent_id is not None and not PROJECTS.get(c, before.parent_id, lock=True).enabled:
        raise errors.Forbidden(f"Cannot enable project {project_id} since it has disabled parents")
    return PROJECTS.update(c, project_id, changes)


def delete_project(c: Connection, project_id: str) -> None:
    """Delete a project with its grants and tokens. Raises NotFound, Forbidden for one with others below it."""
    PROJECTS.get(c, project_id, lock=True)
    if c.execute(sa.select(identity_projects.c.id).where(identity_projects.c.parent_id == project_id).limit(1)).first():
        raise errors.Forbidden(
            f"Cannot delete the project {project_id} since it is not a leaf in the hierarchy. "
            "Delete the projects below it first."
        )
    PROJECTS.delete(c, project_id)
    _delete_projects(c, [project_id])


def _delete_projects(c: Connection, ids: Any) -> None:
    """Delete projects and what goes with them; those that are gone already, too."""
    gone = list(c.execute(ids).scalars()) if isinstance(ids, sa.Select) else list(ids)
    for some in _pieces(gone):
        _delete_grants_in(c, PROJECT, some)
        for table in (identity_tokens, identity_application_credentials, identity_credentials):
            c.execute(table.delete().where(table.c.project_id.in_(some)))
        c.execute(identity_limits.delete().where(_owned(PROJECT, some)))
        c.execute(
            identity_users.update().where(identity_users.c.default_project_id.in_(some)).values(default_project_id=None)
        )
        c.execute(identity_projects.delete().where(identity_projects.c.id.in_(some)))


# ---- users -------------------------------------------------------------------------------------------------------
def insert_user(c: Connection, user: User, password_hash: str) -> None:
    """Store a user. Raises NotFound for its domain, Conflict for a name in use, Invalid."""
    DOMAINS.get(c, user.domain_id, lock=True)
    check_default_project(c, user.default_project_id)
    USERS.insert(c, user, password_hash=password_hash)


def check_default_project(c: Connection, project_id: str | None) -> None:
    """Check that what shall be a user's own project is no domain; it need not exist. Raises Invalid."""
    if project_id and DOMAINS.find(c, id=project_id) is not None:
        raise errors.Invalid(f"User's default project ID cannot be a domain ID: {project_id[:64]}")


def get_password_hash(c: Connection, user_id: str) -> str:
    """Return the library's encoded hash; empty for an account without a password."""
    query = sa.select(identity_users.c.password_hash).where(identity_users.c.id == user_id)
    return c.execute(query).scalar_one_or_none() or ""


def delete_user(c: Connection, user_id: str) -> None:
    """Delete the user with its grants, memberships, credentials and tokens. Raises NotFound."""
    USERS.delete(c, user_id)
    _delete_users(c, [user_id])


def _delete_users(c: Connection, ids: Any) -> None:
    gone = list(c.execute(ids).scalars()) if isinstance(ids, sa.Select) else list(ids)
    for some in _pieces(gone):
        for table in (
            identity_tokens,
            identity_group_members,
            identity_application_credentials,
            identity_access_rules,
            identity_credentials,
            identity_old_passwords,
        ):
            c.execute(table.delete().where(table.c.user_id.in_(some)))
        _delete_grants_of(c, USER, some)
        c.execute(identity_users.delete().where(identity_users.c.id.in_(some)))


# ---- groups ------------------------------------------------------------------------------------------------------
def insert_group(c: Connection, group: Group) -> None:
    """Store a group. Raises NotFound for its domain, Conflict for a name in use."""
    DOMAINS.get(c, group.domain_id, lock=True)
    GROUPS.insert(c, group)


def delete_group(c: Connection, group_id: str) -> None:
    """Delete the group with its grants. Raises NotFound."""
    GROUPS.delete(c, group_id)
    _delete_groups(c, [group_id])


def _delete_groups(c: Connection, ids: Any) -> None:
    gone = list(c.execute(ids).scalars()) if isinstance(ids, sa.Select) else list(ids)
    for some in _pieces(gone):
        c.execute(identity_group_members.delete().where(identity_group_members.c.group_id.in_(some)))
        _delete_grants_of(c, GROUP, some)
        c.execute(identity_groups.delete().where(identity_groups.c.id.in_(some)))


def add_member(c: Connection, group_id: str, user_id: str) -> None:
    """Put a user into a group; being in it already is success. Raises NotFound."""
    GROUPS.get(c, group_id, lock=True)
    USERS.get(c, user_id, lock=True)
    if not has_member(c, group_id, user_id):
        with racing():
            c.execute(identity_group_members.insert().values(group_id=group_id, user_id=user_id))


def has_member(c: Connection, group_id: str, user_id: str) -> bool:
    """Return whether the user is in the group."""
    m = identity_group_members.c
    return c.execute(sa.select(m.user_id).where(m.group_id == group_id, m.user_id == user_id)).first() is not None


def remove_member(c: Connection, group_id: str, user_id: str) -> bool:
    """Take a user out of a group; False when it was not in it."""
    m = identity_group_members
    return c.execute(m.delete().where(m.c.group_id == group_id, m.c.user_id == user_id)).rowcount > 0


def list_members(c: Connection, group_id: str, page: Page = ALL) -> list[User]:
    """Return users of a group."""
    m = identity_group_members.c
    return USERS.list_all(c, page, identity_users.c.id.in_(sa.select(m.user_id).where(m.group_id == group_id)))


def groups_of(user_id: Any) -> sa.Select[Any]:
    """Return the query for the ids of a user's groups."""
    m = identity_group_members.c
    return sa.select(m.group_id).where(m.user_id == user_id)


def list_groups_of(c: Connection, user_id: str, page: Page = ALL) -> list[Group]:
    """Return groups that a user is in."""
    return GROUPS.list_all(c, page, identity_groups.c.id.in_(groups_of(user_id)))


# ---- what goes with others -----------------------------------------------------------------------------------------
_AT_ONCE = 500  # ids of a statement


def _pieces(ids: Sequence[str]) -> list[list[str]]:
    return [list(ids[start : start + _AT_ONCE]) for start in range(0, len(ids), _AT_ONCE)]


def _delete_grants_in(c: Connection, scope: str, ids: list[str]) -> None:
    a = identity_assignments
    c.execute(a.delete().where(a.c.scope == scope, a.c.scope_id.in_(ids)))


def _delete_grants_of(c: Connection, actor: str, ids: list[str]) -> None:
    a = identity_assignments
    c.execute(a.delete().where(a.c.actor == actor, a.c.actor_id.in_(ids)))


def _owned(owner: str, ids: list[str]) -> sa.ColumnElement[bool]:
    return sa.and_(identity_limits.c.owner == owner, identity_limits.c.owner_id.in_(ids))
