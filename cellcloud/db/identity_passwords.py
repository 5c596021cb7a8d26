"""Rows about passwords of the embedded identity: what a login is judged by, failed ones, and those of before."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.engine import utc_after, utc_now
from cellcloud.db.identity import USERS
from cellcloud.db.identity_schema import identity_domains, identity_old_passwords, identity_users
from cellcloud.model.identity import User

_U = identity_users.c


@dataclass(frozen=True, slots=True, kw_only=True)
class UserAccount:
    """``password_hash`` empty: nobody can log in with a password. ``is_enabled``: with its domain."""

    user: User
    password_hash: str
    is_enabled: bool
    is_expired: bool
    is_locked: bool
    failures: int


def _account_query(where: sa.ColumnElement[bool]) -> sa.Select[Any]:
    d = identity_domains.c
    return (
        sa.select(
            *USERS.select().selected_columns,
            _U.password_hash,
            _U.failures,
            d.enabled.label("domain_enabled"),
            (_U.password_expires_at <= utc_now()).label("is_expired"),
            sa.and_(
                sa.bindparam("most", type_=sa.Integer) > 0,
                _U.failures >= sa.bindparam("most", type_=sa.Integer),
                sa.or_(
                    sa.bindparam("seconds", type_=sa.Float) <= 0,
                    _U.failed_at > utc_after(sa.bindparam("ago", type_=sa.Float)),
                ),
            ).label("is_locked"),
        )
        .join(identity_domains, d.id == _U.domain_id)
        .where(where)
    )


_NAME = sa.func.lower(_U.name) == sa.bindparam("name", type_=sa.String)
_BY_ID = _account_query(_U.id == sa.bindparam("user_id"))
_BY_DOMAIN = _account_query(sa.and_(_NAME, _U.domain_id == sa.bindparam("domain_id")))
_BY_DOMAIN_NAME = _account_query(
    sa.and_(_NAME, sa.func.lower(identity_domains.c.name) == sa.bindparam("domain_name", type_=sa.String))
)


def find_account(
    c: Connection,
    *,
    user_id: str | None = None,
    name: str | None = None,
    domain_id: str | None = None,
    domain_name: str | None = None,
    most: int = 0,
    seconds: float = 0.0,
) -> UserAccount | None:
    """Return the account of that id, or of that name in a domain. ``most``, ``seconds``: so many failed logins lock it
    for so long; 0 failures: never, 0 seconds: until somebody sets its password."""
    given: dict[str, Any] = {"most": most, "seconds": seconds, "ago": -seconds}
    if user_id is not None:
        query, given = _BY_ID, given | {"user_id": user_id[:255]}
    elif domain_id:
        query, given = _BY_DOMAIN, given | {"name": (name or "").lower(), "domain_id": domain_id[:255]}
    else:
        named = {"name": (name or "").lower(), "domain_name": (domain_name or "").lower()}
        query, given = _BY_DOMAIN_NAME, given | named
    row = c.execute(query, given).mappings().first()
    if row is None:
        return None
    values = dict(row)
    password_hash, failures = values.pop("password_hash"), values.pop("failures")
    domain_enabled, expired, locked = (values.pop(n) for n in ("domain_enabled", "is_expired", "is_locked"))
    user = USERS.read(values)
    return UserAccount(
        user=user,
        password_hash=password_hash,
        is_enabled=user.enabled and bool(domain_enabled),
        is_expired=bool(expired),
        is_locked=bool(locked),
        failures=failures,
    )


def count_attempt(c: Connection, user_id: str, *, most: int, seconds: float) -> bool:
    """Count a guess before it is looked at, so that parallel ones are not more than ``most``; False: it is locked."""
    over = sa.false() if seconds <= 0 else sa.and_(_U.failures >= most, _U.failed_at <= utc_after(-seconds))
    counted = (
        identity_users.update()
        .where(_U.id == user_id, sa.or_(_U.failures < most, over))
        .values(failures=sa.case((over, 1), else_=_U.failures + 1), failed_at=utc_now())
    )
    return c.execute(counted).rowcount > 0


def forget_attempts(c: Connection, user_id: str) -> None:
    """Begin to count anew."""
    c.execute(identity_users.update().where(_U.id == user_id, _U.failures > 0).values(failures=0, failed_at=None))


def set_password(c: Connection, user_id: str, password_hash: str, *, days: int, kept: int) -> None:
    """Set the hash of a password, that expires after ``days`` (0: never), and keep ``kept`` of those before it."""
    before = c.execute(sa.select(_U.password_hash).where(_U.id == user_id)).scalar_one()
    o = identity_old_passwords
    if kept > 0 and before:
        c.execute(o.insert().values(id=uuid.uuid4().hex, user_id=user_id, password_hash=before, replaced_at=utc_now()))
    newest = list_old_hashes(c, user_id, kept)
    c.execute(o.delete().where(o.c.user_id == user_id, o.c.password_hash.not_in(newest)))
    c.execute(
        identity_users.update()
        .where(_U.id == user_id)
        .values(
            password_hash=password_hash,
            password_expires_at=utc_after(days * 86400.0) if days > 0 and password_hash else None,
            failures=0,
            failed_at=None,
        )
    )


def list_old_hashes(c: Connection, user_id: str, most: int) -> list[str]:
    """Return the hashes that a user had before the present one, the newest first."""
    o = identity_old_passwords.c
    query = sa.select(o.password_hash).where(o.user_id == user_id).order_by(o.replaced_at.desc(), o.id).limit(most)
    return list(c.execute(query).scalars())
