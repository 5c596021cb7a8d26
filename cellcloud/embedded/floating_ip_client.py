"""Implements ``FloatingIpClient`` by the embedded network service."""

from __future__ import annotations

from collections.abc import Callable, Collection

from cellcloud.clients.floating_ips import Forwarded
from cellcloud.db.listing import Page
from cellcloud.embedded.floating_ips import EmbeddedFloatingIps
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.network import Network, Port
from cellcloud.model.router import FloatingIp


class EmbeddedFloatingIpClient:
    """See ``FloatingIpClient`` for each. ``networks``: lists those that somebody sees."""

    def __init__(self, floating_ips: EmbeddedFloatingIps, networks: Callable[[Viewer], list[Network]]) -> None:
        self._floating_ips = floating_ips
        self._networks = networks

    def list_networks(self, project_id: str) -> tuple[Network, ...]:
        """See ``FloatingIpClient``."""
        return tuple(self._networks(Viewer(project_id=project_id)))

    def list_floating_ips(self, project_id: str, address: str = "") -> tuple[FloatingIp, ...]:
        """See ``FloatingIpClient``."""
        page = Page.of(floating_ip_address=[address]) if address else Page()
        return tuple(self._floating_ips.list_floating_ips(Viewer(project_id=project_id), page))

    def list_forwarded(self, port_ids: Collection[str], project_id: str | None) -> Forwarded:
        """See ``FloatingIpClient``."""
        return self._floating_ips.list_forwarded(port_ids)

    def get_floating_ip(self, project_id: str, floating_ip_id: str) -> FloatingIp:
        """See ``FloatingIpClient``."""
        return self._floating_ips.get_floating_ip(Viewer(project_id=project_id), floating_ip_id)

    def create_floating_ip(self, project_id: str, network_id: str) -> FloatingIp:
        """See ``FloatingIpClient``."""
        new = FloatingIp(id="", project_id=project_id, floating_network_id=network_id)
        return self._floating_ips.create_floating_ip(Viewer(project_id=project_id), new)

    def forward(self, project_id: str, floating_ip_id: str, port_id: str | None, fixed_ip_address: str | None) -> None:
        """See ``FloatingIpClient``."""
        changes = {"port_id": port_id, "fixed_ip_address": fixed_ip_address}
        self._floating_ips.update_floating_ip(Viewer(project_id=project_id), floating_ip_id, changes)

    def delete_floating_ip(self, project_id: str, floating_ip_id: str) -> None:
        """See ``FloatingIpClient``."""
        self._floating_ips.delete_floating_ip(Viewer(project_id=project_id), floating_ip_id)

    def find_ports(self, port_ids: list[str]) -> dict[str, Port]:
        """See ``FloatingIpClient``."""
        return {port_id: record.port for port_id, record in self._floating_ips.find_ports(port_ids).items()}
