"""Rows of the embedded identity's credentials: those of applications with their rules of access, and others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.engine import utc_now
from cellcloud.db.identity_records import IdentityRecords
from cellcloud.db.identity_schema import (
    identity_access_rules,
    identity_application_credentials,
    identity_credentials,
    identity_tokens,
)
from cellcloud.model.identity import AccessRule, ApplicationCredential, Credential

MOST_EACH = 200  # application credentials of a user, and other ones
_A = identity_application_credentials.c
APPLICATION_CREDENTIALS = IdentityRecords(
    "application credential",
    identity_application_credentials,
    ApplicationCredential,
    columns={"id": _A.id, "name": _A.name},
    within=("user_id",),
    hidden=("secret_hash",),
)
ACCESS_RULES = IdentityRecords(
    "access rule",
    identity_access_rules,
    AccessRule,
    columns={name: identity_access_rules.c[name] for name in ("id", "service", "method", "path")},
)
CREDENTIALS = IdentityRecords(
    "credential",
    identity_credentials,
    Credential,
    columns={name: identity_credentials.c[name] for name in ("id", "user_id", "type")},
)


def insert_application_credential(
    c: Connection, credential: ApplicationCredential, secret_hash: str, rules: Sequence[AccessRule] | None
) -> ApplicationCredential:
    """Store a credential with its rules; of those that the user has already, those are taken. Raises Conflict,
    Forbidden for too many, Invalid for one that is over."""
    _check_room(c, _A.user_id == credential.user_id, "application credentials")
    if credential.expires_at is not None and credential.expires_at <= c.execute(sa.select(utc_now())).scalar_one():
        raise errors.Invalid("The 'expires_at' must not be before now.")
    rule_ids = None if rules is None else [_ensure_rule(c, rule) for rule in rules]
    stored = replace(credential, access_rule_ids=None if rule_ids is None else tuple(rule_ids))
    APPLICATION_CREDENTIALS.insert(c, stored, secret_hash=secret_hash)
    return stored


def _check_room(c: Connection, mine: sa.ColumnElement[bool], what: str) -> None:
    counted = sa.select(sa.func.count()).where(mine)
    if c.execute(counted).scalar_one() >= MOST_EACH:
        raise errors.Forbidden(f"Unable to create additional {what}, maximum of {MOST_EACH} already exceeded for user.")


def _ensure_rule(c: Connection, rule: AccessRule) -> str:
    known = ACCESS_RULES.find(c, user_id=rule.user_id, service=rule.service, method=rule.method, path=rule.path)
    if known is not None:
        return known.id
    ACCESS_RULES.insert(c, rule)
    return rule.id


def find_application_credential(
    c: Connection, credential_id: str, *, name: str | None = None, user_id: str | None = None
) -> tuple[ApplicationCredential, str] | None:
    """Return a credential that is not over, by its id or its name and user, and the hash of its secret."""
    named = _A.id == credential_id if credential_id else sa.and_(_A.name == name, _A.user_id == user_id)
    columns = [*APPLICATION_CREDENTIALS.select().selected_columns, _A.secret_hash]
    query = sa.select(*columns).where(named, sa.or_(_A.expires_at.is_(None), _A.expires_at > utc_now()))
    row = c.execute(query).mappings().first()
    if row is None:
        return None
    values = dict(row)
    secret_hash = values.pop("secret_hash")
    return APPLICATION_CREDENTIALS.read(values), secret_hash


def delete_application_credential(c: Connection, credential_id: str) -> None:
    """Delete a credential with the tokens that came by it. Raises NotFound."""
    APPLICATION_CREDENTIALS.delete(c, credential_id)
    t = identity_tokens
    c.execute(t.delete().where(t.c.application_credential_id == credential_id))


def list_rules_of(c: Connection, credential: ApplicationCredential) -> tuple[AccessRule, ...] | None:
    """Return the rules of a credential in its order; None: everything is allowed."""
    if credential.access_rule_ids is None:
        return None
    ids = identity_access_rules.c.id.in_(credential.access_rule_ids)
    rows = c.execute(sa.select(identity_access_rules).where(ids)).mappings()
    found = {row["id"]: AccessRule(**row) for row in rows}
    return tuple(found[rule_id] for rule_id in credential.access_rule_ids if rule_id in found)


def delete_access_rule(c: Connection, rule_id: str) -> None:
    """Delete a rule. Raises NotFound, Forbidden where a credential has it."""
    rule = ACCESS_RULES.get(c, rule_id, lock=True)
    mine = c.execute(sa.select(_A.access_rule_ids).where(_A.user_id == rule.user_id)).scalars()
    if any(rule_id in (ids or ()) for ids in mine):
        raise errors.Forbidden("May not delete access rule in use")
    ACCESS_RULES.delete(c, rule_id)


def insert_credential(c: Connection, credential: Credential) -> None:
    """Store a credential. Raises Conflict for an id in use, Forbidden for too many."""
    own = identity_credentials.c
    _check_room(c, own.user_id == credential.user_id, "credentials")
    if CREDENTIALS.find(c, id=credential.id) is not None:
        raise errors.Conflict("Conflict occurred attempting to store credential - Duplicate entry.")
    CREDENTIALS.insert(c, credential)
