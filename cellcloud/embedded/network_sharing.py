"""Policies of the embedded network service: which projects may use what others own."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import replace

from cellcloud import errors
from cellcloud.config import NetworkConfig
from cellcloud.db import network_sharing as db
from cellcloud.db import networks as db_networks
from cellcloud.db import pagination_snapshots
from cellcloud.db import security_groups as db_groups
from cellcloud.db.engine import Connection, Database, retried
from cellcloud.db.listing import ALL, Page
from cellcloud.db.network_versions import raise_versions
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.network import Network
from cellcloud.model.network_sharing import ACTIONS, EVERYBODY, EXTERNAL, GROUP, NETWORK, SharingPolicy, find_losers


class EmbeddedNetworkSharing:
    """Safe to call from several threads."""

    def __init__(self, database: Database, limits: NetworkConfig) -> None:
        self._database = database
        self._limits = limits

    def list_policies(self, viewer: Viewer, page: Page = ALL) -> list[SharingPolicy]:
        """Return the viewer's policies. Raises NotFound for the page's marker."""
        return pagination_snapshots.listed(
            self._database, page.walk, lambda c: db.list_policies(c, project_id=viewer.only, page=page)
        )

    def get_policy(self, viewer: Viewer, policy_id: str) -> SharingPolicy:
        """Return a policy. Raises NotFound."""
        with self._database.read() as c:
            return db.get_policy(c, viewer.only, policy_id)

    def create_policies(self, viewer: Viewer, policies: Sequence[SharingPolicy]) -> list[SharingPolicy]:
        """Make all or none. Raises Invalid, NotFound for the thing, QuotaExceeded, Conflict for one that there is."""
        for policy in policies:
            actions = ACTIONS.get(policy.object_type)
            if actions is None:
                raise errors.Invalid(
                    f"Invalid input for operation: '{policy.object_type[:64]}' is not a valid RBAC object type."
                )
            if policy.action not in actions:
                raise errors.Invalid(
                    f"Invalid action '{policy.action[:64]}' for object type '{policy.object_type}'. "
                    f"Valid actions: {actions}"
                )
        new = [replace(policy, id=str(uuid.uuid4())) for policy in policies]
        return _add(self._database, viewer, new, self._limits.quota_rbac_policy)

    def change_target(self, viewer: Viewer, policy_id: str, target: str) -> SharingPolicy:
        """Let another project do what a policy lets one. Raises NotFound, Conflict where that one needs it, and for a
        policy that there is."""
        return _change(self._database, viewer, policy_id, target)

    def delete_policy(self, viewer: Viewer, policy_id: str) -> None:
        """Delete a policy. Raises NotFound, Conflict where somebody needs it."""
        _end(self._database, viewer, policy_id)


# ---- transactions that may be run again ----------------------------------------------------------------------------
@retried
def _add(database: Database, viewer: Viewer, policies: Sequence[SharingPolicy], limit: int) -> list[SharingPolicy]:
    with database.write() as c:
        for policy in policies:
            if _owner(c, viewer, policy) != viewer.project_id and not viewer.is_admin:
                raise errors.Invalid(
                    "Invalid input for operation: Only admins can manipulate policies on objects they do not own."
                )
            db.insert_policy(c, policy, limit=limit)
        return [db.get_policy(c, viewer.only, policy.id) for policy in policies]


@retried
def _change(database: Database, viewer: Viewer, policy_id: str, target: str) -> SharingPolicy:
    with database.write() as c:
        policy = db.get_policy(c, viewer.only, policy_id)
        if target == policy.target:
            return policy
        _check_unneeded(c, policy, instead=target)
        return db.change_target(c, policy, target)


@retried
def _end(database: Database, viewer: Viewer, policy_id: str) -> None:
    with database.write() as c:
        policy = db.get_policy(c, viewer.only, policy_id)
        _check_unneeded(c, policy)
        db.delete_policy(c, policy)


def _owner(c: Connection, viewer: Viewer, policy: SharingPolicy) -> str:
    """Return whose the thing of a policy is, which the viewer sees. Raises NotFound."""
    if policy.object_type == GROUP:
        return db_groups.get_group(c, viewer.only, policy.object_id).project_id
    return db_networks.get_network(c, viewer.only, policy.object_id).project_id


def check_unshared(c: Connection, network: Network) -> None:
    """Check that nobody needs that a network is shared with everybody. Raises Conflict."""
    for policy in db.list_policies(c, project_id=None, page=db.for_everybody(network.id)):
        if _losers(c, policy, network.project_id):
            raise errors.Conflict(
                f"Unable to reconfigure sharing settings for network {network.id}. Multiple projects are using it."
            )


def _losers(c: Connection, policy: SharingPolicy, owner: str, instead: Collection[str] = ()) -> set[str]:
    """Return who would lose what it uses; who would begin to use it waits until this transaction ends."""
    ids = [policy.object_id]
    raise_versions(
        c, networks=ids if policy.object_type == NETWORK else (), groups=ids if policy.object_type == GROUP else ()
    )
    staying = db.list_targets(c, policy) | set(instead)
    users = db.list_users(c, policy.object_type, policy.object_id, policy.action)
    return find_losers(policy.target, staying, owner=owner, users=users)


def _check_unneeded(c: Connection, policy: SharingPolicy, *, instead: str | None = None) -> None:
    """Check that nobody loses what it uses without a policy. Raises Conflict."""
    in_use = f"RBAC policy on object {policy.object_id} cannot be removed because other objects depend on it.\nDetails:"
    anybody = Viewer(project_id="", is_admin=True)
    outer = policy.action == EXTERNAL and policy.target == EVERYBODY
    if outer and db_networks.get_network(c, None, policy.object_id).is_default:
        raise errors.Conflict(f"{in_use} Default external networks must be shared to everyone.")
    losers = _losers(c, policy, _owner(c, anybody, policy), [instead] if instead else ())
    if losers:
        raise errors.Conflict(f"{in_use} project_id={', '.join(sorted(losers))}")
