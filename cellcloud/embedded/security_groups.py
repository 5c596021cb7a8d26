"""Security groups of the embedded network service."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cellcloud import errors
from cellcloud.config import NetworkConfig
from cellcloud.db import pagination_snapshots
from cellcloud.db import security_groups as db
from cellcloud.db.engine import Connection, Database, retried
from cellcloud.db.listing import ALL, Page
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.security_group import DEFAULT, SecurityGroup, SecurityGroupRule
from cellcloud.model.security_group_rule_validation import canonical


class EmbeddedSecurityGroups:
    """Groups and their rules. Safe to call from several threads."""

    def __init__(self, database: Database, limits: NetworkConfig) -> None:
        self._database = database
        self._limits = limits

    def list_groups(self, viewer: Viewer, page: Page = ALL) -> list[SecurityGroup]:
        """Return the viewer's groups, its default one among them. Raises NotFound for the page's marker."""
        self.ensure_default(viewer.project_id)
        return pagination_snapshots.listed(
            self._database, page.walk, lambda c: db.list_groups(c, project_id=viewer.only, page=page)
        )

    def get_group(self, viewer: Viewer, group_id: str) -> SecurityGroup:
        """Return a group. Raises NotFound."""
        with self._database.read() as c:
            return db.get_group(c, viewer.only, group_id)

    def ensure_default(self, project_id: str) -> str:
        """Return the id of a project's default group, made on first use."""
        with self._database.read() as c:
            known = db.find_default_group(c, project_id)
        return known or _ensure_default(self._database, project_id)

    def resolve(self, project_id: str, names: Sequence[str]) -> list[str]:
        """Return the ids of groups named by id or name. Raises Invalid for one that there is not, Conflict for a name
        of several."""
        if DEFAULT in names:
            self.ensure_default(project_id)
        with self._database.read() as c:
            return db.resolve_groups(c, project_id, names)

    def create_groups(self, groups: Sequence[SecurityGroup]) -> list[SecurityGroup]:
        """Make all or none. Raises QuotaExceeded, Conflict for the name of the default one."""
        if any(group.name == DEFAULT for group in groups):
            raise errors.Conflict("Default security group already exists.")
        new = [replace(group, id=str(uuid.uuid4())) for group in groups]
        return _add_groups(self._database, new, self._limits.quota_security_group)

    def update_group(self, viewer: Viewer, group_id: str, changes: Mapping[str, Any]) -> SecurityGroup:
        """Change a group. Raises NotFound, Conflict for another name of the default one, and for another kind of state
        with ports in it."""
        return _change_group(self._database, viewer, group_id, changes)

    def delete_group(self, viewer: Viewer, group_id: str) -> None:
        """Delete a group. Raises NotFound, Conflict with ports in it, and for the default one but by an
        administrator."""
        _end_group(self._database, viewer, group_id)

    def list_rules(self, viewer: Viewer, page: Page = ALL) -> list[SecurityGroupRule]:
        """Return rules of the viewer's groups. Raises NotFound for the page's marker."""
        self.ensure_default(viewer.project_id)
        return pagination_snapshots.listed(
            self._database, page.walk, lambda c: db.list_rules(c, project_id=viewer.only, page=page)
        )

    def get_rule(self, viewer: Viewer, rule_id: str) -> SecurityGroupRule:
        """Return a rule. Raises NotFound."""
        with self._database.read() as c:
            return db.get_rule(c, viewer.only, rule_id)

    def create_rules(self, viewer: Viewer, rules: Sequence[SecurityGroupRule]) -> list[SecurityGroupRule]:
        """Add all or none, to one group. Raises Invalid, NotFound for a group, QuotaExceeded, Conflict for one that the
        group has."""
        if len({rule.security_group_id for rule in rules}) > 1:
            raise errors.Invalid("Only allowed to update rules for one security profile at a time")
        new = [canonical(replace(rule, id=str(uuid.uuid4()))) for rule in rules]
        if len({rule.digest for rule in new}) < len(new):
            raise errors.Conflict("Duplicate Security Group Rule in POST.")
        return _add_rules(self._database, viewer, new, self._limits.quota_security_group_rule)

    def delete_rule(self, viewer: Viewer, rule_id: str) -> None:
        """Delete a rule. Raises NotFound."""
        _end_rule(self._database, viewer, rule_id)


# ---- transactions that may be run again ----------------------------------------------------------------------------
@retried
def _ensure_default(database: Database, project_id: str) -> str:
    with database.write() as c:
        return db.ensure_default_group(c, project_id)


@retried
def _add_groups(database: Database, groups: Sequence[SecurityGroup], limit: int) -> list[SecurityGroup]:
    with database.write() as c:
        for project_id in sorted({group.project_id for group in groups}):
            db.ensure_default_group(c, project_id)
        for group in groups:
            db.insert_group(c, group, limit=limit)
        known = db.find_groups(c, [group.id for group in groups])
    return [known[group.id] for group in groups]


@retried
def _change_group(database: Database, viewer: Viewer, group_id: str, changes: Mapping[str, Any]) -> SecurityGroup:
    with database.write() as c:
        known = _get_own(c, viewer, group_id)
        if known.is_default and changes.get("name", known.name) != known.name:
            raise errors.Conflict("Updating default security group not allowed.")
        if not known.is_default and changes.get("name") == DEFAULT:
            raise errors.Conflict("Default security group already exists.")
        db.update_group(c, group_id, changes)
        return db.get_group(c, viewer.only, group_id)


@retried
def _end_group(database: Database, viewer: Viewer, group_id: str) -> None:
    with database.write() as c:
        known = _get_own(c, viewer, group_id)
        if known.is_default and not viewer.is_admin:
            raise errors.Conflict("Insufficient rights for removing default security group.")
        db.delete_group(c, known)


@retried
def _add_rules(
    database: Database, viewer: Viewer, rules: Sequence[SecurityGroupRule], limit: int
) -> list[SecurityGroupRule]:
    with database.write() as c:
        group = _get_own(c, viewer, rules[0].security_group_id)
        for remote in sorted({rule.remote_group_id for rule in rules if rule.remote_group_id}):
            db.get_group(c, viewer.only, remote)
        new = [replace(rule, project_id=group.project_id) for rule in rules]
        db.insert_rules(c, new, limit=limit)
        return [db.get_rule(c, None, rule.id) for rule in new]


@retried
def _end_rule(database: Database, viewer: Viewer, rule_id: str) -> None:
    with database.write() as c:
        rule = db.get_rule(c, viewer.only, rule_id)
        viewer.check_revision(rule.revision)
        db.delete_rule(c, rule)


def _get_own(c: Connection, viewer: Viewer, group_id: str) -> SecurityGroup:
    """Return a group that the viewer may change. Raises NotFound, Forbidden for one that it may use alone, Stale."""
    known = db.get_group(c, viewer.only, group_id)
    if viewer.only not in (None, known.project_id):
        raise errors.Forbidden("You may use this, not change it.")
    if viewer.revision is not None:
        db.update_group(c, group_id, {})  # nobody else does until this transaction ends
        viewer.check_revision(db.get_group(c, None, group_id).revision - 1)
    return known
