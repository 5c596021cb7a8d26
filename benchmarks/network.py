"""How long a host takes to plug a port and to follow a change, with a thousand ports on a network and five hundred
rules in their group, beside a load of the host's whole ruleset.

In a network of its own (``unshare``), on real devices, nftables and a DHCP server; guests themselves are not started.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.figures import Figure, milliseconds, report
from cell.compute.drivers.libvirt.anti_spoofing import TapRule, make_tables
from cell.compute.drivers.libvirt.guest_networks import Wiring
from cell.compute.drivers.libvirt.namespace_exec import Namespace
from cell.compute.drivers.libvirt.network_device_names import tap_name
from cell.compute.drivers.libvirt.options import LibvirtOptions
from cell.compute.drivers.libvirt.records import GuestRecord
from cellcloud.model.flavor import Flavor
from cellcloud.model.image import Image
from cellcloud.model.network import FixedIp, Port
from cellcloud.model.network_plan import (
    GroupPlan,
    GroupRule,
    NetworkPlan,
    NetworkPlans,
    PlanChanges,
    PlannedPort,
    PlannedSubnet,
)
from cellcloud.model.server import ServerSpec

NETWORK, GROUP = "10000000-0000-4000-8000-000000000000", "20000000-0000-4000-8000-000000000000"
HERE, THERE = "here", "there"
ALONE = "--alone"


def make_port(number: int) -> Port:
    fixed = FixedIp(
        ip_address=f"10.20.{number // 250}.{number % 250 + 2}",
        subnet_id="s",
        cidr="10.20.0.0/16",
        gateway_ip="10.20.255.1",
    )
    return Port(
        id=f"{number:08d}-000{number % 10}-4000-8000-000000000000",
        network_id=NETWORK,
        network_name="n",
        mac_address=f"fa:16:3e:00:{number >> 8:02x}:{number & 255:02x}",
        fixed_ips=(fixed,),
    )


def make_rules(count: int) -> tuple[GroupRule, ...]:
    """Return a third each: ports for all, ranges of addresses for one port, and each its own."""
    third = count // 3
    ports = (GroupRule(ingress=True, protocol=6, first=1000 + 2 * n, last=1000 + 2 * n) for n in range(third))
    ranges = (GroupRule(ingress=True, protocol=6, first=22, last=22, remote=f"10.{n}.0.0/24") for n in range(third))
    rest = (
        GroupRule(ingress=True, protocol=17, first=n + 1, last=n + 9, remote=f"10.77.{n % 250}.{n // 250}/32")
        for n in range(count - 2 * third - 1)
    )
    return (*ports, *ranges, *rest, GroupRule(ingress=True, remote_group=GROUP))


class Host:
    """A host's wiring, with what it was told."""

    def __init__(self, place: Path, ports: int, local: int, rules: int) -> None:
        self.ports = [make_port(number) for number in range(ports)]
        self.local = local
        self.version = 0
        self.rules = make_rules(rules)
        self.records: list[GuestRecord] = []
        self.plans = NetworkPlans()
        options = LibvirtOptions(
            host=HERE,
            state_dir=place,
            in_node=False,
            host_ip="10.99.0.1",
            metadata_key=b"k",
            metadata_address="10.99.0.9",
        )
        self.namespace = Namespace(options)
        self.wiring = Wiring(options, self.namespace, lambda: self.records, get_plans=lambda: self.plans)
        self.tell()
        for port in self.ports[:local]:
            self.add(port)
        self.wiring.apply()

    def add(self, port: Port) -> None:
        flavor, image = Flavor(id="1", name="f", vcpus=1, memory_mb=64, root_gb=1), Image(id="i")
        spec = ServerSpec(id=port.id, name="s", hostname="s", project_id="p", user_id="u", flavor=flavor, image=image)
        self.records.append(GuestRecord(server_id=port.id, generation=1, spec=spec, ports=(port,)))

    def tell(self) -> None:
        self.version += 1
        planned = tuple(
            PlannedPort(
                id=port.id,
                mac_address=port.mac_address,
                addresses=(("s", port.fixed_ips[0].ip_address),),
                host=HERE if number <= self.local else THERE,
                groups=(GROUP,),
            )
            for number, port in enumerate(self.ports)
        )
        subnet = PlannedSubnet(id="s", cidr="10.20.0.0/16", gateway_ip="10.20.255.1")
        network = NetworkPlan(
            id=NETWORK,
            version=self.version,
            vni=77,
            subnets=(subnet,),
            ports=planned,
            endpoints={HERE: "10.99.0.1", THERE: "10.99.0.2"},
        )
        members = tuple(port.fixed_ips[0].ip_address for port in self.ports)
        group = GroupPlan(id=GROUP, version=self.version, rules=self.rules, members=members)
        self.plans = self.plans.changed(PlanChanges(networks=(network,), groups=(group,)))

    def plug(self) -> None:
        """Let a guest come to the host, whose port the plans have already."""
        self.add(self.ports[self.local])
        self.wiring.apply(self.records[-1].server_id)

    def unplug(self) -> None:
        self.records.pop()
        self.wiring.apply()

    def change_rule(self) -> None:
        last = self.rules[0]
        self.rules = (replace(last, first=(last.first or 0) ^ 1, last=(last.last or 0) ^ 1), *self.rules[1:])
        self.tell()
        self.wiring.apply()

    def change_members(self) -> None:
        """Let a port of another host come or go."""
        spare = make_port(60000)
        self.ports = self.ports[:-1] if self.ports[-1].id == spare.id else [*self.ports, spare]
        self.tell()
        self.wiring.apply()

    def load_whole(self) -> None:
        """Load all rules anew, as at each change if nothing were known of what is there."""
        taps = [
            TapRule(
                tap=tap_name(port.id),
                number=number + 1,
                mac_address=port.mac_address,
                addresses=[port.fixed_ips[0].ip_address],
                groups=(GROUP,),
            )
            for number, port in enumerate(self.ports[: self.local])
        ]
        text = "".join(table.render() for table in make_tables(taps, self.plans.groups, {"ccb-10000000-00": 5}))
        self.namespace.run(["nft", "-f", "-"], text=text)


def measure(given: argparse.Namespace) -> None:
    for line in ("link set lo up", "link add eth0 type veth peer name eth1", "address add 10.99.0.1/24 dev eth0"):
        subprocess.run(["ip", *line.split()], check=True)
    subprocess.run(["ip", "link", "set", "eth0", "up"], check=True)
    with tempfile.TemporaryDirectory() as place:
        host = Host(Path(place), given.ports, given.local, given.rules)
        ways: dict[str, Callable[[], None]] = {
            "a rule of the group changes": host.change_rule,
            "a port of another host comes or goes": host.change_members,
        }
        found = {name: milliseconds(way, given.rounds) for name, way in ways.items()}
        plugs = []
        for _ in range(given.rounds):
            plugs += milliseconds(host.plug, 1)
            host.unplug()
        found["a port is plugged"] = plugs
        whole = sorted(milliseconds(host.load_whole, given.rounds))[given.rounds // 2]
        host.records.clear()
        host.wiring.apply()
    detail = f"{given.ports} ports, {given.local} of them here, {given.rules} rules"
    figures = [
        Figure(
            name=name,
            unit="ms",
            readings=readings,
            reference="the host's whole ruleset is loaded anew",
            reference_reading=whole,
            detail=detail,
        )
        for name, readings in found.items()
    ]
    report(figures, as_json=given.json)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--ports", type=int, default=1000)
    parser.add_argument("--local", type=int, default=200)
    parser.add_argument("--rules", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(ALONE, action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        measure(given)
        return
    alone = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c"]
    script = 'mount -t tmpfs tmpfs /run; mkdir /run/netns; exec "$@"'
    argv = [sys.executable, "-m", "benchmarks.network", *sys.argv[1:], ALONE]
    sys.exit(subprocess.run([*alone, script, "sh", *argv], check=False).returncode)


if __name__ == "__main__":
    main()
