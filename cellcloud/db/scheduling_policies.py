"""A cell's scheduling policies: documents that never change, one in force, at most one tried in its shadow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db import scheduler_change_log
from cellcloud.db.cell_schema import policies, policy_roles
from cellcloud.db.engine import racing, utc_now
from cellcloud.model import scheduling_policy
from cellcloud.model.change_log import Changes, PolicyChange, PolicyVersion
from cellcloud.model.decision import PolicyRecord

ROLES = ("active", "shadow")
BUILT_IN = PolicyVersion(version=0, document=scheduling_policy.to_plain(scheduling_policy.DEFAULT))


def list_all(connection: Connection) -> list[PolicyRecord]:
    """Every version, the built-in one first."""
    roles = _roles(connection)
    roles.setdefault("active", 0)
    names = {version: role for role, version in sorted(roles.items(), reverse=True)}
    found = [PolicyRecord(version=0, document=dict(BUILT_IN.document), comment="built in", role=names.get(0, ""))]
    for row in connection.execute(sa.select(policies).order_by(policies.c.version)):
        role = names.get(row.version, "")
        found.append(
            PolicyRecord(
                version=row.version, document=row.document, comment=row.comment, role=role, created_at=row.created_at
            )
        )
    return found


def get(connection: Connection, version: int) -> PolicyRecord:
    """Return a version of the policy. Raises NotFound."""
    for found in list_all(connection):
        if found.version == version:
            return found
    raise errors.NotFound(f"Scheduling policy {version} could not be found.")


def add(connection: Connection, document: Mapping[str, Any], comment: str) -> PolicyRecord:
    """Store a document as the next version. Raises Invalid that says what is wrong with it, LostRace."""
    plain = scheduling_policy.to_plain(scheduling_policy.parse(document))
    newest = connection.execute(sa.select(sa.func.max(policies.c.version))).scalar() or 0
    with racing():
        connection.execute(
            sa.insert(policies).values(version=newest + 1, document=plain, comment=comment, created_at=utc_now())
        )
    return get(connection, newest + 1)


def find_role(connection: Connection, role: str) -> PolicyVersion | None:
    """Return the version that has the role; the built-in one is in force when nobody said otherwise."""
    version = _roles(connection).get(role)
    if version is None:
        return BUILT_IN if role == "active" else None
    return _version(connection, version)


def set_role(connection: Connection, role: str, version: int | None) -> None:
    """Give a version the role, and log it. None: no shadow. Raises NotFound, Invalid, LostRace."""
    if role not in ROLES or (role == "active" and version is None):
        raise errors.Invalid("A cell has one active policy, and at most one shadow.")
    connection.execute(sa.select(policy_roles).with_for_update())  # one at a time, where there is a row
    before = find_role(connection, role)
    after = None if version is None else _version(connection, version)
    if before == after:
        return
    connection.execute(sa.delete(policy_roles).where(policy_roles.c.role == role))
    if version is not None:
        with racing():
            connection.execute(sa.insert(policy_roles).values(role=role, version=version))
    scheduler_change_log.append(connection, Changes(policies=(PolicyChange(role=role, before=before, after=after),)))


def _version(connection: Connection, version: int) -> PolicyVersion:
    if version == 0:
        return BUILT_IN
    document = connection.execute(sa.select(policies.c.document).where(policies.c.version == version)).scalar()
    if document is None:
        raise errors.NotFound(f"Scheduling policy {version} could not be found.")
    return PolicyVersion(version=version, document=document)


def _roles(connection: Connection) -> dict[str, int]:
    return {row.role: row.version for row in connection.execute(sa.select(policy_roles))}
