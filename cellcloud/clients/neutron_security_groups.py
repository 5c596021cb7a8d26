"""Implements ``SecurityGroupClient`` by Neutron."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from cellcloud import errors
from cellcloud.clients.network import INDEX_KEY
from cellcloud.clients.security_groups import CANNOT_BE_APPLIED
from cellcloud.clients.session import RestService
from cellcloud.model.security_group import (
    DEFAULT,
    SecurityGroup,
    SecurityGroupRule,
    many_groups,
    unknown_group,
)

_RULE = (
    "direction", "ethertype", "protocol", "port_range_min", "port_range_max", "remote_group_id", "remote_ip_prefix",
)  # fmt: skip


TRIES = 8  # to change ports that others change meanwhile


class NeutronSecurityGroups:
    """See ``SecurityGroupClient`` for each."""

    def __init__(self, service: RestService) -> None:
        self._service = service

    def list_groups(self, project_id: str | None) -> tuple[SecurityGroup, ...]:
        """See ``SecurityGroupClient``."""
        whose = {} if project_id is None else {"project_id": project_id}
        return tuple(map(_group, self._list("security-groups", **whose)))

    def list_names(self, group_ids: Sequence[str]) -> dict[str, str]:
        """See ``SecurityGroupClient``."""
        return {body["id"]: body["name"] for body in self._list("security-groups", id=list(group_ids))}

    def list_groups_of_server(self, server_id: str) -> tuple[SecurityGroup, ...]:
        """See ``SecurityGroupClient``."""
        ids = dict.fromkeys(group_id for port in self._ports(server_id) for group_id in port["security_groups"])
        if not ids:
            return ()
        known = {body["id"]: _group(body) for body in self._list("security-groups", id=list(ids))}
        return tuple(known[group_id] for group_id in ids if group_id in known)

    def get_group(self, project_id: str, group_id: str) -> SecurityGroup:
        """See ``SecurityGroupClient``."""
        body = self._service.get(f"/security-groups/{quote(group_id, safe='')}")["security_group"]
        if body["project_id"] != project_id:
            raise errors.NotFound(f"Security group {group_id[:64]} does not exist")
        return _group(body)

    def create_group(self, project_id: str, name: str, description: str) -> SecurityGroup:
        """See ``SecurityGroupClient``."""
        wanted = {"name": name, "description": description, "project_id": project_id}
        return _group(self._service.post("/security-groups", {"security_group": wanted})["security_group"])

    def update_group(self, project_id: str, group_id: str, name: str, description: str) -> SecurityGroup:
        """See ``SecurityGroupClient``."""
        self.get_group(project_id, group_id)
        wanted = {"security_group": {"name": name, "description": description}}
        return _group(self._service.put(f"/security-groups/{group_id}", wanted)["security_group"])

    def delete_group(self, project_id: str, group_id: str) -> None:
        """See ``SecurityGroupClient``. Neutron lets administrators, as whom this asks, delete the default group too."""
        if self.get_group(project_id, group_id).is_default:
            raise errors.Conflict("Insufficient rights for removing default security group.")
        self._service.delete(f"/security-groups/{group_id}")

    def create_rule(self, project_id: str, rule: SecurityGroupRule) -> SecurityGroupRule:
        """See ``SecurityGroupClient``."""
        self.get_group(project_id, rule.security_group_id)
        if rule.remote_group_id is not None:
            self.get_group(project_id, rule.remote_group_id)
        wanted = {name: getattr(rule, name) for name in (*_RULE, "security_group_id")} | {"project_id": project_id}
        made = self._service.post("/security-group-rules", {"security_group_rule": wanted})
        return _rule(made["security_group_rule"])

    def delete_rule(self, project_id: str, rule_id: str) -> None:
        """See ``SecurityGroupClient``."""
        path = f"/security-group-rules/{quote(rule_id, safe='')}"
        if self._service.get(path)["security_group_rule"]["project_id"] != project_id:
            raise errors.NotFound(f"Security group rule {rule_id[:64]} does not exist")
        self._service.delete(path)

    def change_server(
        self, project_id: str, server_id: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """See ``SecurityGroupClient``."""
        try:
            more, less = (self.resolve(project_id, names) for names in (add, remove))
        except errors.Invalid as error:
            raise errors.NotFound(error.message) from error
        for _ in range(TRIES):
            try:
                self._change_ports(server_id, more, less)
            except errors.Stale:  # others change its ports meanwhile
                continue
            return tuple(group.name for group in self.list_groups_of_server(server_id))
        raise errors.Busy(f"The ports of instance {server_id} are being changed by others; try again shortly.")

    def _change_ports(self, server_id: str, add: Sequence[str], remove: Sequence[str]) -> None:
        ports = [port for port in self._ports(server_id) if port.get("port_security_enabled", True)]
        if not any(port["fixed_ips"] for port in ports):
            raise errors.Invalid(CANNOT_BE_APPLIED)
        for group_id in remove:
            if not any(group_id in port["security_groups"] for port in ports):
                raise errors.NotFound(f"Security group {group_id} not associated with the instance {server_id}")
        for port in ports:
            kept = [group_id for group_id in port["security_groups"] if group_id not in remove]
            wanted = list(dict.fromkeys([*kept, *add]))
            if wanted != port["security_groups"]:
                headers = {"If-Match": f"revision_number={port['revision_number']}"}
                self._service.put(f"/ports/{port['id']}", {"port": {"security_groups": wanted}}, headers)

    def resolve(self, project_id: str, names: Sequence[str]) -> list[str]:
        """Return the ids of groups by name or id, each once, at one question. Raises Invalid for one that there is
        not, Conflict for a name of several."""
        if not names:
            return []
        wanted = sorted(names)
        by_id = {group["id"] for group in self._list("security-groups", project_id=project_id, id=wanted, fields="id")}
        by_name: dict[str, list[str]] = {}
        for group in self._list("security-groups", project_id=project_id, name=wanted):
            by_name.setdefault(group["name"], []).append(group["id"])
        ids: dict[str, None] = {}
        for name in names:
            fitting = [name] if name in by_id else by_name.get(name, [])
            if not fitting:
                raise errors.Invalid(unknown_group(name))
            if len(fitting) > 1:
                raise errors.Conflict(many_groups(name))
            ids[fitting[0]] = None
        return list(ids)

    def _ports(self, server_id: str) -> list[dict[str, Any]]:
        found = self._list("ports", device_id=server_id)
        return [body for body in found if INDEX_KEY in (body.get("binding:profile") or {})]

    def _list(self, collection: str, **filters: str | list[str]) -> list[dict[str, Any]]:
        body: dict[str, Any] = self._service.get(f"/{collection}", params=filters)
        return list(body[collection.replace("-", "_")])


def _group(body: Mapping[str, Any]) -> SecurityGroup:
    return SecurityGroup(
        id=body["id"],
        name=body["name"],
        project_id=body["project_id"],
        description=body.get("description") or "",
        is_default=body["name"] == DEFAULT,
        rules=tuple(map(_rule, body.get("security_group_rules", ()))),
    )


def _rule(body: Mapping[str, Any]) -> SecurityGroupRule:
    rest: dict[str, Any] = {name: body.get(name) for name in _RULE}
    return SecurityGroupRule(
        id=body["id"], security_group_id=body["security_group_id"], project_id=body["project_id"], **rest
    )
