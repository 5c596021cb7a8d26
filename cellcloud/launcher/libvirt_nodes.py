"""Nodes: hypervisor hosts on one machine, each a set of namespaces with a libvirtd of its own.

A node has its own network, mounts, host name, IPC and process ids. It is wired to its cell's management bridge by
one veth pair; nothing is routed through it. Nodes outlive whoever started them: starting a living node adopts it,
so restarting the control plane never touches a guest.
"""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import json
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cellcloud import clock, errors
from cellcloud.launcher.node_networks import (
    NODE_FIREWALL,
    VXLAN_PORT,
    Wire,
    ensure_management,
    ensure_wire,
    remove_idle_bridge,
    remove_wire,
    run_tool,
)
from cellcloud.launcher.process_records import boot_id, start_tick, wait_gone

INIT = Path(__file__).with_name("node-init.sh")
START_TIMEOUT = 60.0
NODES_AT_ONCE = 16
LONGEST_SOCKET = 107  # bytes that fit into sockaddr_un
LONGEST_LINK = 15  # letters of a network device's name
CONSOLE_PORTS = "5900-5999"
SERIAL_PORTS = "10000-20000"  # as the option console.serial_ports has it
MIGRATION_PORTS = "49152-49215"  # where hosts fetch the disks of guests that move from each other


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """A node to be. ``state_dir`` holds ``nodes/NAME``; ``prefix`` tells this installation's devices from others'.

    ``bridge`` is the cell's management bridge in the machine's own network; it gets ``gateway_ip``. On
    ``tunnel_bridge`` the node has ``tunnel_address``, with its prefix's length, for guests' networks; without, they
    are carried by the management bridge. ``external_bridge`` leads out to floating IPs, if anything does.
    """

    name: str
    state_dir: Path
    prefix: str
    bridge: str
    ip: str
    gateway_ip: str
    prefix_length: int = 24
    virt_type: str = "qemu"
    tunnel_bridge: str = ""
    tunnel_address: str = ""
    external_bridge: str = ""

    @property
    def directory(self) -> Path:
        return self.state_dir / "nodes" / self.name

    @property
    def hosts(self) -> str:
        """What the node's hosts file says: how it is called, and where packets of guests' networks come."""
        lines = ["127.0.0.1 localhost", f"{self.ip} {self.name}"]
        if self.tunnel_bridge:
            lines.append(f"{self.tunnel_address.partition('/')[0]} {self.name}.tunnel")
        return "".join(f"{line}\n" for line in lines)

    @property
    def wires(self) -> list[Wire]:
        """What connects the node; its way to its cell is the first."""
        found = [
            Wire(link=self.link, bridge=self.bridge, device="eth0", address=f"{self.ip}/{self.prefix_length}"),
            Wire(link=self._name("tunnel"), bridge=self.tunnel_bridge, device="eth1", address=self.tunnel_address),
            Wire(link=self._name("external"), bridge=self.external_bridge, device="eth2"),
        ]
        return [wire for wire in found if wire.bridge]

    @property
    def link(self) -> str:
        """The outer end of the node's veth pair, and the name of its network namespace; with a dot and a network's id,
        of that network's on the node."""
        full = f"{self.prefix}-{self.name}"
        return full if len(full) <= LONGEST_LINK else self._name("")

    def _name(self, what: str) -> str:
        digest = hashlib.sha256(f"{self.prefix}-{self.name}{what and '.'}{what}".encode()).hexdigest()[:8]
        return f"{self.prefix[:6]}-{digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A living node. ``pid`` is its first process, as the machine numbers it."""

    name: str
    pid: int
    directory: Path
    socket: Path
    ip: str
    gateway_ip: str
    host_uuid: str

    @property
    def libvirt_uri(self) -> str:
        return f"qemu+unix:///system?socket={self.socket}"

    def wrap(self, argv: Sequence[str]) -> list[str]:
        """Return the command line that runs ``argv`` inside the node; needs root."""
        return ["nsenter", f"--target={self.pid}", "--all", "--", *argv]


def ensure_node(config: NodeConfig) -> Node:
    """Start the node, or adopt it when it lives. Returns once its libvirtd answers.

    Raises Misconfigured when a path is too long or the node does not come up.
    """
    with _locked(config):
        node = find_node(config)
        if node is None:
            _remove_leftovers(config)
            try:
                node = _start(config)
            except BaseException:
                _abandon(config)
                raise
        else:
            _guard(config, node)
            _connect(config, node)
    _wait_for_libvirtd(node)
    return node


def find_node(config: NodeConfig) -> Node | None:
    """Return the node, if it lives."""
    with suppress(OSError, ValueError):
        record = json.loads((config.directory / "node.json").read_text())
        if record["boot"] == boot_id() and start_tick(record["pid"]) == record["started"]:
            return _describe(config, int(record["pid"]))
    return None


def stop_node(config: NodeConfig, *, grace: float = 10.0) -> None:
    """End the node and all that runs in it; its disks, definitions and identity stay.

    Guests get ``grace`` seconds to power off. Each bridge goes with the last node on it.
    """
    with _locked(config):
        node = find_node(config)
        if node is not None:
            _power_off_guests(node, grace)
            run_tool(["kill", "-KILL", str(node.pid)], check=False)
            wait_gone(node.pid, 10.0)
        _remove_leftovers(config)


def stop_nodes(configs: Sequence[NodeConfig], *, grace: float = 10.0) -> None:
    """End several nodes; all their guests power off side by side."""
    living = [node for config in configs if (node := find_node(config)) is not None]
    with ThreadPoolExecutor(NODES_AT_ONCE, thread_name_prefix="power-off") as pool:
        list(pool.map(lambda node: _power_off_guests(node, grace), living))
    for config in configs:
        stop_node(config, grace=0.0)


@contextmanager
def _locked(config: NodeConfig) -> Iterator[None]:
    """One starter or stopper at a time; the bridge is shared, so the lock is one for all nodes."""
    nodes = config.state_dir / "nodes"
    nodes.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (nodes / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _describe(config: NodeConfig, pid: int) -> Node:
    return Node(
        name=config.name,
        pid=pid,
        directory=config.directory,
        socket=config.directory / "run/libvirt/libvirt-sock",
        ip=config.ip,
        gateway_ip=config.gateway_ip,
        host_uuid=_host_uuid(config.directory),
    )


def _start(config: NodeConfig) -> Node:
    directory = config.directory
    if len(bytes(directory / "run/libvirt/libvirt-sock")) > LONGEST_SOCKET:
        raise errors.Misconfigured(f"The path {directory} is too long for a libvirt socket below it.")
    _write_files(config)
    ensure_management(config.bridge, f"{config.gateway_ip}/{config.prefix_length}")
    devices = ["kvm"] if config.virt_type == "kvm" else []
    with (directory / "log/init.log").open("ab") as log:
        argv = ["setsid", "--fork", "unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork"]
        subprocess.run(
            [*argv, "bash", str(INIT), str(directory), config.name, *devices],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            check=True,
        )
    node = _describe(config, _wait_for_init(directory))
    _wire(config, node)
    record = {"pid": node.pid, "started": start_tick(node.pid), "boot": boot_id(), "namespace": config.link}
    _replace(directory / "node.json", json.dumps(record))
    return node


def _abandon(config: NodeConfig) -> None:
    """Leave nothing of a node that could not be started."""
    with suppress(OSError, ValueError):
        run_tool(["kill", "-KILL", str(int((config.directory / "pid").read_text()))], check=False)
    _remove_leftovers(config)


def _write_files(config: NodeConfig) -> None:
    directory = config.directory
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.rmtree(directory / "run", ignore_errors=True)
    for name, mode in {"etc": 0o700, "lib": 0o755, "cache": 0o755, "log": 0o700, "dev": 0o755}.items():
        (directory / name).mkdir(exist_ok=True)
        (directory / name).chmod(mode)
    for name, mode in {"run": 0o755, "guests": 0o711}.items():
        (directory / name).mkdir(exist_ok=True)
        (directory / name).chmod(mode)
    for name in ("images", "qemu", "boot", "dnsmasq"):
        (directory / "lib" / name).mkdir(exist_ok=True)
        (directory / "lib" / name).chmod(0o755)
    for name, mode in {"libvirt": 0o755, "lock": 0o755, "networks": 0o755, "nbd-tls": 0o711}.items():
        (directory / "run" / name).mkdir()
        (directory / "run" / name).chmod(mode)
    for name in ("pid", "node.json"):
        (directory / name).unlink(missing_ok=True)
    _replace(directory / "hosts", config.hosts, mode=0o644)
    settings: dict[str, dict[str, object]] = {
        "libvirtd.conf": {
            "host_uuid": _host_uuid(directory),
            "auth_unix_rw": "none",
            "auth_unix_ro": "none",
            "unix_sock_rw_perms": "0700",
            "unix_sock_ro_perms": "0700",
            "unix_sock_admin_perms": "0700",
        },
        "qemu.conf": {
            "remember_owner": 0,
            "security_driver": "none",
            "namespaces": [],
            "cgroup_controllers": [],
            "vnc_listen": config.ip,
            "remote_display_port_max": int(CONSOLE_PORTS.partition("-")[2]),
            "migration_host": config.ip,
            "nbd_tls_x509_cert_dir": "/run/nbd-tls",
        },
        "virtlogd.conf": {"max_size": 256 << 10, "max_backups": 1},
    }
    for file, values in settings.items():
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
        _replace(directory / "etc" / file, text)


def _host_uuid(directory: Path) -> str:
    """Return the node's identity towards libvirt, made once and kept."""
    path = directory / "host-uuid"
    if not path.exists():
        _replace(path, f"{uuid.uuid4()}\n")
    return path.read_text().strip()


def _wait_for_init(directory: Path) -> int:
    """Return the pid that the node's first process reports once its mounts are in place."""
    deadline = clock.monotonic() + START_TIMEOUT
    while clock.monotonic() < deadline:
        with suppress(FileNotFoundError):
            return int((directory / "pid").read_text())
        clock.sleep(0.02)
    raise errors.Misconfigured(f"Node {directory.name} did not come up; see {directory}/log/init.log.")


def _wire(config: NodeConfig, node: Node) -> None:
    """Connect the node, under its firewall from the first packet on."""
    _guard(config, node)
    _connect(config, node)
    run_tool(["ip", "netns", "attach", config.link, str(node.pid)])


def _connect(config: NodeConfig, node: Node) -> None:
    """Make the wires that are missing: all of a new node, those of this release of an older one."""
    for wire in config.wires:
        ensure_wire(wire, node.pid)
    hosts = config.directory / "hosts"
    if hosts.read_text() != config.hosts:
        hosts.write_text(config.hosts)  # the same file: it is bound to another path in the node


def _guard(config: NodeConfig, node: Node) -> None:
    """Give the node its firewall, also instead of an older release's."""
    hosts = ipaddress.ip_network(f"{config.gateway_ip}/{config.prefix_length}", strict=False)
    tunnels = ipaddress.ip_interface(config.tunnel_address).network if config.tunnel_bridge else hosts
    rules = NODE_FIREWALL.format(
        gateway=config.gateway_ip,
        ports=f"{CONSOLE_PORTS}, {SERIAL_PORTS}",
        hosts=hosts,
        moves=MIGRATION_PORTS,
        device="eth1" if config.tunnel_bridge else "eth0",
        tunnels=tunnels,
        vxlan=VXLAN_PORT,
    )
    run_tool(node.wrap(["nft", "-f", "-"]), text=rules)


def _remove_leftovers(config: NodeConfig) -> None:
    for wire in config.wires:
        remove_wire(wire)
        remove_idle_bridge(wire.bridge)
    for namespace in (*Path("/run/netns").glob(f"{config.link}.*"), Path("/run/netns", config.link)):
        if namespace.exists():
            run_tool(["ip", "netns", "delete", namespace.name], check=False)
    for name in ("pid", "node.json"):
        (config.directory / name).unlink(missing_ok=True)


def _wait_for_libvirtd(node: Node) -> None:
    deadline = clock.monotonic() + START_TIMEOUT
    while clock.monotonic() < deadline:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(node.socket))
            return
        clock.sleep(0.05)
    raise errors.Misconfigured(f"libvirtd of node {node.name} does not answer; see {node.directory}/log/init.log.")


def count_guests(config: NodeConfig) -> int:
    """Return how many guests run on the node; none when it does not live."""
    node = find_node(config)
    return len(_running_guests(node)) if node else 0


def _running_guests(node: Node, timeout: float = 10.0) -> set[str]:
    return set(run_tool([*_virsh(node, timeout), "list", "--name", "--state-running"], check=False).split())


def _virsh(node: Node, timeout: float) -> list[str]:
    return ["timeout", str(max(timeout, 1.0)), "virsh", "--quiet", "--connect", node.libvirt_uri]


def _power_off_guests(node: Node, grace: float) -> None:
    """Ask every guest to power off and wait for it, no longer than ``grace`` seconds in all."""
    deadline = clock.monotonic() + grace
    asked: set[str] = set()
    while clock.monotonic() < deadline:
        running = _running_guests(node, grace)
        if not running:
            return
        for guest in running - asked:
            run_tool([*_virsh(node, grace), "shutdown", "--mode", "acpi", guest], check=False)
        asked |= running
        clock.sleep(0.3)


def _replace(path: Path, text: str, *, mode: int = 0o600) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=mode)
    fresh.chmod(mode)
    fresh.write_text(text)
    fresh.replace(path)
