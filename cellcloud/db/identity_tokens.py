"""Rows of the embedded identity's tokens, found by their hash and expired by the database's clock, and the epoch: what
changes with everything that an answer about a token depends on."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.engine import UtcDateTime, racing, utc_after, utc_now
from cellcloud.db.identity import DOMAINS, PROJECTS, USERS
from cellcloud.db.identity_assignments import list_role_ids
from cellcloud.db.identity_schema import (
    identity_domains,
    identity_epoch,
    identity_projects,
    identity_tokens,
    identity_users,
)
from cellcloud.model.identity import DOMAIN, PROJECT, SYSTEM, Domain, Project, Token

FORGOTTEN_AT_ONCE = 5000
_EPOCH = sa.select(identity_epoch.c.value, utc_now().label("now")).where(identity_epoch.c.id == 1)


def find_epoch(c: Connection) -> tuple[str, dt.datetime | None]:
    """Return the epoch and the database's time; empty and None before anything was written."""
    row = c.execute(_EPOCH).one_or_none()
    return ("", None) if row is None else (row.value, row.now)


def begin_epoch(c: Connection) -> None:
    """End every answer that was given before this transaction's commit, in all processes. Raises LostRace."""
    value = secrets.token_hex(16)
    if not c.execute(identity_epoch.update().where(identity_epoch.c.id == 1).values(value=value)).rowcount:
        with racing():
            c.execute(identity_epoch.insert().values(id=1, value=value))


_PASSWORD_HASH = (
    sa.select(identity_users.c.password_hash)
    .where(identity_users.c.id == sa.bindparam("user_id"), identity_users.c.enabled)
    .with_for_update()
)


def is_proven(c: Connection, user_id: str, *, password_hash: str | None, parents: Sequence[str]) -> bool:
    """Return whether what a login was proven by still stands, and keep it so until the transaction's end: the user's
    ``password_hash``, where it was one, and the tokens of the hashes ``parents``."""
    row = c.execute(_PASSWORD_HASH, {"user_id": user_id}).one_or_none()
    if row is None or (password_hash is not None and row.password_hash != password_hash):
        return False
    t = identity_tokens.c
    wanted = set(parents)
    return not wanted or set(c.execute(sa.select(t.token_hash).where(t.token_hash.in_(wanted))).scalars()) == wanted


_NEVER = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)
_END, _BOUND = utc_after(sa.bindparam("seconds", type_=sa.Float)), sa.bindparam("not_after", type_=UtcDateTime)
_INSERT = identity_tokens.insert().values(
    **{column.name: sa.bindparam(column.name, type_=column.type) for column in identity_tokens.c}
    | {"issued_at": utc_now(), "expires_at": sa.case((_END < _BOUND, _END), else_=_BOUND)}
)


def insert_token(
    c: Connection,
    token_hash: str,
    *,
    user_id: str,
    project_id: str | None = None,
    domain_id: str | None = None,
    system: bool = False,
    application_credential_id: str | None = None,
    methods: Sequence[str],
    audit_ids: Sequence[str],
    seconds: float,
    not_after: dt.datetime | None = None,
) -> None:
    """Store a token that lives ``seconds`` from the database's now, and not beyond ``not_after``."""
    given = {
        "token_hash": token_hash,
        "user_id": user_id,
        "project_id": project_id,
        "domain_id": domain_id,
        "system": system,
        "application_credential_id": application_credential_id,
        "methods": list(methods),
        "audit_ids": list(audit_ids),
        "seconds": seconds,
        "not_after": not_after if not_after is not None else _NEVER,
    }
    c.execute(_INSERT, given)


def _labelled(table: sa.sql.FromClause, names: Sequence[str], prefix: str) -> list[sa.ColumnElement[Any]]:
    return [table.c[name].label(f"{prefix}{name}") for name in names]


_USER = [column.name for column in USERS.select().selected_columns]
_PROJECT = [column.name for column in PROJECTS.select().selected_columns]
_DOMAIN = [column.name for column in DOMAINS.select().selected_columns]


def _token_query() -> sa.Select[Any]:
    t, u, p = identity_tokens, identity_users, identity_projects
    home, theirs, scope = (identity_domains.alias(name) for name in ("home", "theirs", "scope"))
    return (
        sa.select(
            t,
            *_labelled(u, _USER, "u_"),
            *_labelled(p, _PROJECT, "p_"),
            *_labelled(scope, _DOMAIN, "s_"),
            home.c.name.label("home_name"),
            theirs.c.name.label("theirs_name"),
        )
        .join(u, (u.c.id == t.c.user_id) & u.c.enabled)
        .join(home, (home.c.id == u.c.domain_id) & home.c.enabled)
        .outerjoin(p, (p.c.id == t.c.project_id) & p.c.enabled)
        .outerjoin(theirs, (theirs.c.id == p.c.domain_id) & theirs.c.enabled)
        .outerjoin(scope, (scope.c.id == t.c.domain_id) & scope.c.enabled)
        .where(t.c.token_hash == sa.bindparam("token_hash"), t.c.expires_at > utc_now())
    )


_TOKEN = _token_query()


def find_token(c: Connection, token_hash: str) -> tuple[Token, list[str], str | None] | None:
    """Return the token without its roles, the ids of the roles that its user has now where it is for, and the id of
    the application credential that it came by. None: unknown, expired, or its user or what it is for is gone or
    disabled."""
    row = c.execute(_TOKEN, {"token_hash": token_hash}).mappings().one_or_none()
    if row is None:
        return None
    project: Project | None = None
    domain: Domain | None = None
    names: dict[str, str] = {row["u_domain_id"]: row["home_name"]}
    role_ids: list[str] = []
    if row["project_id"] is not None:
        if row["theirs_name"] is None:
            return None
        project = PROJECTS.read(_of(row, "p_", _PROJECT))
        names[project.domain_id] = row["theirs_name"]
        role_ids = list_role_ids(c, row["user_id"], PROJECT, project.id, domain_id=project.domain_id)
    elif row["domain_id"] is not None:
        if row["s_name"] is None:
            return None
        domain = DOMAINS.read(_of(row, "s_", _DOMAIN))
        role_ids = list_role_ids(c, row["user_id"], DOMAIN, domain.id)
    elif row["system"]:
        role_ids = list_role_ids(c, row["user_id"], SYSTEM)
    token = Token(
        user=USERS.read(_of(row, "u_", _USER)),
        project=project,
        domain=domain,
        system=bool(row["system"]),
        domain_names=names,
        roles=(),
        methods=tuple(row["methods"]),
        audit_ids=tuple(row["audit_ids"]),
        issued_at=row["issued_at"],
        expires_at=row["expires_at"],
    )
    return token, role_ids, row["application_credential_id"]


def _of(row: Any, prefix: str, names: Sequence[str]) -> dict[str, Any]:
    return {name: row[f"{prefix}{name}"] for name in names}


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
