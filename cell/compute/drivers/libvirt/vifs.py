"""Guests' networks on a host: a bridge and a DHCP server each, the firewall and the metadata proxy for all.

Everything is worked out from the records of the guests and then made so: a repeated call repairs, and what no guest
needs any more goes.
"""

from __future__ import annotations

import ipaddress
import json
import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cell
from cell.compute.drivers.libvirt.dhcp import DhcpServer, addresses_of
from cell.compute.drivers.libvirt.firewall import TapRule, make_ruleset
from cell.compute.drivers.libvirt.names import BRIDGE_PREFIX, bridge_mac, bridge_name, tap_name
from cell.compute.drivers.libvirt.namespace import Daemon, Namespace
from cell.compute.drivers.libvirt.options import LibvirtOptions
from cell.compute.drivers.libvirt.records import GuestRecord
from cellcloud import errors
from cellcloud.model.metadata import METADATA_ADDRESS
from cellcloud.model.network import Port
from cellcloud.patterns import Pattern

MAC = Pattern(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
PROXY = "cell.compute.metadata_proxy"


class Wiring:
    """Keeps a host's guest networks as its guests' records say. Safe to use from several threads.

    ``knows_all``: whether the records are those of all guests; no network is removed while they are not.
    ``list_records`` is asked under the lock: of two verbs that overlap the one that is applied last has read last.
    """

    def __init__(
        self,
        options: LibvirtOptions,
        namespace: Namespace,
        list_records: Callable[[], Sequence[GuestRecord]],
        knows_all: Callable[[], bool] = lambda: True,
    ) -> None:
        self._options = options
        self._namespace = namespace
        self._list_records = list_records
        self._knows_all = knows_all
        self._lock = threading.Lock()
        self._networks_dir = options.work_dir / "networks"
        self._firewall = ""
        self._served: set[str] = set()

    def apply(self) -> None:
        """Make bridges, DHCP, firewall and metadata fit the records of now. Raises HostRefused."""
        with self._lock:
            records = self._list_records()
            networks: dict[str, list[Port]] = {}
            for record in records:
                for port in record.ports:
                    networks.setdefault(port.network_id, []).append(port)
            self._apply_firewall(records)
            self._apply_bridges(networks)
            for network_id, ports in networks.items():
                self._dhcp(network_id).apply(network_id, ports)
            if self._knows_all():
                self._remove_networks(networks)
            self._apply_metadata(records)
            self._served = set(networks)

    def ensure_daemons(self) -> None:
        """Start again what has died of DHCP servers and metadata proxy."""
        with self._lock:
            for network_id in self._served:
                self._dhcp(network_id).ensure_running()
            if self._served:
                self._proxy.ensure_running()

    def _apply_firewall(self, records: Iterable[GuestRecord]) -> None:
        rules = [
            TapRule(
                tap=tap_name(port.id),
                mac_address=port.mac_address,
                addresses=[fixed.ip_address for fixed in addresses_of(port)],
                mark=record.marks[port.id],
            )
            for record in records
            for port in record.ports
        ]
        ruleset = make_ruleset(rules)
        applied = f"{self._namespace.get_pid()}\n{ruleset}"
        if applied != self._firewall:
            self._namespace.run(["nft", "-f", "-"], text=ruleset)
            self._firewall = applied

    def _apply_bridges(self, networks: dict[str, list[Port]]) -> None:
        present = self._list_bridges()
        batch = []
        for network_id, ports in networks.items():
            bridge = bridge_name(network_id)
            if bridge not in present:
                mac = bridge_mac(network_id)
                batch.append(f"link add {bridge} address {mac} type bridge stp_state 0 mcast_snooping 0")
            wanted = {f"{METADATA_ADDRESS}/32", *_gateways(ports)}
            batch += [f"address add {address} dev {bridge}" for address in wanted - present.get(bridge, set())]
            batch.append(f"link set {bridge} up")
            batch += [f"route replace {cidr} dev {bridge} scope link" for cidr in _bare_subnets(ports)]
        if batch:
            self._namespace.run(["ip", "-batch", "-"], text="\n".join(batch) + "\n")

    def _remove_networks(self, networks: dict[str, list[Port]]) -> None:
        """Remove what belongs to networks without a port."""
        if self._networks_dir.is_dir():
            for directory in self._networks_dir.iterdir():
                if directory.name not in networks:
                    self._dhcp(directory.name).remove()
        idle = self._list_bridges().keys() - {bridge_name(network_id) for network_id in networks}
        if idle:
            self._namespace.run(
                ["ip", "-batch", "-"], text="".join(f"link delete {bridge}\n" for bridge in sorted(idle))
            )

    def _apply_metadata(self, records: Iterable[GuestRecord]) -> None:
        """Tell the proxy who is behind each mark. The file holds the host's key: only root may read it."""
        guests = {
            str(record.marks[port.id]): {
                "server": record.server_id,
                "port": port.id,
                "device": bridge_name(port.network_id),
                "addresses": [fixed.ip_address for fixed in addresses_of(port)],
            }
            for record in records
            for port in record.ports
        }
        settings = {
            "host": self._options.host,
            "key": self._options.metadata_key.hex(),
            "upstream": [self._options.metadata_address, self._options.metadata_port],
            "guests": guests,
        }
        path = self._options.work_dir / "metadata.json"
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(settings, file)
        fresh.replace(path)
        if guests:
            self._proxy.ensure_running()
        else:
            self._proxy.stop()

    @property
    def _proxy(self) -> Daemon:
        """The proxy as a small process in the node; its settings are named by path, its key never on a command line."""
        settings = str(self._namespace.inside(self._options.work_dir / "metadata.json"))
        pid_file = self._options.work_dir / "metadata.pid"
        roots = ":".join(sorted({str(Path(path).resolve().parent) for path in cell.__path__}))
        start = ["setsid", "--fork", "env", "-i", f"PYTHONPATH={roots}", sys.executable, "-S", "-m", PROXY]
        return Daemon(
            namespace=self._namespace,
            argv=(*start, settings, str(self._namespace.inside(pid_file))),
            pid_file=pid_file,
            word=settings,
        )

    def _dhcp(self, network_id: str) -> DhcpServer:
        return DhcpServer(namespace=self._namespace, directory=self._networks_dir / network_id)

    def _list_bridges(self) -> dict[str, set[str]]:
        """Our bridges with their addresses."""
        shown = json.loads(self._namespace.run(["ip", "-json", "address", "show", "type", "bridge"]) or "[]")
        bridges: dict[str, set[str]] = {}
        for link in shown:
            name = str(link.get("ifname", ""))
            if name.startswith(BRIDGE_PREFIX):
                addresses = link.get("addr_info", [])
                bridges[name] = {f"{entry['local']}/{entry['prefixlen']}" for entry in addresses if entry}
        return bridges


def check_port(port: Port) -> None:
    """What goes into rules and settings must be what it says it is. Raises GuestFailed."""
    try:
        uuid.UUID(port.id), uuid.UUID(port.network_id)
        if not MAC.matches(port.mac_address) or not 68 <= port.mtu <= 65535:
            raise ValueError("a MAC address or MTU out of order")
        for fixed in port.fixed_ips:
            network = ipaddress.ip_network(fixed.cidr)
            if ipaddress.ip_address(fixed.ip_address) not in network:
                raise ValueError("an address outside its subnet")
            for address in (*filter(None, [fixed.gateway_ip]), *fixed.dns_nameservers):
                ipaddress.ip_address(address)
    except ValueError as error:
        raise errors.GuestFailed("A port of the server is not in order.", detail=str(error)) from error


def _gateways(ports: Sequence[Port]) -> set[str]:
    """The addresses the host has on a network: its subnets' gateways."""
    return {
        f"{fixed.gateway_ip}/{ipaddress.ip_network(fixed.cidr).prefixlen}"
        for port in ports
        for fixed in addresses_of(port)
        if fixed.gateway_ip
    }


def _bare_subnets(ports: Sequence[Port]) -> set[str]:
    """Subnets without a gateway, to which the host needs a route."""
    return {fixed.cidr for port in ports for fixed in addresses_of(port) if not fixed.gateway_ip}
