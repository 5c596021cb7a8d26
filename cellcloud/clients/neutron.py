"""Networks by Neutron.

Neutron has no word for "the second port of this server", so a port carries it in ``binding:profile``, and a port that
was made for a server says so there: tenants cannot write it. The number of the server's placement that has it is there
too, and a port is changed only at the revision at which that was read: what an earlier placement asks for late changes
nothing.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from keystoneauth1.session import Session

from cellcloud import clock, errors
from cellcloud.batching import Batcher
from cellcloud.clients.network import (
    INDEX_KEY,
    MANY_NETWORKS,
    OWNED_KEY,
    PLACEMENT_KEY,
    placed_anew,
)
from cellcloud.clients.neutron_floating_ips import NeutronFloatingIps
from cellcloud.clients.neutron_security_groups import NeutronSecurityGroups
from cellcloud.clients.session import RestService, make_session
from cellcloud.config import Config
from cellcloud.model.network import FixedIp, Port, RequestedNetwork, Subnet, attached_index
from cellcloud.model.subnet_arithmetic import containing

FACTS_SECONDS = 30.0
TRIES = 8  # to change a port that others change meanwhile; the agent of its host does, a few times
Change = Callable[[dict[str, Any]], Mapping[str, Any] | None]


class NeutronClient:
    """Implements ``NetworkClient``. Facts of networks and subnets are reused for half a minute."""

    def __init__(self, session: Session, *, url: str = "") -> None:
        self._service = RestService(session, "network", url=url, version="/v2.0")
        self.security_group_client = NeutronSecurityGroups(self._service)
        self.floating_ip_client = NeutronFloatingIps(self._service)
        self._post: Batcher[Sequence[dict[str, Any]], list[dict[str, Any]]] = Batcher(
            self._post_ports, name="ports made"
        )
        self._leaving: Batcher[str, list[dict[str, Any]]] = Batcher(self._list_leaving, name="ports listed")
        self._lock = threading.Lock()
        self._facts: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}

    @classmethod
    def from_config(cls, config: Config) -> NeutronClient:
        """With the service account of ``[identity]``; the endpoint comes from its catalog."""
        return cls(make_session(config.identity))

    # ---- what a request may use ------------------------------------------------------------------------------------
    def check_networks(
        self, project_id: str, requested: Sequence[RequestedNetwork] | None, *, count: int
    ) -> tuple[RequestedNetwork, ...]:
        """See ``NetworkClient``."""
        if requested is None:
            own = self._list("networks", project_id=project_id)
            shared = self._list("networks", shared="True")
            usable = {network["id"]: network for network in own + shared if network["subnets"]}
            if len(usable) > 1:
                raise errors.Conflict(MANY_NETWORKS)
            return tuple(RequestedNetwork(network_id=network_id) for network_id in usable)
        for wanted in requested:
            if count > 1 and (wanted.port_id or wanted.fixed_ip):
                raise errors.Invalid("Several servers cannot share one port or address; make one at a time.")
            if wanted.port_id:
                self._check_port(project_id, wanted.port_id)
            else:
                self._check_network(project_id, wanted.network_id or "", wanted.fixed_ip)
        return tuple(requested)

    def count_free_ports(self, project_id: str) -> int | None:
        """See ``NetworkClient``. None where the service does not tell."""
        try:
            found = self._service.get(f"/quotas/{quote(project_id, safe='')}/details.json")["quota"]["port"]
        except (errors.NotFound, errors.Forbidden):
            return None
        limit, used = int(found["limit"]), int(found["used"]) + int(found.get("reserved") or 0)
        return None if limit < 0 else max(0, limit - used)

    def _check_port(self, project_id: str, port_id: str) -> None:
        port = self._find("port", port_id)
        if port is None or port["project_id"] != project_id:
            raise errors.Invalid(f"Port id {port_id} could not be found.")
        if port["device_id"]:
            raise errors.Conflict(f"Port {port_id} is still in use.")
        if not port["fixed_ips"]:
            raise errors.Invalid(f"Port {port_id} requires a FixedIP in order to be used.")
        if port.get("resource_request"):
            raise errors.Invalid(f"Port {port_id} has a resource request: bandwidth is not scheduled here.")

    def _check_network(self, project_id: str, network_id: str, address: str | None) -> None:
        network = self._find("network", network_id)
        if network is None or not (network["shared"] or network["project_id"] == project_id):
            raise errors.Invalid(f"Network {network_id} could not be found.")
        if not network["subnets"]:
            raise errors.Invalid(f"Network {network_id} requires a subnet in order to boot instances on.")
        if not address:
            return
        known = [self._fact("subnet", subnet_id) for subnet_id in network["subnets"]]
        containing([_subnet(body) for body in known if body["ip_version"] == 4], address)
        if self._list("ports", network_id=network_id, fixed_ips=f"ip_address={address}"):
            raise errors.Invalid(f"Fixed IP address {address} is already in use.")

    def check_security_groups(self, project_id: str, names: Sequence[str]) -> None:
        """See ``NetworkClient``."""
        self._group_ids(project_id, names)

    # ---- ports of servers --------------------------------------------------------------------------------------------
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
        """See ``NetworkClient``. One request for all new ports, and one before it to look for old ones."""
        if not requested and anew:
            return ()
        ports = self._of_server(server_id) if adopt else {}
        ports = self._take_over(ports, server_id, host, placement)
        numbered = {PLACEMENT_KEY: placement} if placement else {}
        binding = {
            "device_id": server_id,
            "device_owner": f"compute:{zone or 'nova'}",
            "binding:host_id": host,
        }
        missing: dict[int, dict[str, Any]] = {}
        for index, wanted in enumerate(requested if anew else ()):
            if index in ports:
                continue
            if wanted.port_id:
                ports[index] = self._lend(wanted.port_id, {INDEX_KEY: index, **numbered}, binding)
                continue
            missing[index] = {
                **binding,
                "network_id": wanted.network_id,
                "project_id": project_id,
                "binding:profile": {INDEX_KEY: index, OWNED_KEY: True, **numbered},
            }
            if wanted.fixed_ip:
                missing[index]["fixed_ips"] = [{"ip_address": wanted.fixed_ip}]
        if missing:
            groups = self._group_ids(project_id, security_groups)
            made = self._create(server_id, {index: body | groups for index, body in missing.items()})
            ports |= self._take_over(made, server_id, host, placement)
        tags = {index: wanted.tag for index, wanted in enumerate(requested)}
        return tuple(self._port(ports[index], tags.get(index)) for index in sorted(ports))

    def delete_ports(self, server_id: str, *, placement: int = 0) -> None:
        """See ``NetworkClient``."""

        refusals: list[errors.FixRequest] = []
        for body in self._leaving(server_id):
            try:
                self._release(body, server_id, placement)
            except errors.FixRequest as error:  # one that has become a trunk's, say, keeps no other
                refusals.append(error)
        if refusals:
            raise refusals[0]

    def release_port(self, server_id: str, port_id: str, *, placement: int = 0) -> None:
        """See ``NetworkClient``."""
        body = self._find("port", port_id)
        if body is not None:
            self._release(body, server_id, placement)

    def _release(self, body: dict[str, Any], server_id: str, placement: int) -> None:
        def released(body: dict[str, Any]) -> Mapping[str, Any] | None:
            profile = _profile(body)
            if body["device_id"] != server_id or INDEX_KEY not in profile or _placement(body) > placement:
                return None
            if profile.get(OWNED_KEY):
                return {}
            rest = {name: value for name, value in profile.items() if name not in (INDEX_KEY, PLACEMENT_KEY)}
            return {"device_id": "", "device_owner": "", "binding:host_id": "", "binding:profile": rest}

        with suppress(errors.NotFound):
            self._change(body, released)

    def add_port(
        self, server_id: str, project_id: str, wanted: RequestedNetwork, *, zone: str, placement: int = 0
    ) -> Port:
        """See ``NetworkClient``."""
        binding = {"device_id": server_id, "device_owner": f"compute:{zone or 'nova'}"}
        marks: dict[str, Any] = {INDEX_KEY: attached_index()} | ({PLACEMENT_KEY: placement} if placement else {})
        if wanted.port_id:
            body = self._find("port", wanted.port_id)
            if body is None or body["project_id"] != project_id:
                raise errors.NotFound(f"Port id {wanted.port_id} could not be found.")
            self._check_port(project_id, wanted.port_id)
            return self._port(self._lend(wanted.port_id, marks, binding), wanted.tag)
        network = self._find("network", wanted.network_id or "")
        if network is None or not (network["shared"] or network["project_id"] == project_id):
            raise errors.NotFound(f"Network {wanted.network_id} could not be found.")
        if not network["subnets"]:
            raise errors.Invalid(f"Network {wanted.network_id} requires a subnet in order to boot instances on.")
        asked: dict[str, Any] = {
            **binding,
            "network_id": wanted.network_id,
            "project_id": project_id,
            "binding:profile": {**marks, OWNED_KEY: True},
        }
        if wanted.fixed_ip:
            asked["fixed_ips"] = [{"ip_address": wanted.fixed_ip}]
        try:
            return self._port(self._service.post("/ports", {"port": asked})["port"], wanted.tag)
        except errors.TryLater:
            with suppress(errors.CellcloudError):  # it may be there all the same
                for body in self._list("ports", device_id=server_id):
                    if _profile(body).get(INDEX_KEY) == marks[INDEX_KEY]:
                        self._release(body, server_id, placement)
            raise

    def list_states(self, server_id: str) -> dict[str, str]:
        """See ``NetworkClient``."""
        return {body["id"]: body["status"] for body in self._list("ports", device_id=server_id)}

    def set_addresses(self, port: Port, wanted: Sequence[tuple[str, str | None]]) -> None:
        """See ``NetworkClient``."""
        pairs = [
            {"subnet_id": subnet_id} | ({"ip_address": address} if address else {}) for subnet_id, address in wanted
        ]
        self._update(port.id, {"fixed_ips": pairs})

    def list_ports(self, server_id: str) -> tuple[Port, ...]:
        """See ``NetworkClient``. In the order of the server's requests."""
        return self.list_ports_of([server_id])[server_id]

    def list_ports_of(self, server_ids: Sequence[str]) -> dict[str, tuple[Port, ...]]:
        """See ``NetworkClient``."""
        return {
            server_id: tuple(self._port(body) for body in indexed.values())
            for server_id, indexed in self._of_servers(server_ids).items()
        }

    def _of_server(self, server_id: str) -> dict[int, dict[str, Any]]:
        """Index -> its port; of several, that of the latest placement."""
        return self._of_servers([server_id])[server_id]

    def _of_servers(self, server_ids: Sequence[str]) -> dict[str, dict[int, dict[str, Any]]]:
        found: dict[str, dict[int, dict[str, Any]]] = {server_id: {} for server_id in server_ids}
        for body in self._list("ports", device_id=sorted(found)):
            mine, index = found[body["device_id"]], _profile(body).get(INDEX_KEY)
            if isinstance(index, int) and (index not in mine or _placement(mine[index]) < _placement(body)):
                mine[index] = body
        return {server_id: dict(sorted(indexed.items())) for server_id, indexed in found.items()}

    def _take_over(
        self, ports: Mapping[int, dict[str, Any]], server_id: str, host: str, placement: int
    ) -> dict[int, dict[str, Any]]:
        """Bind the server's ports to the host of that placement. Raises Stale when a later one has any of them."""

        def bound(body: dict[str, Any]) -> Mapping[str, Any] | None:
            if body["device_id"] != server_id:
                raise errors.Busy(f"Port {body['id']} is being released.")
            if _placement(body) > placement:
                raise errors.Stale(placed_anew(server_id))
            changes: dict[str, Any] = {} if body.get("binding:host_id") == host else {"binding:host_id": host}
            if _placement(body) < placement:
                changes["binding:profile"] = {**_profile(body), PLACEMENT_KEY: placement}
            return changes or None

        if any(_placement(body) > placement for body in ports.values()):
            raise errors.Stale(placed_anew(server_id))
        return {index: self._change(body, bound) for index, body in ports.items()}

    def _lend(self, port_id: str, marks: Mapping[str, int], binding: Mapping[str, Any]) -> dict[str, Any]:
        def lent(body: dict[str, Any]) -> Mapping[str, Any]:
            if body["device_id"] not in ("", binding["device_id"]):
                raise errors.Conflict(f"Port {port_id} is still in use.")
            if body["device_id"] and _placement(body) > marks.get(PLACEMENT_KEY, 0):
                raise errors.Stale(placed_anew(binding["device_id"]))
            others = {name: value for name, value in _profile(body).items() if name != PLACEMENT_KEY}
            return {**binding, "binding:profile": {**others, **marks}}

        body = self._find("port", port_id)
        if body is None:
            raise errors.Conflict(f"Port {port_id} is still in use.")
        return self._change(body, lent)

    def _change(self, body: dict[str, Any], wanted: Change) -> dict[str, Any]:
        """Change a port as it is, read again where others changed it meanwhile. ``wanted``: what to set of a port, {}
        to delete it, None to leave it as it is. Raises what that raises, NotFound, Busy."""
        for _ in range(TRIES):
            changes = wanted(body)
            if changes is None:
                return body
            revision = body.get("revision_number")
            headers = None if revision is None else {"If-Match": f"revision_number={revision}"}
            try:
                if changes:
                    return self._update(body["id"], changes, headers)
                self._service.delete(f"/ports/{body['id']}", headers)
            except errors.Stale:
                found = self._find("port", body["id"])
                if found is None:
                    raise errors.NotFound(f"Port {body['id']} could not be found.") from None
                body = found
            else:
                return body
        raise errors.Busy(f"Port {body['id']} is being changed by others; try again shortly.")

    def _create(self, server_id: str, missing: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
        try:
            made = self._post(list(missing.values()))
        except errors.Conflict:
            there = self._of_server(server_id)  # by a first attempt whose answer was lost
            if not set(missing) <= set(there):
                raise
            return {index: there[index] for index in missing}
        return dict(zip(missing, made, strict=True))

    def _post_ports(self, wanted: Sequence[Sequence[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
        """One request for the ports of many servers: Neutron makes all of them or none."""
        bodies = [body for of_server in wanted for body in of_server]
        if len(bodies) == 1:
            return [[self._service.post("/ports", {"port": bodies[0]})["port"]]]
        made = iter(self._service.post("/ports", {"ports": bodies})["ports"])
        return [list(itertools.islice(made, len(of_server))) for of_server in wanted]

    def _update(
        self, port_id: str, changes: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        body: dict[str, Any] = self._service.put(f"/ports/{port_id}", {"port": dict(changes)}, headers)["port"]
        return body

    def _group_ids(self, project_id: str, names: Sequence[str]) -> dict[str, list[str]]:
        """Nothing for the default group, which Neutron gives by itself. Raises Invalid for an unknown name, Conflict
        for one of several groups."""
        if tuple(names) == ("default",) or not names:
            return {}
        return {"security_groups": self.security_group_client.resolve(project_id, names)}

    # ---- facts -------------------------------------------------------------------------------------------------------
    def _list_leaving(self, server_ids: Sequence[str]) -> list[list[dict[str, Any]]]:
        """One request for the ports of many servers."""
        found: dict[str, list[dict[str, Any]]] = {server_id: [] for server_id in server_ids}
        for body in self._list("ports", device_id=sorted(found)):
            found[body["device_id"]].append(body)
        return [found[server_id] for server_id in server_ids]

    def _list(self, collection: str, **filters: str | list[str]) -> list[dict[str, Any]]:
        body: dict[str, Any] = self._service.get(f"/{collection}", params=filters)
        return list(body[collection.replace("-", "_")])

    def _find(self, kind: str, thing_id: str) -> dict[str, Any] | None:
        try:
            body: dict[str, Any] = self._service.get(f"/{kind}s/{quote(thing_id, safe='')}")[kind]
        except errors.NotFound:
            return None
        return body

    def _fact(self, kind: str, thing_id: str) -> dict[str, Any]:
        now = clock.monotonic()
        with self._lock:
            known = self._facts.get((kind, thing_id))
        if known is not None and known[0] > now:
            return known[1]
        body = self._find(kind, thing_id)
        if body is None:
            raise errors.NotFound(f"The {kind} {thing_id} could not be found.")
        with self._lock:
            self._facts = {key: fact for key, fact in self._facts.items() if fact[0] > now}
            self._facts[kind, thing_id] = (now + FACTS_SECONDS, body)
        return body

    def _port(self, body: Mapping[str, Any], tag: str | None = None) -> Port:
        if body.get("binding:vif_type") == "binding_failed":
            raise errors.HostRefused(f"The network service could not bind port {body['id']} to its host.")
        network = self._fact("network", body["network_id"])
        return Port(
            id=body["id"],
            network_id=body["network_id"],
            network_name=network["name"],
            mac_address=body["mac_address"],
            fixed_ips=tuple(self._fixed_ip(ip) for ip in body["fixed_ips"]),
            mtu=network.get("mtu") or 1400,
            owned=bool(_profile(body).get(OWNED_KEY)),
            tag=tag,
            device_id=body["device_id"],
            project_id=body["project_id"],
            host_id=body.get("binding:host_id") or "",
            security_groups=tuple(body.get("security_groups", ())),
            vif_type=body.get("binding:vif_type") or "unbound",
            vif_details={name: str(value) for name, value in (body.get("binding:vif_details") or {}).items()},
        )

    def _fixed_ip(self, ip: Mapping[str, str]) -> FixedIp:
        subnet = self._fact("subnet", ip["subnet_id"])
        return FixedIp(
            ip_address=ip["ip_address"],
            subnet_id=ip["subnet_id"],
            cidr=subnet["cidr"],
            gateway_ip=subnet["gateway_ip"],
            dns_nameservers=tuple(subnet["dns_nameservers"]),
            enable_dhcp=subnet.get("enable_dhcp", True),
        )


def _profile(body: Mapping[str, Any]) -> dict[str, Any]:
    profile: dict[str, Any] = body.get("binding:profile") or {}
    return profile


def _placement(body: Mapping[str, Any]) -> int:
    """Return the number of the placement that has the port."""
    return int(_profile(body).get(PLACEMENT_KEY) or 0)


def _subnet(body: Mapping[str, Any]) -> Subnet:
    return Subnet(id=body["id"], network_id=body["network_id"], cidr=body["cidr"], gateway_ip=body["gateway_ip"])
