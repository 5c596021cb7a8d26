"""A real guest on a real node: it boots, gets its address and its metadata, can be reached, and cannot cheat."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cell.compute.actions.guest import perform
from cell.compute.drivers.libvirt.driver import LibvirtDriver
from cellcloud import image_gate
from cellcloud.launcher.guest_image import ensure_guest_image
from cellcloud.model import metadata_signature as signature
from cellcloud.model.guest_commands import Rescue, Snapshot, UploadSnapshot
from cellcloud.model.image import Image
from cellcloud.model.keypair import Keypair
from cellcloud.model.network import Port
from cellcloud.model.observed_guests import GuestState
from cellcloud.model.server import ServerSpec
from cellcloud.server_states import PowerState
from tests.libvirt_metadata import MetadataStandIn, serve_metadata
from tests.libvirt_node import METADATA_PORT, LibvirtNode, make_port, make_spec, wait_until

pytestmark = pytest.mark.timeout(900)

CACHE = Path(__file__).parents[2] / ".cache"
IMAGE = Image(id="22222222-2222-4222-8222-222222222222", name="tiny", disk_format="qcow2")
BOOT_SECONDS = 240.0  # four alone, many times that on a busy machine
USER_DATA = "#!/bin/sh\necho user data ran on $(hostname) >/run/proof\n"


class TinyImage:
    """An image store with the tiny guest."""

    def __init__(self) -> None:
        self.path = ensure_guest_image(CACHE)

    def ensure(self, image: Image) -> Path:
        assert image.id == IMAGE.id
        return self.path

    def is_filled(self, image_id: str) -> bool:
        raise AssertionError("Nothing is made an image of here.")

    def fill(self, image_id: str, size: int, data: Iterable[bytes]) -> None:
        raise AssertionError("Nothing is made an image of here.")


@pytest.fixture(scope="module")
def node() -> Iterator[LibvirtNode]:
    node = LibvirtNode()
    yield node
    node.close()


@pytest.fixture
def service(node: LibvirtNode) -> Iterator[MetadataStandIn]:
    with serve_metadata(node) as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def host(node: LibvirtNode) -> Iterator[LibvirtDriver]:
    """The driver of the whole module."""
    driver = node.make_driver()
    driver.connect()
    yield driver
    remove_guests(driver, driver.list_guests())
    driver.close()


@pytest.fixture
def driver(host: LibvirtDriver) -> Iterator[LibvirtDriver]:
    """The same, and what a test starts is gone after it."""
    before = host.list_guests()
    yield host
    remove_guests(host, [guest for guest in host.list_guests() if guest.server_id not in {b.server_id for b in before}])


@dataclass(frozen=True, slots=True)
class BootedGuest:
    spec: ServerSpec
    port: Port


@pytest.fixture(scope="module")
def booted(node: LibvirtNode, host: LibvirtDriver, key: Path) -> BootedGuest:
    """A guest that has booted from a config drive, for tests that leave it as it is."""
    guest = BootedGuest(make_server(key, config_drive=True), make_port(2))
    host.spawn(guest.spec, 1, [guest.port], TinyImage())
    wait_for_text(host, guest.spec.id, f"{guest.spec.hostname} login:")
    return guest


def remove_guests(driver: LibvirtDriver, guests: list[GuestState]) -> None:
    for guest in guests:
        driver.destroy(guest.server_id, guest.generation + 1000)


def make_server(key: Path, **changes: object) -> ServerSpec:
    keypair = Keypair(name="k", user_id="user", public_key=key.with_suffix(".pub").read_text().strip())
    user_data = base64.b64encode(USER_DATA.encode()).decode()
    return make_spec(str(uuid.uuid4()), IMAGE, keypair=keypair, user_data=user_data, **changes)


def run_in_guest(node: LibvirtNode, key: Path, port: Port, command: str, *, check: bool = True) -> str:
    """Run a command over SSH from the host's side of the guest's network."""
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"]
    argv = ["ssh", "-i", str(key), *(f"-o{option}" for option in (*options, "ConnectTimeout=5"))]
    return node.run_on(port.network_id, *argv, f"root@{address_of(port)}", command, check=check)


def wait_for_text(driver: LibvirtDriver, server_id: str, text: str) -> None:
    wait_until(lambda: text in driver.get_console_output(server_id, -1), timeout=BOOT_SECONDS)


def address_of(port: Port) -> str:
    return port.fixed_ips[0].ip_address


def test_a_guest_boots_with_what_the_metadata_service_says(
    node: LibvirtNode, driver: LibvirtDriver, service: MetadataStandIn, key: Path
) -> None:
    spec, port = make_server(key), make_port(1)
    service.servers[spec.id] = (spec, [port])
    driver.spawn(spec, 1, [port], TinyImage())
    wait_for_text(driver, spec.id, f"{spec.hostname} login:")

    def inside(command: str, *, check: bool = True) -> str:
        return run_in_guest(node, key, port, command, check=check)

    assert inside("hostname").strip() == spec.hostname
    assert inside("cat /run/proof").strip() == f"user data ran on {spec.hostname}"
    assert inside("cat /sys/class/net/eth0/mtu").strip() == str(port.mtu)
    assert "169.254.169.254 via 10.20.0.1" in inside("ip route")
    assert spec.id in inside("cat /sys/class/dmi/id/product_serial")
    assert {entry["server"] for entry in service.seen} == {spec.id}

    # what a guest says of itself counts for nothing
    service.seen.clear()
    lie = " ".join(
        f"--header {shlex.quote(f'{name}: lie')}" for name in (signature.SERVER, signature.HOST, "X-Forwarded-For")
    )
    url = "http://169.254.169.254/openstack/latest/meta_data.json"
    assert json.loads(inside(f"wget -q -O - {lie} {url}"))["uuid"] == spec.id
    assert service.seen[0]["server"] == spec.id
    assert "lie" not in service.seen[0].values()

    # no way to the node, to its cell, or out
    for target, number in ((node.node.ip, 22), (node.node.ip, 5900), (node.config.gateway_ip, METADATA_PORT)):
        assert "open" not in inside(f"timeout 3 nc -w 2 {target} {number} </dev/null && echo open", check=False)
    assert service.refused == []

    # powers off when asked, comes back with its disk
    inside("echo kept >/root/note; sync")
    began = time.monotonic()
    assert driver.stop(spec.id, 2, 60.0).power_state == PowerState.SHUTDOWN
    assert time.monotonic() - began < 30
    driver.start(spec.id, 3)
    reached = [False]

    def reach() -> bool:
        reached[0] = inside("cat /root/note", check=False).strip() == "kept"
        return reached[0]

    wait_until(reach, timeout=BOOT_SECONDS)


def test_a_guest_boots_from_a_config_drive(
    node: LibvirtNode, driver: LibvirtDriver, booted: BootedGuest, key: Path
) -> None:
    assert "metadata from the config drive" in driver.get_console_output(booted.spec.id, -1)
    assert run_in_guest(node, key, booted.port, "hostname").strip() == booted.spec.hostname
    assert run_in_guest(node, key, booted.port, "cat /run/proof").strip().endswith(booted.spec.hostname)


def test_a_guest_cannot_pass_for_another(
    node: LibvirtNode, driver: LibvirtDriver, service: MetadataStandIn, key: Path
) -> None:
    first, second = make_server(key), make_server(key)
    ports = {first.id: make_port(3), second.id: make_port(4)}
    for spec in (first, second):
        service.servers[spec.id] = (spec, [ports[spec.id]])
        driver.spawn(spec, 1, [ports[spec.id]], TinyImage())
    for spec in (first, second):
        wait_for_text(driver, spec.id, f"{spec.hostname} login:")
    mine, other = address_of(ports[first.id]), address_of(ports[second.id])
    service.seen.clear()

    # with its neighbour's address as source it gets no answer at all, and its neighbour stays reachable
    url = "http://169.254.169.254/openstack/latest/meta_data.json"
    script = (
        f"ip addr add {other}/32 dev eth0; ip route replace 169.254.169.254 via 10.20.0.1 dev eth0 src {other};"
        f"timeout 5 wget -q -O - {url} || echo nothing;"
        f"ip route replace 169.254.169.254 via 10.20.0.1 dev eth0 src {mine}; ip addr del {other}/32 dev eth0"
    )
    assert "nothing" in run_in_guest(node, key, ports[first.id], script)
    assert service.seen == []
    assert run_in_guest(node, key, ports[second.id], "hostname").strip() == second.hostname
    answer = run_in_guest(node, key, ports[first.id], f"wget -q -O - {url}")
    assert json.loads(answer)["uuid"] == first.id

    # nor with another MAC address
    script = (
        "sleep 3; "  # until the client that asks for it has gone
        "ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:99; ip link set eth0 up;"
        "ping -c 1 -W 2 10.20.0.1 >/dev/null && echo passed >/dev/ttyS0 || echo dropped >/dev/ttyS0"
    )
    run_in_guest(node, key, ports[first.id], f"setsid sh -c {shlex.quote(script)} >/dev/null 2>&1 </dev/null &")
    wait_for_text(driver, first.id, "dropped")


def test_a_suspended_guest_goes_on_counting_where_it_was(
    node: LibvirtNode, driver: LibvirtDriver, booted: BootedGuest, key: Path
) -> None:
    def inside(command: str) -> str:
        return run_in_guest(node, key, booted.port, command)

    count = "echo $$ >/tmp/pid; n=0; while :; do n=$((n+1)); echo $n >/tmp/n.new; mv /tmp/n.new /tmp/n; sleep 0.1; done"
    same = "cat /proc/sys/kernel/random/boot_id /tmp/pid; kill -0 $(cat /tmp/pid) && echo counts"
    inside(f"setsid sh -c {shlex.quote(count)} >/dev/null 2>&1 </dev/null &")
    wait_until(lambda: int(inside("cat /tmp/n 2>/dev/null || echo 0")) > 20)
    before, counted = inside(same), int(inside("cat /tmp/n"))
    assert before.endswith("counts\n")
    [generation] = [guest.generation for guest in driver.list_guests() if guest.server_id == booted.spec.id]
    assert driver.suspend(booted.spec.id, generation + 1).power_state == PowerState.SUSPENDED
    assert node.find_pids(f"guest={booted.spec.id}") == []
    node.restart_libvirtd()
    assert driver.resume(booted.spec.id, generation + 2).power_state == PowerState.RUNNING
    wait_until(lambda: int(inside("cat /tmp/n")) > counted)
    assert inside(same) == before
    inside("kill $(cat /tmp/pid)")


def test_a_rescued_guest_sees_its_old_disk_and_finds_back_to_it(
    node: LibvirtNode, driver: LibvirtDriver, key: Path
) -> None:
    spec, port, images = make_server(key, config_drive=True), make_port(4), TinyImage()
    login = f"{spec.hostname} login:"

    def inside(command: str) -> str:
        return run_in_guest(node, key, port, command)

    def wait_for_logins(count: int) -> None:
        wait_until(lambda: driver.get_console_output(spec.id, -1).count(login) >= count, timeout=BOOT_SECONDS)

    driver.spawn(spec, 1, [port], images)
    wait_for_logins(1)
    inside("echo old >/root/proof && sync")
    command = Rescue(run_id="r", step="s", server_id=spec.id, generation=2, spec=spec, ports=(port,), image=IMAGE)
    assert perform(driver, images, command, 30.0).power_state == PowerState.RUNNING
    wait_for_logins(2)
    look = (
        "ls /root; mount -t ext4 /dev/vdb2 /mnt && cat /mnt/root/proof && echo mended >/mnt/root/proof && umount /mnt"
    )
    assert inside(look).split() == ["old"]
    assert driver.unrescue(spec.id, 3).power_state == PowerState.RUNNING
    wait_for_logins(3)
    assert inside("cat /root/proof; ls /dev/vdb 2>/dev/null || true").split() == ["mended"]
    assert not list((node.node.directory / "guests" / spec.id).glob("rescue-*"))


def test_an_address_can_be_given_to_another_guest(driver: LibvirtDriver, booted: BootedGuest, key: Path) -> None:
    """``booted`` keeps the network and its DHCP server up meanwhile."""
    address = make_port(3).fixed_ips
    for number in (3, 4):
        spec, port = make_server(key, config_drive=True), replace(make_port(number), fixed_ips=address)
        driver.spawn(spec, 1, [port], TinyImage())
        wait_for_text(driver, spec.id, f"address of eth0: {address[0].ip_address}/")
        driver.destroy(spec.id, 2)


def test_networks_with_the_same_addresses_do_not_meet(
    node: LibvirtNode, driver: LibvirtDriver, service: MetadataStandIn, key: Path
) -> None:
    """Two networks of the same subnet, guests with the same address: each asks for itself and gets its own answer."""
    specs = [make_server(key), make_server(key)]
    for number, spec in enumerate(specs):
        port = make_port(5, network=10 + number)
        service.servers[spec.id] = (spec, [port])
        driver.spawn(spec, 1, [port], TinyImage())
    for spec in specs:
        wait_for_text(driver, spec.id, f"{spec.hostname} login:")
    assert {entry["server"] for entry in service.seen} == {spec.id for spec in specs}


def test_a_network_without_a_gateway_still_has_dhcp_and_metadata(
    node: LibvirtNode, driver: LibvirtDriver, service: MetadataStandIn, key: Path
) -> None:
    spec, port = make_server(key), make_port(6, network=20, cidr="10.30.0.0/24", gateway=None)
    service.servers[spec.id] = (spec, [port])
    driver.spawn(spec, 1, [port], TinyImage())
    wait_for_text(driver, spec.id, f"{spec.hostname} login:")
    assert run_in_guest(node, key, port, "ip route | grep -c default", check=False).strip() == "0"


def test_a_guest_without_dhcp_has_the_address_of_its_config_drive(
    node: LibvirtNode, driver: LibvirtDriver, key: Path
) -> None:
    leased = make_port(7, network=21, cidr="10.31.0.0/20", gateway="10.31.0.1")
    port = replace(leased, fixed_ips=(replace(leased.fixed_ips[0], enable_dhcp=False),))
    spec = make_server(key, config_drive=True)
    driver.spawn(spec, 1, [port], TinyImage())
    wait_for_text(driver, spec.id, f"{spec.hostname} login:")
    shown = run_in_guest(node, key, port, "ip -4 -o addr show eth0; ip route; ls /run")
    assert f"inet {port.fixed_ips[0].ip_address}/20 " in shown
    assert f"default via {port.fixed_ips[0].gateway_ip} " in shown
    assert "udhcpc" not in shown


def test_daemons_beside_the_guests_are_started_again(node: LibvirtNode, booted: BootedGuest) -> None:
    def are_running() -> bool:
        return all(node.find_pids(word) for word in ("dnsmasq", "metadata_proxy"))

    assert are_running()
    node.kill("dnsmasq")
    node.kill("metadata_proxy")
    wait_until(are_running)


def test_consoles_answer_the_cells_gateway_only(node: LibvirtNode, driver: LibvirtDriver, booted: BootedGuest) -> None:
    console = driver.get_console(booted.spec.id, "vnc")
    probe = "import socket,sys; print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 2).recv(4).decode())"
    argv = ["python3", "-c", probe, console.host, str(console.port)]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip() == "RFB"
    link = f"{node.config.prefix}-x"
    subprocess.run(["ip", "netns", "add", link], check=True)
    try:
        peer = ["peer", "name", "eth0", "netns", link]
        subprocess.run(["ip", "link", "add", link, "type", "veth", *peer], check=True)
        subprocess.run(["ip", "link", "set", link, "master", node.config.bridge, "up"], check=True)
        neighbour = f"{node.config.gateway_ip}2/24"
        subprocess.run(["ip", "-n", link, "address", "add", neighbour, "dev", "eth0"], check=True)
        subprocess.run(["ip", "-n", link, "link", "set", "eth0", "up"], check=True)
        refused = subprocess.run(["ip", "netns", "exec", link, *argv], capture_output=True, text=True, check=False)
        assert refused.returncode != 0
        assert "timed out" in refused.stderr
    finally:
        subprocess.run(["ip", "netns", "delete", link], check=True)


def test_a_flood_on_the_serial_console_takes_little_room(
    node: LibvirtNode, driver: LibvirtDriver, booted: BootedGuest, key: Path
) -> None:
    flood = "dd if=/dev/zero bs=64k count=24 2>/dev/null | tr '\\0' x >/dev/ttyS0; echo; echo the end >/dev/ttyS0"
    run_in_guest(node, key, booted.port, flood)
    wait_for_text(driver, booted.spec.id, "the end")
    logs = (node.node.directory / "guests" / booted.spec.id).glob("console.log*")
    assert sum(path.stat().st_size for path in logs) <= 3 * (256 << 10)
    assert driver.get_console_output(booted.spec.id, 8).strip().endswith("end")


class KeptSnapshot:
    """An image store that takes one upload, and gives its bytes as every image."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ensure(self, image: Image) -> Path:
        return self.path

    def is_filled(self, image_id: str) -> bool:
        return self.path.exists()

    def fill(self, image_id: str, size: int, data: Iterable[bytes]) -> None:
        self.path.write_bytes(b"".join(data))
        assert self.path.stat().st_size == size


def test_a_snapshot_of_a_running_guest_boots_with_what_was_on_its_disk(
    node: LibvirtNode, driver: LibvirtDriver, booted: BootedGuest, key: Path, tmp_path: Path
) -> None:
    """Its source runs on: what it writes afterwards is its own."""

    def inside(port: Port, command: str, *, check: bool = True) -> str:
        return run_in_guest(node, key, port, command, check=check)

    image_id, kept = str(uuid.uuid4()), KeptSnapshot(tmp_path / "snapshot.qcow2")
    inside(booted.port, "echo before >/root/proof && sync && touch /run/still-up")
    server_id = booted.spec.id
    [generation] = [guest.generation for guest in driver.list_guests() if guest.server_id == server_id]
    given = {"run_id": "r", "step": "s", "server_id": server_id, "generation": generation, "image_id": image_id}
    assert perform(driver, kept, Snapshot(**given), 0.0).power_state == PowerState.RUNNING
    inside(booted.port, "echo after >/root/proof && sync")
    assert perform(driver, kept, UploadSnapshot(**given), 0.0).power_state == PowerState.RUNNING
    facts = image_gate.inspect(kept.path, "qcow2", 8 << 30)
    assert facts.virtual_size == booted.spec.flavor.root_gb << 30
    spec, port = make_server(key, config_drive=True, hostname="copy"), make_port(3)
    driver.spawn(spec, 1, [port], kept)
    wait_for_text(driver, spec.id, "copy login:")
    assert inside(port, "cat /root/proof").strip() == "before"
    assert inside(booted.port, "cat /root/proof; ls /run/still-up").split() == ["after", "/run/still-up"]
    assert not list((node.node.directory / "guests" / server_id).glob("snapshot-*"))


def test_a_rebuilt_guest_boots_another_disk_with_its_ports_and_addresses(
    node: LibvirtNode, driver: LibvirtDriver, key: Path
) -> None:
    spec, port = make_server(key, config_drive=True, hostname="before"), make_port(4)
    driver.spawn(spec, 1, [port], TinyImage())
    wait_for_text(driver, spec.id, "before login:")
    run_in_guest(node, key, port, "echo old >/root/old && sync")
    wanted = replace(spec, hostname="after", image=replace(IMAGE, name="another"))
    driver.prepare_rebuild(wanted, 2, TinyImage())
    assert run_in_guest(node, key, port, "cat /root/old").strip() == "old"  # it runs on meanwhile
    state = driver.rebuild(wanted, 2, [port], TinyImage(), run=True, keep_ephemeral=False, timeout=0.0)
    assert state.power_state == PowerState.RUNNING
    wait_for_text(driver, spec.id, "after login:")
    assert run_in_guest(node, key, port, "hostname; ls /root/old || true").split() == ["after"]
