"""A host's guest networks on a real node, with namespaces for guests."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from cell.compute.drivers.libvirt.guest_networks import Wiring, check_port
from cell.compute.drivers.libvirt.namespace_exec import Namespace
from cell.compute.drivers.libvirt.network_device_names import bridge_name, tap_name
from cell.compute.drivers.libvirt.records import GuestRecord
from cellcloud.model.image import Image
from cellcloud.model.network import Port
from cellcloud.model.network_plan import NetworkPlans, PlanChanges
from tests.libvirt_node import LibvirtNode, make_spec

METADATA = "http://169.254.169.254/openstack/latest/meta_data.json"
TRY = """
import select, socket, sys
tries = {}
for place in sys.argv[1:]:
    address, _, port = place.partition(":")
    one = socket.socket()
    one.setblocking(False)
    try:
        one.connect_ex((address, int(port)))
    except OSError:
        continue
    tries[one] = place
answered = select.select([], tries, [], 0.7)[1]
print(*(tries[one] for one in answered if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in (0, 111)))
"""
FETCH = "import sys,urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=4).read().decode())"


@dataclass
class Host:
    """A node's wiring, and guests on it that are namespaces with the host's end of their wire called as a tap is."""

    node: LibvirtNode
    records: list[GuestRecord] = field(default_factory=list)
    plans: NetworkPlans = field(default_factory=NetworkPlans)

    def __post_init__(self) -> None:
        self.options = self.node.make_options()
        self.wiring = self.connect()

    def connect(self) -> Wiring:
        """As a compute service does that has just started."""
        return Wiring(self.options, Namespace(self.options), lambda: list(self.records), get_plans=lambda: self.plans)

    def plan(self, changes: PlanChanges) -> None:
        """Tell the host of changes of the plans."""
        self.plans = self.plans.changed(changes)
        self.wiring.apply()

    def plug(self, port: Port) -> str:
        """Wire a guest with that port; its server's id."""
        check_port(port)
        spec = make_spec(str(uuid.uuid4()), Image(id="i"))
        self.records.append(GuestRecord(server_id=spec.id, generation=1, spec=spec, ports=(port,)))
        self.wiring.apply(spec.id)
        tap, fixed, guest = tap_name(port.id), port.fixed_ips[0], guest_of(port)
        has = [f"{one.ip_address}/{one.cidr.partition('/')[2]}" for one in port.fixed_ips]
        self.node.run("ip", "netns", "add", guest)
        self.node.run("ip", "link", "add", tap, "type", "veth", "peer", "name", "eth0", "netns", guest)
        self.node.run("ip", "link", "set", tap, "master", bridge_name(port.network_id), "up")
        lines = [
            f"link set eth0 address {port.mac_address} mtu {port.mtu} up",
            *(f"address add {address} dev eth0 {'nodad' if ':' in address else ''}" for address in has),
            *(
                f"route replace {to} dev eth0 {f'via {fixed.gateway_ip} onlink' if fixed.gateway_ip else ''}"
                for to in ("169.254.169.254", "default")
            ),
        ]
        self.node.run("ip", "-n", guest, "-batch", "-", text="\n".join(lines) + "\n")
        return spec.id

    def unplug_all(self) -> None:
        for record in self.records:
            for port in record.ports:
                self.node.run("ip", "link", "delete", tap_name(port.id), check=False)
                self.node.run("ip", "netns", "delete", guest_of(port), check=False)
        self.records.clear()
        self.plans = NetworkPlans()
        self.wiring.apply()

    def inside(self, port: Port, *argv: str, check: bool = True) -> str:
        """Run a tool in a guest."""
        return self.node.run("ip", "netns", "exec", guest_of(port), *argv, check=check)

    def reach(self, port: Port, *places: str) -> list[str]:
        """Those of the places (address:port) that answer the guest, be it with a refusal."""
        return self.inside(port, "python3", "-c", TRY, *places).split()

    def fetch(self, port: Port) -> Any:
        """What the guest's metadata says; None where nobody answers."""
        said = self.inside(port, "python3", "-c", FETCH, METADATA, check=False)
        return json.loads(said) if said else None

    def way_to(self, address: str) -> str:
        return self.node.run("ip", "route", "get", address)


def guest_of(port: Port) -> str:
    """What the namespace of a guest is called in its node."""
    return f"guest-{port.id[:8]}"
