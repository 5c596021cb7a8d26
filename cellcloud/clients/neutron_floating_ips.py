"""Implements ``FloatingIpClient`` by Neutron."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote

from cellcloud import errors
from cellcloud.clients.floating_ips import Forwarded
from cellcloud.clients.session import RestService
from cellcloud.model.network import Network, Port
from cellcloud.model.router import FloatingIp

FEW = 50  # ports that are named in one request


class NeutronFloatingIps:
    """See ``FloatingIpClient`` for each."""

    def __init__(self, service: RestService) -> None:
        self._service = service

    def list_networks(self, project_id: str) -> tuple[Network, ...]:
        """See ``FloatingIpClient``."""
        own = self._list("networks", project_id=project_id)
        others = [*self._list("networks", shared="True"), *self._list("networks", **{"router:external": "True"})]
        return tuple({body["id"]: _network(body) for body in (*own, *others)}.values())

    def list_floating_ips(self, project_id: str, address: str = "") -> tuple[FloatingIp, ...]:
        """See ``FloatingIpClient``."""
        more = {"floating_ip_address": address} if address else {}
        return tuple(map(_floating_ip, self._list("floatingips", project_id=project_id, **more)))

    def list_forwarded(self, port_ids: Collection[str], project_id: str | None) -> Forwarded:
        """See ``FloatingIpClient``. One request: for those ports where they are few, for all of the project's else."""
        few: dict[str, str | list[str]] = {"port_id": sorted(port_ids)} if len(port_ids) <= FEW else {}
        if not few and project_id is not None:
            few = {"project_id": project_id}
        found = self._list("floatingips", **few)
        return {
            (body["port_id"], body["fixed_ip_address"]): body["floating_ip_address"]
            for body in found
            if body["port_id"] in port_ids
        }

    def get_floating_ip(self, project_id: str, floating_ip_id: str) -> FloatingIp:
        """See ``FloatingIpClient``."""
        body = self._service.get(f"/floatingips/{quote(floating_ip_id, safe='')}")["floatingip"]
        if body["project_id"] != project_id:
            raise errors.NotFound(f"Floating IP {floating_ip_id[:64]} could not be found")
        return _floating_ip(body)

    def create_floating_ip(self, project_id: str, network_id: str) -> FloatingIp:
        """See ``FloatingIpClient``."""
        wanted = {"floatingip": {"floating_network_id": network_id, "project_id": project_id}}
        return _floating_ip(self._service.post("/floatingips", wanted)["floatingip"])

    def forward(self, project_id: str, floating_ip_id: str, port_id: str | None, fixed_ip_address: str | None) -> None:
        """See ``FloatingIpClient``."""
        self.get_floating_ip(project_id, floating_ip_id)
        fixed = {"fixed_ip_address": fixed_ip_address} if fixed_ip_address else {}
        self._service.put(f"/floatingips/{floating_ip_id}", {"floatingip": {"port_id": port_id, **fixed}})

    def delete_floating_ip(self, project_id: str, floating_ip_id: str) -> None:
        """See ``FloatingIpClient``."""
        self.get_floating_ip(project_id, floating_ip_id)
        self._service.delete(f"/floatingips/{floating_ip_id}")

    def find_ports(self, port_ids: list[str]) -> dict[str, Port]:
        """See ``FloatingIpClient``."""
        found = self._list("ports", id=port_ids) if port_ids else []
        return {body["id"]: _port(body) for body in found}

    def _list(self, collection: str, **filters: str | list[str]) -> list[dict[str, Any]]:
        body: dict[str, Any] = self._service.get(f"/{collection}", params=filters)
        return list(body[collection])


def _network(body: Mapping[str, Any]) -> Network:
    return Network(
        id=body["id"],
        name=body["name"],
        project_id=body["project_id"],
        shared=body["shared"],
        external=body.get("router:external", False),
        is_default=body.get("is_default", False),
    )


def _floating_ip(body: Mapping[str, Any]) -> FloatingIp:
    return FloatingIp(
        id=body["id"],
        project_id=body["project_id"],
        floating_network_id=body["floating_network_id"],
        floating_ip_address=body["floating_ip_address"],
        port_id=body["port_id"],
        fixed_ip_address=body["fixed_ip_address"],
        router_id=body["router_id"],
    )


def _port(body: Mapping[str, Any]) -> Port:
    return Port(
        id=body["id"],
        network_id=body["network_id"],
        network_name="",
        mac_address=body["mac_address"],
        device_id=body["device_id"],
        project_id=body["project_id"],
    )
