"""A real node for tests, under names of its own, with what it takes to look for leftovers on it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import psutil

from cell.compute.drivers.libvirt.driver import LibvirtDriver
from cell.compute.drivers.libvirt.options import LibvirtOptions
from cellcloud.launcher.libvirt_nodes import NodeConfig, ensure_node, stop_node
from cellcloud.launcher.process_records import boot_id, start_tick, wait_gone
from cellcloud.model.flavor import Flavor
from cellcloud.model.image import Image
from cellcloud.model.metadata_signature import node_key
from cellcloud.model.network import FixedIp, Port
from cellcloud.model.server import ServerSpec

ON_DISK = "/tmp"  # a node sees a /dev of its own, and so not what is in the machine's memory
SECRET = b"the secret of a cell under test"
METADATA_PORT = 8775
DEVICES = ("cct-", "ccb-", "ccv-", "ccx-", "ccr-")  # of guests' networks


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Nodes are begun one after the other on a machine, so that no two take the same network."""
    with Path(ON_DISK, "cellcloud-test-nodes.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _free_network() -> str:
    """Return the first three figures of a network that no device of this machine is in."""
    taken = {each.address.rpartition(".")[0] for device in psutil.net_if_addrs().values() for each in device}
    return next(network for number in range(1, 255) if (network := f"10.98.{number}") not in taken)


def _end_abandoned() -> None:
    """End the nodes of test runs that were killed, with their devices and directories."""
    for owned in Path(ON_DISK).glob("cc-*/owner.json"):
        with suppress(OSError, ValueError):
            owner = json.loads(owned.read_text())
            if owner["boot"] != boot_id() or start_tick(owner["pid"]) != owner["started"]:
                stop_node(NodeConfig(**owner["node"] | {"state_dir": owned.parent}), grace=0.0)
                shutil.rmtree(owned.parent)


class LibvirtNode:
    """One node with a bridge and a network of its own. ``beside``: a node to be a second one beside."""

    def __init__(self, *, beside: LibvirtNode | None = None) -> None:
        self._umask = os.umask(0o077)  # as services have it
        self.directory = Path(tempfile.mkdtemp(prefix="cc-", dir=ON_DISK))
        with _one_at_a_time():
            _end_abandoned()
            network = beside.network if beside else _free_network()
            prefix = f"t{os.getpid() % 1000000:x}"
            self.config = NodeConfig(
                name="node-2" if beside else "node-1",
                state_dir=self.directory,
                prefix=prefix,
                bridge=f"{prefix}-{network.rpartition('.')[2]}",
                ip=f"{network}.{12 if beside else 11}",
                gateway_ip=f"{network}.1",
            )
            self._own()
            self.node = ensure_node(self.config)

    @property
    def network(self) -> str:
        """The first three figures of the management addresses."""
        return self.config.gateway_ip.rpartition(".")[0]

    def _own(self) -> None:
        """Write down whose node it is, so that a later run ends it when this one is killed."""
        started = {"boot": boot_id(), "pid": os.getpid(), "started": start_tick(os.getpid())}
        config = {name: value for name, value in asdict(self.config).items() if name != "state_dir"}
        (self.directory / "owner.json").write_text(json.dumps(started | {"node": config}))

    def make_options(self) -> LibvirtOptions:
        """What a compute service on the node would have."""
        return LibvirtOptions(
            host=self.node.name,
            state_dir=self.node.directory,
            host_ip=self.node.ip,
            metadata_key=node_key(SECRET, self.node.name),
            metadata_address=self.node.gateway_ip,
            metadata_port=METADATA_PORT,
            serial_ports=range(10000, 20001),
        )

    def make_driver(self) -> LibvirtDriver:
        """A compute service's driver, not yet connected."""
        return LibvirtDriver(self.make_options())

    def run(self, *argv: str, text: str = "", check: bool = True, timeout: float = 60.0) -> str:
        """Run a tool inside the node."""
        done = subprocess.run(
            self.node.wrap(argv), input=text, capture_output=True, text=True, check=False, cwd="/", timeout=timeout
        )
        assert done.returncode == 0 or not check, f"{argv}: {done.stderr}"
        return done.stdout

    def run_on(self, network_id: str, *argv: str, check: bool = True) -> str:
        """Run a tool of the machine on the host's side of a guest network, as an administrator would."""
        entered = ["ip", "netns", "exec", f"{self.config.link}.{network_id}", *argv]
        done = subprocess.run(entered, capture_output=True, text=True, check=False, cwd="/", timeout=60.0)
        assert done.returncode == 0 or not check, f"{argv}: {done.stderr}"
        return done.stdout

    def find_pids(self, word: str) -> list[int]:
        """Processes of the node with ``word`` in their command line, by the node's numbers."""
        found = []
        for path in Path(f"/proc/{self.node.pid}/root/proc").glob("[0-9]*/cmdline"):
            try:
                command = path.read_bytes().decode(errors="replace")
            except OSError:
                continue
            if word in command and not command.startswith("bash"):
                found.append(int(path.parent.name))
        return found

    def kill(self, word: str) -> None:
        """SIGKILL to every process of the node with ``word`` in its command line."""
        for pid in self.find_pids(word):
            self.run("kill", "-KILL", str(pid), check=False)

    def restart_libvirtd(self) -> None:
        """Kill libvirtd; the node starts it again."""
        before = self.find_pids("libvirtd")
        self.kill("libvirtd")
        wait_until(lambda: bool(self.find_pids("libvirtd")) and self.find_pids("libvirtd") != before)
        ensure_node(self.config)

    def fail(self) -> None:
        """The node loses power and comes back."""
        subprocess.run(["kill", "-KILL", str(self.node.pid)], check=True)
        assert wait_gone(self.node.pid, 10.0)
        self.node = ensure_node(self.config)

    def held(self) -> dict[str, list[str]]:
        """Everything that guests leave on a host while they are there."""
        links = json.loads(self.run("ip", "-json", "link", "show"))
        guests = self.node.directory / "guests"
        networks = self.node.directory / "run" / "networks"
        virsh = ("virsh", "--quiet", "--connect", "qemu:///system", "list", "--all", "--name")
        rules = json.loads(self.run("nft", "--json", "list", "table", "bridge", "cellcloud"))["nftables"]
        sets = [entry.get("set") or entry.get("map") for entry in rules if "set" in entry or "map" in entry]
        return {
            "domains": self.run(*virsh).split(),
            "memories": [path.name for path in (self.node.directory / "lib" / "qemu" / "save").glob("*")],
            "directories": sorted(path.name for path in guests.iterdir() if path.name != ".tombstones"),
            "devices": [
                link["ifname"] for link in links if link["ifname"].startswith(("cct-", "ccb-", "ccv-", "ccx-", "ccr-"))
            ],
            "namespaces": self.run("ls", "/run/netns", check=False).split(),
            "published": [path.name for path in Path("/run/netns").glob(f"{self.config.link}.*")],
            "rules": [str(element) for entry in sets for element in entry.get("elem", [])],
            "networks": sorted(path.name for path in networks.iterdir()) if networks.is_dir() else [],
            "processes": [word for word in ("qemu-system", "dnsmasq", "metadata_proxy") for _ in self.find_pids(word)],
        }

    def close(self) -> None:
        """Stop the node and remove all it kept."""
        stop_node(self.config, grace=0.0)
        shutil.rmtree(self.directory)
        os.umask(self._umask)


def make_spec(server_id: str, image: Image, **changes: object) -> ServerSpec:
    """A small server's spec."""
    values: dict[str, object] = {
        "id": server_id,
        "name": f"server-{server_id[:4]}",
        "hostname": f"host-{server_id[:4]}",
        "project_id": "project",
        "user_id": "user",
        "flavor": Flavor(id="1", name="m1.tiny", vcpus=1, memory_mb=96, root_gb=1),
        "image": image,
        **changes,
    }
    return ServerSpec(**values)  # type: ignore[arg-type]


def make_port(number: int, *, network: int = 1, cidr: str = "10.20.0.0/24", gateway: str | None = "10.20.0.1") -> Port:
    """A port on a network, with an address made of its number."""
    address = f"{cidr.rpartition('.')[0]}.{number + 10}"
    return Port(
        id=f"{network:04d}{number:04d}-0000-4000-8000-000000000000",
        network_id=f"{network:08d}-aaaa-4000-8000-000000000000",
        network_name=f"net{network}",
        mac_address=f"fa:16:3e:00:{network:02x}:{number:02x}",
        fixed_ips=(FixedIp(ip_address=address, subnet_id=f"subnet-{network}", cidr=cidr, gateway_ip=gateway),),
    )


def wait_until(condition: Callable[[], bool], timeout: float = 60.0) -> None:
    """Wait for something to come true; fails when it does not."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)
