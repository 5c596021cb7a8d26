"""Floating IPs and networks: what the Compute API passes on of them up to 2.43."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from cellcloud.model.network import Network, Port
from cellcloud.model.router import FloatingIp

Forwarded = Mapping[tuple[str, str], str]
"""(port, its fixed address) -> the floating IP that is forwarded to it."""
NO_POOL = "Floating IP pool not found."


class FloatingIpClient(Protocol):
    """Acts for a project: another's things are NotFound. Safe to call from several threads."""

    def list_networks(self, project_id: str) -> tuple[Network, ...]:
        """Return the networks that the project may use or see."""
        ...

    def list_floating_ips(self, project_id: str, address: str = "") -> tuple[FloatingIp, ...]:
        """Return the project's floating IPs; with an address, only that."""
        ...

    def list_forwarded(self, port_ids: Collection[str], project_id: str | None) -> Forwarded:
        """Return the floating IPs that are forwarded to these ports, whoever has them; ``project_id``: of those, None
        where they are of several."""
        ...

    def get_floating_ip(self, project_id: str, floating_ip_id: str) -> FloatingIp: ...

    def create_floating_ip(self, project_id: str, network_id: str) -> FloatingIp:
        """Take an address of an external network. Raises QuotaExceeded, Conflict with none left."""
        ...

    def forward(self, project_id: str, floating_ip_id: str, port_id: str | None, fixed_ip_address: str | None) -> None:
        """Forward it to an address of a port; None: nowhere. Raises NotFound, Invalid, Conflict."""
        ...

    def delete_floating_ip(self, project_id: str, floating_ip_id: str) -> None: ...

    def find_ports(self, port_ids: list[str]) -> dict[str, Port]:
        """Id -> port, of those that there are."""
        ...


def find_pool(networks: tuple[Network, ...], wanted: str | None) -> Network | None:
    """Return the external network of that name or id; None of either: the one that is taken where none is named."""
    outer = [network for network in networks if network.external]
    if wanted:
        return next((one for one in outer if wanted in (one.id, one.name)), None)
    return next((one for one in outer if one.is_default), outer[0] if len(outer) == 1 else None)
