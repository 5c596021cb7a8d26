"""Guests' networks on a host: a bridge, a namespace and a DHCP server each, a firewall and a metadata proxy for all.

Everything is worked out from the records of the guests and then made so: a repeated call repairs, and what no guest
needs any more goes.
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import json
import logging
import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cell
from cell.compute import metadata_proxy
from cell.compute.drivers.libvirt.anti_spoofing import TapRule, make_tables
from cell.compute.drivers.libvirt.dhcp import DhcpServer, addresses_of
from cell.compute.drivers.libvirt.namespace_exec import Daemon, Namespace
from cell.compute.drivers.libvirt.network_audit import (
    audit_devices,
    audit_router,
    audit_tables,
    audit_taps,
    audit_tunnel,
)
from cell.compute.drivers.libvirt.network_device_names import (
    ROUTER_NAMESPACE_PREFIX,
    bridge_name,
    namespace_name,
    router_namespace_name,
    tap_name,
    tunnel_name,
)
from cell.compute.drivers.libvirt.network_namespace import Addressing, Present, ensure_network, remove_networks
from cell.compute.drivers.libvirt.network_tunnels import Tunnel, ensure_tunnel, remove_tunnel
from cell.compute.drivers.libvirt.nft_tables import Firewall, Table
from cell.compute.drivers.libvirt.options import LibvirtOptions
from cell.compute.drivers.libvirt.records import GuestRecord
from cell.compute.drivers.libvirt.router_advertisements import RouterAnnouncer
from cell.compute.drivers.libvirt.router_namespaces import Routing, ensure_router, remove_routers
from cellcloud import errors
from cellcloud.model.network import Port
from cellcloud.model.network_plan import NetworkPlan, NetworkPlans, PlannedPort, RouterPlan, as_planned
from cellcloud.model.openstack_metadata import METADATA_ADDRESS
from cellcloud.safe_regex import Pattern

LOG = logging.getLogger(__name__)

MAC = Pattern(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
PROXY = metadata_proxy.__name__
PROXY_VERSION = hashlib.sha256(Path(metadata_proxy.__file__).read_bytes()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What should be. ``networks``: those that guests or routers here need, with the guests' ports."""

    records: Sequence[GuestRecord]
    plans: NetworkPlans
    networks: dict[str, list[Port]]
    routers: Mapping[str, RouterPlan]
    rules: Sequence[TapRule]

    def number_bridges(self, present: Present) -> dict[str, int]:
        return present.number_bridges({bridge_name(network_id) for network_id in self.networks})

    def make_tables(self, present: Present) -> tuple[Table, Table]:
        plans = (self.plans.networks[one] for one in self.networks if one in self.plans.networks)
        routers = {mac for plan in plans for mac in plan.routed_gateways.values()}
        return make_tables(self.rules, self.plans.groups, self.number_bridges(present), routers)


class Wiring:
    """Keeps a host's guest networks as its guests' records and the plans say. Safe to use from several threads.

    ``knows_all``: whether the records are those of all guests; no network is removed while they are not.
    ``list_records`` and ``get_plans`` are asked under the lock: of two verbs that overlap the one that is applied last
    has read last.
    """

    def __init__(
        self,
        options: LibvirtOptions,
        namespace: Namespace,
        list_records: Callable[[], Sequence[GuestRecord]],
        knows_all: Callable[[], bool] = lambda: True,
        get_plans: Callable[[], NetworkPlans] = NetworkPlans,
    ) -> None:
        self._options = options
        self._namespace = namespace
        self._list_records = list_records
        self._knows_all = knows_all
        self._get_plans = get_plans
        self._lock = threading.Lock()
        self._networks_dir = options.work_dir / "networks"
        self._routers_dir = options.work_dir / "routers"
        self._firewall = Firewall(namespace)
        self._numbers: dict[str, int] = {}  # of ports, as packets are marked
        self._tunnels: dict[str, Tunnel] = {}
        self._routers: dict[str, tuple[int, Routing]] = {}
        self._made: dict[str, tuple[int, Addressing]] = {}  # by network: in which node, and as what

    def apply(self, server_id: str = "") -> None:
        """Make networks, DHCP, firewall and metadata fit the records of now.

        Raises HostRefused for what that server needs. What is wrong with a network of others is theirs alone: logged.
        """
        with self._lock:
            wanted = self._work_out()
            networks, present = wanted.networks, Present.on(self._namespace)
            apart = self._apply_firewall(wanted, present)
            failed = self._apply_networks(networks, present, wanted.plans)
            if self._knows_all():
                self._remove_others(networks, present)
            if apart.keys() != {bridge_name(network_id) for network_id in networks}:  # some bridge was made just now
                self._apply_firewall(wanted, Present.on(self._namespace))
            self._apply_routers(wanted.routers, wanted.plans)
            self._apply_metadata(wanted.records)
        for record in wanted.records:
            if record.server_id == server_id:
                for port in record.ports:
                    if port.network_id in failed:
                        raise failed[port.network_id]

    def ensure_daemons(self) -> None:
        """Start again what has died of DHCP servers and metadata proxy, and make rules again that somebody removed.
        Raises HostRefused when one does not start."""
        failed: list[errors.HostRefused] = []
        if self._made and not self._firewall.is_there():
            self._firewall.forget()
            self.apply()
        with self._lock:
            daemons = [self._dhcp(network_id).ensure_running for network_id in self._made]
            daemons += [self._announcer(router_id).ensure_running for router_id in self._routers]
            for ensure in [*daemons, self._proxy.ensure_running] if self._made else []:
                try:
                    ensure()
                except errors.HostRefused as error:
                    failed.append(error)
        if failed:
            raise failed[0]

    def list_faults(self) -> list[str]:
        """Return where the host's networks are not as records and plans say: devices, namespaces, rules, who is behind
        a tunnel, and daemons. Raises HostRefused."""
        with self._lock:
            host, wanted = self._namespace, self._work_out()
            networks, plans, present = wanted.networks, wanted.plans, Present.on(host)
            tunnels = {one: tunnel for one in networks if (tunnel := self._tunnel_of(plans.networks.get(one)))}
            routings = {one: self._routing_of(plan, plans) for one, plan in wanted.routers.items()}
            ports = [port for record in wanted.records for port in record.ports]
            found = [*audit_devices(host, present, networks, tunnels, routings), *audit_taps(host, ports)]
            found += audit_tables(host, wanted.make_tables(present))
            for network_id, tunnel in tunnels.items():
                found += audit_tunnel(host, network_id, tunnel)
            for router_id, routing in routings.items():
                found += audit_router(host, router_id, routing)
            dead = [one for one in networks if not self._dhcp(one).is_well()]
            found += [f"the DHCP server of network {one} does not run" for one in dead]
            mute = [one for one in routings if not self._announcer(one).is_well()]
            found += [f"the router {one} does not announce itself" for one in mute]
            if any(record.ports for record in wanted.records) and self._proxy.find_pid() is None:
                found.append("the metadata proxy does not run")
        return found

    def _work_out(self) -> _Wanted:
        """Return what should be, of the records and plans of now."""
        plans = self._get_plans()
        planned = plans.index_ports()
        records = [_planned(record, plans, planned) for record in self._list_records()]
        networks: dict[str, list[Port]] = {}
        for record in records:
            for port in record.ports:
                networks.setdefault(port.network_id, []).append(port)
        routers = {one.id: one for one in plans.routers.values() if one.host == self._options.host and one.enabled}
        for router in routers.values():
            for leg in router.legs:
                if leg.network_id in plans.networks:
                    networks.setdefault(leg.network_id, [])
        rules = self._make_rules(records, plans, planned)
        return _Wanted(records=records, plans=plans, networks=networks, routers=routers, rules=rules)

    def _apply_firewall(self, wanted: _Wanted, present: Present) -> dict[str, int]:
        """Return the bridges that there are, with what keeps their connections apart."""
        self._firewall.apply(wanted.make_tables(present))
        return wanted.number_bridges(present)

    def _make_rules(
        self, records: Iterable[GuestRecord], plans: NetworkPlans, planned: Mapping[str, PlannedPort]
    ) -> list[TapRule]:
        ports = [port for record in records for port in record.ports]
        self._numbers = _number([port.id for port in ports], self._numbers)
        return [self._make_rule(port, planned.get(port.id), known=plans.known) for port in ports]

    def _make_rule(self, port: Port, planned: PlannedPort | None, *, known: bool) -> TapRule:
        """Return what a port may do: no more than get its address and its metadata while the plans have it not."""
        rule = TapRule(
            tap=tap_name(port.id),
            number=self._numbers[port.id],
            mac_address=port.mac_address.lower(),
            addresses=[fixed.ip_address for fixed in port.fixed_ips],
        )
        if planned is None:
            return replace(rule, groups=() if known or port.is_planned else None)
        rights = replace(rule, pairs=planned.pairs, groups=planned.groups, secure=planned.port_security)
        return replace(rights, up=planned.admin_state_up)

    def _apply_networks(
        self, networks: dict[str, list[Port]], present: Present, plans: NetworkPlans
    ) -> dict[str, errors.HostRefused]:
        """Make each; returns what is wrong with those that cannot be made."""
        failed: dict[str, errors.HostRefused] = {}
        node = self._namespace.get_pid()
        for network_id, ports in networks.items():
            plan = plans.networks.get(network_id)
            wanted = Addressing.of(ports, plan)
            try:
                if self._made.get(network_id) != (node, wanted) or not present.is_whole(network_id):
                    self._made.pop(network_id, None)
                    self._tunnels.pop(network_id, None)
                    ensure_network(self._namespace, network_id, wanted, present)
                    self._made[network_id] = (node, wanted)
                self._apply_tunnel(network_id, self._tunnel_of(plan), present)
                self._dhcp(network_id).apply(ports, plan)
            except (errors.HostRefused, OSError) as error:
                why = error.detail if isinstance(error, errors.HostRefused) else str(error)
                LOG.warning("network not made", extra={"network": network_id, "why": why})
                failed[network_id] = errors.HostRefused("A network cannot be made on the host.", detail=why)
        return failed

    def _apply_routers(self, routers: Mapping[str, RouterPlan], plans: NetworkPlans) -> None:
        """Make each; what is wrong with one is its own, and is tried again next time."""
        there = self._namespace.list_networks(ROUTER_NAMESPACE_PREFIX)
        for router_id, plan in routers.items():
            wanted = self._routing_of(plan, plans)
            is_there = router_namespace_name(router_id) in there
            if is_there and self._routers.get(router_id) == (self._namespace.get_pid(), wanted):
                continue
            self._routers.pop(router_id, None)
            try:
                ensure_router(self._namespace, router_id, wanted)
                self._announcer(router_id).apply(wanted.advertised)
                self._routers[router_id] = self._namespace.get_pid(), wanted
            except errors.HostRefused as error:
                LOG.warning("router not made", extra={"router": router_id, "why": error.detail})
        for router_id in self._routers.keys() - routers.keys():
            del self._routers[router_id]
        if self._routers_dir.is_dir():
            for directory in self._routers_dir.iterdir():
                if directory.name not in routers:
                    self._announcer(directory.name).remove()
        remove_routers(self._namespace, routers.keys())

    def _tunnel_of(self, plan: NetworkPlan | None) -> Tunnel | None:
        return Tunnel.of(plan, self._options.host, self._options.tunnel_address or self._options.host_ip)

    def _routing_of(self, plan: RouterPlan, plans: NetworkPlans) -> Routing:
        return Routing.of(plan, plans.networks, self._options.external_bridge)

    def _apply_tunnel(self, network_id: str, wanted: Tunnel | None, present: Present) -> None:
        is_there = tunnel_name(network_id) in present.devices
        if wanted is None:
            if is_there:
                remove_tunnel(self._namespace, network_id)
            self._tunnels.pop(network_id, None)
        elif not is_there or self._tunnels.get(network_id) != wanted:
            self._tunnels.pop(network_id, None)
            ensure_tunnel(self._namespace, network_id, wanted, is_there=is_there)
            self._tunnels[network_id] = wanted

    def _remove_others(self, networks: dict[str, list[Port]], present: Present) -> None:
        """Remove what belongs to networks without a port."""
        if self._networks_dir.is_dir():
            for directory in self._networks_dir.iterdir():
                if directory.name not in networks:
                    self._dhcp(directory.name).remove()
        for network_id in self._made.keys() - networks.keys():
            del self._made[network_id]
            self._tunnels.pop(network_id, None)
        remove_networks(self._namespace, networks.keys(), present)

    def _apply_metadata(self, records: Sequence[GuestRecord]) -> None:
        """Tell the proxy who has which address of a network. The file holds the host's key: only root may read it."""
        networks: dict[str, dict[str, dict[str, str]]] = {}
        for record in records:
            for port in record.ports:
                guests = networks.setdefault(port.network_id, {})
                for fixed in addresses_of(port):
                    taken = fixed.ip_address in guests  # by two: then nobody can say who asks
                    guests[fixed.ip_address] = {} if taken else {"server": record.server_id, "port": port.id}
        settings = {
            "host": self._options.host,
            "key": self._options.metadata_key.hex(),
            "upstream": [self._options.metadata_address, self._options.metadata_port],
            "networks": {
                network_id: {
                    "namespace": f"/run/netns/{namespace_name(network_id)}",
                    "guests": {address: guest for address, guest in guests.items() if guest},
                }
                for network_id, guests in networks.items()
            },
        }
        self._write_private("metadata.json", json.dumps(settings))
        if networks:
            self._proxy.ensure_running()
        else:
            self._proxy.stop()

    def _write_private(self, name: str, text: str) -> None:
        path = self._options.work_dir / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if path.exists() and path.read_text() == text:
            return
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        fresh.replace(path)

    @property
    def _proxy(self) -> Daemon:
        """The proxy as a small process in the node; its settings are named by path, its key never on a command line."""
        settings = str(self._namespace.inside(self._options.work_dir / "metadata.json"))
        pid_file = self._options.work_dir / "metadata.pid"
        roots = ":".join(sorted({str(Path(path).resolve().parent) for path in cell.__path__}))
        start = ["setsid", "--fork", "env", "-i", f"PYTHONPATH={roots}", sys.executable, "-S", "-m", PROXY]
        return Daemon(
            namespace=self._namespace,
            argv=(*start, settings, str(self._namespace.inside(pid_file)), PROXY_VERSION),
            pid_file=pid_file,
            word=settings,
            version=PROXY_VERSION,
        )

    def _dhcp(self, network_id: str) -> DhcpServer:
        name = namespace_name(network_id)
        return DhcpServer(namespace=self._namespace, network=name, directory=self._networks_dir / network_id)

    def _announcer(self, router_id: str) -> RouterAnnouncer:
        name = router_namespace_name(router_id)
        return RouterAnnouncer(namespace=self._namespace, router=name, directory=self._routers_dir / router_id)


def _planned(record: GuestRecord, plans: NetworkPlans, planned: Mapping[str, PlannedPort]) -> GuestRecord:
    """Return the record with its ports as they are planned by now."""
    found = [
        as_planned(port, plans.networks[port.network_id], planned[port.id])
        if port.id in planned and port.network_id in plans.networks
        else port
        for port in record.ports
    ]
    return replace(record, ports=tuple(found))


def _number(wanted: Sequence[str], known: dict[str, int]) -> dict[str, int]:
    """Give each a number from 1; who has one keeps it."""
    kept = {name: known[name] for name in wanted if name in known}
    taken = frozenset(kept.values())
    free = (number for number in itertools.count(1) if number not in taken)
    return kept | {name: next(free) for name in wanted if name not in kept}


def check_port(port: Port) -> None:
    """Check that what goes into rules and settings is what it says it is. Raises GuestFailed."""
    try:
        uuid.UUID(port.id), uuid.UUID(port.network_id)
        if not MAC.matches(port.mac_address) or not 68 <= port.mtu <= 65535:
            raise ValueError("a MAC address or MTU out of order")
        for fixed in port.fixed_ips:
            network = ipaddress.ip_network(fixed.cidr)
            if ipaddress.ip_address(fixed.ip_address) not in network:
                raise ValueError("an address outside its subnet")
            if fixed.ip_address in (fixed.gateway_ip, METADATA_ADDRESS) or fixed.gateway_ip == METADATA_ADDRESS:
                raise ValueError("an address that its host needs")
            for address in (*filter(None, [fixed.gateway_ip]), *fixed.dns_nameservers):
                ipaddress.ip_address(address)
    except ValueError as error:
        raise errors.GuestFailed("A port of the server is not in order.", detail=str(error)) from error
