"""Guest networks on a real node, with namespaces for guests: whatever a tenant's range is, it takes over nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cell.compute.drivers.libvirt.guest_networks import check_port
from cell.compute.drivers.libvirt.network_device_names import bridge_name, namespace_name, tap_name
from cellcloud import errors
from tests.libvirt_metadata import MetadataStandIn, serve_metadata
from tests.libvirt_node import METADATA_PORT, LibvirtNode, make_port, wait_until
from tests.network_host import Host, guest_of

PRETEND = """
import http.server, socket, struct, sys, threading, time
mac = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("eth0", 0))
class Lie(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b'{"uuid": "a lie"}')
server = http.server.ThreadingHTTPServer.__new__(http.server.ThreadingHTTPServer)
http.server.HTTPServer.server_bind = http.server.socketserver.TCPServer.server_bind
server.__init__(("169.254.169.254", 80), Lie)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("ready", flush=True)
while True:  # claim each address in replies, requests and announcements
    for address in sys.argv[1:]:
        claimed = socket.inet_aton(address)
        for kind, target in ((2, b"\\xff" * 6), (1, b"\\0" * 6)):
            arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, kind, mac, claimed, target, claimed)
            wire.send(b"\\xff" * 6 + mac + b"\\x08\\x06" + arp)
    time.sleep(0.02)
"""


@pytest.fixture(scope="module")
def node() -> Iterator[LibvirtNode]:
    node = LibvirtNode()
    yield node
    node.close()


@pytest.fixture
def host(node: LibvirtNode) -> Iterator[Host]:
    host = Host(node)
    yield host
    host.unplug_all()
    held = node.held()
    assert {what: things for what, things in held.items() if things} == {}


@pytest.fixture
def service(node: LibvirtNode) -> Iterator[MetadataStandIn]:
    with serve_metadata(node) as stand_in:
        yield stand_in


def test_tenants_with_the_same_range_get_each_its_own(host: Host, service: MetadataStandIn) -> None:
    """The same subnet, the same addresses, even the same MAC addresses: each asks for itself."""
    ports = [replace(make_port(1, network=n), mac_address="fa:16:3e:00:00:01") for n in (1, 2)]
    for port in ports:
        server_id = host.plug(port)
        service.servers[server_id] = (host.records[-1].spec, [port])
    wait_until(lambda: all(host.fetch(port) for port in ports))
    assert [host.fetch(port)["uuid"] for port in ports] == [record.server_id for record in host.records]
    assert service.refused == []

    # what stands between them: nothing of one network is in the other's namespace
    for port, other in (ports, reversed(ports)):
        seen = host.node.run_on(port.network_id, "ip", "-json", "neigh")
        assert tap_name(other.id) not in seen
        assert host.node.run_on(port.network_id, "ip", "-br", "link").count("\n") == 2  # lo and guests


@pytest.mark.parametrize(
    ("cidr", "gateway", "address"),
    [
        ("{}.0/24", "{}.1", "{}.11"),  # the gateway is the cell's, the guest's address the node's
        ("{}.0/29", "{}.6", "{}.1"),  # the guest's address is the cell's
        ("0.0.0.0/1", "{}.1", "{}.77"),
        ("0.0.0.0/1", None, "{}.1"),
        ("10.0.0.0/8", "{}.11", "{}.2"),  # the gateway is the node's
    ],
)
def test_no_range_of_a_tenant_leads_to_the_host_or_its_cell(
    host: Host, service: MetadataStandIn, cidr: str, gateway: str | None, address: str
) -> None:
    cell, node = host.node.config.gateway_ip, host.node.node.ip
    cidr, address = cidr.format(host.node.network), address.format(host.node.network)
    gateway = gateway and gateway.format(host.node.network)
    before = [host.way_to(cell), host.node.run("ip", "route"), host.node.run("ip", "-br", "address", "show", "eth0")]
    port = make_port(7, cidr=cidr, gateway=gateway)
    port = replace(port, fixed_ips=(replace(port.fixed_ips[0], ip_address=address),))
    server_id = host.plug(port)
    service.servers[server_id] = (host.records[-1].spec, [port])
    after = [host.way_to(cell), host.node.run("ip", "route"), host.node.run("ip", "-br", "address", "show", "eth0")]
    assert after == before
    bridge = json.loads(host.node.run("ip", "-json", "address", "show", bridge_name(port.network_id)))
    assert [entry for entry in bridge[0]["addr_info"] if entry] == []

    # from the guest, the cell's metadata and broker, the node's consoles and its other ports are not to be had
    mac = bridge[0]["address"]
    targets = sorted({cell, node} - {address})
    places = [f"{target}:{number}" for target in targets for number in (METADATA_PORT, 5672, 5900, 22)]
    assert host.reach(port, *places) == []
    for target in targets:  # not by the bridge's own address either
        host.inside(port, "ip", "neigh", "replace", target, "lladdr", mac, "dev", "eth0")
        host.inside(port, "ip", "route", "replace", target, "dev", "eth0")
    assert host.reach(port, *places) == []
    assert service.seen == service.refused == []


def test_the_bridge_takes_nothing_for_the_node(host: Host) -> None:
    """Even with the node's firewall open a packet to the bridge's own address is no packet to the node."""
    port = make_port(8)
    host.plug(port)
    (mac,) = {link["address"] for link in json.loads(host.node.run("ip", "-json", "link", "show", "type", "bridge"))}
    host.node.run("nft", "insert", "rule", "inet", "node", "input", "udp", "dport", "999", "counter", "accept")
    try:
        host.inside(port, "ip", "neigh", "replace", host.node.node.ip, "lladdr", mac, "dev", "eth0")
        host.inside(port, "ip", "route", "replace", host.node.node.ip, "dev", "eth0")
        send = "import socket,sys; socket.socket(2, 2).sendto(b'x', (sys.argv[1], 999))"
        for _ in range(3):
            host.inside(port, "python3", "-c", send, host.node.node.ip)
        rules = json.loads(host.node.run("nft", "--json", "list", "chain", "inet", "node", "input"))["nftables"]
        counters = [
            part["counter"] for rule in rules for part in rule.get("rule", {}).get("expr", ()) if "counter" in part
        ]
        assert [counter["packets"] for counter in counters] == [0]
    finally:
        rules = json.loads(host.node.run("nft", "--json", "list", "chain", "inet", "node", "input"))["nftables"]
        handle = next(rule["rule"]["handle"] for rule in rules if "rule" in rule and "counter" in str(rule))
        host.node.run("nft", "delete", "rule", "inet", "node", "input", "handle", str(handle))


def test_only_the_cell_answers_for_metadata(host: Host, service: MetadataStandIn) -> None:
    """A neighbour claims the metadata address, the gateway and the guest's own address, and serves lies."""
    ports = [make_port(1), make_port(2)]
    for port in ports:
        server_id = host.plug(port)
        service.servers[server_id] = (host.records[-1].spec, [port])
    victim, liar = ports
    wait_until(lambda: host.fetch(victim) is not None)
    host.inside(liar, "ip", "address", "add", "169.254.169.254/32", "dev", "eth0")
    claims = ["169.254.169.254", "10.20.0.1", victim.fixed_ips[0].ip_address]
    argv = host.node.node.wrap(["ip", "netns", "exec", guest_of(liar), "python3", "-c", PRETEND, *claims])
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as pretender:
        try:
            assert pretender.stdout
            assert pretender.stdout.readline() == "ready\n"
            for _ in range(3):
                host.inside(victim, "ip", "neigh", "flush", "all")
                host.node.run_on(victim.network_id, "ip", "neigh", "flush", "all")
                assert host.fetch(victim)["uuid"] == host.records[0].server_id
            mac = next(iter(json.loads(host.inside(victim, "ip", "-json", "neigh", "show", "10.20.0.1"))))["lladdr"]
            assert mac != liar.mac_address
        finally:
            for pid in host.node.find_pids("claimed = socket.inet_aton"):
                host.node.run("kill", "-KILL", str(pid), check=False)
            pretender.wait(10)

    # nor does anybody ask in its name
    service.seen.clear()
    host.inside(liar, "ip", "address", "delete", "169.254.169.254/32", "dev", "eth0")
    host.inside(liar, "ip", "address", "add", f"{victim.fixed_ips[0].ip_address}/32", "dev", "eth0")
    source = ["route", "replace", "169.254.169.254", "via", "10.20.0.1", "src", victim.fixed_ips[0].ip_address]
    host.inside(liar, "ip", *source)
    assert host.fetch(liar) is None
    assert service.seen == []


def test_the_network_has_nothing_but_dhcp_and_metadata(host: Host, node: LibvirtNode) -> None:
    port = make_port(1)
    host.plug(port)
    listening = node.run_on(port.network_id, "ss", "--no-header", "--listening", "--tcp", "--udp", "--numeric")
    wait_until(lambda: "169.254.169.254:80" in node.run_on(port.network_id, "ss", "-Hltn"))
    sockets = {line.split()[4].rpartition("%")[2] for line in listening.splitlines()}
    assert sockets <= {"guests:67", "169.254.169.254:80"}
    assert node.run_on(port.network_id, "cat", "/proc/sys/net/ipv4/ip_forward").strip() == "0"
    assert "inet6" not in node.run_on(port.network_id, "ip", "address")
    assert "default" not in node.run_on(port.network_id, "ip", "route")


def test_a_service_that_comes_back_leaves_running_guests_their_networks(host: Host, service: MetadataStandIn) -> None:
    port = make_port(1)
    server_id = host.plug(port)
    service.servers[server_id] = (host.records[-1].spec, [port])

    def state() -> tuple[object, ...]:
        inside = host.node.run("stat", "--format", "%i", f"/run/netns/{namespace_name(port.network_id)}")
        return inside, host.node.find_pids("dnsmasq"), host.node.find_pids("metadata_proxy"), host.node.held()

    wait_until(lambda: host.fetch(port) is not None)
    before = state()
    host.wiring = host.connect()
    host.wiring.apply()
    assert state() == before
    assert host.fetch(port)["uuid"] == server_id


def test_what_is_lost_is_made_again(host: Host, service: MetadataStandIn) -> None:
    port = make_port(1)
    server_id = host.plug(port)
    service.servers[server_id] = (host.records[-1].spec, [port])
    wait_until(lambda: host.fetch(port) is not None)
    name = namespace_name(port.network_id)
    for loss in (
        ["ip", "netns", "delete", name],
        ["ip", "link", "delete", f"ccv-{port.network_id[:11]}"],
        ["ip", "link", "delete", bridge_name(port.network_id)],
    ):
        host.node.run(*loss)
        host.wiring.apply(server_id)
        host.node.run("ip", "link", "set", tap_name(port.id), "master", bridge_name(port.network_id))
        wait_until(lambda: host.fetch(port) is not None)
        assert host.node.run_on(port.network_id, "hostname") != ""


def test_one_network_in_disorder_is_the_trouble_of_its_own_guests(host: Host) -> None:
    good, bad = make_port(1), make_port(1, network=9)
    host.plug(good)
    in_the_way = host.options.work_dir / "networks" / bad.network_id
    in_the_way.touch()
    try:
        with pytest.raises(errors.HostRefused):
            host.plug(bad)
        host.plug(make_port(2))
        assert len(host.node.find_pids("dnsmasq")) == 1
    finally:
        in_the_way.unlink()


def test_a_subnet_without_dhcp_has_no_server(host: Host) -> None:
    static, leased = make_port(1), make_port(2, network=2)
    fixed = replace(static.fixed_ips[0], enable_dhcp=False)
    for port in (replace(static, fixed_ips=(fixed,)), leased):
        host.plug(port)
    (pid,) = host.node.find_pids("dnsmasq")
    assert leased.network_id in host.node.run("cat", f"/proc/{pid}/cmdline")
    assert "guests:67" not in host.node.run_on(static.network_id, "ss", "-Hlun")
    other = make_port(3)
    host.plug(other)  # on the same network as the static one, of a subnet that wants DHCP by now
    hosts = (host.options.work_dir / "networks" / static.network_id / "hosts").read_text()
    assert hosts == f"{other.mac_address},{other.fixed_ips[0].ip_address}\n"


@pytest.mark.parametrize(
    "changes",
    [
        {"ip_address": "169.254.169.254", "cidr": "169.0.0.0/8", "gateway_ip": "169.0.0.1"},
        {"ip_address": "169.254.1.1", "cidr": "169.0.0.0/8", "gateway_ip": "169.254.169.254"},
        {"ip_address": "10.20.0.1"},
        {"ip_address": "10.21.0.1"},
    ],
)
def test_addresses_that_the_host_needs_are_no_guests(changes: dict[str, str]) -> None:
    port = make_port(1)
    with pytest.raises(errors.GuestFailed):
        check_port(replace(port, fixed_ips=(replace(port.fixed_ips[0], **changes),)))


PLAIN = """
import subprocess, sys
from pathlib import Path
from cell.compute.drivers.libvirt.namespace_exec import Namespace
from cell.compute.drivers.libvirt.options import LibvirtOptions
from cell.compute.drivers.libvirt.records import GuestRecord
from cell.compute.drivers.libvirt.guest_networks import Wiring
from cellcloud.model.image import Image
from tests.libvirt_node import make_port, make_spec

def ip(*argv):
    return subprocess.run(["ip", *argv], check=True, capture_output=True, text=True).stdout

ip("link", "set", "lo", "up")
ip("link", "add", "eth0", "type", "veth", "peer", "name", "outside")
ip("address", "add", "10.99.0.11/24", "dev", "eth0")
for device in ("outside", "eth0"):
    ip("link", "set", device, "up")
ip("route", "add", "default", "via", "10.99.0.254")
ways = [ip("route", "get", to) for to in ("10.99.0.1", "192.0.2.1")]
records = []
for number, cidr in enumerate(("0.0.0.0/1", "128.0.0.0/1", "10.99.0.0/24")):
    port = make_port(1, network=number, cidr=cidr, gateway={0: "10.99.0.1", 1: "192.0.2.1", 2: "10.99.0.11"}[number])
    records.append(GuestRecord(server_id=str(number), generation=1, spec=make_spec("0", Image(id="i")), ports=(port,)))
state = Path(sys.argv[1])
options = LibvirtOptions(
    host="h", state_dir=state, in_node=False, host_ip="10.99.0.11", metadata_key=b"k", metadata_address="10.99.0.1"
)
wiring = Wiring(options, Namespace(options), lambda: records)
for number in range(3):
    wiring.apply(str(number))
assert [ip("route", "get", to) for to in ("10.99.0.1", "192.0.2.1")] == ways, ip("route")
assert len(list(Path("/run/netns").iterdir())) == 3
records.clear()
wiring.apply()
assert list(Path("/run/netns").iterdir()) == []
links = [line.split()[0] for line in ip("-br", "link").splitlines()]
assert not [name for name in links if name.startswith("cc")], links
print("as it was")
"""


def test_a_plain_machine_keeps_its_routes(tmp_path: Path) -> None:
    """Without nodes guests are wired on the machine itself, here one of its own."""
    alone = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c"]
    script = 'mount -t tmpfs tmpfs /run; mkdir /run/netns; exec "$@"'
    argv = [*alone, script, "sh", sys.executable, "-c", PLAIN, str(tmp_path)]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(argv, capture_output=True, text=True, cwd=root, check=False, timeout=120)
    assert (done.stdout, done.returncode) == ("as it was\n", 0), done.stderr
