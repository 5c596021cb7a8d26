"""Network: the ports of servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cellcloud.clients.floating_ips import FloatingIpClient
from cellcloud.clients.security_groups import SecurityGroupClient
from cellcloud.model.network import Port, RequestedNetwork

# Keys of a port's ``binding:profile``, which only administrators may write: which of its server's requests the port
# answers, whether it was made for the server, so goes with it, and the number of the server's placement that has it,
# where not 0.
INDEX_KEY = "cellcloud_index"
OWNED_KEY = "cellcloud_owned"
PLACEMENT_KEY = "cellcloud_placement"
MANY_NETWORKS = "Multiple possible networks found, use a Network ID to be more specific."


def placed_anew(server_id: str) -> str:
    """Return what is said to a placement that has the server's ports no more."""
    return f"Instance {server_id} was placed anew: a later placement has its ports."


class NetworkClient(Protocol):
    """Safe to call from several threads."""

    @property
    def security_group_client(self) -> SecurityGroupClient:
        """Security groups of the same service."""
        ...

    @property
    def floating_ip_client(self) -> FloatingIpClient:
        """Floating IPs of the same service."""
        ...

    def check_networks(
        self, project_id: str, requested: Sequence[RequestedNetwork] | None, *, count: int
    ) -> tuple[RequestedNetwork, ...]:
        """Return what will be used for ``requested`` (None: the project's one network). Raises Invalid, Conflict."""
        ...

    def count_free_ports(self, project_id: str) -> int | None:
        """Return how many ports the project may still have; None: no limit is known."""
        ...

    def check_security_groups(self, project_id: str, names: Sequence[str]) -> None:
        """Check that the project has all these, by id or name. Raises Invalid for one that it has not, Conflict for a
        name of several."""
        ...

    def ensure_ports(
        self,
        *,
        server_id: str,
        project_id: str,
        host: str,
        zone: str,
        hostname: str,
        requested: Sequence[RequestedNetwork],
        security_groups: Sequence[str] = ("default",),
        adopt: bool = True,
        anew: bool = True,
        placement: int = 0,
    ) -> tuple[Port, ...]:
        """One port per request, in order, and then those that were added since, bound to the host. A second call
        returns what the first one made. ``anew``
        False: only ports that there are; for what was deleted since none is made.

        ``adopt`` False says that this is surely the first call, which saves looking for earlier ports. ``placement``:
        the number of the server's placement, which takes over what earlier ones have. Raises Stale when a later one
        has the ports: then nothing of them is changed.
        """
        ...

    def delete_ports(self, server_id: str, *, placement: int = 0) -> None:
        """Delete the ports made for the server and release those it was lent, but those that a later placement than
        this one has. Absent is success. Raises FixRequest for one that has another use by now, once the others are
        gone."""
        ...

    def add_port(
        self, server_id: str, project_id: str, wanted: RequestedNetwork, *, zone: str, placement: int = 0
    ) -> Port:
        """Make one port more for a server that exists, in its project's default security group, or lend it one that is
        free: on no host yet, until ``ensure_ports`` binds it. Raises NotFound for a port or a network that the project
        may not use, Invalid for one without an address, Conflict for what is in use and with no address left,
        QuotaExceeded."""
        ...

    def release_port(self, server_id: str, port_id: str, *, placement: int = 0) -> None:
        """Delete one of a server's ports if it was made for the server, or else release it, but one that a later
        placement than this one has. Absent is success. Raises FixRequest for one that has another use by now."""
        ...

    def list_states(self, server_id: str) -> dict[str, str]:
        """Return the states of a server's ports, in Neutron's words, by their ids."""
        ...

    def set_addresses(self, port: Port, wanted: Sequence[tuple[str, str | None]]) -> None:
        """Give a port these (subnet, address) pairs and no others; an address that is None is chosen. Raises NotFound,
        Conflict with no address left, and for one to which a floating IP is forwarded."""
        ...

    def list_ports(self, server_id: str) -> tuple[Port, ...]: ...

    def list_ports_of(self, server_ids: Sequence[str]) -> dict[str, tuple[Port, ...]]:
        """Server -> its ports in the order of its requests, none of some; at one question."""
        ...
