"""Nodes: they outlive who started them, they leave nothing, and a sick one does not stop its compute service."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cell.compute.drivers.libvirt.driver import LibvirtDriver
from cell.compute.drivers.libvirt.options import LibvirtOptions
from cellcloud import errors
from cellcloud.launcher.libvirt_nodes import NodeConfig, ensure_node, find_node, stop_node
from cellcloud.launcher.node_networks import open_external
from cellcloud.launcher.process_records import wait_gone
from cellcloud.model.image import Image
from cellcloud.model.server import ServerSpec
from tests.libvirt_node import LibvirtNode, make_port, make_spec, wait_until

STARTER = """
import sys
from pathlib import Path
from cellcloud.launcher.libvirt_nodes import NodeConfig, ensure_node
names = ("name", "prefix", "bridge", "ip", "gateway_ip")
print(ensure_node(NodeConfig(state_dir=Path(sys.argv[1]), **dict(zip(names, sys.argv[2:])))).pid)
"""


@pytest.fixture
def node() -> Iterator[LibvirtNode]:
    node = LibvirtNode()
    yield node
    node.close()


def list_outside(config: NodeConfig) -> set[str]:
    """What an installation has in the machine's own network."""
    devices = {path.name for path in Path("/sys/class/net").iterdir()}
    namespaces = {path.name for path in Path("/run/netns").iterdir()}
    return {name for name in devices | namespaces if name.startswith(config.prefix)}


def test_a_living_node_is_adopted(node: LibvirtNode) -> None:
    again = ensure_node(node.config)
    assert again == node.node == find_node(node.config)
    config = node.config
    argv = [str(config.state_dir), config.name, config.prefix, config.bridge, config.ip, config.gateway_ip]
    other = subprocess.run([sys.executable, "-c", STARTER, *argv], capture_output=True, text=True, check=True)
    assert int(other.stdout) == node.node.pid


def test_nodes_of_a_cell_share_the_bridge_and_leave_nothing(node: LibvirtNode) -> None:
    second = replace(node.config, name="node-2", ip=node.config.ip.replace(".11", ".12"))
    other = ensure_node(second)
    assert other.pid != node.node.pid
    assert other.host_uuid != node.node.host_uuid
    assert list_outside(second) == {second.bridge, second.link, node.config.link}
    stop_node(second)
    assert find_node(second) is None
    assert list_outside(second) == {second.bridge, node.config.link}
    stop_node(node.config)
    assert list_outside(node.config) == set()
    stop_node(node.config)
    back = ensure_node(node.config)
    assert back.host_uuid == node.node.host_uuid
    assert back.pid != node.node.pid


def test_nodes_have_networks_in_common_and_a_living_one_gets_what_it_lacks(node: LibvirtNode) -> None:
    """Of guests' networks, where the machine itself is not; and the one where it reaches floating IPs."""
    prefix, away = node.config.prefix, f"10.97.{node.network.rpartition('.')[2]}"
    common = {"tunnel_bridge": f"{prefix}-tunnel", "external_bridge": f"{prefix}-ext"}
    first = replace(node.config, tunnel_address=f"{away}.11/24", **common)
    second = replace(first, name="node-2", ip=node.config.ip.replace(".11", ".12"), tunnel_address=f"{away}.12/24")
    assert ensure_node(first).pid == node.node.pid
    assert f"{away}.11 node-1.tunnel" in node.run("cat", "/etc/hosts")
    other = ensure_node(second)
    open_external(first.external_bridge, f"{away}.129/25")
    rules = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert first.external_bridge in rules
    hear = "import socket; s = socket.socket(type=2); s.bind(('', %d)); print(flush=True); s.recv(9); print('arrived')"
    for port, arrives in ((4789, True), (4790, False)):
        argv = other.wrap([sys.executable, "-c", hear % port])
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as serving:
            assert serving.stdout is not None
            serving.stdout.readline()
            say = f"import socket; socket.socket(type=2).sendto(b'x', ('{away}.12', {port}))"
            node.run(sys.executable, "-c", say)
            try:
                said = serving.communicate(timeout=30.0 if arrives else 1.0)[0]
            except subprocess.TimeoutExpired:
                serving.kill()
                said = ""
        assert ("arrived" in said) == arrives
    shown = subprocess.run(["ip", "address", "show", f"{prefix}-tunnel"], capture_output=True, text=True, check=True)
    assert "inet" not in shown.stdout
    for config in (second, first):
        stop_node(config)
    assert list_outside(first) == set()
    rules = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert first.external_bridge not in rules


def test_a_node_that_cannot_be_wired_leaves_nothing(node: LibvirtNode) -> None:
    before = list_outside(node.config)
    wrong = replace(node.config, name="node-2", ip=f"{node.network}.999")
    with pytest.raises(errors.Misconfigured):
        ensure_node(wrong)
    assert list_outside(node.config) == before
    assert find_node(wrong) is None
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(wrong.directory) not in running


def test_a_network_that_another_device_is_in_is_refused(node: LibvirtNode) -> None:
    before = list_outside(node.config)
    second = replace(node.config, name="node-2", bridge=f"{node.config.prefix}-other")
    for gateway, length in ((node.config.gateway_ip, 24), (f"{node.network}.7", 28), (f"{node.network}.1", 25)):
        with pytest.raises(errors.Misconfigured, match=f"{node.config.bridge} has {node.config.gateway_ip}"):
            ensure_node(replace(second, gateway_ip=gateway, prefix_length=length))
    assert list_outside(node.config) == before


def test_nodes_of_a_killed_run_are_ended_by_the_next() -> None:
    """Else their devices would stay in the networks of later ones."""
    begun = "from tests.libvirt_node import LibvirtNode; n = LibvirtNode(); print(n.node.pid, flush=True); input()"
    argv = [sys.executable, "-c", begun]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        links = f"t{run.pid % 1000000:x}-"
        run.kill()
    assert any(path.name.startswith(links) for path in Path("/sys/class/net").iterdir())
    LibvirtNode().close()
    assert wait_gone(pid, 10.0)
    assert not any(path.name.startswith(links) for path in Path("/sys/class/net").iterdir())


def test_a_node_is_closed_to_others(node: LibvirtNode) -> None:
    directory = node.node.directory
    assert directory.stat().st_mode & 0o077 == 0
    assert node.node.socket.stat().st_mode & 0o077 == 0
    listening = node.run("ss", "--tcp", "--listening", "--no-header")
    assert listening == ""
    assert node.run("cat", "/proc/sys/net/ipv4/ip_forward").strip() == "0"
    assert "default" not in node.run("ip", "route")
    assert node.run("ls", "/dev/kvm", check=False) == ""


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    config = NodeConfig(
        name="n" * 60,
        state_dir=tmp_path / ("d" * 60),
        prefix="tl",
        bridge="tl-br",
        ip="10.98.9.2",
        gateway_ip="10.98.9.1",
    )
    with pytest.raises(errors.Misconfigured, match="too long"):
        ensure_node(config)


def test_a_hung_libvirtd_is_not_waited_for(node: LibvirtNode, tmp_path: Path) -> None:
    options = LibvirtOptions(
        host="node-1",
        state_dir=node.node.directory,
        host_ip=node.node.ip,
        metadata_key=b"key",
        metadata_address=node.node.gateway_ip,
        open_timeout=3.0,
        call_timeout=3.0,
    )
    driver = LibvirtDriver(options)
    driver.connect()
    (pid,) = node.find_pids("libvirtd")
    node.run("kill", "-STOP", str(pid))
    began = time.monotonic()
    with pytest.raises(errors.Unreachable):
        driver.list_guests()
    late = LibvirtDriver(options)
    with pytest.raises(errors.HostRefused):
        late.connect()
    assert time.monotonic() - began < 15
    late.close()
    node.run("kill", "-CONT", str(pid))

    def answers() -> bool:
        try:
            return driver.list_guests() == []
        except errors.Unreachable:
            return False

    wait_until(answers, timeout=20)
    driver.close()


def spawn_blank(node: LibvirtNode, folder: Path) -> tuple[LibvirtDriver, ServerSpec]:
    """A connected driver, and a guest of it with an empty disk."""
    blank = folder / "blank.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(blank), "16M"], check=True)

    class Blank:
        def ensure(self, image: Image) -> Path:
            return blank

    driver = node.make_driver()
    driver.connect()
    spec = make_spec(str(uuid.uuid4()), Image(id="i", disk_format="qcow2"))
    driver.spawn(spec, 1, [make_port(1)], Blank())
    return driver, spec


def test_a_killed_libvirtd_comes_back_with_its_guests(node: LibvirtNode, tmp_path: Path) -> None:
    driver, spec = spawn_blank(node, tmp_path)
    guests = node.find_pids("qemu-system")
    node.restart_libvirtd()
    assert driver.find_guest(spec.id) is not None
    assert node.find_pids("qemu-system") == guests
    driver.close()


def test_guests_do_not_run_as_root(node: LibvirtNode, tmp_path: Path) -> None:
    driver, _ = spawn_blank(node, tmp_path)
    (pid,) = node.find_pids("qemu-system")
    owner = node.run("stat", "--format", "%U", f"/proc/{pid}").strip()
    assert owner == "libvirt-qemu"
    (pid,) = node.find_pids("metadata_proxy")
    command = node.run("cat", f"/proc/{pid}/cmdline")
    secret = (node.node.directory / "run" / "metadata.json").read_text()
    assert (node.node.directory / "run" / "metadata.json").stat().st_mode & 0o077 == 0
    assert '"key"' in secret
    assert "key" not in command
    driver.close()
