"""Rows of the embedded identity. Tokens are found by their hash and expire by the database's clock."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.engine import racing, utc_after, utc_now
from cellcloud.db.listing import ALL, Columns, Page, items_of, rows_of
from cellcloud.db.top_schema import (
    identity_domains,
    identity_grants,
    identity_projects,
    identity_roles,
    identity_tokens,
    identity_users,
)
from cellcloud.model.identity import Grant, IdentityRole, Project, Token, User

FORGOTTEN_AT_ONCE = 5000
_USER = [c for c in identity_users.c if c.name != "password_hash"]
_PROJECT = list(identity_projects.c)
USER_COLUMNS: Columns = {name: identity_users.c[name] for name in ("id", "name", "domain_id", "enabled")}
PROJECT_COLUMNS: Columns = {
    **{name: identity_projects.c[name] for name in ("id", "name", "domain_id", "enabled")},
    "tags": items_of(sa.func.coalesce(sa.type_coerce(identity_projects.c.tags, sa.Text), "[]")),
}
_MAX_EXTRA = 16384  # bytes of JSON


@contextmanager
def _unique(message: str) -> Iterator[None]:
    try:
        yield
    except sa.exc.IntegrityError as error:
        raise errors.Conflict(message) from error


# ---- users -------------------------------------------------------------------------------------------------------
def list_users(c: Connection, page: Page = ALL, **equals: str) -> list[User]:
    """Users whose columns equal the given values: a page by id, all by name, or as the page says."""
    query = sa.select(*_USER).where(*_equal(identity_users, equals))
    return [User(**row) for row in _paged(c, query, identity_users, USER_COLUMNS, page)]


def find_user(c: Connection, **equals: str) -> User | None:
    """Return the one user with these values (``id``, or ``name`` and ``domain_id``)."""
    return next(iter(list_users(c, ALL, **equals)), None)


def get_password_hash(c: Connection, user_id: str) -> str:
    """Return the library's encoded hash; empty for an account without a password."""
    query = sa.select(identity_users.c.password_hash).where(identity_users.c.id == user_id)
    return c.execute(query).scalar_one_or_none() or ""


def insert_user(c: Connection, user: User, password_hash: str) -> None:
    """Store a user. Raises Conflict for a name in use."""
    if find_user(c, name=user.name, domain_id=user.domain_id) is not None:
        raise errors.Conflict("A user of that name exists already.")
    with _unique("A user of that name exists already."):
        values = _values(user) | {"extra": _merged({}, user.extra)}
        c.execute(identity_users.insert().values(password_hash=password_hash, **values))


def update_user(c: Connection, user_id: str, changes: Mapping[str, Any]) -> bool:
    """Change columns, of ``extra`` those that are given; False when there is no such user."""
    if "name" in changes and any(other.id != user_id for other in list_users(c, name=changes["name"])):
        raise errors.Conflict("A user of that name exists already.")
    with _unique("A user of that name exists already."):
        return _changed(c, identity_users, user_id, changes)


def delete_user(c: Connection, user_id: str) -> bool:
    """Delete the user with its grants and tokens; False when there is none."""
    c.execute(identity_tokens.delete().where(identity_tokens.c.user_id == user_id))
    c.execute(identity_grants.delete().where(identity_grants.c.user_id == user_id))
    return c.execute(identity_users.delete().where(identity_users.c.id == user_id)).rowcount > 0


# ---- projects, domains, roles --------------------------------------------------------------------------------------
def list_projects(c: Connection, page: Page = ALL, *, user_id: str | None = None, **equals: str) -> list[Project]:
    """Projects with these values: a page by id, all by name; with ``user_id`` those in which the user has a role."""
    query = sa.select(*_PROJECT).where(*_equal(identity_projects, equals))
    if user_id is not None:
        granted = sa.select(identity_grants.c.project_id).where(identity_grants.c.user_id == user_id)
        query = query.where(identity_projects.c.id.in_(granted))
    return [Project(**row) for row in _paged(c, query, identity_projects, PROJECT_COLUMNS, page)]


def find_project(c: Connection, **equals: str) -> Project | None:
    """Return the one project with these values (``id``, or ``name`` and ``domain_id``)."""
    return next(iter(list_projects(c, ALL, **equals)), None)


def insert_project(c: Connection, project: Project) -> None:
    """Store a project. Raises Conflict for a name in use."""
    if find_project(c, name=project.name, domain_id=project.domain_id) is not None:
        raise errors.Conflict("A project of that name exists already.")
    with _unique("A project of that name exists already."):
        values = _values(project) | {"extra": _merged({}, project.extra)}
        c.execute(identity_projects.insert().values(**values))


def update_project(c: Connection, project_id: str, changes: Mapping[str, Any]) -> bool:
    """Change columns, of ``extra`` those that are given; False when there is no such project. Raises Forbidden."""
    if "name" in changes and any(other.id != project_id for other in list_projects(c, name=changes["name"])):
        raise errors.Conflict("A project of that name exists already.")
    with _unique("A project of that name exists already."):
        return _changed(c, identity_projects, project_id, changes)


def delete_project(c: Connection, project_id: str) -> bool:
    """Delete the project with its grants and tokens; False when there is none. Raises Forbidden."""
    before = c.execute(_extra_of(identity_projects, project_id)).scalar()
    if _is_immutable(before):
        raise errors.Forbidden(_IMMUTABLE)
    c.execute(identity_tokens.delete().where(identity_tokens.c.project_id == project_id))
    c.execute(identity_grants.delete().where(identity_grants.c.project_id == project_id))
    return c.execute(identity_projects.delete().where(identity_projects.c.id == project_id)).rowcount > 0


def insert_domain(c: Connection, domain_id: str, name: str) -> None:
    c.execute(identity_domains.insert().values(id=domain_id, name=name, enabled=True, description=""))


def list_domains(c: Connection) -> dict[str, str]:
    """Id -> name."""
    query = sa.select(identity_domains.c.id, identity_domains.c.name).where(identity_domains.c.enabled)
    return {row.id: row.name for row in c.execute(query)}


def list_roles(c: Connection) -> list[IdentityRole]:
    return [IdentityRole(**row) for row in c.execute(_ROLES).mappings()]


def insert_role(c: Connection, role: IdentityRole) -> None:
    """Store a role. Raises Conflict for a name in use."""
    with _unique("A role of that name exists already."):
        c.execute(identity_roles.insert().values(**_values(role)))


# ---- grants ------------------------------------------------------------------------------------------------------
def list_grants(c: Connection, **equals: str) -> list[Grant]:
    """Grants with these values (``user_id``, ``project_id``, ``role_id``)."""
    query = sa.select(identity_grants).where(*_equal(identity_grants, equals))
    return [Grant(**row) for row in c.execute(query).mappings()]


def add_grant(c: Connection, grant: Grant) -> None:
    """Give a role; given already is success. Raises LostRace where another request just gives it."""
    if not list_grants(c, **_values(grant)):
        with racing():
            c.execute(identity_grants.insert().values(**_values(grant)))


def remove_grant(c: Connection, grant: Grant) -> bool:
    """Take a role away; False when it was not given."""
    return c.execute(identity_grants.delete().where(*_equal(identity_grants, _values(grant)))).rowcount > 0


# ---- tokens ------------------------------------------------------------------------------------------------------
def insert_token(
    c: Connection,
    token_hash: str,
    *,
    user_id: str,
    project_id: str | None,
    methods: Sequence[str],
    audit_ids: Sequence[str],
    seconds: float,
    not_after: dt.datetime | None = None,
) -> None:
    """Store a token that lives ``seconds`` from the database's now, or until ``not_after``."""
    c.execute(
        identity_tokens.insert().values(
            token_hash=token_hash,
            user_id=user_id,
            project_id=project_id,
            methods=list(methods),
            audit_ids=list(audit_ids),
            issued_at=utc_now(),
            expires_at=utc_after(seconds) if not_after is None else not_after,
        )
    )


def _token_query() -> sa.Select[Any]:
    t, u, p, g = identity_tokens, identity_users, identity_projects, identity_grants
    return (
        sa.select(
            t,
            u.c.name.label("user_name"),
            u.c.domain_id.label("user_domain_id"),
            u.c.default_project_id,
            p.c.name.label("project_name"),
            p.c.domain_id.label("project_domain_id"),
            p.c.description,
            g.c.role_id,
            identity_roles.c.name.label("role_name"),
        )
        .join(u, (u.c.id == t.c.user_id) & u.c.enabled)
        .outerjoin(p, (p.c.id == t.c.project_id) & p.c.enabled)
        .outerjoin(g, (g.c.user_id == u.c.id) & (g.c.project_id == p.c.id))
        .outerjoin(identity_roles, identity_roles.c.id == g.c.role_id)
        .where(t.c.token_hash == sa.bindparam("token_hash"), t.c.expires_at > utc_now())
    )


_TOKEN = _token_query()
_ROLES = sa.select(identity_roles).order_by(identity_roles.c.name)


def find_token(c: Connection, token_hash: str) -> Token | None:
    """Return the token, with the roles its user has now. None: unknown, expired, or its user or project is gone."""
    rows = c.execute(_TOKEN, {"token_hash": token_hash}).all()
    if not rows or (rows[0].project_id is not None and rows[0].project_name is None):
        return None
    row = rows[0]
    project = None
    if row.project_id is not None:
        project = Project(
            id=row.project_id,
            name=row.project_name,
            domain_id=row.project_domain_id,
            description=row.description,
        )
    return Token(
        user=User(
            id=row.user_id,
            name=row.user_name,
            domain_id=row.user_domain_id,
            default_project_id=row.default_project_id,
        ),
        project=project,
        roles=tuple(IdentityRole(id=r.role_id, name=r.role_name) for r in rows if r.role_name),
        methods=tuple(row.methods),
        audit_ids=tuple(row.audit_ids),
        issued_at=row.issued_at,
        expires_at=row.expires_at,
    )


def delete_token(c: Connection, token_hash: str) -> bool:
    """Revoke one token; False when there is none."""
    return c.execute(identity_tokens.delete().where(identity_tokens.c.token_hash == token_hash)).rowcount > 0


def delete_tokens_of(c: Connection, user_id: str) -> None:
    """Revoke every token of a user."""
    c.execute(identity_tokens.delete().where(identity_tokens.c.user_id == user_id))


def delete_expired_tokens(c: Connection) -> int:
    """Forget some of the tokens that nobody can use any more; returns how many."""
    key, old = identity_tokens.c.token_hash, identity_tokens.c.expires_at <= utc_now()
    some = c.execute(sa.select(key).where(old).limit(FORGOTTEN_AT_ONCE)).scalars().all()
    return c.execute(identity_tokens.delete().where(key.in_(some), old)).rowcount if some else 0


def _values(record: User | Project | IdentityRole | Grant) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _equal(table: sa.Table, equals: Mapping[str, str]) -> list[sa.ColumnElement[bool]]:
    """Names are compared without regard to case."""
    return [
        sa.func.lower(table.c[name]) == value.lower() if name == "name" else table.c[name] == value
        for name, value in equals.items()
    ]


def _paged(c: Connection, query: sa.Select[Any], table: sa.Table, columns: Columns, page: Page) -> list[Any]:
    if not page.sort and page.limit is None and page.after is None:
        query = query.order_by(table.c.name)
    return [_read(row._mapping) for row in rows_of(c, query, table.c.id, columns, page)]


def _read(row: Mapping[Any, Any]) -> dict[str, Any]:
    values = {**row, "extra": row["extra"] or {}}
    return values | {"tags": tuple(row["tags"] or ())} if "tags" in values else values


def _changed(c: Connection, table: sa.Table, row_id: str, changes: Mapping[str, Any]) -> bool:
    before = c.execute(_extra_of(table, row_id)).one_or_none()
    if before is None:
        return False
    if _is_immutable(before.extra) and changes not in _RELEASES:
        raise errors.Forbidden(_IMMUTABLE)
    if "extra" in changes:
        changes = {**changes, "extra": _merged(before.extra or {}, changes["extra"])}
    if changes:
        c.execute(table.update().where(table.c.id == row_id).values(**changes))
    return True


_IMMUTABLE = "It is immutable: set its option immutable to false first, and nothing else with it."
_RELEASES = tuple({"extra": {"options": {"immutable": value}}} for value in (False, None))


def _extra_of(table: sa.Table, row_id: str) -> sa.Select[Any]:
    return sa.select(table.c.extra).where(table.c.id == row_id).with_for_update()


def _is_immutable(extra: Mapping[str, Any] | None) -> bool:
    return bool((extra or {}).get("options", {}).get("immutable"))


def _merged(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept from now on; an option without a value is forgotten. Raises Invalid."""
    options = {**before.get("options", {}), **given.get("options", {})}
    merged = {**before, **given, "options": {name: value for name, value in options.items() if value is not None}}
    if len(msgspec.json.encode(merged)) > _MAX_EXTRA:
        raise errors.Invalid(f"Attributes of its own have at most {_MAX_EXTRA} bytes.")
    return merged
