"""Policies that let other projects use networks and security groups. What everybody may use stands in a policy too."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db import network_quota_usages
from cellcloud.db.listing import ALL, Columns, Page, rows_of
from cellcloud.db.network_quota_usages import UNLIMITED
from cellcloud.db.network_schema import network_rbac_policies as policies
from cellcloud.db.network_schema import port_security_groups, routers
from cellcloud.db.top_schema import networks, ports
from cellcloud.model.network_sharing import EVERYBODY, EXTERNAL, GROUP, NETWORK, SHARED, SharingPolicy

POLICY_COLUMNS: Columns = {
    **{name: policies.c[name] for name in ("id", "project_id", "object_type", "object_id", "action")},
    "tenant_id": policies.c.project_id,
    "target_tenant": policies.c.target_project,
}
_FLAGS = {
    SHARED: "shared",
    EXTERNAL: "external",
}  # a network's columns: whether there is a policy for everybody, or any


def given_to(project_id: str | sa.BindParameter[str] | None, action: str) -> sa.Select[Any]:
    """Return the ids of what policies let a project do that with; None: everybody."""
    targets = [EVERYBODY] if project_id is None else [EVERYBODY, project_id]
    meant = sa.or_(*(policies.c.target_project == target for target in targets))
    return sa.select(policies.c.object_id).where(policies.c.action == action, meant)


def list_policies(c: Connection, *, project_id: str | None, page: Page = ALL) -> list[SharingPolicy]:
    """Policies, by id unless the page says otherwise. ``project_id``: only its own; None: all. Raises NotFound for the
    page's marker."""
    query = sa.select(policies)
    if project_id is not None:
        query = query.where(policies.c.project_id == project_id)
    return [_policy(row) for row in rows_of(c, query, policies.c.id, POLICY_COLUMNS, page)]


def get_policy(c: Connection, project_id: str | None, policy_id: str) -> SharingPolicy:
    """Return a policy. Raises NotFound, the same for another project's."""
    found = list_policies(c, project_id=project_id, page=Page.of(id=[policy_id]))
    if not found:
        raise errors.NotFound(f"RBAC policy of type unknown with ID {policy_id[:64]} not found")
    return found[0]


def insert_policy(c: Connection, policy: SharingPolicy, *, limit: int) -> None:
    """``limit``: of its project's policies. Raises QuotaExceeded, Conflict for one that there is."""
    if not network_quota_usages.reserve(c, policy.project_id, "rbac_policy", 1, limit):
        raise network_quota_usages.exceeded("rbac_policy")
    _write(c, policies.insert().values(id=policy.id, object_type=policy.object_type, **_values(policy)))
    _mark(c, policy)


def change_target(c: Connection, policy: SharingPolicy, target: str) -> SharingPolicy:
    """Let another project do it instead. Raises Conflict for a policy that there is."""
    _write(c, policies.update().where(policies.c.id == policy.id).values(target_project=target))
    changed = replace(policy, target=target)
    _mark(c, changed)
    return changed


def delete_policy(c: Connection, policy: SharingPolicy) -> None:
    """Delete a policy."""
    if c.execute(policies.delete().where(policies.c.id == policy.id)).rowcount:
        network_quota_usages.release(c, policy.project_id, "rbac_policy", 1)
        _mark(c, policy)


def delete_policies_of(c: Connection, object_id: str, action: str | None = None) -> None:
    """Delete what lets others use a thing, or do that with it."""
    which = [policies.c.object_id == object_id, *([policies.c.action == action] if action else [])]
    for row in c.execute(sa.select(policies).where(*which).order_by(policies.c.id)).all():
        if c.execute(policies.delete().where(policies.c.id == row.id)).rowcount:
            network_quota_usages.release(c, row.project_id, "rbac_policy", 1)


def set_for_everybody(c: Connection, network_id: str, project_id: str, changes: Mapping[str, Any]) -> None:
    """Let policies be as a network's own fields say it is shared and external: for everybody, or not."""
    for action, name in _FLAGS.items():
        if name not in changes:
            continue
        there = sa.select(policies.c.id).where(policies.c.object_id == network_id, policies.c.action == action)
        if not changes[name]:
            if action == EXTERNAL:
                delete_policies_of(c, network_id, EXTERNAL)
            else:
                for one in list_policies(c, project_id=None, page=for_everybody(network_id)):
                    delete_policy(c, one)
        elif not c.execute(there.where(policies.c.target_project == EVERYBODY)).first():
            new = {"object_id": network_id, "action": action, "target": EVERYBODY, "project_id": project_id}
            insert_policy(c, SharingPolicy(id=str(uuid.uuid4()), object_type=NETWORK, **new), limit=UNLIMITED)


def list_targets(c: Connection, policy: SharingPolicy) -> set[str]:
    """Return whom other policies of the same thing let do the same."""
    same = (policies.c.object_id == policy.object_id, policies.c.action == policy.action, policies.c.id != policy.id)
    return set(c.execute(sa.select(policies.c.target_project).where(*same)).scalars())


def list_users(c: Connection, object_type: str, object_id: str, action: str) -> set[str]:
    """Return the projects that have something that needs to be let do that."""
    if object_type == GROUP:
        query = sa.select(ports.c.project_id).join(port_security_groups, port_security_groups.c.port_id == ports.c.id)
        query = query.where(port_security_groups.c.security_group_id == object_id)
    elif action == EXTERNAL:
        query = sa.select(routers.c.project_id).where(routers.c.gateway_network_id == object_id)
    else:
        query = sa.select(ports.c.project_id).where(ports.c.network_id == object_id, ports.c.project_id != "")
    return set(c.execute(query.distinct()).scalars())


def for_everybody(network_id: str) -> Page:
    """Return a page with the policy that shares a network with everybody, if there is one."""
    return Page.of(object_id=[network_id], action=[SHARED], target_tenant=[EVERYBODY])


def _mark(c: Connection, policy: SharingPolicy) -> None:
    """Let a network say what policies make of it."""
    if policy.object_type != NETWORK:
        return
    there = sa.select(policies.c.id).where(policies.c.object_id == policy.object_id, policies.c.action == policy.action)
    if policy.action == SHARED:
        there = there.where(policies.c.target_project == EVERYBODY)
    mine = networks.update().where(networks.c.id == policy.object_id)
    c.execute(mine.values({_FLAGS[policy.action]: c.execute(there.limit(1)).first() is not None}))


def _write(c: Connection, statement: sa.Insert | sa.Update) -> None:
    try:
        c.execute(statement)
    except sa.exc.IntegrityError as error:
        raise errors.Conflict("An RBAC policy already exists with those values.") from error


def _values(policy: SharingPolicy) -> dict[str, Any]:
    return {
        "project_id": policy.project_id,
        "object_id": policy.object_id,
        "action": policy.action,
        "target_project": policy.target,
    }


def _policy(row: Any) -> SharingPolicy:
    return SharingPolicy(
        id=row.id,
        object_type=row.object_type,
        object_id=row.object_id,
        action=row.action,
        target=row.target_project,
        project_id=row.project_id,
    )
