"""Implements ``SecurityGroupClient`` by the embedded network service."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cellcloud import errors
from cellcloud.clients.security_groups import CANNOT_BE_APPLIED
from cellcloud.db import ports as db_ports
from cellcloud.db import security_groups as db
from cellcloud.db.engine import Database, LostRace, retried
from cellcloud.db.listing import Page
from cellcloud.embedded.security_groups import EmbeddedSecurityGroups
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.security_group import SecurityGroup, SecurityGroupRule


class EmbeddedSecurityGroupClient:
    """See ``SecurityGroupClient`` for each."""

    def __init__(self, database: Database, groups: EmbeddedSecurityGroups) -> None:
        self._database = database
        self._groups = groups

    def list_groups(self, project_id: str | None) -> tuple[SecurityGroup, ...]:
        """See ``SecurityGroupClient``."""
        if project_id is None:
            with self._database.read() as c:
                return tuple(db.list_groups(c, project_id=None))
        own = Page.of(project_id=[project_id])
        return tuple(self._groups.list_groups(Viewer(project_id=project_id), own))

    def list_names(self, group_ids: Sequence[str]) -> dict[str, str]:
        """See ``SecurityGroupClient``."""
        with self._database.read() as c:
            return {group_id: group.name for group_id, group in db.find_groups(c, group_ids).items()}

    def list_groups_of_server(self, server_id: str) -> tuple[SecurityGroup, ...]:
        """See ``SecurityGroupClient``."""
        with self._database.read() as c:
            records = db_ports.ports_of_server(c, server_id).values()
            ids = dict.fromkeys(group_id for record in records for group_id in record.port.security_groups)
            known = db.find_groups(c, list(ids))
        return tuple(known[group_id] for group_id in ids if group_id in known)

    def get_group(self, project_id: str, group_id: str) -> SecurityGroup:
        """See ``SecurityGroupClient``."""
        return self._groups.get_group(Viewer(project_id=project_id), group_id)

    def create_group(self, project_id: str, name: str, description: str) -> SecurityGroup:
        """See ``SecurityGroupClient``."""
        new = SecurityGroup(id="", name=name, description=description, project_id=project_id)
        return self._groups.create_groups([new])[0]

    def update_group(self, project_id: str, group_id: str, name: str, description: str) -> SecurityGroup:
        """See ``SecurityGroupClient``."""
        changes = {"name": name, "description": description}
        return self._groups.update_group(Viewer(project_id=project_id), group_id, changes)

    def delete_group(self, project_id: str, group_id: str) -> None:
        """See ``SecurityGroupClient``."""
        self._groups.delete_group(Viewer(project_id=project_id), group_id)

    def create_rule(self, project_id: str, rule: SecurityGroupRule) -> SecurityGroupRule:
        """See ``SecurityGroupClient``."""
        return self._groups.create_rules(Viewer(project_id=project_id), [rule])[0]

    def delete_rule(self, project_id: str, rule_id: str) -> None:
        """See ``SecurityGroupClient``."""
        self._groups.delete_rule(Viewer(project_id=project_id), rule_id)

    def change_server(
        self, project_id: str, server_id: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """See ``SecurityGroupClient``."""
        with _absent():
            more, less = (self._groups.resolve(project_id, names) for names in (add, remove))
        _change_server(self._database, server_id, more, less)
        return tuple(group.name for group in self.list_groups_of_server(server_id))


@contextmanager
def _absent() -> Iterator[None]:
    try:
        yield
    except errors.Invalid as error:
        raise errors.NotFound(error.message) from error


@retried
def _change_server(database: Database, server_id: str, add: Sequence[str], remove: Sequence[str]) -> None:
    with database.write() as c:
        records = [one for one in db_ports.ports_of_server(c, server_id).values() if one.port.port_security_enabled]
        if not records or not any(record.port.fixed_ips for record in records):
            raise errors.Invalid(CANNOT_BE_APPLIED)
        for group_id in remove:
            if not any(group_id in record.port.security_groups for record in records):
                raise errors.NotFound(f"Security group {group_id} not associated with the instance {server_id}")
        for record in records:
            kept = [group_id for group_id in record.port.security_groups if group_id not in remove]
            wanted = list(dict.fromkeys([*kept, *add]))
            same = wanted == list(record.port.security_groups)
            if not same and not db_ports.update_port(c, record, {"security_groups": wanted}):
                raise LostRace("The port is being changed by another request; try again shortly.")
