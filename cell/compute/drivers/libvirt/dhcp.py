"""The DHCP server of one guest network on one host, which announces IPv6 subnets too: its files are made of the ports
and the plan and nothing else."""

from __future__ import annotations

import ipaddress
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cell.compute.drivers.libvirt.namespace_exec import Daemon, Namespace
from cell.compute.drivers.libvirt.network_device_names import GUEST_SIDE, gateway_mac, link_local
from cellcloud.model.network import FixedIp, Port
from cellcloud.model.network_plan import NetworkPlan, PlannedSubnet
from cellcloud.model.openstack_metadata import METADATA_ADDRESS

LEASE_TIME = "12h"
STATEFUL = "dhcpv6-stateful"
ANNOUNCED = {"slaac": "ra-only", "dhcpv6-stateless": "ra-stateless", STATEFUL: "static"}  # mode -> as dnsmasq has it
RA_SECONDS = 30
SHORTEST = 64  # prefix that can be announced


@dataclass(frozen=True, slots=True, kw_only=True)
class DhcpServer:
    """One network's server, known by its ``directory``, in the host's network namespace ``network``."""

    namespace: Namespace
    network: str
    directory: Path

    def apply(self, ports: Sequence[Port], plan: NetworkPlan | None = None) -> None:
        """Serve exactly these ports, where their subnets want it. Leases of ports that stay are kept. ``plan``: of the
        network, which says what routes there are and who has gateways."""
        if not _subnets(ports) and not list_announced(ports, plan):
            self.remove()
            return
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.directory.chmod(0o755)
        restart = self._write("dnsmasq.conf", self._settings(ports, plan))
        changed = self._write("options", "".join(_options(ports, plan)))
        before = self._known_macs()
        changed |= self._write("hosts", "".join(_hosts(ports, plan)))
        if restart or before - self._known_macs():
            self._daemon.stop()
            self._forget_leases()
        elif changed:
            self._daemon.reload()
        self._daemon.ensure_running()

    def ensure_running(self) -> None:
        """Start the server again if it has died."""
        if self.directory.is_dir():
            self._daemon.ensure_running()

    def is_well(self) -> bool:
        """Return whether the server runs, or nobody needs one."""
        return not self.directory.is_dir() or self._daemon.find_pid() is not None

    def remove(self) -> None:
        """End the server and remove its files."""
        self._daemon.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def _daemon(self) -> Daemon:
        conf = f"--conf-file={self.namespace.inside(self.directory / 'dnsmasq.conf')}"
        return Daemon(
            namespace=self.namespace,
            argv=("dnsmasq", conf),
            pid_file=self.directory / "pid",
            word=conf,
            network=self.network,
        )

    def _settings(self, ports: Sequence[Port], plan: NetworkPlan | None) -> str:
        inside = self.namespace.inside(self.directory)
        lines = [
            f"interface={GUEST_SIDE}",
            *("bind-interfaces", "port=0", "no-ping", "no-resolv", "no-hosts", "quiet-dhcp"),
            *("dhcp-authoritative", "log-facility=/dev/null"),
            f"dhcp-leasefile={inside / 'leases'}",
            f"dhcp-hostsfile={inside / 'hosts'}",
            f"dhcp-optsfile={inside / 'options'}",
            f"pid-file={inside / 'pid'}",
        ]
        for tag, fixed in _subnets(ports):
            network = ipaddress.IPv4Network(fixed.cidr)
            lines.append(f"dhcp-range=set:{tag},{network.network_address},static,{network.netmask},{LEASE_TIME}")
            if not _is_gateway_here(fixed, plan):
                lines.append(f"shared-network={GUEST_SIDE},{network.network_address}")
        announced = list_announced(ports, plan)
        for tag, subnet in announced:
            six, mode = ipaddress.IPv6Network(subnet.cidr), ANNOUNCED[subnet.ipv6_mode]
            lines.append(f"dhcp-range=set:{tag},{six.network_address},{mode},{six.prefixlen},{LEASE_TIME}")
        if announced:  # it is nobody's way out
            lines += ["enable-ra", f"ra-param={GUEST_SIDE},{RA_SECONDS},0"]
        return "\n".join(lines) + "\n"

    def _write(self, name: str, text: str) -> bool:
        """Write a file the server may read after it has given up its rights; whether that changed it."""
        path = self.directory / name
        with suppress(FileNotFoundError):
            if path.read_text() == text:
                return False
        fresh = self.directory / f"{name}.new"
        fresh.write_text(text)
        fresh.chmod(0o644)
        fresh.replace(path)
        return True

    def _known_macs(self) -> set[str]:
        with suppress(FileNotFoundError):
            return {line.split(",")[0] for line in (self.directory / "hosts").read_text().splitlines()}
        return set()

    def _forget_leases(self) -> None:
        """Drop the leases of ports that are gone, so that their addresses can be given to others."""
        known = self._known_macs()
        path = self.directory / "leases"
        with suppress(FileNotFoundError):
            # those of DHCPv6 name no MAC: they are asked for anew; "duid" is the server's own name
            fields = [line.split(" ") for line in path.read_text().splitlines()]
            kept = [" ".join(one) for one in fields if one[0] == "duid" or one[1:2][0] in known]
            path.write_text("".join(f"{line}\n" for line in kept))


def addresses_of(port: Port) -> list[FixedIp]:
    """Return the port's addresses that hosts serve: IPv4."""
    return [fixed for fixed in port.fixed_ips if ipaddress.ip_address(fixed.ip_address).version == 4]


def _leased(port: Port) -> list[FixedIp]:
    return [fixed for fixed in addresses_of(port) if fixed.enable_dhcp]


def _subnets(ports: Iterable[Port]) -> list[tuple[str, FixedIp]]:
    """Return a tag and any address for each subnet with DHCP, in a stable order."""
    found = {fixed.subnet_id: fixed for port in ports for fixed in _leased(port)}
    return [(f"subnet{index}", found[subnet]) for index, subnet in enumerate(sorted(found))]


def list_announced(ports: Sequence[Port], plan: NetworkPlan | None) -> list[tuple[str, PlannedSubnet]]:
    """Return a tag and each IPv6 subnet that guests here learn of from the network itself, in a stable order."""
    if plan is None or not ports:
        return []
    found = [one for one in plan.subnets if one.ipv6_mode in ANNOUNCED and one.enable_dhcp and own_address(one, plan)]
    return [(f"six{index}", one) for index, one in enumerate(sorted(found, key=lambda one: one.id))]


def own_address(subnet: PlannedSubnet, plan: NetworkPlan) -> str:
    """Return the address, with its prefix's length, that the network's namespace has in an IPv6 subnet: the gateway's,
    or one made of its MAC where a router or nobody has that; "" where there is none."""
    network = ipaddress.IPv6Network(subnet.cidr)
    if network.prefixlen < SHORTEST:
        return ""
    if subnet.gateway_ip and subnet.gateway_ip not in plan.routed_gateways:
        return f"{subnet.gateway_ip}/{network.prefixlen}"
    made = int(ipaddress.IPv6Address(link_local(gateway_mac(plan.id)))) & ((1 << 64) - 1)
    address = ipaddress.IPv6Address(int(network.network_address) | made)
    return f"{address}/{network.prefixlen}" if address in network else ""


def _hosts(ports: Iterable[Port], plan: NetworkPlan | None) -> list[str]:
    """Return a line for each port: its MAC, its first IPv4 address, and those of DHCPv6."""
    stateful = {one.id for one in plan.subnets if one.ipv6_mode == STATEFUL} if plan else set()
    lines = []
    for port in ports:
        words = [fixed.ip_address for fixed in _leased(port)[:1]]
        words += [
            f"[{fixed.ip_address}]" for fixed in port.fixed_ips if fixed.subnet_id in stateful and fixed.enable_dhcp
        ]
        if words:
            lines.append(f"{port.mac_address.lower()},{','.join(words)}\n")
    return sorted(lines)


def _is_gateway_here(fixed: FixedIp, plan: NetworkPlan | None) -> bool:
    """Return whether the network's namespace has the subnet's gateway."""
    return fixed.gateway_ip is not None and (plan is None or fixed.gateway_ip not in plan.routed_gateways)


def _options(ports: Sequence[Port], plan: NetworkPlan | None) -> list[str]:
    ways = {subnet.id: subnet.host_routes for subnet in plan.subnets} if plan else {}
    lines = [f"option:mtu,{min(port.mtu for port in ports)}\n"] if ports else []
    for tag, fixed in _subnets(ports):
        on_link = "0.0.0.0"  # noqa: S104 - not an address to listen on
        routes = f"{METADATA_ADDRESS}/32,{fixed.gateway_ip if _is_gateway_here(fixed, plan) else on_link}"
        routes += "".join(f",{destination},{hop}" for destination, hop in ways.get(fixed.subnet_id, ()))
        if fixed.gateway_ip:
            routes += f",0.0.0.0/0,{fixed.gateway_ip}"
        lines.append(f"tag:{tag},option:router{',' + fixed.gateway_ip if fixed.gateway_ip else ''}\n")
        lines.append(f"tag:{tag},option:classless-static-route,{routes}\n")
        resolvers = "".join(f",{address}" for address in fixed.dns_nameservers)
        lines.append(f"tag:{tag},option:dns-server{resolvers}\n")
    for tag, subnet in list_announced(ports, plan):
        six = ",".join(f"[{address}]" for address in subnet.dns_nameservers if ":" in address)
        if six:
            lines.append(f"tag:{tag},option6:dns-server,{six}\n")
    return lines
