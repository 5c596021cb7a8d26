"""A host's guest networks while verbs overlap: what a running guest needs is never taken from it."""

from __future__ import annotations

import json
import random
import re
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import pytest

from cell.compute.drivers.libvirt.connection import LibvirtConnection
from cell.compute.drivers.libvirt.driver import LibvirtDriver
from cell.compute.drivers.libvirt.namespace_exec import Namespace
from cell.compute.drivers.libvirt.network_device_names import bridge_name, link_name, namespace_name, tap_name
from cell.compute.drivers.libvirt.options import LibvirtOptions
from cellcloud.model.image import Image
from cellcloud.model.network import FixedIp, Port
from tests.libvirt_node import make_spec

TOOL_SECONDS = 0.003


class StandInHost(Namespace):
    """Knows what the tools of a host would have made, and whom they took something from."""

    def __init__(self, options: LibvirtOptions) -> None:
        super().__init__(options)
        self.running: dict[str, Port] = {}  # by the id of a port whose guest runs
        self.losses: list[str] = []
        self._devices: set[str] = set()
        self._namespaces: set[str] = set()
        self._daemons: dict[int, Sequence[str]] = {}
        self._may: set[str] = set()  # what taps may use, as elements of sets

    def enter(self, network: str) -> Namespace:
        return self

    def list_networks(self, prefix: str) -> set[str]:
        return {name for name in self._namespaces if name.startswith(prefix)}

    def publish(self, network: str, suffix: str) -> None:
        """There is nobody to show it to."""

    def conceal(self, suffix: str) -> None:
        """Nor to hide it from."""

    def get_pid(self) -> int:
        return 1

    def inside(self, path: Path) -> Path:
        return path

    def find_command(self, pid: int) -> list[str]:
        return list(self._daemons.get(pid, ()))

    def launch(self, argv: Sequence[str], log: Path) -> None:
        pid = len(self._daemons) + 2
        self._daemons[pid] = argv
        log.with_suffix("" if log.stem == "pid" else ".pid").write_text(str(pid))

    def run(self, argv: Sequence[str], *, text: str = "", check: bool = True) -> str:
        time.sleep(TOOL_SECONDS)
        if argv[0] == "kill":
            self._daemons[int(argv[2])] = ()
            self._lose(argv[1] != "-HUP", "DHCP server", lambda port: not self._is_served(port))
        if argv[0] == "nft":
            self._load(text)
            self._lose(True, "rules", lambda port: not self._may_send(port))
        if argv[0] == "sh" and "netns add" in argv[2]:
            self._namespaces.add(argv[3])
        if "-json" in argv:
            return json.dumps([{"ifname": name} for name in sorted(self._devices)])
        for line in text.splitlines() if argv[0] == "ip" else ():
            match line.split():
                case ["link", "add", device, *_]:
                    self._devices.add(device)
                case ["link", "delete", device]:
                    self._devices.discard(device)
                case ["netns", "delete", name]:
                    self._namespaces.discard(name)
        self._lose("-batch" in argv, "network", lambda port: not self._is_joined(port))
        return ""

    def _load(self, commands: str) -> None:
        for line in commands.splitlines():
            elements = {found.strip() for found in re.findall(r'"cct-[^"]+" \.[^,}]+', line)}
            if line.startswith("delete table bridge"):
                self._may.clear()
            elif line.startswith("delete element"):
                self._may -= elements
            else:
                self._may |= elements

    def _may_send(self, port: Port) -> bool:
        return f'"{tap_name(port.id)}" . {port.mac_address}' in self._may

    def _is_joined(self, port: Port) -> bool:
        devices = {bridge_name(port.network_id), link_name(port.network_id)}
        return devices <= self._devices and namespace_name(port.network_id) in self._namespaces

    def _is_served(self, port: Port) -> bool:
        return any(port.network_id in " ".join(argv) for argv in self._daemons.values())

    def _lose(self, really: bool, what: str, is_lost: Callable[[Port], bool]) -> None:
        if really:
            self.losses += [what for port in list(self.running.values()) if is_lost(port)]


@dataclass
class StandInDomain:
    """A guest that is on or off."""

    xml: str
    on: bool = False

    def state(self) -> tuple[int, int]:
        return (libvirt.VIR_DOMAIN_RUNNING if self.on else libvirt.VIR_DOMAIN_SHUTOFF, 0)

    def isActive(self) -> bool:
        return self.on

    def create(self) -> None:
        self.on = True

    def destroy(self) -> None:
        self.on = False

    def hasManagedSaveImage(self) -> bool:
        return False

    def metadata(self, _kind: int, _uri: str, _flags: int) -> str:
        return "ours"

    def undefineFlags(self, _flags: int) -> None:
        """Nothing refers to it any more."""


class StandInLibvirt(LibvirtConnection):
    """As much of libvirt as the verbs ask for."""

    def __init__(self, options: LibvirtOptions) -> None:
        super().__init__(options, lambda _name: None)
        self._domains: dict[str, StandInDomain] = {}

    def call(self, work: Callable[[Any], Any], *, timeout: float | None = None) -> Any:
        return work(self)

    def keep_open(self) -> None:
        """It never closes."""

    def close(self) -> None:
        """Nor here."""

    def getVersion(self) -> int:
        return 1

    def getAllDomainStats(self, _stats: int, _flags: int) -> list[Any]:
        return []

    def listAllDomains(self, _flags: int) -> list[Any]:
        return []

    def lookupByName(self, name: str) -> StandInDomain:
        return self._domains.setdefault(name, StandInDomain(""))

    def defineXML(self, xml: str) -> StandInDomain:
        name = re.search("<name>(.*)</name>", xml)
        assert name
        return self.lookupByName(name[1])


@pytest.fixture
def options(tmp_path: Path) -> LibvirtOptions:
    made = LibvirtOptions(
        host="h", state_dir=tmp_path, host_ip="10.9.9.9", metadata_key=b"k", metadata_address="10.9.9.1"
    )
    made.guests_dir.mkdir()
    return made


def make_port() -> Port:
    """On a network of its own, at the same address as all others."""
    return Port(
        id=str(uuid.uuid4()),
        network_id=str(uuid.uuid4()),
        network_name="n",
        mac_address=f"fa:16:3e:{random.randrange(256):02x}:{random.randrange(256):02x}:00",
        fixed_ips=(FixedIp(ip_address="10.1.0.2", subnet_id="s", cidr="10.1.0.0/24", gateway_ip="10.1.0.1"),),
    )


@dataclass(frozen=True)
class MadeDisks:
    """Makes a guest's disk when it is asked for the image: it is adopted."""

    disk: Path

    def ensure(self, image: Image) -> Path:
        self.disk.touch()
        return self.disk


def test_verbs_that_overlap_leave_each_others_guests_alone(options: LibvirtOptions) -> None:
    """Each thread builds, stops, starts, reboots and destroys guests."""
    host = StandInHost(options)
    driver = LibvirtDriver(options, namespace=host, connection=StandInLibvirt(options))
    driver.connect()
    lives: list[str] = []

    def live(number: int) -> None:
        chance = random.Random(number)
        for _ in range(2):
            spec, port = make_spec(str(uuid.uuid4()), Image(id="i", disk_format="qcow2")), make_port()
            driver.spawn(spec, 1, [port], MadeDisks(options.guests_dir / spec.id / "disk"))  # type: ignore[arg-type]
            host.running[port.id] = port
            for generation in (2, 3):
                if chance.random() < 0.5:
                    driver.start(spec.id, generation)
                else:
                    driver.reboot(spec.id, generation, hard=True, timeout=0.0)
                time.sleep(chance.random() * 0.02)
            del host.running[port.id]
            driver.destroy(spec.id, 9)
            lives.append(spec.id)

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(live, number) for number in range(8)]
        for future in futures:
            future.result()
    driver.close()
    assert len(lives) == 16
    assert host.losses == []
