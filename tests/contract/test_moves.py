"""What every driver must do with a guest that moves: from one host to another or on one, and back. The same suite runs
on two hosts of the fake driver and on two nodes with libvirt."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from cell.compute.driver import DiskSource, Driver
from cell.compute.drivers.fake import FakeDriver
from cell.compute.drivers.fake_hypervisor import FakeHypervisor
from cellcloud import errors
from cellcloud.model.flavor import Flavor
from cellcloud.model.server import ServerSpec
from cellcloud.server_states import PowerState
from tests.contract.test_driver import IMAGE, OneImage
from tests.libvirt_node import LibvirtNode, make_port, make_spec

LARGER = Flavor(id="2", name="m1.small", vcpus=1, memory_mb=128, root_gb=2, ephemeral_gb=1)
PORTS = (make_port(1),)


class Hosts(Protocol):
    """Two hosts under test."""

    images: OneImage
    names: tuple[str, str]

    def open(self, name: str) -> Driver:
        """A newly started compute service's driver of that host; the one before it is gone."""
        ...

    def count_held(self, name: str) -> int:
        """How many things of guests there are on that host."""
        ...

    def write(self, name: str, server_id: str) -> None:
        """Let the guest, which is off, have something on its root disk."""
        ...

    def check(self, name: str, server_id: str, gib: int) -> None:
        """The guest's root disk has that size, and what was written on it."""
        ...

    def stamp(self, name: str, server_id: str, number: int) -> None:
        """Write a number on the root disk of the guest, which is off."""
        ...

    def has_stamp(self, name: str, server_id: str, number: int) -> bool:
        """Whether that is the number on the guest's root disk."""
        ...


class FakeHosts:
    names = ("fake-1", "fake-2")

    def __init__(self, directory: Path, images: OneImage) -> None:
        self.images = images
        self._path = directory / "hosts"
        self._hypervisor = FakeHypervisor(self._path)

    def open(self, name: str) -> Driver:
        self._hypervisor.close()
        self._hypervisor = FakeHypervisor(self._path)
        driver = FakeDriver(self._hypervisor, name, use_images=True)
        driver.connect()
        return driver

    def count_held(self, name: str) -> int:
        return sum(1 + len(one.disks) + len(one.taps) for one in self._hypervisor.list_guests(name))

    def write(self, name: str, server_id: str) -> None:
        self._hypervisor.get(name, server_id).disks[0] += ":written"

    def check(self, name: str, server_id: str, gib: int) -> None:
        assert self._hypervisor.get(name, server_id).disks

    def stamp(self, name: str, server_id: str, number: int) -> None:
        guest = self._hypervisor.get(name, server_id)
        guest.disks[0] += f":{number}"
        self._hypervisor.save(name, guest)

    def has_stamp(self, name: str, server_id: str, number: int) -> bool:
        return self._hypervisor.get(name, server_id).disks[0].endswith(f":{number}")

    def close(self) -> None:
        self._hypervisor.close()


class LibvirtHosts:
    def __init__(self, nodes: tuple[LibvirtNode, LibvirtNode], images: OneImage) -> None:
        self.images = images
        self._nodes = {node.node.name: node for node in nodes}
        first, second = self._nodes
        self.names = (first, second)
        self._drivers = {name: node.make_driver() for name, node in self._nodes.items()}

    def open(self, name: str) -> Driver:
        self._drivers[name].close()
        self._drivers[name] = self._nodes[name].make_driver()
        self._drivers[name].connect()
        return self._drivers[name]

    def count_held(self, name: str) -> int:
        node = self._nodes[name]
        aside = list((node.node.directory / "guests" / ".aside").iterdir())
        return sum(len(things) for things in node.held().values()) + len(aside) + len(node.find_pids("disk_transfer"))

    def write(self, name: str, server_id: str) -> None:
        self._qemu_io(name, server_id, "write -P 0x5a 1M 3M")

    def check(self, name: str, server_id: str, gib: int) -> None:
        said = self._qemu_io(name, server_id, "read -P 0x5a 1M 3M")
        assert "Pattern verification failed" not in said
        said = self._qemu_io(name, server_id, "length")
        assert said.strip() == f"{gib} GiB"

    def stamp(self, name: str, server_id: str, number: int) -> None:
        self._qemu_io(name, server_id, f"write -P {number} 8M 1M")

    def has_stamp(self, name: str, server_id: str, number: int) -> bool:
        return "Pattern verification failed" not in self._qemu_io(name, server_id, f"read -P {number} 8M 1M")

    def _qemu_io(self, name: str, server_id: str, command: str) -> str:
        disk = self._nodes[name].node.directory / "guests" / server_id / "disk"
        argv = ["qemu-io", "-f", "qcow2", "-c", command, str(disk)]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    def close(self) -> None:
        for driver in self._drivers.values():
            for guest in driver.list_guests():
                driver.destroy(guest.server_id, guest.generation + 1000)
            driver.close()


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[LibvirtNode, LibvirtNode]]:
    first = LibvirtNode()
    second = LibvirtNode(beside=first)
    yield first, second
    second.close()
    first.close()


@pytest.fixture(params=["fake", "libvirt"])
def hosts(request: pytest.FixtureRequest, tmp_path: Path, images: OneImage) -> Iterator[Hosts]:
    if request.param == "fake":
        made: FakeHosts | LibvirtHosts = FakeHosts(tmp_path, images)
    else:
        made = LibvirtHosts(request.getfixturevalue("nodes"), images)
    yield made
    made.close()


def spawn(hosts: Hosts, name: str) -> ServerSpec:
    """A server that runs on a host, with something on its disk."""
    spec = make_spec(str(uuid.uuid4()), IMAGE)
    driver = hosts.open(name)
    driver.spawn(spec, 1, PORTS, hosts.images)
    driver.stop(spec.id, 1, 0.0)
    hosts.write(name, spec.id)
    driver.start(spec.id, 1)
    return spec


def send(
    hosts: Hosts, spec: ServerSpec, source: str, destination: str, *, running: bool = True, generation: int = 2
) -> ServerSpec:
    """Move the guest, each verb done twice by another process; the server as it is there."""
    there = replace(spec, flavor=LARGER)
    for _ in range(2):
        state = hosts.open(source).set_aside(spec.id, generation, 0.0)
        assert (state.power_state, state.aside, state.generation) == (PowerState.SHUTDOWN, True, generation)
    offer = {} if source == destination else hosts.open(source).offer_disks(spec.id)
    if offer:
        assert hosts.open(source).offer_disks(spec.id) == offer
    told: list[int] = []
    for _ in range(2):
        driver = hosts.open(destination)
        driver.fetch_disks(there, generation, PORTS, hosts.images, DiskSource(host=source, offer=offer), told.append)
    assert told[-1] == 100
    for _ in range(2):
        state = hosts.open(destination).arrive(there, generation, PORTS, running=running)
        assert state.power_state == (PowerState.RUNNING if running else PowerState.SHUTDOWN)
        assert not state.aside
    return there


@pytest.mark.parametrize("running", [True, False], ids=["running", "off"])
def test_a_guest_moves_to_another_host_for_good(hosts: Hosts, running: bool) -> None:
    source, destination = hosts.names
    hosts.open(destination)
    before = {name: hosts.count_held(name) for name in (source, destination) if hosts.open(name)}
    spec = spawn(hosts, source)
    there = send(hosts, spec, source, destination, running=running)
    assert [one.aside for one in hosts.open(source).list_guests()] == [True]
    for _ in range(2):
        hosts.open(source).discard(spec.id, 3)
    for generation in (1, 2, 3):  # late commands
        with pytest.raises(errors.Stale):
            hosts.open(source).spawn(spec, generation, PORTS, hosts.images)
    assert hosts.open(source).list_guests() == []
    assert hosts.count_held(source) == before[source]
    driver = hosts.open(destination)
    driver.stop(spec.id, 3, 0.0)
    hosts.check(destination, spec.id, 2)
    assert driver.start(spec.id, 4).power_state == PowerState.RUNNING
    assert driver.describe_guest(spec.id).spec == there
    driver.destroy(spec.id, 5)
    assert hosts.count_held(destination) == before[destination]


def test_a_guest_goes_back_to_what_it_was(hosts: Hosts) -> None:
    source, destination = hosts.names
    before = {name: hosts.count_held(name) for name in (source, destination) if hosts.open(name)}
    spec = spawn(hosts, source)
    send(hosts, spec, source, destination)
    for _ in range(2):
        hosts.open(destination).destroy(spec.id, 3)
        assert hosts.open(source).move_back(spec, 3, PORTS, running=True).power_state == PowerState.RUNNING
    assert hosts.open(destination).list_guests() == []
    assert hosts.count_held(destination) == before[destination]
    driver = hosts.open(source)
    driver.stop(spec.id, 4, 0.0)
    hosts.check(source, spec.id, 1)
    driver.destroy(spec.id, 5)
    assert hosts.count_held(source) == before[source]


@pytest.mark.parametrize("ends", ["confirmed", "reverted", "deleted"])
def test_a_guest_is_resized_on_its_host(hosts: Hosts, ends: str) -> None:
    host, _ = hosts.names
    hosts.open(host)
    before = hosts.count_held(host)
    spec = spawn(hosts, host)
    send(hosts, spec, host, host)
    assert [(one.aside, one.beside) for one in hosts.open(host).list_guests()] == [(False, 2)]
    driver = hosts.open(host)
    if ends == "confirmed":
        driver.discard(spec.id, 3)
        assert [one.beside for one in driver.list_guests()] == [0]
        assert driver.stop(spec.id, 4, 0.0).power_state == PowerState.SHUTDOWN
        hosts.check(host, spec.id, 2)
    elif ends == "reverted":
        assert driver.move_back(spec, 3, PORTS, running=False).power_state == PowerState.SHUTDOWN
        hosts.check(host, spec.id, 1)
    driver.destroy(spec.id, 5)
    assert driver.list_guests() == []
    assert hosts.count_held(host) == before


def test_a_guest_that_was_not_set_aside_is_put_back_as_it_is(hosts: Hosts) -> None:
    source, destination = hosts.names
    spec = spawn(hosts, source)
    assert hosts.open(source).move_back(spec, 2, PORTS, running=True).power_state == PowerState.RUNNING
    with pytest.raises(errors.GuestFailed):
        hosts.open(destination).move_back(spec, 2, PORTS, running=True)


@pytest.mark.parametrize("begun", [True, False], ids=["begun", "never-begun"])
def test_what_an_earlier_move_left_aside_is_not_put_back(hosts: Hosts, begun: bool) -> None:
    """The host was away when that move was confirmed; the next one fails."""
    host, _ = hosts.names
    hosts.open(host)
    before = hosts.count_held(host)
    spec = spawn(hosts, host)
    there = send(hosts, spec, host, host, running=False)
    hosts.open(host).stop(spec.id, 3, 0.0)
    hosts.stamp(host, spec.id, 7)
    if begun:
        assert hosts.open(host).set_aside(spec.id, 4, 0.0).generation == 4
    for _ in range(2):
        state = hosts.open(host).move_back(there, 4, PORTS, running=False)
        assert (state.power_state, state.aside) == (PowerState.SHUTDOWN, False)
        assert hosts.has_stamp(host, spec.id, 7)
    hosts.open(host).destroy(spec.id, 5)
    assert hosts.count_held(host) == before


def test_what_an_earlier_move_left_is_not_taken_for_what_is_fetched(hosts: Hosts) -> None:
    """The destination was away when that move was reverted."""
    source, destination = hosts.names
    before = {name: hosts.count_held(name) for name in (source, destination) if hosts.open(name)}
    spec = spawn(hosts, source)
    send(hosts, spec, source, destination)
    hosts.open(source).move_back(spec, 3, PORTS, running=False)
    hosts.stamp(source, spec.id, 7)
    hosts.open(destination).set_fence(spec.id, fenced=True)
    send(hosts, spec, source, destination, running=False, generation=4)
    assert hosts.has_stamp(destination, spec.id, 7)
    assert [one.fenced for one in hosts.open(destination).list_guests()] == [False]
    for name in hosts.names:
        hosts.open(name).destroy(spec.id, 5)
    assert {name: hosts.count_held(name) for name in before} == before


def test_a_guest_that_stayed_aside_starts_again(hosts: Hosts) -> None:
    host, _ = hosts.names
    hosts.open(host)
    before = hosts.count_held(host)
    spec = spawn(hosts, host)
    hosts.open(host).set_aside(spec.id, 2, 0.0)
    with pytest.raises(errors.NotFound):
        hosts.open(host).start(spec.id, 3)
    for _ in range(2):
        state = hosts.open(host).restore(spec, 3, PORTS)
        assert (state.power_state, state.aside, state.generation) == (PowerState.RUNNING, False, 3)
    hosts.open(host).stop(spec.id, 4, 0.0)
    hosts.check(host, spec.id, 1)
    hosts.open(host).destroy(spec.id, 5)
    assert hosts.count_held(host) == before


def test_what_is_set_aside_goes_with_the_guest(hosts: Hosts) -> None:
    source, _ = hosts.names
    hosts.open(source)
    before = hosts.count_held(source)
    spec = spawn(hosts, source)
    hosts.open(source).set_aside(spec.id, 2, 0.0)
    hosts.open(source).offer_disks(spec.id)
    with pytest.raises(errors.NotFound):
        hosts.open(source).start(spec.id, 2)
    for verb in (
        lambda driver: driver.spawn(spec, 1, PORTS, hosts.images),
        lambda driver: driver.set_aside(spec.id, 1, 0.0),
        lambda driver: driver.discard(spec.id, 1),
        lambda driver: driver.move_back(spec, 1, PORTS, running=True),
    ):
        with pytest.raises(errors.Stale):
            verb(hosts.open(source))
    hosts.open(source).destroy(spec.id, 3)
    assert hosts.open(source).list_guests() == []
    assert hosts.count_held(source) == before


def test_disks_are_had_by_their_offer_only(hosts: Hosts) -> None:
    source, destination = hosts.names
    spec = spawn(hosts, source)
    hosts.open(source).set_aside(spec.id, 2, 0.0)
    offer = hosts.open(source).offer_disks(spec.id)
    driver = hosts.open(destination)
    wrongs = [{**offer, name: "0"} for name in offer if name in ("token", "port", "host")]
    for wrong in ({}, *wrongs):
        there = DiskSource(host=source, offer=wrong)
        with pytest.raises((errors.Unreachable, errors.HostRefused)):
            driver.fetch_disks(spec, 2, PORTS, hosts.images, there, lambda _: None)
    hosts.open(destination).destroy(spec.id, 3)
    with pytest.raises(errors.NotFound):
        hosts.open(destination).offer_disks(spec.id)
